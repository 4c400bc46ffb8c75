"""One pre-norm Transformer block."""

from typing import Any

import keras

from lab.models.architecture import Architecture
from lab.models.attention import SelfAttention
from lab.models.features import Features
from lab.models.feed_forward import make_feed_forward
from lab.models.from_architecture import FromArchitecture
from lab.models.norm import RMSNorm
from lab.models.seeds import derive_seed

Tensor = Any


@keras.saving.register_keras_serializable(package="lab")
class Block(FromArchitecture, keras.layers.Layer):
    """x + attention(norm(x)), then x + feed_forward(norm(x)).

    Args:
        architecture: of the model.
        attention_dropout: dropout of attention weights.
        mlp_dropout: dropout of the feed-forward layer's hidden features.
        seed: seed of the initial weights and of dropout.
    """

    PLAIN = ("attention_dropout", "mlp_dropout", "seed")

    def __init__(
        self,
        architecture: Architecture,
        attention_dropout: float = 0.0,
        mlp_dropout: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.architecture = architecture
        self.attention_dropout = attention_dropout
        self.mlp_dropout = mlp_dropout
        self.seed = seed
        policy = self.dtype_policy
        gain, epsilon = architecture.norm_gain, architecture.norm_epsilon
        self.attention_norm = RMSNorm(gain, epsilon, dtype=policy, name="attention_norm")
        self.attention = SelfAttention(
            architecture, attention_dropout, derive_seed(seed, "attention"), dtype=policy, name="attention"
        )
        self.feed_forward_norm = RMSNorm(gain, epsilon, dtype=policy, name="feed_forward_norm")
        self.feed_forward = make_feed_forward(
            architecture, mlp_dropout, derive_seed(seed, "feed_forward"), dtype=policy, name="feed_forward"
        )

    def build(
        self, inputs_shape: tuple[int | None, ...], cosine_shape: Any = None, sine_shape: Any = None
    ) -> None:
        """Build the parts for inputs of shape (batch, length, width)."""
        for part in (self.attention_norm, self.attention, self.feed_forward_norm, self.feed_forward):
            part.build(inputs_shape)

    def call(
        self,
        inputs: Tensor,
        cosine: Tensor,
        sine: Tensor,
        visible: Tensor | None = None,
        causal: bool = False,
        training: bool = False,
        block_size: int = 0,
    ) -> Tensor | Features:
        """Map (batch, length, width) to the same shape. The other arguments are `SelfAttention`'s.

        Returns:
            The stream, in `Features` if the feed-forward layer gives such.
        """
        attended = self.attention(
            self.attention_norm(inputs),
            cosine,
            sine,
            visible,
            causal=causal,
            training=training,
            block_size=block_size,
        )
        stream = inputs + attended
        added = self.feed_forward(self.feed_forward_norm(stream), training=training)
        if isinstance(added, Features):
            return added._replace(stream=stream + added.stream)
        return stream + added

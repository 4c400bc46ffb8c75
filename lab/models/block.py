"""One pre-norm Transformer block."""

from typing import Any

import keras
from keras import ops

from lab.models.attention import SelfAttention
from lab.models.feed_forward import FeedForward
from lab.models.seeds import derive_seed

Tensor = Any


class Block(keras.layers.Layer):
    """x + attention(norm(x)), then x + feed_forward(norm(x)).

    The RMS norms carry no gain: the projection that follows each one can hold it. On XLA's CPU backend a
    training step without the gains takes about two thirds of the time.

    Args:
        heads: number of attention heads.
        ffn_width: hidden width of the feed-forward layer.
        attention_dropout: dropout of attention weights.
        mlp_dropout: dropout of the feed-forward layer's hidden features.
        output_scale: initial standard deviation of the two projections into the residual stream.
        seed: seed of the initial weights and of dropout.
    """

    def __init__(
        self,
        heads: int,
        ffn_width: int,
        attention_dropout: float = 0.0,
        mlp_dropout: float = 0.0,
        output_scale: float = 0.02,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.heads = heads
        self.ffn_width = ffn_width
        self.attention_dropout = attention_dropout
        self.mlp_dropout = mlp_dropout
        self.output_scale = output_scale
        self.seed = seed
        policy = self.dtype_policy
        self.attention = SelfAttention(
            heads,
            attention_dropout,
            output_scale,
            derive_seed(seed, "attention"),
            dtype=policy,
            name="attention",
        )
        self.feed_forward = FeedForward(
            ffn_width,
            mlp_dropout,
            output_scale,
            derive_seed(seed, "feed_forward"),
            dtype=policy,
            name="feed_forward",
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Build both parts for inputs of shape (batch, length, width)."""
        self.attention.build(input_shape)
        self.feed_forward.build(input_shape)

    def call(
        self,
        inputs: Tensor,
        cosine: Tensor,
        sine: Tensor,
        visible: Tensor | None = None,
        causal: bool = False,
        training: bool = False,
    ) -> Tensor:
        """Map (batch, length, width) to the same shape. The other arguments are `SelfAttention`'s."""
        attended = self.attention(
            ops.rms_normalization(inputs), cosine, sine, visible, causal=causal, training=training
        )
        stream = inputs + attended
        return stream + self.feed_forward(ops.rms_normalization(stream), training=training)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "heads": self.heads,
            "ffn_width": self.ffn_width,
            "attention_dropout": self.attention_dropout,
            "mlp_dropout": self.mlp_dropout,
            "output_scale": self.output_scale,
            "seed": self.seed,
        }

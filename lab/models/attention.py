"""Multi-head self-attention with rotary positions and normalised queries and keys."""

from typing import Any

import keras
import numpy as np
from keras import ops

from lab.models.layout import split_axis
from lab.models.projection import Projection
from lab.models.rotary import rotate
from lab.models.seeds import derive_seed

Tensor = Any


class SelfAttention(keras.layers.Layer):
    """Multi-head self-attention: RoPE, RMS-normalised queries and keys, no biases.

    Args:
        heads: number of heads; must divide the width of the inputs.
        dropout: chance that an attention weight is dropped in training.
        output_scale: standard deviation of the output projection's initial weights.
        seed: seed of the initial weights and of dropout.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.2; Henry et al. 2020, arXiv:2010.04245
    (qk-norm).
    """

    def __init__(
        self, heads: int, dropout: float = 0.0, output_scale: float = 0.02, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.heads = heads
        self.dropout = dropout
        self.output_scale = output_scale
        self.seed = seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the projections for inputs of shape (batch, length, width).

        Raises:
            ValueError: if `heads` does not divide the width.
        """
        width = input_shape[-1]
        if width is None or width % self.heads:
            raise ValueError(f"`heads` must divide the width, but got heads={self.heads}, width={width}.")
        policy = self.dtype_policy
        self.query_key_value = Projection(
            3 * width, seed=derive_seed(self.seed, "in"), dtype=policy, name="query_key_value"
        )
        self.output_projection = Projection(
            width, self.output_scale, derive_seed(self.seed, "out"), dtype=policy, name="output"
        )
        self.weight_dropout = keras.layers.Dropout(
            self.dropout, seed=derive_seed(self.seed, "dropout"), dtype=policy, name="weight_dropout"
        )
        self.query_key_value.build(input_shape)
        self.output_projection.build(input_shape)
        self.weight_dropout.build(None)

    def call(
        self,
        inputs: Tensor,
        cosine: Tensor,
        sine: Tensor,
        visible: Tensor | None = None,
        causal: bool = False,
        training: bool = False,
    ) -> Tensor:
        """Attend.

        Args:
            inputs: (batch, length, width).
            cosine: (1 or batch, length, 1, width / heads / 2), cosines of the rotary angles of each slot.
            sine: the same of the sines.
            visible: (batch, length) bool, False where a slot is hidden from all slots but itself; or None.
            causal: whether slot i sees only slots 0 .. i.
            training: whether to drop attention weights.

        Returns:
            (batch, length, width).
        """
        length, width = inputs.shape[1], inputs.shape[2]
        projected = ops.reshape(
            self.query_key_value(inputs), (-1, length, 3, self.heads, width // self.heads)
        )
        projected = split_axis(projected, 3)
        query = rotate(ops.rms_normalization(projected[:, :, 0]), cosine, sine)
        key = rotate(ops.rms_normalization(projected[:, :, 1]), cosine, sine)
        value = projected[:, :, 2]
        if training and self.dropout:
            attended = self._attend_with_dropout(query, key, value, _mask(length, visible, causal))
        elif visible is not None:
            attended = ops.dot_product_attention(query, key, value, mask=_mask(length, visible, causal))
        else:
            attended = ops.dot_product_attention(query, key, value, is_causal=causal)
        return self.output_projection(ops.reshape(attended, (-1, length, width)))

    def _attend_with_dropout(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        # The fused attention of `keras.ops` has no dropout on its weights.
        scale = np.float32(query.shape[3] ** -0.5)
        scores = ops.cast(ops.einsum("bqhd,bkhd->bhqk", query, key), "float32") * scale
        if mask is not None:
            scores = ops.where(mask, scores, np.float32(-1e30))
        weights = self.weight_dropout(ops.cast(ops.softmax(scores), query.dtype), training=True)
        return ops.einsum("bhqk,bkhd->bqhd", weights, value)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "heads": self.heads,
            "dropout": self.dropout,
            "output_scale": self.output_scale,
            "seed": self.seed,
        }


def _mask(length: int, visible: Tensor | None, causal: bool) -> Tensor | None:
    """Which slots each slot sees, (1 or batch, 1, length, length) bool; None if all see all."""
    earlier = np.tri(length, dtype=bool)[None, None]
    if visible is None:
        return earlier if causal else None
    itself = np.eye(length, dtype=bool)[None, None]
    seen = ops.logical_or(ops.expand_dims(visible, (1, 2)), itself)
    return ops.logical_and(seen, earlier) if causal else seen

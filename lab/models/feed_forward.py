"""The SwiGLU feed-forward layer."""

from typing import Any

import keras
from keras import ops

from lab.models.layout import split_axis
from lab.models.projection import Projection
from lab.models.seeds import derive_seed

Tensor = Any


class FeedForward(keras.layers.Layer):
    """SwiGLU: W_out (silu(W_gate x) * W_up x), no biases.

    Args:
        hidden_width: width of the gated layer.
        dropout: chance that a gated feature is dropped in training.
        output_scale: standard deviation of the output projection's initial weights.
        seed: seed of the initial weights and of dropout.

    Reference: Shazeer 2020, arXiv:2002.05202, section 2.
    """

    def __init__(
        self,
        hidden_width: int,
        dropout: float = 0.0,
        output_scale: float = 0.02,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.hidden_width = hidden_width
        self.dropout = dropout
        self.output_scale = output_scale
        self.seed = seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the projections for inputs of shape (..., width)."""
        policy = self.dtype_policy
        self.gate_and_up = Projection(
            2 * self.hidden_width, seed=derive_seed(self.seed, "in"), dtype=policy, name="gate_and_up"
        )
        self.output_projection = Projection(
            int(input_shape[-1] or 0),
            self.output_scale,
            derive_seed(self.seed, "out"),
            dtype=policy,
            name="output",
        )
        self.gated_dropout = keras.layers.Dropout(
            self.dropout, seed=derive_seed(self.seed, "dropout"), dtype=policy, name="gated_dropout"
        )
        self.gate_and_up.build(input_shape)
        self.output_projection.build((*input_shape[:-1], self.hidden_width))
        self.gated_dropout.build(None)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Map (..., width) to (..., width)."""
        gate, up = (split_axis(part, -1) for part in ops.split(self.gate_and_up(inputs), 2, axis=-1))
        return self.output_projection(self.gated_dropout(ops.silu(gate) * up, training=training))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "hidden_width": self.hidden_width,
            "dropout": self.dropout,
            "output_scale": self.output_scale,
            "seed": self.seed,
        }

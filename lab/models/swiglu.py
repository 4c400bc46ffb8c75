"""The SwiGLU feed-forward layer."""

from typing import Any

import keras
from keras import ops

from lab.models.architecture import Architecture
from lab.models.dropout import Dropout
from lab.models.from_architecture import FromArchitecture
from lab.models.layout import split_axis
from lab.models.projection import Projection
from lab.models.seeds import derive_seed

Tensor = Any


@keras.saving.register_keras_serializable(package="lab")
class SwiGLU(FromArchitecture, keras.layers.Layer):
    """W_out (silu(W_gate x) * W_up x), no biases.

    Args:
        architecture: of the model.
        dropout: chance that a gated feature is dropped in training.
        seed: seed of the initial weights and of dropout.

    Reference: Shazeer 2020, arXiv:2002.05202, section 2.
    """

    PLAIN = ("dropout", "seed")

    def __init__(
        self, architecture: Architecture, dropout: float = 0.0, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.architecture = architecture
        self.dropout = dropout
        self.seed = seed
        policy = self.dtype_policy
        self.gate_and_up = Projection(
            2 * architecture.ffn_width, seed=derive_seed(seed, "in"), dtype=policy, name="gate_and_up"
        )
        self.output_projection = Projection(
            architecture.width,
            architecture.output_scale,
            derive_seed(seed, "out"),
            dtype=policy,
            name="output",
        )
        self.gated_dropout = (
            Dropout(dropout, derive_seed(seed, "dropout"), dtype=policy, name="gated_dropout")
            if dropout
            else None
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Build the parts for inputs of shape (..., width)."""
        self.gate_and_up.build(input_shape)
        self.output_projection.build((*input_shape[:-1], self.architecture.ffn_width))
        if self.gated_dropout:
            self.gated_dropout.build()

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Map (..., width) to (..., width)."""
        parts = self.gate_and_up(inputs, parts=[self.architecture.ffn_width] * 2)
        gate, up = (split_axis(part, -1) for part in parts)
        gated = ops.silu(gate) * up
        if self.gated_dropout:
            gated = self.gated_dropout(gated, training=training)
        return self.output_projection(gated)

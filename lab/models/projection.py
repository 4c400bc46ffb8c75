"""A linear map of features."""

from typing import Any

import keras
from keras import ops

from lab.models.seeds import derive_seed

Tensor = Any


@keras.saving.register_keras_serializable(package="lab")
class Projection(keras.layers.Dense):
    """A dense layer without bias, computed on rows: (batch, length, width) is multiplied as a matrix.

    XLA's CPU backend multiplies the gradient of a 3-D product at half the rate of the same 2-D product.

    Args:
        units: width of the output.
        scale: standard deviation of the initial weights.
        seed: seed of the initial weights.
    """

    def __init__(self, units: int, scale: float = 0.02, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(
            units,
            use_bias=False,
            kernel_initializer=keras.initializers.RandomNormal(
                stddev=scale, seed=derive_seed(seed, "kernel")
            ),
            **kwargs,
        )
        self.scale = scale
        self.seed = seed

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        """Map (..., width) to (..., units)."""
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))
        return ops.reshape(super().call(rows), (-1, *inputs.shape[1:-1], self.units))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        inherited = keras.layers.Layer.get_config(self)
        return {**inherited, "units": self.units, "scale": self.scale, "seed": self.seed}

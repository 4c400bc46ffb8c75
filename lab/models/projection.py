"""A linear map of features."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from lab.models.seeds import derive_seed

Tensor = Any


@keras.saving.register_keras_serializable(package="lab")
class Projection(keras.layers.Dense):
    """A dense layer without bias, computed on rows: (batch, length, width) is multiplied as a matrix.

    XLA's CPU backend multiplies the gradient of a 3-D product at half the rate of the same 2-D product. An
    output that is used in parts is computed in parts, by columns of the one kernel: to cut a kernel takes
    less than to cut the features, and to put their gradients together again (docs/performance.md).

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

    def call(self, inputs: Tensor, parts: Sequence[int] = ()) -> Tensor | list[Tensor]:
        """Map (..., width) to (..., units), or to several outputs whose widths `parts` add up to `units`."""
        rows = ops.reshape(inputs, (-1, inputs.shape[-1]))
        kernels = ops.split(self.kernel, np.cumsum(parts[:-1]), axis=1) if parts else [self.kernel]
        outputs = [
            ops.reshape(ops.matmul(rows, kernel), (-1, *inputs.shape[1:-1], kernel.shape[1]))
            for kernel in kernels
        ]
        return outputs if parts else outputs[0]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        inherited = keras.layers.Layer.get_config(self)
        return {**inherited, "units": self.units, "scale": self.scale, "seed": self.seed}

"""Dropout whose rate is a variable."""

from typing import Any

import keras
from keras import ops

Tensor = Any


@keras.saving.register_keras_serializable(package="lab")
class Dropout(keras.layers.Layer):
    """In training, sets each feature to 0 with chance `rate` and divides the others by 1 - rate.

    Keras's layer branches on its rate in Python, so each rate is another program. Here models that differ in
    their rates alone share one. Whether there is dropout at all stays static: where there is none, there is
    no such layer.

    Args:
        rate: chance that a feature is dropped, in (0, 1); the first value of the variable `current_rate`.
        seed: seed of the masks.

    Raises:
        ValueError: if the rate is not in (0, 1).
    """

    def __init__(self, rate: float, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < rate < 1:
            raise ValueError(f"`rate` must be in (0, 1), but got rate={rate}.")
        self.rate = rate
        self.seed = seed

    def build(self, input_shape: Any = None) -> None:
        """Make the rate and the generator of masks."""
        self.current_rate = self.add_weight(
            shape=(),
            dtype="float32",
            initializer=keras.initializers.Constant(self.rate),
            trainable=False,
            autocast=False,
            name="rate",
        )
        # Made here, where its path has the names of the layers around it, as no two of a model may be equal.
        self.seed_generator = keras.random.SeedGenerator(self.seed, name="seed_generator")

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Map any shape to the same shape and dtype."""
        if not training:
            return inputs
        kept_share = 1.0 - ops.convert_to_tensor(self.current_rate)
        noise = keras.random.uniform(ops.shape(inputs), dtype="float32", seed=self.seed_generator)
        # In float32, as 1 - rate in bfloat16 is up to 0.2 % off, and so would be the mean of what is kept.
        scaled = ops.cast(inputs, "float32") * (1.0 / kept_share)
        return ops.cast(ops.where(noise < kept_share, scaled, 0.0), inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the inputs."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}

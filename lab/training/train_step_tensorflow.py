"""The train step under TensorFlow: differentiated by a gradient tape."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

Tensor = Any


class TrainStep:
    """Mixin for a `keras.Model` whose call returns the loss of each sequence."""

    def train_step(self: Any, data: Any) -> dict[str, Tensor]:
        """One micro-batch: mean loss, its gradient, the optimizer's update.

        Args:
            data: `StepInputs`, alone in a tuple.

        Returns:
            The mean loss (nats/token) and the gradient's global norm before clipping.
        """
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = ops.mean(self(inputs, training=True))
        # Looked-up rows arrive as slices, a row once for each look-up. Keras would take the norm, for
        # clipping, and the squares, for Adam, of the slices one by one; both need their sum.
        gradients = [
            tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, self.trainable_weights)
        ]
        self.optimizer.apply(gradients, self.trainable_weights)
        return {"loss": loss, "gradient_norm": self.gradient_norm(gradients)}

    def device(self: Any) -> str:
        """Where the step runs: cpu or gpu."""
        return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"

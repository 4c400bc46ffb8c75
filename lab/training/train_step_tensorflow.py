"""The train step under TensorFlow: differentiated by a gradient tape."""

from typing import Any

import keras
import tensorflow as tf

from lab.training.optimizer import global_norm

Tensor = Any


class TrainStep:
    """Mixin for a `keras.Model` whose call returns `lab.training.learner.PassLosses`."""

    def train_step(self: Any, data: Any) -> dict[str, Tensor]:
        """One micro-batch: mean loss, its gradient, the optimizer's update.

        Args:
            data: `StepInputs`, alone in a tuple.

        Returns:
            The mean loss (nats/token), what else is logged of a pass, and the gradient's global norm before
            clipping, at the last micro-batch of an update that of the whole.
        """
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)
        logs, parts = [], []
        for number in range(self.passes):
            with tf.GradientTape() as tape:
                loss, of_pass = self(self.pass_inputs(inputs, number), training=True).trained_on()
            logs.append(of_pass)
            # Looked-up rows arrive as slices, a row once for each look-up. Keras would take the norm, for
            # clipping, and the squares, for Adam, of the slices one by one; both need their sum.
            parts.append([tf.convert_to_tensor(part) for part in tape.gradient(loss, self.trainable_weights)])
        gradients = [sum(of_passes) / self.passes for of_passes in zip(*parts, strict=True)]
        norm = global_norm(self.optimizer.update_gradients(gradients))
        self.optimizer.apply(gradients, self.trainable_weights)
        means = {name: sum(of_pass[name] for of_pass in logs) / self.passes for name in self.pass_logs}
        return {**means, "gradient_norm": norm}

    @staticmethod
    def device() -> str:
        """Where the step runs: cpu or gpu."""
        return "gpu" if tf.config.list_physical_devices("GPU") else "cpu"

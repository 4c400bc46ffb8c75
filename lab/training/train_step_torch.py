"""The train step under PyTorch: differentiated by `backward`."""

from typing import Any

import keras
import torch
from keras import ops

from lab.training.optimizer import global_norm

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
        self.zero_grad()
        losses = []
        for number in range(self.passes):
            loss = ops.mean(self(self.pass_inputs(inputs, number), training=True)) / self.passes
            loss.backward()  # adds to what earlier passes left
            losses.append(loss.detach())
        gradients = [weight.value.grad for weight in self.trainable_weights]
        with torch.no_grad():
            logs = {"loss": sum(losses), "gradient_norm": global_norm(gradients)}
            self.optimizer.apply(gradients, self.trainable_weights)
        return logs

    @staticmethod
    def device() -> str:
        """Where the step runs: cpu, gpu or mps."""
        return str(ops.zeros(()).device.type).replace("cuda", "gpu")

"""The train step under PyTorch: differentiated by `backward`."""

from typing import Any

import keras
import torch
from keras import ops

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
        self.zero_grad()
        logs = []
        for number in range(self.passes):
            loss, of_pass = self(self.pass_inputs(inputs, number), training=True).trained_on()
            (loss / self.passes).backward()  # adds to what earlier passes left
            logs.append({name: value.detach() / self.passes for name, value in of_pass.items()})
        gradients = [weight.value.grad for weight in self.trainable_weights]
        with torch.no_grad():
            norm = global_norm(self.optimizer.update_gradients(gradients))
            self.optimizer.apply(gradients, self.trainable_weights)
        means = {name: sum(of_pass[name] for of_pass in logs) for name in self.pass_logs}
        return {**means, "gradient_norm": norm}

    @staticmethod
    def device() -> str:
        """Where the step runs: cpu, gpu or mps."""
        return str(ops.zeros(()).device.type).replace("cuda", "gpu")

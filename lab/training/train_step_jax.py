"""The train step under JAX: stateless, differentiated by `jax.value_and_grad`."""

from typing import Any

import jax
import keras
from keras import ops

Tensor = Any
State = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]


class TrainStep:
    """Mixin for a `keras.Model` whose call returns the loss of each sequence."""

    def train_step(self: Any, state: State, data: Any) -> tuple[dict[str, Tensor], State]:
        """One micro-batch: mean loss, its gradient, the optimizer's update.

        Args:
            state: trainable, non-trainable, optimizer and metric variables.
            data: `StepInputs`, alone in a tuple.

        Returns:
            The mean loss (nats/token) and the gradient's global norm before clipping, and the next state.
        """
        trainable, non_trainable, optimizer_variables, metrics = state
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)

        def mean_loss(trainable: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            losses, updated = self.stateless_call(trainable, non_trainable, inputs, training=True)
            return ops.mean(losses), updated

        (loss, non_trainable), gradients = jax.value_and_grad(mean_loss, has_aux=True)(trainable)
        trainable, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, gradients, trainable
        )
        logs = {"loss": loss, "gradient_norm": self.gradient_norm(gradients)}
        return logs, (trainable, non_trainable, optimizer_variables, metrics)

    def device(self: Any) -> str:
        """Where the step runs: cpu, gpu or tpu."""
        return str(jax.devices()[0].platform)

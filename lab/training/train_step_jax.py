"""The train step under JAX: stateless, differentiated by `jax.value_and_grad`."""

from typing import Any

import jax
import jax.numpy as jnp
import keras

from lab.training.joint_jax import Joining, JointStep
from lab.training.optimizer import global_norm

Tensor = Any
State = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]


class TrainStep:
    """Mixin for a `keras.Model` whose call returns `lab.training.learner.PassLosses`."""

    def __setattr__(self, name: str, value: Any) -> None:
        """As Keras does, but for a step's state: to look in it for layers took 1 % of a small step."""
        if name == "_jax_state":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def train_step(self: Any, state: State, data: Any) -> tuple[dict[str, Tensor], State]:
        """One micro-batch: mean loss, its gradient, the optimizer's update.

        Args:
            state: trainable, non-trainable, optimizer and metric variables.
            data: `StepInputs`, alone in a tuple.

        Returns:
            The mean loss (nats/token), what else is logged of a pass, and the gradient's global norm before
            clipping, at the last micro-batch of an update that of the whole; and the next state.
        """
        trainable, non_trainable, optimizer_variables, metrics = state
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data)

        def mean_loss(
            trainable: list[Tensor], non_trainable: list[Tensor], number: Tensor | int
        ) -> tuple[Tensor, tuple[dict[str, Tensor], list[Tensor]]]:
            pass_inputs = self.pass_inputs(inputs, number)
            said, updated = self.stateless_call(trainable, non_trainable, pass_inputs, training=True)
            loss, logs = said.trained_on()
            return loss, (logs, updated)

        differentiate = jax.value_and_grad(mean_loss, has_aux=True)

        def add_pass(sums: Tensor, number: Tensor) -> tuple[Tensor, None]:
            non_trainable, log_sums, gradient_sums = sums
            (_, (logs, non_trainable)), gradients = differentiate(trainable, non_trainable, number)
            log_sums = {name: total + logs[name] for name, total in log_sums.items()}
            gradient_sums = [total + part for total, part in zip(gradient_sums, gradients, strict=True)]
            return (non_trainable, log_sums, gradient_sums), None

        if self.passes == 1:
            (_, (logs, non_trainable)), gradients = differentiate(trainable, non_trainable, 0)
        else:  # one pass after the other, so that memory holds the activations of one
            log_sums = {name: jnp.zeros(()) for name in self.pass_logs}
            start = (non_trainable, log_sums, [jnp.zeros_like(variable) for variable in trainable])
            numbers = jnp.arange(self.passes, dtype="int32")
            (non_trainable, logs, gradients), _ = jax.lax.scan(add_pass, start, numbers)
            logs, gradients = jax.tree.map(lambda total: total / self.passes, (logs, gradients))
        with keras.StatelessScope(zip(self.optimizer.variables, optimizer_variables, strict=True)):
            norm = global_norm(self.optimizer.update_gradients(gradients))
        trainable, optimizer_variables = self.optimizer.stateless_apply(
            optimizer_variables, gradients, trainable
        )
        logs = {**logs, "gradient_norm": norm}
        return logs, (trainable, non_trainable, optimizer_variables, metrics)

    def joint_step(self, places: int, how: Joining) -> JointStep:
        """The step of this learner and of others of its kind as one program."""
        return JointStep(self, places, how)

    @staticmethod
    def device() -> str:
        """Where the step runs: cpu, gpu or tpu."""
        return str(jax.devices()[0].platform)

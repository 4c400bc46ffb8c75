"""AdamW whose numbers are variables: runs that differ only in them share one compiled program."""

from typing import Any

import keras
from keras import ops

from lab.config import TrainingConfig
from lab.training.schedule import NEVER, Decay, Schedule, learning_rate, warmup

Tensor = Any


@keras.saving.register_keras_serializable(package="lab")
class ScheduledAdamW(keras.optimizers.AdamW):
    """AdamW with decoupled decay of matrices only, clipping, a schedule, and an average of the weights.

    All numbers that it computes with are variables, and a checkpoint holds them. So are start and stop of the
    learning rate's decay: a branch anneals from any point of a run with the compiled step that the run uses.

    With `ema` > 0 it keeps an exponential moving average of the weights, free of bias: after update t

        average_t = sum_{s <= t} ema^(t - s) weights_s / sum_{s <= t} ema^(t - s).

    The initial weights have no part in it: at an early stop they would be most of it (0.999^100 is 0.9).
    Keras's own `use_ema` does not serve: it averages at each micro-batch of an accumulation, and overwrites
    the weights with the average at the end of each `fit`, of which a run has many.

    Args:
        config: peak learning rate, schedule, decay, betas, clipping, accumulation and averaging.

    References:
        Loshchilov & Hutter 2019, arXiv:1711.05101.
        Kingma & Ba 2015, arXiv:1412.6980, section 3 (the bias of a moving average).
    """

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(
            learning_rate=self._scheduled_learning_rate,
            gradient_accumulation_steps=config.accumulation if config.accumulation > 1 else None,
            name="optimizer",
        )
        self._training_config = config
        # Keras computes with a variable just as with the Python number that it has under its name.
        self.weight_decay = self._add_number(config.weight_decay, "weight_decay")
        self.weight_decay_warmup_steps = self._add_number(
            config.weight_decay_warmup_steps, "weight_decay_warmup_steps"
        )
        self.beta_1 = self._add_number(config.beta_1, "beta_1")
        self.beta_2 = self._add_number(config.beta_2, "beta_2")
        self.epsilon = self._add_number(config.epsilon, "epsilon")
        self.clip_norm = self._add_number(config.clip_norm, "clip_norm")
        self.peak_learning_rate = self._add_number(config.learning_rate, "learning_rate")
        self.warmup_steps = self._add_number(config.warmup_steps, "warmup_steps")
        self.final_share = self._add_number(config.final_learning_rate_share, "final_learning_rate_share")
        self.decay_start = self._add_number(NEVER, "decay_start", "int32")
        self.decay_stop = self._add_number(2 * NEVER, "decay_stop", "int32")
        self.ema: Any = self._add_number(config.ema, "ema") if config.ema else None

    def _add_number(self, value: float, name: str, dtype: str = "float32") -> keras.Variable:
        initializer = keras.initializers.Constant(value)
        return self.add_variable((), initializer=initializer, dtype=dtype, name=name)

    def build(self, variables: list[keras.Variable]) -> None:
        """Make the moments and the averages; vectors (norm scales) take no weight decay."""
        if self.built:
            return
        self.exclude_from_weight_decay(
            var_list=[variable for variable in variables if len(variable.shape) < 2]
        )
        super().build(variables)
        self.averages = self.add_optimizer_variables(variables, "average") if self.ema is not None else []

    def set_decay(self, decay: Decay) -> None:
        """Move the decay of the learning rate."""
        self.decay_start.assign(decay.start)
        self.decay_stop.assign(decay.stop)

    def update_step(self, gradient: Tensor, variable: Any, learning_rate: Tensor) -> None:
        """Update a variable, and its average with it: once an update, whatever the accumulation."""
        super().update_step(gradient, variable, learning_rate)
        if self.ema is not None:
            average = self.averages[self._get_variable_index(variable)]
            self.assign_add(average, (variable - average) * self._newest_share())

    def _newest_share(self) -> Tensor:
        """Of an average after update t, the share of the newest weights: (1 - ema) / (1 - ema^t)."""
        updates = ops.cast(self.iterations + 1, "float32")
        # By logarithms, since float32 has few digits left of 1 - ema^t where ema is near 1.
        return (1 - self.ema) / -ops.expm1(updates * ops.log(self.ema))

    def _clip_gradients(self, gradients: list[Tensor]) -> list[Tensor]:
        """Clip by the norm of all gradients together; Keras's own asks Python whether its number is set."""
        norm = global_norm(gradients)
        scale = self.clip_norm * ops.minimum(1.0 / norm, 1.0 / self.clip_norm)
        scale += norm - norm  # not a number if the norm is not finite, so that the loss shows it
        return [gradient * scale for gradient in gradients]

    def _apply_weight_decay(self, variables: list[Any]) -> None:
        """Shrink the matrices, as Keras does, by a decay that has its own warm-up."""
        step = ops.cast(self.iterations, "float32")
        decay = self.weight_decay * warmup(step, self.weight_decay_warmup_steps, ops)
        rate = self.learning_rate
        for variable in variables:
            if self._use_weight_decay(variable):
                variable.assign(variable - variable * decay * rate)

    def _scheduled_learning_rate(self) -> Tensor:
        schedule = Schedule(
            self._training_config.schedule,
            self.peak_learning_rate,
            self.warmup_steps,
            self.final_share,
            Decay(self.decay_start, self.decay_stop),
        )
        return learning_rate(schedule, self.iterations, ops)

    def get_config(self) -> dict[str, Any]:
        """The constructor's argument."""
        return {"config": self._training_config.model_dump(mode="json")}

    def update_gradients(self, gradients: list[Tensor]) -> list[Tensor]:
        """What the next update is made of, if these are its last micro-batch's: their mean over all of them.

        Before they are applied, when the sums over the micro-batches before are still there.
        """
        parts = self.gradient_accumulation_steps
        if not parts:
            return gradients
        sums = self._accumulated_gradients
        return [(total.value + part) / parts for total, part in zip(sums, gradients, strict=True)]

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "ScheduledAdamW":
        """Rebuild from `get_config`."""
        return cls(TrainingConfig(**config["config"]))


def global_norm(gradients: list[Tensor]) -> Tensor:
    """Euclidean norm of all gradients together: () float32."""
    return ops.sqrt(ops.sum(ops.stack([ops.sum(ops.square(gradient)) for gradient in gradients])))

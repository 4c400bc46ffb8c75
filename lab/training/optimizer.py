"""AdamW whose learning-rate decay can be moved between steps without compiling again."""

from typing import Any

import keras
from keras import ops

from lab.config import TrainingConfig
from lab.training.schedule import NEVER, Decay, learning_rate


class ScheduledAdamW(keras.optimizers.AdamW):
    """AdamW with decoupled decay of matrices only, clipping, and a decay window among its variables.

    The window's start and stop are optimizer variables, so that a branch can anneal from any point of a run
    with the compiled step that the run uses, and a checkpoint knows where it stood.

    Args:
        config: peak learning rate, schedule, decay, betas, clipping and accumulation.

    Reference: Loshchilov & Hutter 2019, arXiv:1711.05101.
    """

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(
            learning_rate=self._scheduled_learning_rate,
            weight_decay=config.weight_decay,
            beta_1=config.beta_1,
            beta_2=config.beta_2,
            epsilon=config.epsilon,
            global_clipnorm=config.clip_norm,
            gradient_accumulation_steps=config.accumulation if config.accumulation > 1 else None,
            name="optimizer",
        )
        self._training_config = config

    def build(self, variables: list[keras.Variable]) -> None:
        """Make the moments and the decay window; vectors (norm scales) take no weight decay."""
        if self.built:
            return
        self.exclude_from_weight_decay(
            var_list=[variable for variable in variables if len(variable.shape) < 2]
        )
        super().build(variables)
        self.decay_start = self.add_variable((), dtype="int32", name="decay_start")
        self.decay_stop = self.add_variable((), dtype="int32", name="decay_stop")
        self.set_decay(Decay(NEVER, 2 * NEVER))

    def set_decay(self, decay: Decay) -> None:
        """Move the decay window."""
        self.decay_start.assign(decay.start)
        self.decay_stop.assign(decay.stop)

    def _scheduled_learning_rate(self) -> Any:
        return learning_rate(self._training_config, self.iterations, self.decay_start, self.decay_stop, ops)

    def get_config(self) -> dict[str, Any]:
        """The constructor's argument."""
        return {"config": self._training_config.model_dump()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "ScheduledAdamW":
        """Rebuild from `get_config`."""
        return cls(TrainingConfig(**config["config"]))

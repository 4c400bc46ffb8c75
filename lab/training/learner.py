"""The Keras model that is trained: a Transformer, an objective, and the backend's train step."""

from typing import Any, TypedDict

import keras
import numpy as np
from keras import ops

from lab.config import FactorsConfig
from lab.models.transformer import Transformer
from lab.objectives.losses import weighted_nll
from lab.objectives.objective import Objective

match keras.backend.backend():
    case "jax":
        from lab.training.train_step_jax import TrainStep
    case "tensorflow":
        from lab.training.train_step_tensorflow import TrainStep  # type: ignore[assignment]
    case "torch":
        from lab.training.train_step_torch import TrainStep  # type: ignore[assignment]
    case other:
        raise ValueError(f"`KERAS_BACKEND` must be jax, tensorflow or torch, but got {other!r}.")

Tensor = Any


class StepInputs(TypedDict):
    """What one compiled step is given: everything else is in the variables.

    The fields of `lab.data.windows.Batch`. In the inputs of one pass, `visits` says how often a pass used the
    text before.
    """

    tokens: Tensor
    places: Tensor
    visits: Tensor
    rows: Tensor


@keras.saving.register_keras_serializable(package="lab")
class Learner(TrainStep, keras.Model):
    """A Transformer under an objective. Called on `StepInputs`, it returns each sequence's training loss.

    The draws are made inside the compiled step, from the seed that the learner holds as a variable, so runs
    that differ only in their seed share one compiled program.

    Args:
        transformer: the network.
        objective: what it is trained on.
        seed: the run's seed, for the draws.
    """

    def __init__(self, transformer: Transformer, objective: Objective, seed: int) -> None:
        super().__init__(name="learner")
        self.transformer = transformer
        self.objective = objective
        self.seed = seed
        self.draw_seed = self.add_weight(
            shape=(),
            dtype="int32",
            initializer=keras.initializers.Constant(seed),
            trainable=False,
            name="draw_seed",
        )
        self.built = True

    def call(self, inputs: StepInputs, training: bool = False) -> Tensor:
        """The loss of each sequence: (batch,) float32, nats/token."""
        example = self.objective.example(
            inputs["tokens"], inputs["places"], inputs["visits"], inputs["rows"], self.draw_seed.value, ops
        )
        logits = self.transformer(example, causal=self.objective.causal, training=training)
        return weighted_nll(logits, example.targets, example.weights)

    @property
    def passes(self) -> int:
        """R: passes a step over the same sequences, each with its own draw and its own dropout."""
        return self.objective.factors.passes

    def pass_inputs(self, inputs: StepInputs, number: Tensor | int) -> StepInputs:
        """What pass `number` of a step reads: visit v becomes view v R + number."""
        return {**inputs, "visits": inputs["visits"] * np.int32(self.passes) + number}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "transformer": keras.saving.serialize_keras_object(self.transformer),
            "objective": {**vars(self.objective), "factors": self.objective.factors.model_dump(mode="json")},
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "Learner":
        """Rebuild from `get_config`."""
        transformer = keras.saving.deserialize_keras_object(config["transformer"], custom_objects)
        objective = config["objective"]
        factors = FactorsConfig(**objective["factors"])
        return cls(transformer, Objective(**{**objective, "factors": factors}), config["seed"])

"""The Keras model that is trained: a Transformer, an objective, and the backend's train step."""

from typing import Any, NamedTuple, TypedDict

import keras
import numpy as np
from keras import ops

from lab.config import FactorsConfig
from lab.models.architecture import MIXTURES
from lab.models.transformer import Transformer
from lab.objectives.losses import weighted_nll
from lab.objectives.objective import Objective, Part

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


class PassLosses(NamedTuple):
    """What a pass gives.

    Attributes:
        losses: (batch,) float32, the loss of each sequence, nats/token.
        auxiliary_loss: () float32, what mixtures of experts add to the mean of the losses, nats/token; None
            without them.
        dropped_share: () float32, the share of the tokens for which they had no place; None without them.
    """

    losses: Tensor
    auxiliary_loss: Tensor | None = None
    dropped_share: Tensor | None = None

    def trained_on(self) -> tuple[Tensor, dict[str, Tensor]]:
        """What is differentiated, and what is logged: the mean loss, and apart from it the others."""
        loss = ops.mean(self.losses)
        if self.auxiliary_loss is None:
            return loss, {"loss": loss}
        others = {"auxiliary_loss": self.auxiliary_loss, "dropped_share": self.dropped_share}
        return loss + self.auxiliary_loss, {"loss": loss, **others}


def joined(*parts: PassLosses) -> PassLosses:
    """Passes over parts of the rows as one over all of them: what a pass has one of is averaged by rows."""
    losses = ops.concatenate([part.losses for part in parts])
    rows = [part.losses.shape[0] for part in parts]

    def mean(values: list[Tensor | None]) -> Tensor | None:
        pairs = [(value, count) for value, count in zip(values, rows, strict=True) if value is not None]
        return sum(value * (count / sum(rows)) for value, count in pairs) if pairs else None

    shared = ([part.auxiliary_loss for part in parts], [part.dropped_share for part in parts])
    return PassLosses(losses, *map(mean, shared))


@keras.saving.register_keras_serializable(package="lab")
class Learner(TrainStep, keras.Model):
    """A Transformer under an objective. Called on `StepInputs`, it returns `PassLosses`.

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

    def call(self, inputs: StepInputs, training: bool = False) -> PassLosses:
        """The loss of each sequence, part after part, and what the network adds to it."""
        parts = self.objective.parts(
            inputs["tokens"], inputs["places"], inputs["visits"], inputs["rows"], self.draw_seed.value, ops
        )
        made = [self._pass_over(part, training) for part in parts]
        return made[0] if len(made) == 1 else joined(*made)

    def _pass_over(self, part: Part, training: bool) -> PassLosses:
        example = part.example
        features = self.transformer.features(example, part.causal, training, part.block_size)
        logits = self.transformer.logits(features.stream)
        losses = weighted_nll(logits, example.targets, example.weights)
        if features.auxiliary_loss is None:
            return PassLosses(losses)
        return PassLosses(losses, features.auxiliary_loss, _dropped_share(features.counts))

    @property
    def pass_logs(self) -> tuple[str, ...]:
        """The names of what is logged of a pass."""
        mixed = self.transformer.architecture.feed_forward in MIXTURES
        return ("loss", "auxiliary_loss", "dropped_share") if mixed else ("loss",)

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


def _dropped_share(counts: dict[str, Tensor]) -> Tensor:
    """Of all that looked for a place in the mixtures of a pass, the share that found none."""
    dropped, offered = (
        sum(count for name, count in counts.items() if name.endswith(f"/{which}"))
        for which in ("dropped", "offered")
    )
    return ops.cast(dropped, "float32") / ops.cast(offered, "float32")

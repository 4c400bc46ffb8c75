"""How arms are tuned at equal budget: one explicit specification, the same for every arm.

Each arm, at each level, gets the same number of trials, the same sampler, pruner and seeds. What an arm
itself sets is not tuned: the dropout of an arm that is about dropout stays as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lab.ablation import Ablation, dotted_keys
from lab.config import RunConfig, Values, make_config, merge, nest


@dataclass(frozen=True)
class Range:
    """The values that a hyper-parameter may take: from `low` to `high`, evenly, or in its logarithm.

    Args:
        low: the smallest.
        high: the largest.
        log: evenly in the logarithm.
        step: between two values; None for every value between the ends.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __contains__(self, value: float) -> bool:
        steps = (value - self.low) / self.step if self.step else 0.0
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-9


SPACE: Mapping[str, Range] = {
    "training.learning_rate": Range(1e-4, 1e-2, log=True),
    "training.weight_decay": Range(0.01, 3.2, log=True),
    # In steps, so that none at all is among what is tried: evenly between the ends it is never met.
    "model.attention_dropout": Range(0.0, 0.5, step=0.1),
    "model.mlp_dropout": Range(0.0, 0.5, step=0.1),
}

# Every argument is given: what a library takes by default may change with its next release.
TPE: Mapping[str, Any] = {
    "n_startup_trials": 6,
    "n_ei_candidates": 24,
    "multivariate": True,
    "group": False,
    "constant_liar": True,
}
# A strongly regularised run learns slowly at first, so none is judged before its fourth stop.
MEDIAN: Mapping[str, Any] = {
    "n_startup_trials": 4,
    "n_warmup_steps": 3,
    "interval_steps": 1,
    "n_min_trials": 4,
}


@dataclass(frozen=True)
class Tuning:
    """What every arm's study is.

    Args:
        trials: number for each arm and level.
        space: dotted configuration key -> the values tried. The first trial is the arm as it stands.
        seed: of every tuning run. No decisive run may have it.
        round_size: trials asked for at once; they are told, in order, when the last of them has ended. So the
            suggestions do not depend on the number of workers or on which run is the fastest.
        sampler: `tpe`, with these arguments.
        sampler_seed: with the number of the round, the seed of the sampler.
        pruner: `median`, with these arguments; a step is a stop of the run, counted from 0.

    Raises:
        ValueError: if there is no trial, no round, or no such sampler or pruner.

    Reference: TPE: Watanabe 2023, arXiv:2304.11127.
    """

    trials: int
    space: Mapping[str, Range] = field(default_factory=lambda: SPACE)
    seed: int = 1000
    round_size: int = 4
    sampler: str = "tpe"
    sampler_arguments: Mapping[str, Any] = field(default_factory=lambda: TPE)
    sampler_seed: int = 0
    pruner: str = "median"
    pruner_arguments: Mapping[str, Any] = field(default_factory=lambda: MEDIAN)

    def __post_init__(self) -> None:
        if self.trials < 1 or self.round_size < 1:
            raise ValueError(
                "`trials` and `round_size` must be >= 1, "
                f"but got trials={self.trials} and round_size={self.round_size}."
            )
        if (self.sampler, self.pruner) != ("tpe", "median"):
            raise ValueError(
                "`sampler` must be 'tpe' and `pruner` 'median', "
                f"but got sampler={self.sampler!r} and pruner={self.pruner!r}."
            )

    @property
    def rounds(self) -> int:
        """Number of rounds; the last may be a part of one."""
        return -(-self.trials // self.round_size)

    def spec(self) -> dict[str, Any]:
        """All of it as plain values."""
        return asdict(self)

    def check_seeds(self, seeds: Sequence[int]) -> None:
        """Refuse to tune on a decisive seed.

        Raises:
            ValueError: if the tuning runs' seed is among those of the decisive runs.
        """
        if self.seed in seeds:
            raise ValueError(
                f"the seed of the tuning runs, {self.seed}, must not be a decisive one, but those are "
                f"{min(seeds)}..{max(seeds)}."
            )


def tuning_of(ablation: Ablation, preset: str, trials: int | None, overrides: Values) -> Tuning | None:
    """How the arms of an ablation are tuned; None if they are not.

    Args:
        ablation: what is run.
        preset: the name of its preset.
        trials: for each arm; the ablation's own number if None.
        overrides: what the user sets, which is not tuned.
    """
    number = trials or (ablation.scale(preset).tune if ablation.tuned else 0)
    own = set(dotted_keys(overrides))
    return (
        Tuning(number, {key: values for key, values in SPACE.items() if key not in own}) if number else None
    )


def own_values(config: RunConfig, keys: Sequence[str]) -> dict[str, float]:
    """What a configuration has under dotted keys."""
    values = {}
    for key in keys:
        section, _, name = key.partition(".")
        values[key] = float(getattr(getattr(config, section), name))
    return values


def with_values(config: RunConfig, seed: int, values: Values) -> RunConfig:
    """A configuration with another seed and other values under dotted keys."""
    return make_config(merge(config.model_dump(mode="json", exclude_none=True), nest(values)), {"seed": seed})

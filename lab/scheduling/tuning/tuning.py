"""How arms are tuned at equal budget: one explicit specification, the same for every arm.

Each arm, at each level, gets the same number of trials, the same sampler, rule of ending and seeds. What an
arm itself sets is not tuned: the dropout of an arm that is about dropout stays as it is.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

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
        also: configuration keys that take the same value.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    also: tuple[str, ...] = ()
    kind: Literal["range"] = "range"

    def __contains__(self, value: float) -> bool:
        steps = (value - self.low) / self.step if self.step else 0.0
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-9

    def layer(self, key: str, value: float) -> dict[str, Any]:
        """The values of a configuration, by dotted key, that a tried one stands for."""
        return dict.fromkeys((key, *self.also), value)

    def held(self, key: str, config: RunConfig) -> float | None:
        """The one that a configuration has; None if it is not among those that are tried."""
        values = {float(value_at(config, each)) for each in (key, *self.also)}
        value = min(values)
        return value if len(values) == 1 and value in self else None


@dataclass(frozen=True)
class Choice:
    """Settings of which one is taken, in no order.

    Args:
        options: name -> values of the configuration by dotted key, the same keys in each.
        compute: of the arms that it is tried for; empty for all.
    """

    options: Mapping[str, Mapping[str, Any]]
    compute: Literal["", "causal", "dense"] = ""
    kind: Literal["choice"] = "choice"

    def layer(self, _: str, value: str) -> dict[str, Any]:
        """The values of a configuration, by dotted key, that a tried one stands for."""
        return dict(self.options[value])

    def held(self, _: str, config: RunConfig) -> str | None:
        """The one that a configuration has; None if it is not among those that are tried."""
        held = (
            name
            for name, values in self.options.items()
            if all(value_at(config, key) == value for key, value in values.items())
        )
        return next(held, None)


def one_of(key: str, *values: Any) -> Choice:
    """One of several values of a configuration key."""
    return Choice({str(value): {key: value} for value in values})


def _masks(**changes: Any) -> dict[str, Any]:
    plain = {"noise_window": "all", "complementary": False, "stratified": False}
    return {f"factors.{name}": value for name, value in (plain | changes).items()}


Space = Mapping[str, Range | Choice]
# What the literature has tuned for the one or the other: for AR dropout up to 0.9, strong decay, masked
# inputs and averaged weights; for a DLM which levels of noise it sees, and how they are spread over an
# update. Each arm gets all of it that has a meaning for it.
SPACE: Space = {
    "training.learning_rate": Range(3e-4, 1e-2, log=True),
    "training.weight_decay": Range(0.01, 3.2, log=True),
    "training.weight_decay_warmup_steps": one_of("training.weight_decay_warmup_steps", 0, 400),
    # In steps, so that none at all is among what is tried: evenly between the ends it is never met.
    "model.attention_dropout": Range(0.0, 0.9, step=0.1, also=("model.mlp_dropout",)),
    "training.warmup_steps": one_of("training.warmup_steps", 20, 50, 100, 200),
    "training.clip_norm": one_of("training.clip_norm", 0.3, 1.0, 3.0),
    "training.batch_size": one_of("training.batch_size", 16, 32, 64),
    "training.ema": one_of("training.ema", 0.0, 0.99, 0.998),
    "factors.input_noise": replace(
        one_of("factors.input_noise", "none", "mask:0-0.3", "mask:0-1"), compute="causal"
    ),
    "masks": Choice(
        {
            "plain": _masks(),
            "stratified": _masks(stratified=True),
            "complementary": _masks(complementary=True),
            "middle": _masks(noise_window="mid"),
            "high": _masks(noise_window="high"),
        },
        compute="dense",
    ),
}

# Every argument is given: what a library takes by default may change with its next release.
TPE: Mapping[str, Any] = {
    "n_startup_trials": 6,
    "n_ei_candidates": 24,
    "multivariate": True,
    "group": False,
    "constant_liar": True,
}


@dataclass(frozen=True)
class Tuning:
    """What every arm's study is.

    Args:
        trials: number for each arm and level.
        space: configuration key, or name -> what is tried. The first trial is the arm as it stands.
        seed: of every tuning run. No decisive run may have it.
        round_size: trials asked for at once; they are told, in order, when the last of them has ended. So the
            suggestions do not depend on the number of workers or on which run is the fastest.
        sampler: `tpe`, with these arguments.
        sampler_seed: with the number of the round, the seed of the sampler.
        patience: stops in a row, in the reading that arms are compared by, that are worse than the best
            before them, after which a trial ends early. It keeps that best, which is what it is judged by. It
            is never compared with another trial, so that one that learns slowly is not cut.

    Raises:
        ValueError: if there is no trial, no round, no patience, or no such sampler.

    Reference: TPE: Watanabe 2023, arXiv:2304.11127.
    """

    trials: int
    space: Space = field(default_factory=lambda: SPACE)
    seed: int = 1000
    round_size: int = 4
    sampler: str = "tpe"
    sampler_arguments: Mapping[str, Any] = field(default_factory=lambda: TPE)
    sampler_seed: int = 0
    patience: int = 2

    def __post_init__(self) -> None:
        if min(self.trials, self.round_size, self.patience) < 1:
            raise ValueError(
                "`trials`, `round_size` and `patience` must be >= 1, but got "
                f"trials={self.trials}, round_size={self.round_size} and patience={self.patience}."
            )
        if self.sampler != "tpe":
            raise ValueError(f"`sampler` must be 'tpe', but got sampler={self.sampler!r}.")

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
    free = {key: tried for key, tried in SPACE.items() if not own & keys_of(key, tried)}
    return Tuning(number, free) if number else None


def keys_of(key: str, tried: Range | Choice) -> set[str]:
    """The configuration keys that are set by what is tried under a key or name."""
    if isinstance(tried, Range):
        return {key, *tried.also}
    return {each for values in tried.options.values() for each in values}


def space_of(space: Space, config: RunConfig, own: Container[str]) -> dict[str, Range | Choice]:
    """The part of a space that is tried for an arm.

    Args:
        space: all of it.
        config: the arm's.
        own: the configuration keys that the arm, its level or the user sets: they keep their values.
    """
    return {
        key: tried
        for key, tried in space.items()
        if not (isinstance(tried, Choice) and tried.compute not in ("", config.factors.compute))
        and not any(each in own for each in keys_of(key, tried))
    }


def value_at(config: RunConfig, key: str) -> Any:
    """What a configuration has under a dotted key."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section), name)


def with_values(config: RunConfig, seed: int, values: Mapping[str, Any], space: Space) -> RunConfig:
    """A configuration with another seed and what was tried.

    Args:
        config: as it is before.
        seed: the other.
        values: key or name -> the value, or the name of the option, of a space.
        space: what these mean.
    """
    layer: dict[str, Any] = {}
    for name, value in values.items():
        layer |= space[name].layer(name, value)
    return make_config(merge(config.model_dump(mode="json", exclude_none=True), nest(layer)), {"seed": seed})

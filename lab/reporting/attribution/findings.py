"""What a result tree says about the eight corners: the effects of each metric and stop, and the controls."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from lab.arms import CORNERS
from lab.metrics import Metric, find_metric
from lab.reporting.attribution.effects import SHAPLEY, Array, Effect, effects
from lab.reporting.results import (
    STOPS,
    YARDSTICK,
    CellResult,
    ResultTree,
    check_comparable,
    level_name,
    readings_of,
    still_improving,
)
from lab.reporting.statistics import over_seeds, sample_errors
from lab.results import Reading, Stop

# The corner arms in the order of `CUBE`.
CORNER_ARMS = tuple(sorted(CORNERS, key=lambda arm: CORNERS[arm]))
# Each control arm lies between two corners that differ in `draws`: it makes one half of their difference.
CONTROLS = {"ar_masked_frozen": ("ar", "ar_masked"), "dlm_complementary": ("dlm_frozen", "dlm")}
# The corner that a control is shown beside: the one that it is a control of.
BESIDE = {"ar_masked_frozen": "ar_masked", "dlm_complementary": "dlm_frozen"}


def unit_of(metric: Metric) -> str:
    """The unit of effects on a metric: of a share, percentage points."""
    return "percentage points" if metric.percent else metric.unit


def oriented(metric: Metric, value: float) -> float:
    """A value in the unit of the effects, so that more is better."""
    return metric.scale * metric.improvement(0.0, value)


@dataclass(frozen=True)
class Attribution:
    """Where the gain from AR to DLM comes from, by one metric at one stop under one reading.

    Attributes:
        stop: `best` (by validation NLL) or `end`.
        gain: from `ar` to `dlm`, positive if the DLM is better.
        effects: the ten effects.
        window_variances: (8,) squared standard errors over held-out examples, mean over seeds; None where
            they were not measured.
    """

    reading: Reading
    stop: str
    metric: Metric
    gain: Effect
    effects: tuple[Effect, ...]
    window_variances: Array | None

    def of_kind(self, kind: str) -> tuple[Effect, ...]:
        """The effects of one kind: `shapley`, `main` or `interaction`."""
        return tuple(effect for effect in self.effects if effect.contrast.kind == kind)

    @property
    def shapley(self) -> tuple[Effect, ...]:
        """The Shapley values, in the order of `FACTORS`."""
        return self.of_kind(SHAPLEY)

    def window_error(self, effect: Effect) -> float | None:
        """Standard error of an effect from the finite number of held-out windows; None where it is not known.

        It adds the corners' errors as if each read windows of its own; all read the same, and hard windows
        are hard for all, so it is too large. It treats windows as independent; several come from one
        document, so it is too small.
        """
        if self.window_variances is None:
            return None
        return math.sqrt(float(np.square(effect.contrast.weights) @ self.window_variances))


@dataclass(frozen=True)
class Step:
    """From one arm to the next along an edge of the cube that a control splits in two.

    Attributes:
        gain: `end`'s value minus `start`'s, oriented so that positive is better, mean over the seeds.
        interval: paired t interval, None with one seed or without spread. Steps are not corrected for their
            number.
        seeds: those that both arms finished, among the seeds that count.
    """

    reading: Reading
    stop: str
    metric: Metric
    control: str
    start: str
    end: str
    seeds: tuple[int, ...]
    gain: float
    interval: tuple[float, float] | None
    p_value: float | None


@dataclass(frozen=True)
class Cube:
    """What an attribution tree shows.

    Attributes:
        arms: the planned arms: the corners in order, each with its control behind it, then any other.
        seeds: those that all eight corners finished; only they count.
        left_out: planned seeds that at least one corner did not finish.
        readings: the headline reading first.
        attributions: (reading, stop, metric key) -> effects; empty if no seed is left.
        steps: along the edges with a control, where both arms finished a seed that counts.
    """

    tree: ResultTree
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    readings: tuple[Reading, ...]
    attributions: Mapping[tuple[Reading, str, str], Attribution]
    steps: tuple[Step, ...]

    @property
    def headline(self) -> Attribution | None:
        """The effects on what is compared, at the best stop under the headline reading; None if refused."""
        return self.attributions.get((self.readings[0], "best", self.metric.key))

    @property
    def metric(self) -> Metric:
        """What is compared: the first of `metrics`."""
        return self.tree.metric

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is attributed: what is compared, and the rest of the yardstick."""
        return metrics_of(self.tree)

    def name(self, metric: Metric) -> str:
        """A metric in words; of what is compared it is said that it is of the test split, as all are."""
        return f"test {metric.name}" if metric == self.metric else metric.name

    def mean(self, arm: str, reading: Reading, stop: str) -> float:
        """An arm's mean test metric at a stop, to its scale."""
        return self.metric.scale * fmean(
            found.test[self.metric.key] for found in self.stops(arm, reading, stop)
        )

    def improving(self, reading: Reading) -> dict[str, tuple[int, int]]:
        """Arm -> how many of `runs(arm)` were best at their last stop, and of how many; corners only."""
        runs = {arm: self.runs(arm) for arm in CORNER_ARMS}
        return {arm: (still_improving(cells, reading), len(cells)) for arm, cells in runs.items()}

    def unfinished(self) -> dict[str, tuple[int, ...]]:
        """The seeds that each corner arm did not finish, for arms with such seeds."""
        found = {
            arm: tuple(c.seed for c in self.tree.cells if c.arm == arm and c.status != "done")
            for arm in CORNER_ARMS
        }
        return {arm: seeds for arm, seeds in found.items() if seeds}

    def runs(self, arm: str) -> list[CellResult]:
        """The finished runs of an arm, by seed: those that count, or all where attribution is refused."""
        runs = [c for c in self.tree.finished if c.arm == arm and c.seed in (self.seeds or [c.seed])]
        return sorted(runs, key=lambda cell: cell.seed)

    def stops(self, arm: str, reading: Reading, stop: str) -> list[Stop]:
        """The best or the last stop of each run of `runs(arm)`."""
        return [cell.stop(stop, reading) for cell in self.runs(arm)]


def metrics_of(tree: ResultTree) -> tuple[Metric, ...]:
    """What is compared, and the rest of the yardstick."""
    return tuple(map(find_metric, dict.fromkeys((tree.plan.metric, *YARDSTICK))))


def analyse(tree: ResultTree) -> Cube:
    """Take the gain from AR to DLM apart over the eight corners of a result tree.

    Raises:
        ValueError: if no run has finished, a corner is absent from the plan, there is more than one level, or
            the arms may not be compared.
    """
    planned = list(dict.fromkeys(cell.arm for cell in tree.cells))
    absent = [arm for arm in CORNER_ARMS if arm not in planned]
    if absent:
        raise ValueError(
            f"an attribution needs the eight corners, but {tree.path} does not plan {', '.join(absent)}."
        )
    levels = sorted({level_name(cell.level) for cell in tree.cells})
    if len(levels) > 1:
        raise ValueError(f"an attribution needs one level, but {tree.path} plans {'; '.join(levels)}.")
    readings = readings_of(tree)
    check_comparable(tree.cells)
    seeds = tuple(
        seed
        for seed in tree.seeds
        if all((arm, seed) in {(cell.arm, cell.seed) for cell in tree.finished} for arm in CORNER_ARMS)
    )
    results = {(cell.arm, cell.seed): cell for cell in tree.finished}
    places = [
        (reading, stop, metric) for reading in readings for stop in STOPS for metric in metrics_of(tree)
    ]
    return Cube(
        tree=tree,
        arms=_in_order(planned),
        seeds=seeds,
        left_out=tuple(seed for seed in tree.seeds if seed not in seeds),
        readings=readings,
        attributions={
            (reading, stop, metric.key): _attribute(results, seeds, reading, stop, metric)
            for reading, stop, metric in places
            if seeds
        },
        steps=tuple(
            step
            for control in CONTROLS
            for reading, stop, metric in places
            for step in _steps(results, seeds, reading, stop, metric, control)
        ),
    )


def _in_order(planned: list[str]) -> tuple[str, ...]:
    known = []
    for arm in CORNER_ARMS:
        known += [arm, *(control for control in BESIDE if BESIDE[control] == arm and control in planned)]
    return (*known, *(arm for arm in planned if arm not in known))


def _attribute(
    results: Mapping[tuple[str, int], CellResult],
    seeds: tuple[int, ...],
    reading: Reading,
    stop: str,
    metric: Metric,
) -> Attribution:
    corners = [{seed: results[arm, seed].stop(stop, reading).test for seed in seeds} for arm in CORNER_ARMS]
    values = [[oriented(metric, found[metric.key]) for found in corner.values()] for corner in corners]
    gain, *rest = effects(np.array(values), seeds)
    errors = [sample_errors(metric, corner) for corner in corners]
    known = [list(found.values()) for found in errors if found]
    variances = ((metric.scale * np.array(known)) ** 2).mean(axis=1) if len(known) == len(corners) else None
    return Attribution(reading, stop, metric, gain, tuple(rest), variances)


def _steps(
    results: Mapping[tuple[str, int], CellResult],
    seeds: tuple[int, ...],
    reading: Reading,
    stop: str,
    metric: Metric,
    control: str,
) -> list[Step]:
    """The two halves of the edge that a control splits, over the seeds that the control finished too."""
    first, last = CONTROLS[control]
    kept = tuple(seed for seed in seeds if (control, seed) in results)
    if not kept:
        return []

    def value(arm: str, seed: int) -> float:
        return oriented(metric, results[arm, seed].stop(stop, reading).test[metric.key])

    made = []
    for start, end in ((first, control), (control, last)):
        gains = [value(end, seed) - value(start, seed) for seed in kept]
        scale = max(abs(value(arm, seed)) for arm in (start, end) for seed in kept)
        mean, _, interval, p_value = over_seeds(gains, scale)
        made.append(Step(reading, stop, metric, control, start, end, kept, mean, interval, p_value))
    return made

"""Numbers that each seed of an arm gives: where curves cross, where overfitting begins, what a match costs.

A seed may not get there within its run, or may be there from the first point on: then its number is only
known to be larger, or at most that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from lab.metrics import Metric
from lab.reporting.series import Point, Series
from lab.reporting.statistics import Estimate, estimate

# Of places on a run the first is shown; the others stand beside it in files.
PLACE_UNITS = ("epoch", "tokens_seen", "train_flops")
RATIO = ("flops_ratio",)


@dataclass(frozen=True)
class Reached:
    """Where one seed gets there.

    Attributes:
        at: unit -> value.
        from_first: it was there at the first point already, so the value is this or less.
        holds: it stays there at every later point.
    """

    at: Mapping[str, float]
    from_first: bool = False
    holds: bool = True


@dataclass(frozen=True)
class Found:
    """A quantity of all seeds of an arm.

    Attributes:
        by_seed: None for a seed that does not get there.
        in_passing: seeds that get there, but are not there at the last point, where that does not count.
    """

    by_seed: Mapping[int, Reached | None]
    units: tuple[str, ...]
    in_passing: tuple[int, ...] = ()

    @property
    def reached(self) -> list[Reached]:
        """The seeds that get there, earliest first."""
        known = [found for found in self.by_seed.values() if found]
        return sorted(known, key=lambda found: found.at[self.units[0]])

    @property
    def every_seed(self) -> bool:
        """Whether all seeds get there."""
        return len(self.reached) == len(self.by_seed) > 0

    @property
    def from_first(self) -> int:
        """How many seeds are there from the first point on."""
        return sum(found.from_first for found in self.reached)

    @property
    def holds(self) -> bool:
        """Whether every seed that gets there stays there."""
        return bool(self.reached) and all(found.holds for found in self.reached)

    def median(self, unit: str) -> float | None:
        """The median over seeds; a seed that does not get there counts as beyond the run, None if it is."""
        values = [math.inf if found is None else found.at[unit] for found in self.by_seed.values()]
        middle = median(values) if values else math.inf
        return float(middle) if math.isfinite(middle) else None

    def range(self, unit: str) -> tuple[float, float] | None:
        """The lowest and the highest value of the seeds that get there."""
        values = [found.at[unit] for found in self.reached]
        return (min(values), max(values)) if values else None

    @property
    def mean(self) -> float | None:
        """The geometric mean over seeds; None unless every seed gets there."""
        if not self.every_seed:
            return None
        return math.exp(fmean(math.log(found.at[self.units[0]]) for found in self.reached))

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % t interval of the geometric mean; None where a value is not known but only bounded."""
        if not self.every_seed or self.from_first:
            return None
        low_high = self.logarithm.interval
        return (math.exp(low_high[0]), math.exp(low_high[1])) if low_high else None

    @property
    def logarithm(self) -> Estimate:
        """Of the seeds that get there, the logarithm."""
        known = {seed: found.at[self.units[0]] for seed, found in self.by_seed.items() if found}
        return estimate({s: math.log(v) for s, v in sorted(known.items(), key=lambda pair: pair[1])}, 1.0)


def crossing(arm: Series, bar: Mapping[int, float], metric: Metric) -> Found:
    """Where an arm first becomes better than a bar: the best that another arm reaches.

    Args:
        arm: its validation split over the stops.
        bar: seed -> the value to be bettered.
        metric: what is compared.
    """
    key = metric.key
    return Found(
        {
            seed: first_below(
                arm.points, [metric.improvement(point.by_seed[seed][key], bar[seed]) for point in arm.points]
            )
            for seed in _measured_seeds(arm.points, metric)
            if seed in bar
        },
        PLACE_UNITS,
    )


def equal_tokens(arm: Series, reference: Series, metric: Metric) -> Found:
    """Where an arm first becomes better than another at the same number of tokens seen: of stops of both."""
    key = metric.key
    there = {point.at["tokens_seen"]: point for point in reference.points}
    points = [point for point in arm.points if point.at["tokens_seen"] in there]
    others = [there[point.at["tokens_seen"]] for point in points]
    pairs = list(zip(points, others, strict=True))
    return Found(
        {
            seed: first_below(
                points, [metric.improvement(a.by_seed[seed][key], b.by_seed[seed][key]) for a, b in pairs]
            )
            for seed in _measured_seeds([*points, *others], metric)
        },
        PLACE_UNITS,
    )


def onset(arm: Series, metric: Metric) -> Found:
    """Where overfitting begins: the best stop of a seed, if the run went on beyond it."""
    found: dict[int, Reached | None] = {}
    for seed in _measured_seeds(arm.points, metric):
        values = [metric.improvement(0.0, point.by_seed[seed][metric.key]) for point in arm.points]
        place = values.index(max(values))
        last = place == len(values) - 1
        found[seed] = None if last else Reached(_coordinates(arm.points[place]), from_first=place == 0)
    return Found(found, PLACE_UNITS)


def match_ratio(arm: Series, reference: Series, metric: Metric) -> Found:
    """How many times the FLOPs of another arm an arm needs to be as good, there and at all more compute.

    Interpolated in log FLOPs between two amounts of compute.
    """
    most, key = reference.most, metric.key
    by_seed: dict[int, Reached | None] = {}
    in_passing = []
    for seed, target in sorted(most.values(key).items()):
        amounts = [
            (point.rows[seed].costs["flops"] / most.at["flops"], metric.improvement(found[seed], 0.0))
            for point in arm.points
            if seed in (found := point.values(key))
        ]
        if amounts:
            bar = metric.improvement(target, 0.0)
            enough = [value <= bar for _, value in amounts]
            ratio = compute_to_reach(amounts, bar)
            by_seed[seed] = None if ratio is None else Reached({RATIO[0]: ratio}, from_first=all(enough))
            if any(enough) and not enough[-1]:
                in_passing.append(seed)
    return Found(by_seed, RATIO, tuple(in_passing))


def first_below(points: Sequence[Point], difference: Sequence[float]) -> Reached | None:
    """The first place at which a sampled difference falls below 0, linear in log tokens between stops.

    Epochs and FLOPs grow in proportion to tokens, so between two stops they are linear in them.

    Args:
        points: in order of tokens seen.
        difference: one value per point, in the metric's unit.

    Returns:
        The place, or None if no value is below 0.
    """
    below = [value < 0 for value in difference]
    if True not in below:
        return None
    after = below.index(True)
    holds = all(below[after:])
    if after == 0:
        return Reached(_coordinates(points[0]), True, holds)
    left, right = points[after - 1].at, points[after].at
    share = difference[after - 1] / (difference[after - 1] - difference[after])
    tokens = left["tokens_seen"] * (right["tokens_seen"] / left["tokens_seen"]) ** share
    at = (tokens - left["tokens_seen"]) / (right["tokens_seen"] - left["tokens_seen"])
    between = {
        unit: left[unit] + at * (right[unit] - left[unit]) for unit in PLACE_UNITS if unit != "tokens_seen"
    }
    return Reached({**between, "tokens_seen": tokens}, False, holds)


def _measured_seeds(points: Sequence[Point], metric: Metric) -> list[int]:
    """The seeds of which a metric is known at every point."""
    first = points[0].values(metric.key) if points else ()
    return [seed for seed in first if all(seed in point.values(metric.key) for point in points)]


def _coordinates(point: Point) -> dict[str, float]:
    return {unit: point.at[unit] for unit in PLACE_UNITS}


def compute_to_reach(amounts: Sequence[tuple[float, float]], target: float) -> float | None:
    """The compute from which on a curve is at or below a target, linear in log compute between points.

    A curve that falls below by chance and rises again has not reached it: it must stay at all larger amounts.

    Args:
        amounts: (compute, value), ascending compute; lower is better.
        target: to be reached.

    Returns:
        The compute; that of the first point if all suffice; None if the last does not.
    """
    above = [place for place, (_, value) in enumerate(amounts) if value > target]
    if not above:
        return amounts[0][0]
    if above[-1] == len(amounts) - 1:
        return None
    (left, high), (right, low) = amounts[above[-1] : above[-1] + 2]
    return float(left * (right / left) ** ((high - target) / (high - low)))

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
from lab.reporting.statistics import estimate

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
class SeedPlaces:
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
        known = [one for one in self.by_seed.values() if one]
        return sorted(known, key=lambda one: one.at[self.units[0]])

    @property
    def every_seed(self) -> bool:
        """Whether all seeds get there."""
        return len(self.reached) == len(self.by_seed) > 0

    @property
    def from_first(self) -> int:
        """How many seeds are there from the first point on."""
        return sum(one.from_first for one in self.reached)

    @property
    def at_most(self) -> bool:
        """Whether the median is only bounded, as a seed in the middle is there from the first point on."""
        return self.from_first > (len(self.by_seed) - 1) // 2

    @property
    def holds(self) -> bool:
        """Whether every seed that gets there stays there."""
        return bool(self.reached) and all(one.holds for one in self.reached)

    def median(self, unit: str) -> float | None:
        """The median over seeds; a seed that does not get there counts as beyond the run, None if it is."""
        values = [one.at[unit] if one else math.inf for one in self.by_seed.values()]
        middle = median(values) if values else math.inf
        return float(middle) if math.isfinite(middle) else None

    def range(self, unit: str) -> tuple[float, float] | None:
        """The lowest and the highest value of the seeds that get there."""
        values = [one.at[unit] for one in self.reached]
        return (min(values), max(values)) if values else None

    @property
    def mean(self) -> float | None:
        """The geometric mean over seeds; None unless every seed gets there."""
        logarithms = [math.log(one.at[self.units[0]]) for one in self.reached]
        return math.exp(fmean(logarithms)) if self.every_seed else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % t interval of the geometric mean; None where a value is not known but only bounded."""
        if not self.every_seed or self.from_first:
            return None
        logarithms = (math.log(one.at[self.units[0]]) for one in self.reached)
        ends = estimate(dict(enumerate(logarithms)), 1.0).interval
        return ends and (math.exp(ends[0]), math.exp(ends[1]))


def crossing(arm: Series, bar: Mapping[int, float], metric: Metric) -> SeedPlaces:
    """Where an arm first becomes better than a bar: the best that another arm reaches.

    Args:
        arm: its validation split over the stops.
        bar: seed -> the value to be bettered.
        metric: what is compared.
    """
    by_seed = {
        seed: first_below([(point, metric.improvement(value, bar[seed])) for point, value in own])
        for seed, own in _measured(arm, metric).items()
        if seed in bar
    }
    return SeedPlaces(by_seed, PLACE_UNITS)


def equal_tokens(arm: Series, reference: Series, metric: Metric) -> SeedPlaces:
    """Where an arm first becomes better than another at the same number of tokens seen: of stops of both."""
    others, by_seed = _measured(reference, metric), {}
    for seed, own in _measured(arm, metric).items():
        there = {point.at["tokens_seen"]: value for point, value in others.get(seed, ())}
        difference = [
            (point, metric.improvement(value, there[tokens]))
            for point, value in own
            if (tokens := point.at["tokens_seen"]) in there
        ]
        if difference:
            by_seed[seed] = first_below(difference)
    return SeedPlaces(by_seed, PLACE_UNITS)


def onset(arm: Series, metric: Metric) -> SeedPlaces:
    """Where overfitting begins: the best stop of a seed, if the run went on beyond it."""
    by_seed: dict[int, Reached | None] = {}
    for seed, own in _measured(arm, metric).items():
        values = [value for _, value in own]
        place = values.index((min if metric.lower_is_better else max)(values))
        last = place == len(values) - 1
        by_seed[seed] = None if last else Reached(_coordinates(own[place][0]), from_first=place == 0)
    return SeedPlaces(by_seed, PLACE_UNITS)


def match_ratio(arm: Series, reference: Series, metric: Metric) -> SeedPlaces:
    """How many times the FLOPs of another arm an arm needs to be as good, there and at all more compute.

    Interpolated in log FLOPs between two amounts of compute.
    """
    most, key = reference.most, metric.key
    by_seed: dict[int, Reached | None] = {}
    in_passing = []
    for seed, target in sorted(most.values(key).items()):
        amounts = [
            (point.rows[seed].costs["flops"] / most.at["flops"], metric.improvement(values[seed], 0.0))
            for point in arm.points
            if seed in (values := point.values(key))
        ]
        if amounts:
            bar = metric.improvement(target, 0.0)
            enough = [value <= bar for _, value in amounts]
            ratio = compute_to_reach(amounts, bar)
            by_seed[seed] = None if ratio is None else Reached({RATIO[0]: ratio}, from_first=all(enough))
            if any(enough) and not enough[-1]:
                in_passing.append(seed)
    return SeedPlaces(by_seed, RATIO, tuple(in_passing))


def first_below(difference: Sequence[tuple[Point, float]]) -> Reached | None:
    """The first place at which a sampled difference falls below 0, linear in log tokens between stops.

    Epochs and FLOPs grow in proportion to tokens, so between two stops they are linear in them.

    Args:
        difference: points in order of tokens seen, with a value each, in the metric's unit.

    Returns:
        The place, or None if no value is below 0.
    """
    below = [value < 0 for _, value in difference]
    if True not in below:
        return None
    after = below.index(True)
    holds = all(below[after:])
    if after == 0:
        return Reached(_coordinates(difference[0][0]), True, holds)
    (before, high), (behind, low) = difference[after - 1 : after + 1]
    left, right = before.at, behind.at
    share = high / (high - low)
    tokens = left["tokens_seen"] * (right["tokens_seen"] / left["tokens_seen"]) ** share
    at = (tokens - left["tokens_seen"]) / (right["tokens_seen"] - left["tokens_seen"])
    between = {unit: left[unit] + at * (right[unit] - left[unit]) for unit in PLACE_UNITS}
    return Reached({**between, "tokens_seen": tokens}, False, holds)


def _measured(series: Series, metric: Metric) -> dict[int, list[tuple[Point, float]]]:
    """Seed -> its points, with the metric at each; of the seeds of which it is known at all of theirs.

    Each seed has points of its own, since one run may end earlier than another (`training.patience`).
    """
    found: dict[int, list[tuple[Point, float]]] = {}
    for seed in dict.fromkeys(seed for point in series.points for seed in point.by_seed):
        own = [point for point in series.points if seed in point.by_seed]
        known = [(point, values[seed]) for point in own if seed in (values := point.values(metric.key))]
        if len(known) == len(own):
            found[seed] = known
    return found


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

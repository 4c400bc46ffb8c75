"""What each arm of a sweep reaches, and whether it is better than the arm it is compared with."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any

from lab.metrics import Metric
from lab.reporting.results import (
    STOPS,
    CellResult,
    Findings,
    ResultTree,
    by_level,
    check_comparable,
    level_name,
    readings_of,
    still_improving,
)
from lab.reporting.statistics import PairedDifference, Verdict, holm, judge, paired_gain
from lab.results import Reading, Stop

NO_VERDICT = Verdict(0, "too few seeds")


@dataclass(frozen=True)
class ArmFinding:
    """One arm at one level under one reading.

    Attributes:
        metric: what is compared; best stops are chosen by validation NLL whatever it is.
        cells: its finished runs, by seed.
        planned: number of its planned runs.
    """

    arm: str
    level: dict[str, Any]
    metric: Metric
    reading: Reading
    cells: tuple[CellResult, ...]
    planned: int

    def stops(self, which: str) -> list[Stop]:
        """The `best` or the `end` stop of each finished run."""
        return [cell.stop(which, self.reading) for cell in self.cells]

    @property
    def speeds(self) -> tuple[float | None, ...]:
        """The median training speed of each finished run, tokens/s; None where it left no metrics."""
        return tuple(cell.log.tokens_per_second for cell in self.cells)

    def test(self, which: str) -> list[float]:
        """The test metric of each finished run at its `best` or `end` stop."""
        return [stop.test[self.metric.key] for stop in self.stops(which)]

    def curve(self, x: str) -> tuple[list[float], list[list[float]]]:
        """The metric on the validation split, over the stops.

        Args:
            x: `epoch`, `train_flops` or `seconds` of training.

        Returns:
            Positions, medians over seeds, and for each the value of every seed, to the metric's scale. Empty
            if no run has finished, or its speed is not known.
        """
        if not self.cells or (x == "seconds" and None in self.speeds):
            return [], []
        stops = list(zip(*(cell.done.along(self.reading) for cell in self.cells), strict=True))
        positions = [
            median(_position(stop, x, speed) for stop, speed in zip(column, self.speeds, strict=True))
            for column in stops
        ]
        key, scale = self.metric.key, self.metric.scale
        return positions, [[scale * stop.validation[key] for stop in column] for column in stops]

    @property
    def improving(self) -> int:
        """How many of its finished runs were best at their last stop."""
        return still_improving(self.cells, self.reading)

    @property
    def run_flops(self) -> float | None:
        """Training FLOPs up to the last stop; None if no run has finished."""
        return median(stop.train_flops for stop in self.stops("end")) if self.cells else None

    @property
    def speed(self) -> float | None:
        """Median training speed over the runs, tokens/s; None if it is not known."""
        known = [speed for speed in self.speeds if speed is not None]
        return median(known) if known else None


def _position(stop: Stop, x: str, speed: float | None) -> float:
    return stop.tokens_seen / speed if x == "seconds" and speed else float(getattr(stop, x))


@dataclass(frozen=True)
class Comparison:
    """An arm against its reference at one stop.

    Attributes:
        gain: by how much the arm's test metric is better than its reference's, in the metric's unit; positive
            if it is. None if no seed was finished by both.
        adjusted_p: the paired test's p-value, Holm-corrected over all contrasts at this stop and reading.
        verdict: the winner is 1 if the arm is better, -1 if its reference is.
    """

    gain: PairedDifference | None
    adjusted_p: float | None = None
    verdict: Verdict = NO_VERDICT


@dataclass(frozen=True)
class Contrast:
    """An arm against its reference at one level under one reading.

    Attributes:
        seeds: those that both finished; only they are compared.
        left_out: planned seeds that at least one did not finish.
        at: `best` and `end` -> the comparison there.
    """

    arm: ArmFinding
    reference: ArmFinding
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    at: Mapping[str, Comparison]

    @property
    def within_run_length(self) -> bool:
        """Whether one of the two was still improving when a compared run ended."""
        cells = [cell for arm in (self.arm, self.reference) for cell in arm.cells if cell.seed in self.seeds]
        return still_improving(cells, self.arm.reading) > 0

    @property
    def flops_ratio(self) -> float | None:
        """Training FLOPs of the arm's whole run, as a multiple of its reference's."""
        return _ratio(self.arm.run_flops, self.reference.run_flops)

    @property
    def time_ratio(self) -> float | None:
        """Training time for equally many tokens, as a multiple of its reference's."""
        return _ratio(self.reference.speed, self.arm.speed)


def _ratio(value: float | None, reference: float | None) -> float | None:
    return None if value is None or reference is None else value / reference


@dataclass(frozen=True)
class LevelFinding:
    """Every arm and every contrast at one level under one reading, in declared order."""

    level: dict[str, Any]
    arms: dict[str, ArmFinding]
    contrasts: tuple[Contrast, ...]

    @property
    def groups(self) -> dict[str, tuple[Contrast, ...]]:
        """The contrasts by the name of their reference."""
        references = dict.fromkeys(contrast.reference.arm for contrast in self.contrasts)
        return {
            name: tuple(contrast for contrast in self.contrasts if contrast.reference.arm == name)
            for name in references
        }


class Sweep(Findings[LevelFinding]):
    """What a sweep shows."""


def analyse(tree: ResultTree) -> Sweep:
    """Compare each arm with the one that the plan's contrasts name for it, within each level.

    Raises:
        ValueError: if no run has finished, or the arms may not be compared.
    """
    check_comparable(tree.cells)
    return Sweep(
        tree,
        {
            reading: _correct([_find(tree, cells, reading) for cells in by_level(tree.cells)])
            for reading in readings_of(tree)
        },
    )


def _find(tree: ResultTree, cells: tuple[CellResult, ...], reading: Reading) -> LevelFinding:
    """One level's finding, its comparisons not yet corrected for their number."""
    arms = {}
    for arm in tree.plan.arms:
        planned = [cell for cell in cells if cell.arm == arm]
        done = sorted((cell for cell in planned if cell.status == "done"), key=lambda cell: cell.seed)
        arms[arm] = ArmFinding(arm, cells[0].level, tree.metric, reading, tuple(done), len(planned))
    planned_seeds = sorted({cell.seed for cell in cells})
    contrasts = [
        _contrast(arms[arm], arms[reference], planned_seeds) for arm, reference in tree.plan.contrasts.items()
    ]
    return LevelFinding(cells[0].level, arms, tuple(contrasts))


def _contrast(arm: ArmFinding, reference: ArmFinding, planned: list[int]) -> Contrast:
    finished = {cell.seed for cell in arm.cells} & {cell.seed for cell in reference.cells}
    seeds = tuple(seed for seed in planned if seed in finished)
    left_out = tuple(seed for seed in planned if seed not in finished)
    at = {which: Comparison(_gain(arm, reference, seeds, which)) for which in STOPS}
    return Contrast(arm, reference, seeds, left_out, at)


def _gain(
    arm: ArmFinding, reference: ArmFinding, seeds: tuple[int, ...], which: str
) -> PairedDifference | None:
    if not seeds:
        return None

    def test(finding: ArmFinding) -> dict[int, dict[str, float]]:
        runs = zip(finding.cells, finding.stops(which), strict=True)
        return {cell.seed: stop.test for cell, stop in runs if cell.seed in seeds}

    return paired_gain(arm.metric, test(reference), test(arm))


def _correct(levels: list[LevelFinding]) -> tuple[LevelFinding, ...]:
    """The findings with Holm's correction over all contrasts at each stop, and the verdicts that follow."""
    corrected = {which: iter(_judged(levels, which)) for which in STOPS}
    return tuple(
        replace(
            level,
            contrasts=tuple(
                replace(contrast, at={which: next(corrected[which]) for which in STOPS})
                for contrast in level.contrasts
            ),
        )
        for level in levels
    )


def _judged(levels: list[LevelFinding], which: str) -> list[Comparison]:
    comparisons = [contrast.at[which] for level in levels for contrast in level.contrasts]
    adjusted = holm([made.gain.p_value if made.gain else None for made in comparisons])
    return [
        replace(made, adjusted_p=p, verdict=judge(made.gain, p)) if made.gain else made
        for made, p in zip(comparisons, adjusted, strict=True)
    ]


def mean_test(arm: ArmFinding, which: str) -> float | None:
    """The mean over seeds of an arm's test metric at a stop; None if no run has finished."""
    return fmean(arm.test(which)) if arm.cells else None


def level_text(level: Mapping[str, Any]) -> str:
    """A level as an ending such as ` at width=64`; nothing where the sweep has no levels."""
    return f" at {level_name(dict(level))}" if level else ""

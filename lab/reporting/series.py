"""What sections draw and compare: metrics by seed, at an arm's stops or at amounts of test-time compute."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from lab.evaluation.measurements import CHOICE, GENERATION, REAL_TEXT, find_set
from lab.metrics import Metric, find_metric
from lab.reporting.statistics import Estimate, Measured, paired_gain
from lab.reporting.tree import CellResult, ResultTree, by_level, check_matched, level_name, still_improving
from lab.reporting.words import at_level, some
from lab.results import (
    RESULT,
    DamagedError,
    MeasurementResult,
    Reading,
    Stop,
    measurement_folder,
    read_record,
)
from lab.results import Measured as Row
from lab.sections import Matched, Place

# Without it a row of a kind is no measurement.
_NEEDED = {GENERATION: ("judge_nll",), REAL_TEXT: ("judge_nll",), CHOICE: ("choice_accuracy",)}


@dataclass(frozen=True)
class Point:
    """One stop of an arm, or one amount of compute.

    Attributes:
        at: where it lies: `epoch`, `tokens_seen`, `train_flops`, `seconds`, `parameters`, or the costs and
            settings of a measurement; medians over seeds. What is not known is not there.
        by_seed: seed -> what was measured, by metric.
        level: of its runs.
        rows: seed -> the measurement itself, if it was made after the run.
    """

    at: Mapping[str, float]
    by_seed: Mapping[int, Measured]
    level: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[int, Row] = field(default_factory=dict)

    def values(self, metric: str) -> dict[int, float]:
        """The value of each seed that has one."""
        return {seed: found[metric] for seed, found in self.by_seed.items() if metric in found}

    def mean(self, metric: str) -> float | None:
        """The mean over seeds, None if no seed has it."""
        values = self.values(metric).values()
        return fmean(values) if values else None

    def deviation(self, metric: str) -> float | None:
        """The standard deviation over seeds, None below two."""
        values = self.values(metric).values()
        return stdev(values) if len(values) > 1 else None


@dataclass(frozen=True)
class Series:
    """An arm at one level, over its stops or over amounts of compute.

    Attributes:
        variant: what else it is, such as a sampler; empty for stops.
        points: in order of tokens seen, or of FLOPs.
        cells: the finished runs that it is of, by seed.
    """

    arm: str
    level: Mapping[str, Any]
    points: tuple[Point, ...]
    cells: tuple[CellResult, ...]
    variant: str = ""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its finished runs."""
        return tuple(cell.seed for cell in self.cells)

    @property
    def most(self) -> Point:
        """The last point."""
        return self.points[-1]


@dataclass(frozen=True)
class Runs:
    """The finished runs of an arm at one level, under one reading.

    Attributes:
        cells: by seed.
        planned: number of planned runs.
    """

    arm: str
    level: Mapping[str, Any]
    reading: Reading
    cells: tuple[CellResult, ...]
    planned: int

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs."""
        return tuple(cell.seed for cell in self.cells)

    def among(self, seeds: Sequence[int]) -> "Runs":
        """Only the runs of these seeds."""
        cells = tuple(cell for cell in self.cells if cell.seed in seeds)
        return Runs(self.arm, self.level, self.reading, cells, self.planned)

    @property
    def improving(self) -> int:
        """How many were best at their last stop, so that a longer run may do better."""
        return still_improving(self.cells, self.reading)

    @property
    def speed(self) -> float | None:
        """The median training speed over the runs, tokens/s; None if it is not known."""
        known = [speed for cell in self.cells if (speed := cell.log.tokens_per_second) is not None]
        return median(known) if known else None

    @property
    def run_flops(self) -> float | None:
        """Training FLOPs up to the last stop; None if no run has finished."""
        stops = [cell.stop("end", self.reading) for cell in self.cells]
        return median(stop.train_flops for stop in stops) if stops else None

    def at(self, place: Place) -> Point | None:
        """What the runs measure on the test split at their best or last stop; None if no run has finished."""
        stops = [cell.stop(place, self.reading) for cell in self.cells]
        return self._point(stops, [stop.test for stop in stops]) if stops else None

    def validation(self, place: Place) -> Point | None:
        """The same on the validation split."""
        stops = [cell.stop(place, self.reading) for cell in self.cells]
        return self._point(stops, [stop.validation for stop in stops]) if stops else None

    @cached_property
    def along(self) -> Series:
        """What the runs measure on the validation split, over their stops."""
        stops = zip(*(cell.done.along(self.reading) for cell in self.cells), strict=True)
        points = [self._point(column, [stop.validation for stop in column]) for column in stops]
        return Series(self.arm, self.level, tuple(points), self.cells)

    def _point(self, stops: Sequence[Stop], found: Sequence[Measured]) -> Point:
        """Stops of the runs, one of each."""
        return Point(self._coordinates(stops), dict(zip(self.seeds, found, strict=True)), self.level)

    def _coordinates(self, stops: Sequence[Stop]) -> dict[str, float]:
        """Where stops of the runs lie, one of each; medians."""
        found = {
            name: float(median(getattr(stop, name) for stop in stops))
            for name in ("epoch", "tokens_seen", "train_flops")
        }
        found["parameters"] = float(median(cell.done.parameters for cell in self.cells))
        speeds = [speed for cell in self.cells if (speed := cell.log.tokens_per_second)]
        if len(speeds) == len(stops):
            found["seconds"] = median(
                stop.tokens_seen / speed for stop, speed in zip(stops, speeds, strict=True)
            )
        return found


def runs_of(tree: ResultTree, arm: str, level: Mapping[str, Any], reading: Reading | None = None) -> Runs:
    """The runs of an arm at a level; under the headline reading if none is named."""
    planned = tree.cells_of(arm, level)
    done = tuple(cell for cell in planned if cell.status == "done")
    return Runs(arm, level, reading or tree.readings[0], done, len(planned))


def gain(metric: Metric, reference: Point | None, arm: Point | None) -> Estimate | None:
    """How much better an arm is than its reference, over the seeds that both have; None if there is none."""
    if reference is None or arm is None:
        return None
    key = metric.key
    seeds = sorted(reference.values(key).keys() & arm.values(key).keys())
    if not seeds:
        return None
    return paired_gain(
        metric,
        {seed: reference.by_seed[seed] for seed in seeds},
        {seed: arm.by_seed[seed] for seed in seeds},
    )


@dataclass(frozen=True)
class AfterRuns:
    """What was measured of finished runs after them, by one set of tasks.

    Attributes:
        series: of each kind of measurement, the arms in declared order.
        real: what real text measures, if it was.
        unmeasured: finished runs without all that is to be measured of them.
        damaged: why measurements that are there cannot be read, in sentences.
    """

    series: Mapping[str, tuple[Series, ...]]
    real: Point | None
    unmeasured: tuple[CellResult, ...]
    damaged: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is damaged, and what was not measured, in sentences."""
        names = some([f"{cell.arm} seed {cell.seed}{at_level(cell.level)}" for cell in self.unmeasured])
        said = f"Trained but not measured: {names}. The same command measures what is missing."
        return (*self.damaged, said) if self.unmeasured else self.damaged


def after_runs(tree: ResultTree, kind: str) -> AfterRuns:
    """Read what was measured of every run's best stop, but for the arm that it is measured with.

    Of several sets of tasks in the plan it is the first. It is read once, whatever sections a page has.

    Args:
        tree: the planned runs.
        kind: the measurement that is wanted, such as `generation`.

    Raises:
        ValueError: if the plan measures nothing, or runs were measured on several backends or by several
            versions of the code.
    """
    if not tree.plan.measurements:
        raise ValueError(f"{tree.path} does not plan to measure {kind!r} after its runs.")
    return _after_runs(tree)


@lru_cache(maxsize=1)
def _after_runs(tree: ResultTree) -> AfterRuns:
    measurement, judge = next(iter(tree.plan.measurements.items()))
    finished = [cell for cell in tree.finished if cell.arm != judge]
    measured: list[tuple[CellResult, MeasurementResult]] = []
    unmeasured, damaged = [], []
    for cell in finished:
        try:
            found = _read(tree, cell, measurement)
        except DamagedError as error:
            found = None
            damaged.append(f"{error} The same command makes it again.")
        if found:
            measured.append((cell, found))
        else:
            unmeasured.append(cell)
    _refuse_mixed(measured)
    kinds = dict.fromkeys(row.task.measurement for _, found in measured for row in found.rows)
    real = {c.seed: row for c, found in measured for row in found.rows if row.task.measurement == REAL_TEXT}
    return AfterRuns(
        {kind: _series(tree, measured, kind) for kind in kinds if kind != REAL_TEXT},
        _point(real, {}) if real else None,
        tuple(unmeasured),
        tuple(damaged),
    )


def _read(tree: ResultTree, cell: CellResult, measurement: str) -> MeasurementResult | None:
    """What was measured of a run; None if it is not of its best stop, or lacks a task of its configuration.

    The tasks of all arms follow from one preset, and the key of each row names the code that measured it:
    where the code changed, the same command measures anew.

    Raises:
        DamagedError: if the file is not as the lab writes it.
    """
    path = tree.path / measurement_folder(cell.cell.logdir, measurement) / RESULT
    found = read_record(MeasurementResult, path)
    if found is None or found.stops[0] != cell.done.reference(cell.done.best()):
        return None
    rows = {repr(row.task): row for row in found.rows}
    wanted = [repr(task) for task in find_set(measurement).tasks(cell.cell.config)]
    if any(task not in rows for task in wanted):
        return None
    for row in rows.values():
        _require(row, path)
    return found.model_copy(update={"rows": tuple(rows[task] for task in wanted)})


def _require(row: Row, path: Path) -> None:
    """Refuse a row without the numbers that are compared."""
    kind = row.task.measurement
    costs = ("flops", "flops_computed") if kind in (GENERATION, CHOICE) else ()
    missing = [key for key in _NEEDED.get(kind, ()) if row.values.get(key) is None]
    missing += [name for name in costs if name not in row.costs]
    if missing:
        raise DamagedError(f"{path}: a row of {kind!r} must have {', '.join(missing)}, but has not.")


def _refuse_mixed(measured: Sequence[tuple[CellResult, MeasurementResult]]) -> None:
    """Refuse measurements by several backends, or by several versions of the code."""
    places = [f"{cell.arm} seed {cell.seed}" for cell, _ in measured]
    by = {
        "backend": [found.process.backend for _, found in measured],
        "code": [found.code for _, found in measured],
    }
    for name, values in by.items():
        if len(set(values)) > 1:
            raise ValueError(
                f"everything must be measured with the same {name}, "
                f"but got {dict(zip(places, values, strict=True))}: measure again."
            )


def _series(
    tree: ResultTree, measured: Sequence[tuple[CellResult, MeasurementResult]], kind: str
) -> tuple[Series, ...]:
    """What was measured of a kind: a series for each arm, level and variant, in declared order."""
    order = {arm: place for place, arm in enumerate(tree.plan.arms)}
    found: dict[tuple[str, str, str], dict[tuple[int, int], dict[int, Row]]] = {}
    cells: dict[tuple[str, str], dict[int, CellResult]] = {}
    for cell, result in sorted(measured, key=lambda pair: order[pair[0].arm]):
        level = level_name(cell.level)
        cells.setdefault((cell.arm, level), {})[cell.seed] = cell
        for row in result.rows:
            if row.task.measurement == kind:
                settings = row.task.settings
                draws = settings.get("num_draws")
                exact = "exact" if draws is None else "draws"
                variant = settings.get("sampler") or (exact if kind == CHOICE else "")
                amount = (settings.get("steps") or 0, draws or 0)
                found.setdefault((cell.arm, level, variant), {}).setdefault(amount, {})[cell.seed] = row
    return tuple(
        Series(
            arm,
            next(iter(cells[arm, level].values())).level,
            tuple(
                _point(rows, next(iter(cells[arm, level].values())).level)
                for _, rows in sorted(amounts.items())
            ),
            tuple(cell for _, cell in sorted(cells[arm, level].items())),
            variant,
        )
        for (arm, level, variant), amounts in found.items()
    )


def _point(rows: Mapping[int, Row], level: Mapping[str, Any]) -> Point:
    first = next(iter(rows.values()))
    settings = {name: first.task.settings.get(name) for name in ("steps", "num_draws")}
    at = {**first.costs, **{name: float(value) for name, value in settings.items() if value is not None}}
    by_seed = {
        seed: {key: value for key, value in row.values.items() if value is not None}
        for seed, row in rows.items()
    }
    return Point(at, by_seed, level, dict(rows))


def check_series(series: Sequence[Series], matched: Sequence[Matched]) -> None:
    """Refuse series of runs that must not stand side by side (`tree.check_matched`), level by level."""
    for group in by_level(cell for one in series for cell in one.cells):
        check_matched(group, matched, level_name(group[0].level))


def shown_metrics(keys: Sequence[str], default: str) -> tuple[Metric, ...]:
    """The metrics that a section names, or the ablation's."""
    return tuple(map(find_metric, keys or (default,)))

"""What sections draw and compare: metrics by seed, at an arm's stops or at amounts of test-time compute."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import product, zip_longest
from operator import itemgetter
from statistics import fmean, median, stdev
from typing import Any

from lab.evaluation.measurements import CHOICE, ENSEMBLE, EXTRACTION, GENERATION, REAL_TEXT, TASK, find_set
from lab.metrics import NLL, Metric, find_metric
from lab.reporting.documents import paired_error
from lab.reporting.statistics import Estimate, Measured, paired_gain
from lab.reporting.tree import CellResult, ResultTree, by_level, check_matched, level_name, still_improving
from lab.reporting.words import AT, at_level, some
from lab.results import (
    DamagedError,
    Examples,
    MeasurementResult,
    Reading,
    Split,
    Stop,
)
from lab.results import Measured as Row
from lab.sections import COSTS, PLACES, Contrast, Matched, Place

# Of what a point costs, what each member of an ensemble takes.
_OF_EACH = ("train_flops", "seconds", "parameters")
# Without these values and costs a row of a kind is no measurement.
_COSTS = ("flops", "flops_computed")
_NEEDED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    GENERATION: (("judge_nll",), _COSTS),
    REAL_TEXT: (("judge_nll",), ()),
    CHOICE: (("choice_accuracy",), _COSTS),
    EXTRACTION: (("extraction_rate", "extraction_rate_held_out"), _COSTS),
}


@dataclass(frozen=True)
class Point:
    """One stop of an arm, or one amount of compute.

    Attributes:
        at: where it lies: `epoch`, `tokens_seen`, `train_flops`, `seconds`, `parameters`, or the costs and
            settings of a measurement; medians over seeds. What is not known is not there.
        by_seed: seed -> what was measured, by metric.
        level: of its runs.
        rows: seed -> the measurement itself, if it was made after the run.
        stops: seed -> the stop that it is, if it is one.
        split: the held-out text.
    """

    at: Mapping[str, float]
    by_seed: Mapping[int, Measured]
    level: Mapping[str, Any] = field(default_factory=dict)
    rows: Mapping[int, Row] = field(default_factory=dict)
    stops: Mapping[int, Stop] = field(default_factory=dict)
    split: Split = "test"

    def values(self, metric: str) -> dict[int, float]:
        """The value of each seed that has one."""
        return {seed: measured[metric] for seed, measured in self.by_seed.items() if metric in measured}

    def examples(self, metric: str) -> dict[int, Examples]:
        """The values by held-out window of each seed that has them."""
        of_stops = {seed: stop.examples(metric, self.split) for seed, stop in self.stops.items()}
        found = {seed: row.examples for seed, row in self.rows.items()} | of_stops
        return {seed: own for seed, own in found.items() if own and own.metric == metric}

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
        points: in order of tokens seen, or of FLOPs. Where a run ended early (`training.patience`) the
            later ones are without it.
        cells: the finished runs that it is of, by seed.
    """

    arm: str
    level: Mapping[str, Any]
    points: tuple[Point, ...]
    cells: tuple[CellResult, ...]
    variant: str = ""

    @property
    def most(self) -> Point:
        """The last point."""
        return self.points[-1]

    @cached_property
    def common(self) -> tuple[Point, ...]:
        """The points that all seeds have, so that their means are of the same seeds."""
        seeds = {seed for point in self.points for seed in point.by_seed}
        return tuple(point for point in self.points if point.by_seed.keys() == seeds)


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
        speeds = [speed for cell in self.cells if (speed := cell.log.tokens_per_second) is not None]
        return median(speeds) if speeds else None

    def costs(self, place: Place) -> Mapping[str, float]:
        """What it takes to get to the best or last stop, as `Point.at`; empty if no run has finished."""
        point = self._point([cell.stop(place, self.reading) for cell in self.cells], "validation")
        return point.at if point else {}

    def at(self, place: Place, split: Split = "test") -> Point | None:
        """What the runs measure at their best or last stop; None if no run has finished."""
        return self._point([cell.stop(place, self.reading) for cell in self.cells], split)

    @cached_property
    def along(self) -> Series:
        """What the runs measure on the validation split, over their stops."""
        return self.over("validation")

    def over(self, split: Split) -> Series:
        """What is measured of the runs on a split, over their stops."""
        columns = zip_longest(*(cell.done.along(self.reading) for cell in self.cells))
        points = [point for column in columns if (point := self._point(column, split))]
        return Series(self.arm, self.level, tuple(points), self.cells)

    def _point(self, stops: Sequence[Stop | None], split: Split) -> Point | None:
        """Stops of the runs, one of each; None of a run that had ended."""
        there = [(cell, stop) for cell, stop in zip(self.cells, stops, strict=True) if stop]
        if not there:
            return None
        at = {
            name: float(median(getattr(stop, name) for _, stop in there))
            for name in ("epoch", "tokens_seen", "train_flops")
        }
        at["parameters"] = float(median(cell.done.parameters for cell, _ in there))
        seconds = [stop.tokens_seen / speed for cell, stop in there if (speed := cell.log.tokens_per_second)]
        if len(seconds) == len(there):
            at["seconds"] = median(seconds)
        by_seed = {cell.seed: stop for cell, stop in there}
        measured = {seed: stop.metrics(split) for seed, stop in by_seed.items()}
        return Point(at, measured, self.level, stops=by_seed, split=split)


@dataclass(frozen=True)
class Ensemble(Runs):
    """The members of an arm in each replicate, measured together at their best stops, and nowhere else.

    Attributes:
        cells: the first members, of the replicates that are measured.
        rows: seed -> what was measured.
        members: of each replicate.
    """

    rows: Mapping[int, Row] = field(default_factory=dict)
    members: int = 1

    def among(self, seeds: Sequence[int]) -> "Ensemble":
        """Only the replicates of these seeds."""
        cells = tuple(cell for cell in self.cells if cell.seed in seeds)
        rows = {seed: row for seed, row in self.rows.items() if seed in seeds}
        return replace(self, cells=cells, rows=rows)

    @property
    def speed(self) -> float | None:
        """Tokens/s at which all members train one after the other."""
        alone = super().speed
        return alone and alone / self.members

    def costs(self, place: Place) -> Mapping[str, float]:
        """What it takes all members, one after the other."""
        alone = super().costs(place)
        own = {name: self.members * alone[name] for name in _OF_EACH if name in alone}
        return {**alone, **own}

    def at(self, place: Place, split: Split = "test") -> Point | None:
        """What the members measure together."""
        if not self.cells or (place, split) != ("best", "test"):
            return None
        by_seed = {
            seed: {k: v for k, v in row.values.items() if v is not None} for seed, row in self.rows.items()
        }
        return Point(self.costs(place), by_seed, self.level, rows=self.rows)

    @cached_property
    def along(self) -> Series:
        """Nothing: members are measured together at their best stops alone."""
        return Series(self.arm, self.level, (), ())


def runs_of(tree: ResultTree, arm: str, level: Mapping[str, Any], reading: Reading | None = None) -> Runs:
    """The runs of an arm, or of an ensemble, at a level; under the headline reading if none is named."""
    if arm in tree.plan.ensembles:
        return _ensemble(tree, arm, level, reading or tree.readings[0])
    planned = tree.cells_of(arm, level)
    done = tuple(cell for cell in planned if cell.status == "done")
    return Runs(arm, level, reading or tree.readings[0], done, len(planned))


def contrasted(
    tree: ResultTree, contrasts: Iterable[Contrast], reading: Reading | None = None
) -> Iterator[tuple[Contrast, Runs, Runs]]:
    """The runs of the arm and of the reference of contrasts, level by level; never an arm with itself.

    Of one at its best levels (`Contrast.best_of`) what is given names the level that the reference has there.
    """
    contrasts = list(contrasts)
    for level, contrast in product(tree.levels, [one for one in contrasts if not one.best_of]):
        other = level | contrast.reference_level
        itself = (contrast.arm, level) == (contrast.reference, other) and not contrast.reference_at
        if not itself and contrast.level.items() <= level.items():
            arm = runs_of(tree, contrast.arm, level, reading)
            yield contrast, arm, runs_of(tree, contrast.reference, other, reading)
    for contrast in (one for one in contrasts if one.best_of):
        rests = [{k: v for k, v in level.items() if k != contrast.best_of} for level in tree.levels]
        for place, rest in enumerate(rests):
            if rest not in rests[:place] and contrast.level.items() <= rest.items():
                arm, reference = (
                    _best_runs(tree, name, rest, reading) for name in (contrast.arm, contrast.reference)
                )
                other = {k: v for k, v in reference.level.items() if arm.level[k] != v}
                yield contrast.model_copy(update={"reference_level": other}), arm, reference


def _best_runs(tree: ResultTree, arm: str, rest: Mapping[str, Any], reading: Reading | None) -> Runs:
    """The runs of an arm where they are best on validation, of the levels that have a part in common.

    By the ablation's metric, and by NLL where that is not measured on validation.
    """
    own = [runs_of(tree, arm, level, reading) for level in tree.levels if rest.items() <= level.items()]
    # Each seed has held-out text of its own: levels are compared over the seeds that all of them have.
    seeds = set.intersection(*[set(runs.seeds) for runs in own if runs.cells] or [set()])
    for metric in map(find_metric, (tree.plan.metric, NLL)):  # most are not measured on validation
        points = [(runs, runs.among(sorted(seeds)).at("best", "validation")) for runs in own]
        known = [
            (metric.improvement(0.0, mean), runs)
            for runs, point in points
            if point and (mean := point.mean(metric.key)) is not None
        ]
        if known:
            return max(known, key=itemgetter(0))[1]
    return own[0]


def _ensemble(tree: ResultTree, name: str, level: Mapping[str, Any], reading: Reading) -> Ensemble:
    """An ensemble's replicates: under another reading than the headline, which it is measured by, none."""
    alone = runs_of(tree, tree.plan.ensembles[name], level, reading)
    if reading != tree.readings[0]:
        return Ensemble(name, level, reading, (), 0)
    rows: dict[int, Row] = {}
    for cell in alone.cells:
        with suppress(DamagedError):  # the same command makes it again
            if result := tree.measured(cell, ENSEMBLE):
                (rows[cell.seed],) = result.rows
    cells = tuple(cell for cell in alone.cells if cell.seed in rows)
    members = max((len(row.stops) for row in rows.values()), default=1)
    beside = (cell for cell in tree.beside if (cell.arm, cell.level) == (alone.arm, level))
    planned = {cell.seed for cell in beside if cell.cell.role == "member"}
    return Ensemble(name, level, reading, cells, len(planned), rows, members)


def gain(metric: Metric, reference: Point | None, arm: Point | None) -> Estimate | None:
    """How much better an arm is than its reference, over the seeds that both have; None if there is none."""
    if not (reference and arm):
        return None
    seeds = reference.by_seed.keys() & arm.by_seed.keys()
    sides = [
        {seed: own for seed, own in point.examples(metric.key).items() if seed in seeds}
        for point in (reference, arm)
    ]
    error = paired_error(sides, (-1, 1))
    return paired_gain(metric, reference.by_seed, arm.by_seed, document_error=error)


@dataclass(frozen=True)
class AfterRuns:
    """What was measured of finished runs after them, by one set of tasks.

    Attributes:
        series: of each kind of measurement, the arms in declared order; of texts, those at temperature 1.
        frontiers: of each arm and level its first way of sampling with the most passes, over temperatures.
        real: what real text measures, if it was.
        unmeasured: finished runs without all that is to be measured of them.
        damaged: why measurements that are there cannot be read, in sentences.
    """

    series: Mapping[str, tuple[Series, ...]]
    frontiers: tuple[Series, ...]
    real: Point | None
    unmeasured: tuple[CellResult, ...]
    damaged: tuple[str, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is damaged, and what was not measured, in sentences."""
        return (*self.damaged, *_missing(self.unmeasured))


@lru_cache(maxsize=1)  # read once, whatever sections a page has
def after_runs(tree: ResultTree) -> AfterRuns:
    """Read what was measured of every run's best stop, but for the arm that it is measured with; where the
    last was measured too, it is a variant of its own.

    Of several sets of tasks in the plan it is the first.

    Raises:
        ValueError: if the plan measures nothing, or runs were measured on several backends or by several
            versions of the code.
    """
    if not tree.plan.measurements:
        raise ValueError(f"{tree.path} must plan what is measured after its runs, but plans nothing.")
    measurement, judge = next(iter(tree.plan.measurements.items()))
    order = list(tree.plan.arms)
    measured: list[tuple[CellResult, MeasurementResult]] = []
    unmeasured, damaged = [], []
    for cell in (cell for cell in tree.finished if cell.arm != judge):
        result = None
        try:
            result = _read(tree, cell, measurement)
        except DamagedError as error:
            damaged.append(f"{error} The same command makes it again.")
        if result:
            measured.append((cell, result))
        else:
            unmeasured.append(cell)
    _refuse_mixed(measured)
    measured.sort(key=lambda pair: order.index(pair[0].arm))
    rows: dict[Place, dict[str, list[tuple[CellResult, Row]]]] = {}
    for place in PLACES if find_set(measurement).stops != "best" else PLACES[:1]:
        own = rows[place] = {}
        for cell, result in measured:
            stop = cell.done.reference(cell.stop(place, cell.done.headline))
            for row in result.rows:
                if row.stops[0] == stop:
                    own.setdefault(row.task.measurement, []).append((cell, row))
    best = rows["best"]
    real = {cell.seed: row for cell, row in best.pop(REAL_TEXT, ())}
    frontiers = _frontiers(best.get(GENERATION, ()))
    series: dict[str, tuple[Series, ...]] = {}
    for place, of_kind in rows.items():
        for kind, pairs in of_kind.items():
            warm = [(cell, row) for cell, row in pairs if _temperature(row) == 1]
            made = _series(warm, _compute)
            if place != "best":
                made = tuple(replace(one, variant=f"{one.variant}{AT}{place}") for one in made)
            series[kind] = (*series.get(kind, ()), *made)
    return AfterRuns(
        series,
        frontiers,
        _point(real, {}) if real else None,
        tuple(unmeasured),
        tuple(damaged),
    )


def _read(tree: ResultTree, cell: CellResult, measurement: str) -> MeasurementResult | None:
    """What was measured of a run; None if it is not of its best stop, or lacks a task of its configuration.

    The tasks of all arms follow from one preset, and the key of each row names the code that measured it:
    where the code changed, the same command measures anew.

    Raises:
        DamagedError: if the file is not as the lab writes it, or a row lacks numbers that are compared.
    """
    result = tree.measured(cell, measurement)
    if result is None:
        return None
    rows = {(row.stops[0], repr(row.task)): row for row in result.rows}
    own = dict.fromkeys(row.stops[0] for row in result.rows)
    tasks = [repr(task) for task in find_set(measurement).tasks(cell.cell.config)]
    wanted = [(stop, task) for stop in own for task in tasks]
    if not wanted or any(task not in rows for task in wanted):
        return None
    for row in rows.values():
        values, costs = _NEEDED.get(row.task.measurement, ((), ()))
        missing = [key for key in values if row.values.get(key) is None]
        if missing := [*missing, *(name for name in costs if name not in row.costs)]:
            kind = row.task.measurement
            path = tree.measurement_path(cell, measurement)
            raise DamagedError(f"{path}: a row of {kind!r} must have {', '.join(missing)}, but has not.")
    return result.model_copy(update={"rows": tuple(rows[task] for task in wanted)})


def _refuse_mixed(measured: Sequence[tuple[CellResult, MeasurementResult]]) -> None:
    """Refuse measurements by several backends, or by several versions of the code."""
    runs = [f"{cell.arm} seed {cell.seed}" for cell, _ in measured]
    backends, codes = [one.process.backend for _, one in measured], [one.code for _, one in measured]
    for name, values in (("backend", backends), ("code", codes)):
        if len(set(values)) > 1:
            raise ValueError(
                f"everything must be measured with the same {name}, "
                f"but got {dict(zip(runs, values, strict=True))}: measure again."
            )


def _frontiers(measured: Sequence[tuple[CellResult, Row]]) -> tuple[Series, ...]:
    """Of each arm and level the first way of sampling with the most passes, in order of temperature."""
    ways = [(row.task.settings["steps"], _variant(row)) for _, row in measured]
    arms = [(cell.arm, level_name(cell.level)) for cell, _ in measured]
    first: dict[tuple[str, str], tuple[int, str]] = {}
    for arm, way in zip(arms, ways, strict=True):
        first[arm] = max(first.get(arm, way), way, key=itemgetter(0))  # of equals the first
    kept = [pair for pair, arm, way in zip(measured, arms, ways, strict=True) if way == first[arm]]
    return _series(kept, _temperature)


def _series(
    measured: Sequence[tuple[CellResult, Row]], place: Callable[[Row], tuple[int, int] | float]
) -> tuple[Series, ...]:
    """A series for each arm, level and variant of one kind of measurement.

    Args:
        measured: the rows, of which run each.
        place: what its points are ordered by.
    """
    groups: dict[tuple[str, str, str], list[tuple[CellResult, Row]]] = {}
    for cell, row in measured:
        groups.setdefault((cell.arm, level_name(cell.level), _variant(row)), []).append((cell, row))
    series = []
    for (arm, _, variant), own in groups.items():
        level = own[0][0].level
        cells = {cell.seed: cell for cell, _ in own}
        places: dict[tuple[int, int] | float, dict[int, Row]] = {}
        for cell, row in own:
            places.setdefault(place(row), {})[cell.seed] = row
        points = tuple(_point(places[at], level) for at in sorted(places))
        series.append(Series(arm, level, points, tuple(cells[seed] for seed in sorted(cells)), variant))
    return tuple(series)


def _compute(row: Row) -> tuple[int, int]:
    """How much compute a measurement took: passes and draws."""
    settings = row.task.settings
    return settings.get("steps") or 0, settings.get("num_draws") or 0


def _temperature(row: Row) -> float:
    """The temperature at which text was written; 1 where the settings have none."""
    return float(row.task.settings.get("temperature", 1.0))


def _variant(row: Row) -> str:
    """The sampler, the benchmark task, or how options were scored."""
    settings = row.task.settings
    if row.task.measurement == TASK:
        return str(settings.get("name") or settings["form"])
    scored = "exact" if settings.get("num_draws") is None else "draws"
    return settings.get("sampler") or (scored if row.task.measurement == CHOICE else "")


def _point(rows: Mapping[int, Row], level: Mapping[str, Any]) -> Point:
    first = next(iter(rows.values()))
    settings = {name: first.task.settings.get(name) for name in ("steps", "num_draws")}
    at = {**first.costs, **{name: float(value) for name, value in settings.items() if value is not None}}
    if first.task.measurement == GENERATION:
        at["temperature"] = _temperature(first)
    by_seed = {
        seed: {key: value for key, value in row.values.items() if value is not None}
        for seed, row in rows.items()
    }
    return Point(at, by_seed, level, rows)


def throughout(series: Series, metrics: Sequence[Metric]) -> Series:
    """Only the points that all seeds have, of the seeds of which all is known there that is known of any.

    A run that was not measured after it has the values of its best and last stop alone, and a line must not
    go from some seeds to others.
    """
    lacking = {
        seed
        for point in series.common
        for metric in metrics
        if (known := point.values(metric.key))
        for seed in point.by_seed.keys() - known.keys()
    }
    points = (
        replace(point, by_seed={seed: own for seed, own in point.by_seed.items() if seed not in lacking})
        for point in series.common
    )
    return replace(series, points=tuple(points))


def unmeasured(series: Sequence[Series], metrics: Sequence[Metric]) -> tuple[str, ...]:
    """Which runs have nothing of what is measured after them alone, or lack a stop: a sentence or none."""
    after = [metric.key for metric in metrics if metric.after_runs]
    cells = {
        id(cell): cell
        for one in series
        for cell in one.cells
        if (after and not any(key in stop.test for stop in cell.done.stops for key in after))
        or (one.points and all(cell.seed not in point.by_seed for point in one.points))
    }
    return _missing(cells.values())


def _missing(cells: Iterable[CellResult]) -> tuple[str, ...]:
    """Which runs were trained but not measured: a sentence or none."""
    names = some([f"{cell.arm} seed {cell.seed}{at_level(cell.level)}" for cell in cells])
    text = f"Trained but not measured: {names}. The same command measures what is missing."
    return (text,) if names else ()


def check_series(series: Sequence[Series], matched: Sequence[Matched]) -> None:
    """Refuse series of runs that must not stand side by side (`tree.check_matched`), level by level."""
    for group in by_level(cell for one in series for cell in one.cells):
        check_matched(group, matched, level_name(group[0].level))


def shown_metrics(keys: Sequence[str], default: str) -> tuple[Metric, ...]:
    """The metrics that a section names, or the ablation's."""
    return tuple(map(find_metric, keys or (default,)))


def check_axis(tree: ResultTree, x: str) -> None:
    """Refuse an axis that is neither a level of the plan nor a cost."""
    if x not in COSTS and any(x not in level for level in tree.levels):
        raise ValueError(
            f"`x` must be a level of {tree.path}, {sorted(tree.levels[0])}, or one of {list(COSTS)}, "
            f"but got x={x!r}."
        )

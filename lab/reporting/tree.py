"""Read a result tree: what was planned, what finished, what failed, and whether the arms may be compared."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict

from lab.ablation import Cell
from lab.files import read_json
from lab.metrics import METRICS, NLL, Metric, find_metric
from lab.results import (
    PLAN,
    READINGS,
    RESULT,
    DamagedError,
    MeasurementResult,
    PlanRecord,
    Reading,
    Record,
    RunResult,
    Stop,
    measurement_folder,
    read_record,
    read_result,
)
from lab.sections import UNIQUE_TOKENS, Matched, metrics_of
from lab.tracking.records import METRICS as LOG
from lab.tracking.records import read_rows
from lab.training.timeline import make_timeline

FAILURE = "failure.json"
# Steps are whole, so runs of equal training FLOPs are so to about a percent.
FLOPS_TOLERANCE = 0.01

# What every run measures of its best and its last stop, beside what its arm alone does; of the others it
# measures the NLL.
YARDSTICK = (NLL, "choice_accuracy", "option_gap")
OF_THE_BEST = ("nll_exact",)  # and of no other stop


class Failure(Record):
    """Why a run failed, as `failure.json` says."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    reason: str
    log_tail: str = ""


class RunLog(NamedTuple):
    """What a report takes from a run's log.

    Attributes:
        tokens_per_second: the median training speed; None if the log says none.
        damaged: number of lines that are not as a run writes them; they are left out.
        dropped_share: the mean share of the tokens for which mixtures of experts had no place in training;
            None without them.
    """

    tokens_per_second: float | None
    damaged: int
    dropped_share: float | None = None


@dataclass(frozen=True)
class CellResult:
    """One planned run with its state.

    Attributes:
        cell: as the plan says.
        logdir: the run's folder.
        status: `done` (has a result), `failed` (has a reason) or `missing` (not run, not finished, or what is
            there is damaged or of another version).
        result: None unless done.
        reason: why it is not done; empty where there is nothing to be said.
        log_tail: the end of the failed run's output, empty unless failed.
    """

    cell: Cell
    logdir: Path
    status: Literal["done", "failed", "missing"]
    result: RunResult | None = None
    reason: str = ""
    log_tail: str = ""

    @property
    def arm(self) -> str:
        """The arm's name."""
        return self.cell.arm

    @property
    def level(self) -> dict[str, Any]:
        """Dotted configuration key -> value."""
        return self.cell.level

    @property
    def seed(self) -> int:
        """The repeat."""
        return self.cell.seed

    @property
    def done(self) -> RunResult:
        """The result of a finished run.

        Raises:
            ValueError: if the run did not finish.
        """
        if self.result is None:
            raise ValueError(f"the run {self.cell.label} has no result: it is {self.status}.")
        return self.result

    def stop(self, which: str, reading: Reading) -> Stop:
        """The `best` or the `end` stop of a finished run."""
        return self.done.best(reading) if which == "best" else self.done.end(reading)

    @cached_property
    def log(self) -> RunLog:
        """What its log says, as it was when first read; a run may be writing to it."""
        rows, damaged = read_rows(self.logdir / LOG)
        logged = [row.get("tokens_per_second") for row in rows if row["kind"] == "train"]
        speeds = [speed for speed in logged if isinstance(speed, int | float)]
        middle = float(median(speeds)) if speeds else None
        shares = [share for row in rows if isinstance(share := row.get("dropped_share"), int | float)]
        return RunLog(middle, damaged + len(logged) - len(speeds), fmean(shares) if shares else None)


@dataclass(frozen=True, eq=False)
class ResultTree:
    """A plan (plan.json) and the state of each of its cells, as they were when it was read.

    Attributes:
        path: the tree's folder.
        plan: what it is to hold.
        cells: the runs that arms are compared by.
        beside: members of ensembles, and twins.
    """

    path: Path
    plan: PlanRecord
    cells: tuple[CellResult, ...]
    beside: tuple[CellResult, ...] = ()

    @property
    def metric(self) -> Metric:
        """What the arms are compared by, where a section names nothing else."""
        return find_metric(self.plan.metric)

    @cached_property
    def readings(self) -> tuple[Reading, ...]:
        """The readings that all finished runs hold; verdicts rest on the first.

        Raises:
            ValueError: if no run has finished, or they have no reading in common.
        """
        if not self.finished:
            reasons = "; ".join(dict.fromkeys(cell.reason for cell in self.cells if cell.reason))
            raise ValueError(
                f"a report needs a finished run, but none of {len(self.cells)} in {self.path} is."
                + (f" ({reasons}.)" if reasons else "")
            )
        held = [cell.done.readings for cell in self.finished]
        shared: list[Reading] = [reading for reading in READINGS if all(reading in own for own in held)]
        if not shared:
            raise ValueError(f"runs must have a reading in common, but got {sorted(set(held))}.")
        return tuple(shared)

    @cached_property
    def levels(self) -> tuple[dict[str, Any], ...]:
        """The planned levels, the smallest budget of unique tokens first; one empty one if there are none."""
        return tuple(group[0].level for group in by_level(self.cells))

    def cells_of(self, arm: str, level: Mapping[str, Any]) -> tuple[CellResult, ...]:
        """The planned runs of an arm at a level, by seed."""
        cells = (cell for cell in self.cells if cell.arm == arm and cell.level == level)
        return tuple(sorted(cells, key=lambda cell: cell.seed))

    @property
    def finished(self) -> tuple[CellResult, ...]:
        """The cells that have a result."""
        return tuple(cell for cell in self.cells if cell.status == "done")

    @property
    def twins(self) -> tuple[CellResult, ...]:
        """The finished runs whose initial weights differ from another's by rounding alone."""
        return tuple(cell for cell in self.beside if (cell.status, cell.cell.role) == ("done", "twin"))

    def measurement_path(self, cell: CellResult, measurement: str) -> Path:
        """The file that holds what was measured of a run after it."""
        return self.path / measurement_folder(cell.cell.logdir, measurement) / RESULT

    def measured(self, cell: CellResult, measurement: str) -> MeasurementResult | None:
        """What was measured of a finished run after it; None if it was not, or not of its best stop of now.

        Raises:
            DamagedError: if the file is not as the lab writes it.
        """
        result = read_record(MeasurementResult, self.measurement_path(cell, measurement))
        current = result and result.stops[0] == cell.done.reference(cell.done.best())
        return result if current else None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The planned seeds, ascending."""
        return tuple(sorted({cell.seed for cell in self.cells}))


def read_tree(path: Path) -> ResultTree:
    """Read `results/<ablation>/<preset>/`.

    Raises:
        ValueError: if there is no plan, it is damaged or of another schema, or it plans a cell twice.
    """
    return tree_of(path, _read_plan(path / PLAN))


def tree_of(path: Path, plan: PlanRecord) -> ResultTree:
    """The state of each cell of a plan.

    Raises:
        ValueError: if it plans a cell twice.
    """
    compared = dict.fromkeys((*YARDSTICK, *_metrics_of_stops(plan)))
    alone = [name for name, companion in plan.measurements.items() if not companion]
    cells = tuple(_read_cell(path, cell, compared, alone) for cell in plan.cells)
    runs = tuple(cell for cell in cells if cell.cell.role == "run")
    places = [(cell.arm, level_name(cell.level), cell.seed) for cell in runs]
    twice = sorted({place for place in places if places.count(place) > 1})
    if twice:
        raise ValueError(f"{path / PLAN}: each cell must be planned once, but these are twice: {twice}.")
    return ResultTree(path, plan, runs, tuple(cell for cell in cells if cell.cell.role != "run"))


def _read_plan(path: Path) -> PlanRecord:
    try:
        plan = read_record(PlanRecord, path)
        named = {plan.metric}.union(*map(metrics_of, plan.sections)) if plan else set()
        if unknown := sorted(named - set(METRICS)):
            raise DamagedError(f"{path}: metrics must be of {sorted(METRICS)}, but got {unknown}.")
    except DamagedError as error:
        raise DamagedError(f"{error} {_command(path)} writes it anew.") from None
    if plan is None:
        raise ValueError(f"expected a JSON file at {path}, but there is none.")
    return plan


def _metrics_of_stops(plan: PlanRecord) -> list[str]:
    """The metrics that sections take of the runs' stops and every arm has, in order."""
    of_stops = [section for section in plan.sections if not getattr(section, "measurement", "")]
    named = [metric for section in of_stops for metric in sorted(metrics_of(section))]
    named += [plan.registration.rule.metric] if plan.registration else []
    keys = [key for key in (*named, plan.metric) if key not in OF_THE_BEST]
    return [key for key in keys if find_metric(key).of_stops and not find_metric(key).bound]


def _command(plan: Path) -> str:
    """The command of a damaged plan, as far as it says."""
    try:
        return repr(str(read_json(plan)["command"]))
    except (ValueError, LookupError, TypeError):
        return "The command that planned it"


def _read_cell(tree: Path, cell: Cell, compared: Iterable[str], measurements: Iterable[str]) -> CellResult:
    """The state of a cell, whose best and last stops must have the metrics `compared`; a damaged file makes
    it missing.

    Its stops have what they measured and what was measured of them alone after the run: `measurements`.
    """
    logdir = tree / cell.logdir
    result, reason = _sound(read_result, logdir)
    for name in measurements if result else ():
        after, _ = _sound(
            read_record, MeasurementResult, tree / measurement_folder(cell.logdir, name) / RESULT
        )
        result = result.with_rows(after.rows) if after else result
    reason = reason or (_unfit(result, cell, compared) if result else "")
    if result and not reason:
        return CellResult(cell, logdir, "done", result)
    failure, damage = _sound(read_record, Failure, logdir / FAILURE)
    if failure:
        return CellResult(cell, logdir, "failed", reason=failure.reason, log_tail=failure.log_tail)
    return CellResult(cell, logdir, "missing", reason=reason or damage)


def _sound(read: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """What is read, or, if it is damaged, None and the reason."""
    try:
        return read(*arguments), ""
    except DamagedError as error:
        return None, f"{str(error).rstrip('.')}: the same command makes it again"


def _unfit(result: RunResult, cell: Cell, compared: Iterable[str]) -> str:
    """Why a sound result is not the planned cell's; empty if it is."""
    if result.run != cell.version:
        return "what is there is of another version: the same command trains this one"
    if cell.evaluation and result.evaluation != cell.evaluation:
        return "it was measured otherwise: the same command measures what is missing"
    picked = [stop.test for reading in result.readings for stop in result.picked(reading)]
    lacking = (metric for metric in compared if any(metric not in values for values in picked))
    return next((f"{metric!r} was not measured at its best and last stops" for metric in lacking), "")


def still_improving(cells: Iterable[CellResult], reading: Reading) -> int:
    """How many finished runs have their best stop at their end, so that a longer run may do better."""
    runs = (cell.done for cell in cells if cell.status == "done")
    return sum(run.best(reading).step == run.end(reading).step for run in runs)


def stop_spacing(tree: ResultTree) -> float | None:
    """How many times the tokens of the stop before a stop has seen, median; None with one stop a run."""
    ratios = [
        later.tokens_seen / earlier.tokens_seen
        for cell in tree.finished
        for earlier, later in itertools.pairwise(cell.done.along(tree.readings[0]))
    ]
    return median(ratios) if ratios else None


def level_name(level: Mapping[str, Any]) -> str:
    """A level in words: `unique_tokens=20000`; empty where the ablation has no levels."""
    return ", ".join(f"{key.split('.')[-1]}={level[key]}" for key in sorted(level))


def by_level(cells: Iterable[CellResult]) -> list[tuple[CellResult, ...]]:
    """The cells grouped by level, the smallest budget of unique tokens first, the whole corpus last."""
    groups: dict[str, list[CellResult]] = {}
    for cell in cells:
        groups.setdefault(level_name(cell.level), []).append(cell)

    def budget(group: tuple[CellResult, ...]) -> float:
        tokens = group[0].level.get(UNIQUE_TOKENS)
        return math.inf if tokens is None else tokens

    return sorted((tuple(group) for group in groups.values()), key=budget)


def check_sound(tree: ResultTree) -> None:
    """Refuse a tree of several versions of the code or backends, or whose arms have other seeds.

    Raises:
        ValueError: naming what differs and between which runs.
    """
    _refuse_difference(tree.cells, "code hash", lambda result: result.version.code, "all levels")
    _refuse_difference(tree.cells, "backend", lambda result: result.process.backend, "all levels")
    for group in by_level(tree.cells):
        seeds: dict[str, list[int]] = {}
        for cell in sorted(group, key=lambda cell: (cell.arm, cell.seed)):
            seeds.setdefault(cell.arm, []).append(cell.seed)
        if len({tuple(planned) for planned in seeds.values()}) > 1:
            where = level_name(group[0].level) or "the only level"
            raise ValueError(f"arms at {where} must have the same seeds, but got {seeds}.")


def check_matched(cells: Iterable[CellResult], matched: Iterable[Matched], where: str) -> None:
    """Refuse runs whose numbers must not stand side by side.

    Args:
        cells: runs that are compared.
        matched: what must be equal of them; data and held-out text of the runs of one seed.
        where: their level, in words.

    Raises:
        ValueError: naming what differs and between which runs.
    """
    cells = list(cells)
    by_seed = [[cell for cell in cells if cell.seed == seed] for seed in sorted({c.seed for c in cells})]
    for name in matched:
        title, value_of = _MATCHED[name]
        tolerance = FLOPS_TOLERANCE if name == "train_flops" else 0.0
        for group in by_seed if name in ("data", "held_out") else [cells]:
            _refuse_difference(group, title, value_of, where or "the only level", tolerance)


def _planned_stops(run: RunResult) -> list[tuple[Reading, int]]:
    """Where a run was to stop, though it may have ended early (`training.patience`)."""
    if not run.config.training.patience:
        return [(stop.reading, stop.tokens_seen) for stop in run.stops]
    timeline = make_timeline(run.config, run.data.windows)
    return [(stop.reading, timeline.tokens_seen(stop.step)) for stop in timeline.stops]


# What is compared, in words, and of a run.
_MATCHED: dict[Matched, tuple[str, Callable[[RunResult], Any]]] = {
    "data": ("data hash", lambda run: run.data.hash),
    "held_out": (
        "held-out text",
        lambda run: {split: name for split, name in run.data.hashes.items() if split != "train"},
    ),
    "parameters": ("number of parameters", lambda run: run.parameters),
    "stops": (
        "stops (reading, tokens seen)",
        lambda run: sorted(_planned_stops(run)),
    ),
    "train_flops": ("training FLOPs", lambda run: run.end().train_flops),
}


def _refuse_difference(
    cells: Iterable[CellResult],
    name: str,
    value_of: Callable[[RunResult], Any],
    where: str,
    tolerance: float = 0.0,
) -> None:
    finished = [cell for cell in cells if cell.status == "done"]
    for cell in finished[1:]:
        first, other = value_of(finished[0].done), value_of(cell.done)
        if not math.isclose(first, other, rel_tol=tolerance) if tolerance else first != other:
            raise ValueError(
                f"runs at {where} must have the same {name}, but got {first} for {finished[0].arm} "
                f"seed {finished[0].seed} and {other} for {cell.arm} seed {cell.seed}."
            )

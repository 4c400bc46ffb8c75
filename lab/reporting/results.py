"""Read a result tree: what was planned, what finished, what failed, and whether the arms may be compared."""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Generic, TypeVar

from lab.tracking.records import MetricsLog, read_json

SCHEMA = 2
UNIQUE_TOKENS = "data.unique_tokens"

# Best first: a stop reached by annealing is what its user would have got by stopping there.
READINGS = ("annealed", "along_run")
# The two stops at which arms are compared on the test split: the best by validation NLL, and the last.
STOPS = ("best", "end")

Result = dict[str, Any]
Stop = dict[str, Any]
Finding = TypeVar("Finding")


@dataclass(frozen=True)
class Cell:
    """One planned run: an arm at a level and a seed, with its result if it finished.

    Attributes:
        status: `done` (has a result), `failed` (has a reason) or `missing` (not run, or not finished).
        result: the run's result.json, None unless done.
        reason: why it failed, empty unless failed.
        log_tail: the end of the failed run's output, empty unless failed.
    """

    key: str
    arm: str
    level: dict[str, Any]
    seed: int
    logdir: Path
    status: str
    result: Result | None = None
    reason: str = ""
    log_tail: str = ""

    @property
    def done(self) -> Result:
        """The result of a finished run.

        Raises:
            ValueError: if the run did not finish.
        """
        if self.result is None:
            raise ValueError(f"the run {self.key} has no result: it is {self.status}.")
        return self.result

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of the run's metrics.jsonl, none if it is gone."""
        path = self.logdir / "metrics.jsonl"
        return MetricsLog(path).rows if path.is_file() else []


@dataclass(frozen=True)
class ResultTree:
    """A plan (plan.json) and the state of each of its cells."""

    path: Path
    plan: dict[str, Any]
    cells: tuple[Cell, ...]

    @property
    def finished(self) -> tuple[Cell, ...]:
        """The cells that have a result."""
        return tuple(cell for cell in self.cells if cell.status == "done")

    @property
    def seeds(self) -> tuple[int, ...]:
        """The planned seeds, ascending."""
        return tuple(sorted({cell.seed for cell in self.cells}))


@dataclass(frozen=True)
class Findings(Generic[Finding]):
    """What a tree shows at each of its levels, under each reading; `headline` is the first of them."""

    tree: ResultTree
    readings: dict[str, tuple[Finding, ...]]

    @property
    def headline(self) -> str:
        """The reading that the verdicts rest on: annealed where it exists."""
        return next(iter(self.readings))

    @property
    def levels(self) -> tuple[Finding, ...]:
        """The findings of the headline reading, one per level, the smallest budget first."""
        return self.readings[self.headline]


def read_tree(path: Path) -> ResultTree:
    """Read `results/<ablation>/<preset>/`.

    Raises:
        ValueError: if there is no plan, its schema is another one, or it plans a cell twice.
    """
    plan = read_json(path / "plan.json")
    if plan.get("schema") != SCHEMA:
        raise ValueError(
            f"{path / 'plan.json'}: `schema` must be {SCHEMA}, but got {plan.get('schema')}; "
            f"{plan.get('command', 'the command that made it')!r} writes it anew."
        )
    cells = tuple(_read_cell(path, planned) for planned in plan["cells"])
    places = [(cell.arm, level_name(cell.level), cell.seed) for cell in cells]
    twice = sorted({place for place in places if places.count(place) > 1})
    if twice:
        raise ValueError(
            f"{path / 'plan.json'}: each cell must be planned once, but these are twice: {twice}."
        )
    return ResultTree(path, plan, cells)


def _read_cell(path: Path, planned: dict[str, Any]) -> Cell:
    logdir = path / planned["logdir"]
    place = (planned["key"], planned["arm"], planned["level"], planned["seed"], logdir)
    result = read_json(logdir / "result.json") if (logdir / "result.json").is_file() else None
    if result is not None and result.get("config_key", planned["key"]) == planned["key"]:
        return Cell(*place, status="done", result=result)
    if (logdir / "failure.json").is_file():
        failure = read_json(logdir / "failure.json")
        return Cell(*place, status="failed", reason=failure["reason"], log_tail=failure["log_tail"])
    return Cell(*place, status="missing")


def readings_of(tree: ResultTree) -> tuple[str, ...]:
    """The readings that the finished runs hold; verdicts rest on the first.

    Raises:
        ValueError: if no run has finished.
    """
    if not tree.finished:
        raise ValueError(f"a report needs a finished run, but none of {len(tree.cells)} in {tree.path} is.")
    found = {stop["reading"] for cell in tree.finished for stop in cell.done["stops"]}
    return tuple(reading for reading in READINGS if reading in found)


def stops_of(result: Result, reading: str) -> list[Stop]:
    """A run's stops under one reading, in order of tokens seen."""
    stops = [stop for stop in result["stops"] if stop["reading"] == reading]
    return sorted(stops, key=lambda stop: stop["tokens_seen"])


def still_improving(cells: Iterable[Cell], reading: str) -> int:
    """How many finished runs have their best stop at their end, so that a longer run may do better."""
    runs = (cell.done for cell in cells if cell.status == "done")
    return sum(run["best"][reading]["tokens_seen"] == run["end"][reading]["tokens_seen"] for run in runs)


def stop_spacing(tree: ResultTree) -> float | None:
    """How many times the tokens of the stop before a stop has seen, median; None with one stop a run."""
    reading = readings_of(tree)[0]
    ratios = [
        later["tokens_seen"] / earlier["tokens_seen"]
        for cell in tree.finished
        for earlier, later in itertools.pairwise(stops_of(cell.done, reading))
    ]
    return median(ratios) if ratios else None


def level_name(level: dict[str, Any]) -> str:
    """A level in words: `unique_tokens=20000`; empty where the ablation has no levels."""
    return ", ".join(f"{key.split('.')[-1]}={level[key]}" for key in sorted(level))


def by_level(cells: Iterable[Cell]) -> list[tuple[Cell, ...]]:
    """The cells grouped by level, the smallest budget of unique tokens first, the whole corpus last."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(level_name(cell.level), []).append(cell)

    def budget(group: tuple[Cell, ...]) -> float:
        return group[0].level.get(UNIQUE_TOKENS, math.inf)

    return sorted((tuple(group) for group in groups.values()), key=budget)


def check_comparable(cells: Iterable[Cell]) -> None:
    """Refuse cells whose numbers must not stand side by side.

    Within one level the arms need the same data, the same number of parameters, the same planned seeds and
    the same stops; over all levels the same code and backend.

    Raises:
        ValueError: naming what differs and between which runs.
    """
    cells = tuple(cells)
    _refuse_difference(cells, "code hash", lambda result: result["code_hash"], "all levels")
    _refuse_difference(cells, "backend", lambda result: result["backend"], "all levels")
    for group in by_level(cells):
        where = level_name(group[0].level) or "the only level"
        _refuse_difference(group, "data hash", lambda result: result["data"]["hash"], where)
        _refuse_difference(group, "number of parameters", lambda result: result["parameters"], where)
        _refuse_difference(group, "stops (reading, tokens seen)", _stops, where)
        seeds: dict[str, list[int]] = {}
        for cell in sorted(group, key=lambda cell: (cell.arm, cell.seed)):
            seeds.setdefault(cell.arm, []).append(cell.seed)
        if len({tuple(planned) for planned in seeds.values()}) > 1:
            raise ValueError(f"arms at {where} must have the same seeds, but got {seeds}.")


def _stops(result: Result) -> list[tuple[str, int]]:
    return sorted((stop["reading"], stop["tokens_seen"]) for stop in result["stops"])


def _refuse_difference(
    cells: Iterable[Cell], name: str, value_of: Callable[[Result], Any], where: str
) -> None:
    finished = [cell for cell in cells if cell.status == "done"]
    for cell in finished[1:]:
        first, other = value_of(finished[0].done), value_of(cell.done)
        if first != other:
            raise ValueError(
                f"runs at {where} must have the same {name}, but got {first} for {finished[0].arm} "
                f"seed {finished[0].seed} and {other} for {cell.arm} seed {cell.seed}."
            )

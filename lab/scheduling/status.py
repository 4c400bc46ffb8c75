"""What the jobs of result trees do, read from their plans and folders; no ledger is opened."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lab.ablation import Cell, level_text
from lab.console import Fitting
from lab.evaluation.measurements import find_set
from lab.files import Row
from lab.results import (
    PLAN,
    RESULT,
    DamagedError,
    MeasurementResult,
    PlanRecord,
    RunResult,
    measurement_folder,
    read_record,
)
from lab.scheduling.ledger.locks import is_owned
from lab.scheduling.progress_file import read_progress
from lab.scheduling.time_left import Timed, duration_words, seconds_left
from lab.version import read_version

State = Literal["queued", "running", "done", "failed"]
STATES: tuple[State, ...] = ("queued", "running", "done", "failed")

FRESH_SECONDS = 120.0  # a job that does not say where it is for so long, and has no process here, has ended
REFRESH_SECONDS = 2.0


@dataclass(frozen=True)
class JobStatus:
    """One planned run, or one measurement of it, as its folder shows it.

    Args:
        arm: the arm's name.
        level: the level in words, empty if there is none.
        seed: the repeat.
        state: queued also means stopped: the next driver goes on with it.
        measurement: what is measured; empty for a run.
        share: part of its work that is done, 0 to 1.
        tokens_per_second: of a running one.
        failure: outcome and reason of a failed one.
        damaged: what is wrong with its result; empty if nothing is.
        timed: what is known of its time.
    """

    arm: str
    level: str
    seed: int
    state: State
    measurement: str = ""
    share: float = 0.0
    tokens_per_second: float = 0.0
    failure: str = ""
    damaged: str = ""
    timed: Timed = field(default=Timed(""), compare=False)

    @property
    def label(self) -> str:
        """The job in words."""
        return " ".join(filter(None, (self.measurement, self.arm, self.level, f"seed={self.seed}")))


class _Result(NamedTuple):
    """What a result is of, and the seconds that it took."""

    of: object
    seconds: float


class TreeStatus:
    """The state of one tree, read anew each time; a result that did not change is read once.

    Args:
        tree: a folder with a `plan.json`.
    """

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self._results: dict[Path, tuple[int, _Result | None]] = {}  # with the time of change, ns

    def driver(self) -> bool | None:
        """Whether a driver is at work on the tree, as its lock tells at once; None if nothing tells."""
        return is_owned(self.tree, "driver")

    def jobs(self) -> list[JobStatus]:
        """Every planned run, in planned order, then the measurements of those that did not fail.

        Raises:
            ValueError: if the plan cannot be read.
        """
        plan, driven = self._plan(), self.driver() is not False
        runs = [(cell, self._job(cell, "", driven)) for cell in plan.cells]
        measured = [self._job(cell, name, driven) for name, cell in _measurements(plan, runs)]
        return [job for _, job in runs] + measured

    def look(self) -> str:
        """At which look it is, where seeds are added while something is undecided; empty elsewhere.

        Raises:
            ValueError: if the plan cannot be read.
        """
        plan = self._plan()
        if not plan.auto or plan.registration is None:
            return ""
        seeds, looks = len({cell.seed for cell in plan.cells}), plan.registration.rule.looks
        return f", look {looks.index(seeds) + 1} of {len(looks)} ({seeds} seeds)"

    def _plan(self) -> PlanRecord:
        plan = read_record(PlanRecord, self.tree / PLAN)
        if plan is None:
            raise ValueError(f"expected a plan at {self.tree / PLAN}, but there is none.")
        return plan

    def _job(self, cell: Cell, measurement: str, driven: bool) -> JobStatus:
        logdir = self.tree / (measurement_folder(cell.logdir, measurement) if measurement else cell.logdir)
        place: dict[str, Any] = {
            "arm": cell.arm,
            "level": level_text(cell.level),
            "seed": cell.seed,
            "measurement": measurement,
        }
        kind = measurement, cell.arm, level_text(cell.level)
        timed = Timed(kind) if measurement else Timed.of_run(cell.config, kind)
        try:
            result = self._result(logdir / RESULT, MeasurementResult if measurement else RunResult)
        except DamagedError as error:
            result, place["damaged"] = None, f"{error} The same command makes it again."
        if result and result.of == _wanted(cell, measurement):
            return JobStatus(**place, state="done", share=1.0, timed=timed.after(result.seconds))
        version = None if measurement else read_version(logdir)
        if version is not None and version.digest() != cell.version:
            return JobStatus(
                **place, state="queued", timed=timed
            )  # of another run, which is there until this one starts
        return JobStatus(**place, **_under_way(logdir, driven, timed))

    def _result(self, path: Path, kind: type[RunResult] | type[MeasurementResult]) -> _Result | None:
        changed = path.stat().st_mtime_ns if path.is_file() else 0
        known = self._results.get(path)
        if known is None or known[0] != changed:
            known = self._results[path] = changed, _read_result(path, kind)
        return known[1]


def _read_result(path: Path, kind: type[RunResult] | type[MeasurementResult]) -> _Result | None:
    result = read_record(kind, path)
    if result is None:
        return None
    if isinstance(result, RunResult):
        return _Result((result.run, result.evaluation), result.wall_seconds)
    first = [row.task for row in result.rows if row.stops[0] == result.stops[0]]
    return _Result((result.stops[0].run, first), result.wall_seconds)


def _wanted(cell: Cell, measurement: str) -> object:
    """What a job's result is to be of, as far as the plan says."""
    if measurement:
        return cell.version, find_set(measurement).tasks(cell.config)
    return cell.version, cell.evaluation


def _measurements(plan: PlanRecord, runs: Sequence[tuple[Cell, JobStatus]]) -> Iterator[tuple[str, Cell]]:
    """What is measured after the runs: each that did not fail, if one that it is measured with did not."""
    sound = [cell for cell, job in runs if job.state != "failed"]
    for name, companion in plan.measurements.items():
        for cell in sound:
            others = [other for other in sound if (other.arm, other.level) == (companion, cell.level)]
            if cell.arm != companion and (others or not companion):
                yield name, cell


class NothingYetError(ValueError):
    """Nothing has run where results are looked for."""


def find_trees(path: Path) -> list[Path]:
    """The result trees in a folder or below it.

    Raises:
        NothingYetError: if there is none.
        ValueError: if the path is no folder, or lies inside of a tree.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"`path` must be a folder of results, but got the file {path}.")
    trees = sorted(plan.parent for plan in path.rglob(PLAN) if plan.is_file())
    if trees:
        return trees
    if above := next((folder for folder in path.absolute().parents if (folder / PLAN).is_file()), None):
        raise ValueError(f"`path` must be a result tree or above some, but got {path}, inside of {above}.")
    why = f"there is no {PLAN} in it or below it" if path.exists() else "there is no such folder"
    if any(is_owned(lock.parent, "driver") for lock in path.rglob("driver.lock")):
        why = "a driver is starting"
    raise NothingYetError(f"nothing has run yet in {path}: {why}.")


def show_status(path: Path, console: Console, once: bool = False) -> bool:
    """Show the state of all trees in a folder; on a terminal until all their jobs have ended, or Ctrl-C.

    Args:
        path: a tree, or a folder above some.
        console: where to show it.
        once: show it once on a terminal too.

    Returns:
        Whether every plan could be read; one that could not is named in place of its jobs.

    Raises:
        ValueError: if the path is no folder, or lies inside of a tree.
    """
    try:
        trees = [TreeStatus(tree) for tree in find_trees(path)]
    except NothingYetError as error:
        console.print(Text(str(error)), soft_wrap=True)
        return True
    shown = _render(trees)
    if once or not console.is_terminal:
        console.print(Group(*shown.parts))
        return shown.sound
    with Live(Group(*shown.parts), console=console, auto_refresh=False) as live:
        while not shown.ended:
            time.sleep(REFRESH_SECONDS)
            shown = _render(trees)
            live.update(Group(*shown.parts), refresh=True)
    return shown.sound


class _Shown(NamedTuple):
    """What to show, whether every job has ended, and whether every plan could be read."""

    parts: list[RenderableType]
    ended: bool
    sound: bool


def _render(trees: Iterable[TreeStatus]) -> _Shown:
    parts: list[RenderableType] = []
    ended = sound = True
    for tree in trees:
        try:
            jobs, look = tree.jobs(), tree.look()
        except ValueError as error:
            parts.append(Text(_one_line(f"{tree.tree}: {error}")))
            sound = False
            continue
        all_ended = all(job.state in ("done", "failed") for job in jobs)
        driver = "" if all_ended else _driver(tree)
        parts += [
            Text(f"{tree.tree}: {_counts(jobs)}{look}{driver}{_left(jobs)}"),
            _table(jobs),
            *_notes(jobs),
        ]
        ended = ended and all_ended
    return _Shown(parts, ended, sound)


def _driver(tree: TreeStatus) -> str:
    """Words for a driver that is not at work."""
    if tree.driver() is False:
        return ", no driver is at work"
    process = _process(tree.tree / "driver.lock")
    stopped = process is not None and process.status() == psutil.STATUS_STOPPED
    return (
        f", its driver is stopped (`kill -CONT {process.pid}` lets it go on)" if process and stopped else ""
    )


def _counts(jobs: Sequence[JobStatus]) -> str:
    runs = [job for job in jobs if not job.measurement]
    measurements = [job for job in jobs if job.measurement]
    kinds = {"runs": runs, **({"measurements": measurements} if measurements else {})}
    return ", ".join(
        f"{sum(job.state == 'done' for job in of)} of {len(of)} {name} done" for name, of in kinds.items()
    )


def _table(jobs: Sequence[JobStatus]) -> Fitting:
    """A row for each arm and level, then one for each measurement."""
    table = Table()
    for name in ("arm", "level"):
        table.add_column(name)
    for name in STATES:
        table.add_column(name, justify="right")
    table.add_column("now")
    rows: dict[tuple[str, str], list[JobStatus]] = {}
    for job in jobs:
        rows.setdefault((job.measurement or job.arm, "" if job.measurement else job.level), []).append(job)
    for names, row in rows.items():
        counts = [sum(job.state == state for job in row) for state in STATES]
        now = ", ".join(_now(job) for job in row if job.state == "running")
        table.add_row(*map(Text, names), *(str(count or "") for count in counts), Text(now))
    return Fitting(table)


def _now(job: JobStatus) -> str:
    """What a job at work does."""
    if job.measurement:
        return f"{' '.join(filter(None, (job.arm, job.level)))} seed {job.seed}: {job.share:.0%}"
    return f"seed {job.seed}: {job.share:.0%}, {job.tokens_per_second:,.0f} tokens/s"


def _notes(jobs: Iterable[JobStatus]) -> Iterator[Text]:
    for job in jobs:
        if job.state == "failed":
            yield Text(f"failed: {job.label}: {job.failure}")
        if job.damaged:
            yield Text(_one_line(job.damaged))


def _left(jobs: Sequence[JobStatus]) -> str:
    """Words for the time left, if as many run at once as now: of the runs, then of the measurements."""
    running = sum(job.state == "running" for job in jobs)
    stages = [[job.timed for job in jobs if bool(job.measurement) == measured] for measured in (False, True)]
    lefts = [seconds_left(stage, running) for stage in stages]
    if not running or not (known := [left for left in lefts if left]):
        return ""
    more = " for the runs" if None in lefts else ""
    return f", about {duration_words(sum(known))} left{more}"


def _under_way(logdir: Path, driven: bool, timed: Timed) -> Row:
    """How far a job without its result is, by what its folder says.

    Args:
        logdir: its folder.
        driven: whether a driver may be at work, whose jobs run on this machine or on others.
        timed: what is known of its time before it starts.
    """
    progress = read_progress(logdir)
    if progress and progress.phase == "done":  # with another result than is wanted now
        progress = None
    timed = timed.under_way(progress) if progress else timed
    share = timed.share
    heard = driven and progress is not None and time.time() - progress.updated < FRESH_SECONDS
    failure = _read(logdir / "failure.json")
    if failure:
        outcome, reason = (str(failure.get(name, "")) for name in ("outcome", "reason"))
        why = reason if reason.startswith(outcome) else f"{outcome}: {reason}"
        return {"state": "failed", "share": share, "failure": _one_line(why), "timed": timed.after(None)}
    if not heard and _process(logdir / "run.lock") is None:
        return {"state": "queued", "share": share, "timed": replace(timed, left=None)}
    rate = progress.tokens_per_second if progress else 0.0
    return {"state": "running", "share": share, "tokens_per_second": rate, "timed": timed}


def _read(path: Path) -> Row | None:
    """A JSON object; None if there is none, or it is not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _process(lock: Path) -> psutil.Process | None:
    """The process on this machine that took a lock; None if it has ended, or works on another machine."""
    try:
        process, taken = psutil.Process(int(lock.read_text(encoding="ascii"))), lock.stat().st_mtime
        return process if process.create_time() <= taken + 1.0 else None  # a later one has its number
    except (OSError, ValueError, psutil.Error):
        return None


def _one_line(text: str) -> str:
    """A text that does nothing to a terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))

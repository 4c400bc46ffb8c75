"""The driver of one result tree: it alone talks to the ledger, and it starts, watches and records the runs.

What is true lies in the logdirs: a cell is done exactly if its logdir holds a `result.json` of its key. The
ledger is brought in line with that at each start, so a driver killed at any moment loses nothing.
"""

import json
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from optuna.trial import TrialState

from lab.scheduling.ablation import Cell
from lab.scheduling.executors import Attempt, Ended, Executor, Handle
from lab.scheduling.ledger import Ledger
from lab.scheduling.locks import sole_owner
from lab.scheduling.plan import Plan
from lab.scheduling.progress import RunsProgress
from lab.tracking.records import write_atomic, write_json

POLL_SECONDS = 0.05
GRACE_SECONDS = 15.0
LOST_TRIES = 2
TAIL_BYTES = 4000


@dataclass
class Summary:
    """How an invocation ended.

    Args:
        reused: cells that were done before.
        done: cells finished now.
        failed: cell -> reason.
        interrupted: whether Ctrl-C ended it.
    """

    reused: int = 0
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


@dataclass(frozen=True)
class _Run:
    """A cell under way: its trial, its attempt, and where this attempt's part of the log begins."""

    cell: Cell
    number: int
    handle: Handle
    log_start: int


def drive(
    plan: Plan, executor: Executor, cache_dir: Path, progress: RunsProgress, storage: str = ""
) -> Summary:
    """Bring a result tree to its plan: run every cell that has no result yet.

    Args:
        plan: the tree and its cells.
        executor: where attempts run.
        cache_dir: handed on to the runs.
        progress: told of what happens.
        storage: an Optuna database URL; empty for a journal file in the tree.

    Raises:
        ValueError: if another driver works on the tree, or the storage cannot be opened.
    """
    with sole_owner(plan.tree, "driver"):
        ledger = Ledger(plan.tree, f"{plan.ablation.name}-{plan.preset}", storage)
        for place in plan.set_aside():
            progress.say(f"another configuration: the old run is kept in {place}")
        plan.write()
        return _Driver(plan, ledger, executor, cache_dir, progress).run()


class _Driver:
    """One invocation. Its state is what runs now; everything else is read from the logdirs and the ledger."""

    def __init__(
        self, plan: Plan, ledger: Ledger, executor: Executor, cache_dir: Path, progress: RunsProgress
    ) -> None:
        self._plan = plan
        self._cells = {cell.key: cell for cell in plan.cells}
        self._ledger = ledger
        self._executor = executor
        self._cache_dir = cache_dir
        self._progress = progress
        self._runs: list[_Run] = []
        self._tries: Counter[str] = Counter()
        self._summary = Summary()

    def run(self) -> Summary:
        self._reconcile()
        with self._progress.shown(len(self._cells), self._summary.reused), _first_interrupt() as interrupted:
            try:
                self._work(interrupted)
            finally:
                self._stop()
        self._summary.interrupted = interrupted()
        return self._summary

    def _reconcile(self) -> None:
        """Close the trials of a driver that died, then queue each cell that is not done."""
        for number, key in self._ledger.running().items():
            if key not in self._cells or not self._close(number, self._cells[key]):
                self._ledger.fail(number, "lost: the driver ended before the run did")
        complete = self._ledger.keys(TrialState.COMPLETE)
        finished = [key for key, cell in self._cells.items() if key in complete and self._result(cell)]
        self._summary.reused = len(finished)
        self._ledger.enqueue(cell for key, cell in self._cells.items() if key not in finished)

    def _work(self, interrupted: Callable[[], bool]) -> None:
        while not interrupted():
            self._collect()
            self._fill()
            if not self._runs:
                return
            self._progress.refresh()
            time.sleep(POLL_SECONDS)

    def _fill(self) -> None:
        """Start waiting cells while there is room. A cell whose result is there already is only recorded."""
        while self._executor.free() and (taken := self._ledger.take()):
            number, key = taken
            if key not in self._cells:
                self._ledger.fail(number, "no longer in the plan")
            elif self._close(number, self._cells[key]):
                self._summary.reused += 1
                self._progress.ended(self._cells[key], reused=True)
            else:
                self._start(number, self._cells[key])

    def _start(self, number: int, cell: Cell) -> None:
        logdir = self._plan.logdir(cell)
        write_atomic(logdir / "config.yaml", cell.config.to_yaml().encode())
        (logdir / "failure.json").unlink(missing_ok=True)
        log = logdir / "log.txt"
        log_start = log.stat().st_size if log.exists() else 0
        handle = self._executor.start(Attempt(logdir / "config.yaml", logdir, self._cache_dir))
        self._tries[cell.key] += 1
        self._runs.append(_Run(cell, number, handle, log_start))
        self._progress.started(cell, logdir)

    def _collect(self) -> None:
        ended = [(run, end) for run in self._runs if (end := run.handle.poll()) is not None]
        self._runs = [run for run in self._runs if all(run is not other for other, _ in ended)]
        for run, end in ended:
            if self._close(run.number, run.cell):
                self._summary.done += 1
                self._progress.ended(run.cell)
            elif end.code < 0 and self._tries[run.cell.key] < LOST_TRIES:
                self._ledger.fail(run.number, _reason(end, ""))
                self._ledger.enqueue([run.cell])
                self._progress.ended(run.cell, f"{_reason(end, '')}; trying again", final=False)
            else:
                self._fail(run, end)

    def _close(self, number: int, cell: Cell) -> bool:
        """Record a cell's result if it has one that counts."""
        result = self._result(cell)
        if result is None:
            return False
        self._ledger.complete(number, best_validation_nll(result))
        (self._plan.logdir(cell) / "failure.json").unlink(missing_ok=True)
        return True

    def _result(self, cell: Cell) -> dict[str, Any] | None:
        return read_result(self._plan.logdir(cell), cell.key)

    def _fail(self, run: _Run, end: Ended) -> None:
        logdir = self._plan.logdir(run.cell)
        tail = _tail(logdir / "log.txt", run.log_start)
        reason = _reason(end, tail)
        write_json(logdir / "failure.json", {"reason": reason, "log_tail": tail})
        self._ledger.fail(run.number, reason)
        self._summary.failed[run.cell.label] = reason
        self._progress.ended(run.cell, reason)

    def _stop(self) -> None:
        """End what still runs: ask, wait, then insist. The runs resume from their checkpoints."""
        for hard in (False, True):
            for run in self._runs:
                run.handle.stop(hard)
            deadline = time.monotonic() + GRACE_SECONDS
            while time.monotonic() < deadline and any(run.handle.poll() is None for run in self._runs):
                time.sleep(POLL_SECONDS)
        for run in self._runs:
            if not self._close(run.number, run.cell):
                self._ledger.fail(run.number, "stopped with its driver")
        self._runs = []


def read_result(logdir: Path, key: str) -> dict[str, Any] | None:
    """A logdir's result if the run of this configuration finished with a finite loss, else None."""
    try:
        result = json.loads((logdir / "result.json").read_text(encoding="utf-8"))
        counts = result["config_key"] == key and math.isfinite(best_validation_nll(result))
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None
    return result if counts else None


def best_validation_nll(result: dict[str, Any]) -> float:
    """Validation NLL of the best stop, nats/token: annealed, or along the run where that was not measured."""
    best = result["best"]
    return float(best.get("annealed", best.get("along_run"))["validation"]["nll"])


def _reason(end: Ended, tail: str) -> str:
    if end.cause:
        return f"lost: {end.cause}"
    if end.code < 0:
        return f"lost: killed by {signal.Signals(-end.code).name}"
    if end.code == 0:
        return "ended without a result.json of its configuration"
    lines = tail.strip().splitlines()
    return f"exit code {end.code}: {lines[-1].strip() if lines else 'no output'}"


def _tail(log: Path, start: int) -> str:
    """The end of what an attempt wrote, at most `TAIL_BYTES`."""
    with log.open("rb") as file:
        size = log.stat().st_size
        file.seek(max(start if start <= size else 0, size - TAIL_BYTES))  # it may have been cut meanwhile
        return file.read(TAIL_BYTES).decode("utf-8", errors="replace")


@contextmanager
def _first_interrupt() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag, so that no write to the ledger is cut; the second acts as usual."""
    seen = threading.Event()

    def remember(number: int, frame: FrameType | None) -> None:
        seen.set()
        signal.signal(signal.SIGINT, previous)

    previous = signal.signal(signal.SIGINT, remember)
    try:
        yield seen.is_set
    finally:
        signal.signal(signal.SIGINT, previous)

"""The driver of one result tree: it alone talks to the ledger, and it starts, watches and records the runs.

What is true lies in the logdirs: a cell is done exactly if its logdir holds a `result.json` of its key. The
ledger is brought in line with that at each start, so a driver killed at any moment loses nothing.
"""

import json
import math
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.scheduling.ablation import Cell
from lab.scheduling.executors import Attempt, Ended, Executor, Handle
from lab.scheduling.ledger import AwayError, Ledger
from lab.scheduling.locks import sole_owner
from lab.scheduling.logs import read_tail
from lab.scheduling.outcomes import TRIES, Outcome, outcome_of, reason_of
from lab.scheduling.plan import Plan
from lab.scheduling.progress import RunsProgress
from lab.scheduling.storage import Patience
from lab.tracking.records import write_atomic, write_json
from lab.tracking.version import claim_version
from lab.training.ending import NOTICES, on_notice

POLL_SECONDS = 0.05
GRACE_SECONDS = 20.0  # of the 30 that a machine about to be taken away commonly gives


@dataclass
class Summary:
    """How an invocation ended.

    Args:
        reused: cells that were done before.
        done: cells finished now.
        pruned: cells stopped early, now or before.
        failed: cell -> reason.
        interrupted: the signal that ended it early, or None.
        plan: what was driven at last; after tuning it holds each arm at its best.
    """

    reused: int = 0
    done: int = 0
    pruned: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    interrupted: signal.Signals | None = None
    plan: Plan | None = None


# Why a run is to be stopped early, from what its logdir holds by now; empty if it is to go on. What it says
# once, it must say again of the same cell, however much further the run has come.
Watch = Callable[[Cell, Path], str]


@dataclass(frozen=True)
class _Run:
    """A cell under way: its trial, its attempt, and where this attempt's part of the log begins."""

    cell: Cell
    number: int
    handle: Handle
    log_start: int


@contextmanager
def driving(
    plan: Plan,
    executor: Executor,
    cache_dir: Path,
    progress: RunsProgress,
    storage: str = "",
    tries: Mapping[Outcome, float] = TRIES,
) -> Iterator["Driver"]:
    """Hold a result tree's lock and its ledger while a driver works on it.

    Args:
        plan: the tree and its name.
        executor: where attempts run; closed at the end.
        cache_dir: handed on to the runs.
        progress: told of what happens.
        storage: an Optuna database URL; empty for a journal file in the tree.
        tries: how often a cell may end in each way before it counts as failed.

    Raises:
        ValueError: if another driver works on the tree, the storage cannot be opened, or the system fails
            to read or write a file.
    """
    try:
        with (
            closing(executor),
            sole_owner(plan.tree, "driver"),
            closing(Ledger(plan.tree, plan.name, storage, Patience(say=progress.say))) as ledger,
        ):
            yield Driver(ledger, executor, cache_dir, progress, tries)
    except OSError as error:
        raise ValueError(
            f"cannot go on in {plan.tree}: {error}. "
            "Results that are there are kept; the same command goes on from here."
        ) from error


class Driver:
    """One invocation. Its state is what runs now; everything else is read from the logdirs and the ledger.

    Args:
        ledger: of the result tree, whose lock is held.
        executor: where attempts run.
        cache_dir: handed on to the runs.
        progress: told of what happens.
        tries: how often a cell may end in each way before it counts as failed.
    """

    def __init__(
        self,
        ledger: Ledger,
        executor: Executor,
        cache_dir: Path,
        progress: RunsProgress,
        tries: Mapping[Outcome, float] = TRIES,
    ) -> None:
        self.ledger = ledger
        self._executor = executor
        self._cache_dir = cache_dir
        self._progress = progress
        self._allowed = tries
        self._runs: list[_Run] = []
        self._tries: Counter[tuple[str, Outcome]] = Counter()

    def set_aside(self, plan: Plan) -> None:
        """Move away the logdirs that hold other versions of a plan's runs, and say so."""
        for old in plan.set_aside():
            self._progress.say(f"another {old.changed}: the old run is kept in {old.place}")

    def bring(self, plan: Plan) -> Summary:
        """Bring the tree to its plan: run every cell that has no result yet."""
        self.set_aside(plan)
        plan.write()
        return self.run(plan)

    def run(self, plan: Plan, watch: Watch = lambda *_: "", stage: str = "runs") -> Summary:
        """Run the cells of a plan, or of a stage of it, that have not ended yet.

        Args:
            plan: whose logdirs hold no other versions of its runs.
            watch: asked again and again while a cell runs, and when it has ended.
            stage: what the runs are called.
        """
        self._plan, self._watch = plan, watch
        self._verdicts: dict[str, str] = {}
        self._cells = {cell.key: cell for cell in plan.cells}
        self._versions = {cell.key: plan.version(cell).digest() for cell in plan.cells}
        self._summary, self._left = Summary(), 0
        # Where the ledger does not answer after a notice, the next start brings it in line with the results.
        with _first_notice(self.ledger.stop_waiting) as notice, suppress(AwayError):
            self._reconcile()
            ended = self._summary.reused + self._summary.pruned
            with self._progress.shown(len(self._cells), ended, stage):
                try:
                    self._work(notice)
                finally:
                    self._stop()
        self._summary.interrupted = notice()
        return self._summary

    def give_up(self, plan: Plan, cell: Cell, outcome: Outcome, reason: str) -> None:
        """Record a cell that cannot be tried as failed, in the ledger and in its logdir."""
        self.ledger.record_untried(cell, plan.version(cell).digest(), outcome, reason)
        _write_failure(plan.logdir(cell), outcome, reason)

    def _reconcile(self) -> None:
        """Close the trials of a driver that died, then queue each cell that is not done."""
        for number, key, version in self.ledger.running():
            if not self._planned(key, version) or not self._close(number, self._cells[key]):
                self.ledger.fail(number, Outcome.LOST, "lost: the driver ended before the run did")
        done, pruned = self.ledger.done(), self.ledger.pruned()
        identity = {key: (key, self._versions[key]) for key in self._cells}
        stopped = {
            key for key, cell in self._cells.items() if identity[key] in pruned and self._verdict(cell)
        }
        finished = {key for key, cell in self._cells.items() if identity[key] in done and self._result(cell)}
        self._summary.reused, self._summary.pruned = len(finished - stopped), len(stopped)
        self._enqueue(*(cell for key, cell in self._cells.items() if key not in finished | stopped))

    def _planned(self, key: str, version: str) -> bool:
        return self._versions.get(key) == version

    def _enqueue(self, *cells: Cell) -> None:
        self._left += len(cells)
        self.ledger.enqueue((cell, self._versions[cell.key]) for cell in cells)

    def _work(self, notice: Callable[[], signal.Signals | None]) -> None:
        while not notice():
            self._collect()
            self._prune()
            self._fill()
            if not self._runs:
                return
            self._progress.refresh()
            time.sleep(POLL_SECONDS)

    def _fill(self) -> None:
        """Start waiting cells while there is room. A cell whose result is there already is only recorded."""
        # Asked for room while nothing waits, an executor would prepare for a run that never comes.
        while (self._left or not self._runs) and self._executor.free() and (taken := self.ledger.take()):
            number, key, version = taken
            if not self._planned(key, version):
                self.ledger.fail(number, Outcome.SUPERSEDED, "no longer in the plan")
                continue
            self._left -= 1
            if self._close(number, self._cells[key]):
                self._summary.reused += not self._verdict(self._cells[key])
                self._progress.ended(self._cells[key], reused=True)
            else:
                self._start(number, self._cells[key])

    def _start(self, number: int, cell: Cell) -> None:
        logdir = self._plan.logdir(cell)
        write_atomic(logdir / "config.yaml", cell.config.to_yaml().encode())
        claim_version(logdir, self._plan.version(cell))
        (logdir / "failure.json").unlink(missing_ok=True)
        log = logdir / "log.txt"
        log_start = log.stat().st_size if log.exists() else 0
        handle = self._executor.start(
            Attempt(logdir / "config.yaml", logdir, self._cache_dir, self._executor.ranks)
        )
        self._runs.append(_Run(cell, number, handle, log_start))
        self._progress.started(cell, logdir)

    def _collect(self) -> None:
        ended = [(run, how) for run in self._runs if (how := run.handle.poll()) is not None]
        for run, how in ended:
            self._runs = [other for other in self._runs if other is not run]
            if self._close(run.number, run.cell):
                self._summary.done += not self._verdict(run.cell)
                self._progress.ended(run.cell, self._verdict(run.cell))
            else:
                self._fail(run, how)

    def _close(self, number: int, cell: Cell) -> bool:
        """Record how a cell ended, if it did: stopped early, or with a result that counts."""
        if verdict := self._verdict(cell):
            write_json(self._plan.logdir(cell) / "pruned.json", {"reason": verdict})
            self.ledger.prune(number, Outcome.PRUNED, verdict)
            self._summary.pruned += 1
            return True
        result = self._result(cell)
        if result is None:
            return False
        self.ledger.complete(number, best_validation_nll(result))
        (self._plan.logdir(cell) / "failure.json").unlink(missing_ok=True)
        return True

    def _prune(self) -> None:
        """End the runs that are to be stopped early; `_collect` closes them."""
        for run in self._runs:
            if self._verdict(run.cell):
                run.handle.stop(hard=True)  # nothing of it is needed any more

    def _verdict(self, cell: Cell) -> str:
        """Once given it stands, even if the end of the run's log is lost with the run."""
        if not self._verdicts.get(cell.key):
            self._verdicts[cell.key] = self._watch(cell, self._plan.logdir(cell))
        return self._verdicts[cell.key]

    def _result(self, cell: Cell) -> dict[str, Any] | None:
        return read_result(self._plan.logdir(cell), cell.key)

    def _fail(self, run: _Run, ended: Ended) -> None:
        """Record an attempt without a result; queue its cell again if such an end may be mended by that."""
        outcome = outcome_of(ended)
        tail = read_tail(self._plan.logdir(run.cell) / "log.txt", run.log_start)
        reason = reason_of(ended, tail)
        self.ledger.fail(run.number, outcome, reason, tail)
        self._tries[run.cell.key, outcome] += 1
        if self._tries[run.cell.key, outcome] < self._allowed.get(outcome, 1):
            self._enqueue(run.cell)
            self._progress.ended(run.cell, f"{reason}; trying again", final=False)
            return
        _write_failure(self._plan.logdir(run.cell), outcome, reason, tail)
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
                self.ledger.fail(run.number, Outcome.PREEMPTED, "stopped with its driver")
        self._runs = []


def _write_failure(logdir: Path, outcome: Outcome, reason: str, log_tail: str = "") -> None:
    write_json(logdir / "failure.json", {"outcome": outcome, "reason": reason, "log_tail": log_tail})


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


@contextmanager
def _first_notice(act: Callable[[], None]) -> Iterator[Callable[[], signal.Signals | None]]:
    """Turn the first notice into a flag, so that no write to the ledger is cut; a second acts as usual."""
    seen: list[signal.Signals] = []

    def note(number: signal.Signals) -> None:
        seen.append(number)
        act()

    with on_notice(note, *NOTICES):
        yield lambda: seen[0] if seen else None

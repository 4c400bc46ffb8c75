"""The driver of one result tree: it alone talks to the ledger, and it starts, watches and records the jobs.

What is true lies in the logdirs: a job is done exactly if its logdir holds a `result.json` of its version.
The ledger is brought in line with that at each start, so a driver killed at any moment loses nothing.
"""

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lab.files import write_atomic, write_json
from lab.scheduling.executors.executor import Attempt, Ended, Executor, Handle
from lab.scheduling.jobs import Job, value_of
from lab.scheduling.keeping import make_way, take_back
from lab.scheduling.ledger.ledger import AwayError, Ledger
from lab.scheduling.ledger.locks import LOOK_SECONDS, sole_owner
from lab.scheduling.ledger.storage import RetryPolicy
from lab.scheduling.logs import read_tail
from lab.scheduling.outcomes import MEMORY, TRIES, Outcome, outcome_of, reason_of
from lab.scheduling.places import Places
from lab.scheduling.plan import Plan
from lab.scheduling.progress import RunsProgress
from lab.training.ending import NOTICES, on_notice
from lab.training.lean import NO_BACKEND
from lab.version import claim_version

FAILURE = "failure.json"
POLL_SECONDS = 0.05
GRACE_SECONDS = 20.0  # of the 30 that a machine about to be taken away commonly gives


@dataclass
class Summary:
    """How an invocation ended.

    Args:
        reused: jobs that were done before.
        done: jobs finished now.
        pruned: jobs stopped early, now or before.
        failed: job -> reason.
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
# once, it must say again of the same job, however much further the run has come.
Watch = Callable[[Job], str]


@dataclass(frozen=True)
class _Run:
    """A job under way: its trial, its attempt, and where this attempt's part of the log begins."""

    job: Job
    number: int
    handle: Handle
    log_start: int


@contextmanager
def driving(
    plan: Plan,
    executor: Executor,
    places: Places,
    progress: RunsProgress,
    tries: Mapping[Outcome, float] = TRIES,
) -> Iterator["Driver"]:
    """Hold a result tree's lock and its ledger while a driver works on it.

    Args:
        plan: the tree and its name.
        executor: where attempts run; closed at the end.
        places: the cache of the runs, and where the ledger is kept.
        progress: shows what happens.
        tries: how often a job may end in each way before it counts as failed.

    Raises:
        ValueError: if another driver works on the tree, the storage cannot be opened, or the system fails
            to read or write a file.
    """
    try:
        with (
            closing(executor),
            sole_owner(plan.tree, "driver", LOOK_SECONDS),
            closing(Ledger(plan.tree, plan.name, places.storage, RetryPolicy(say=progress.say))) as ledger,
        ):
            yield Driver(ledger, executor, places.cache, progress, tries)
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
        progress: shows what happens.
        tries: how often a job may end in each way before it counts as failed.
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

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._progress.say(text)

    def with_ledger(self, ledger: Ledger) -> "Driver":
        """A driver of the same tree that keeps another ledger."""
        return Driver(ledger, self._executor, self._cache_dir, self._progress, self._allowed)

    def bring(self, plan: Plan) -> Summary:
        """Bring the tree to its plan: run every cell that has no result yet."""
        plan.write()
        return self.run(plan)

    def run(self, plan: Plan, watch: Watch = lambda _: "", stage: str = "runs") -> Summary:
        """Run the cells of a plan, or of a stage of it, that have not ended yet.

        Args:
            plan: whose cells are run.
            watch: asked again and again while a cell runs, and when it has ended.
            stage: what the runs are called.
        """
        return self.run_jobs([plan.job(cell) for cell in plan.cells], watch, stage)

    def run_jobs(self, jobs: Sequence[Job], watch: Watch = lambda _: "", stage: str = "jobs") -> Summary:
        """Run the jobs that have not ended yet.

        Args:
            jobs: each with a place of its own in the tree; all of them runs, or all measurements.
            watch: asked again and again while a job runs, and when it has ended.
            stage: what they are called.

        Raises:
            ValueError: if the first jobs find that the backend cannot be imported.
        """
        self._watch = watch
        self._verdicts: dict[str, str] = {}
        self._jobs = {job.key: job for job in jobs}
        self._command = jobs[0].command if jobs else "run"
        self._summary, self._left = Summary(), 0
        self._took: dict[str, float | None] = {}  # keys of those that ended before -> their seconds
        self._unfinished: set[str] = set()  # keys of the jobs that may still get a result
        self._held: dict[str, Job] = {}  # those of them that wait for another's
        # Where the ledger does not answer after a notice, the next start brings it in line with the results.
        with _first_notice(self.ledger.stop_waiting) as notice, suppress(AwayError):
            self._reconcile()
            with self._progress.shown(self._jobs.values(), self._took, stage):
                try:
                    self._work(notice)
                finally:
                    self._stop()
        self._summary.interrupted = notice()
        return self._summary

    def give_up(self, job: Job, outcome: Outcome, reason: str) -> None:
        """Record a job that cannot be tried as failed, in the ledger and in its logdir.

        A run of another version stays in its place: nothing is started that would need it.
        """
        self.ledger.record_untried(job, outcome, reason)
        _write_failure(job.logdir, outcome, reason)

    def _reconcile(self) -> None:
        """Close the trials of a driver that died, then queue each job that is not done."""
        for job in self._jobs.values():
            if job.result(self.say) is None:
                take_back(job, self.say)
        for number, key, version in self.ledger.running():
            if not self._planned(key, version) or not self._close(number, self._jobs[key]):
                self.ledger.fail(number, Outcome.LOST, "lost: the driver ended before the run did")
        done, pruned = self.ledger.done(), self.ledger.pruned()
        identity = {key: (key, job.version) for key, job in self._jobs.items()}
        stopped = {key for key, job in self._jobs.items() if identity[key] in pruned and self._verdict(job)}
        finished = {
            key: result.wall_seconds
            for key, job in self._jobs.items()
            if identity[key] in done and (result := job.result())
        }
        self._took = finished | dict.fromkeys(stopped)
        self._summary.reused, self._summary.pruned = len(finished.keys() - stopped), len(stopped)
        todo = [job for key, job in self._jobs.items() if key not in self._took]
        if self._executor.population > 1:  # those of a kind one after the other, that they may be together
            kinds = list(dict.fromkeys(job.kind for job in todo))
            todo.sort(key=lambda job: kinds.index(job.kind))
        self._unfinished = {job.key for job in todo}
        self._held = {job.key: job for job in todo if job.start is not None}
        self._enqueue(*(job for job in todo if job.start is None))

    def _planned(self, key: str, version: str) -> bool:
        return key in self._jobs and self._jobs[key].version == version

    def _enqueue(self, *jobs: Job) -> None:
        self._left += len(jobs)
        self.ledger.enqueue(jobs)

    def _work(self, notice: Callable[[], signal.Signals | None]) -> None:
        while not notice():
            self._collect()
            self._prune()
            self._release()
            self._fill()
            if not self._runs and not self._held:
                return
            self._progress.refresh()
            time.sleep(POLL_SECONDS)

    def _release(self) -> None:
        """Queue the held jobs whose start has its result by now; give up those whose start gets none."""
        released = True
        while released:  # what is given up may be the start of others
            released = False
            for key, job in list(self._held.items()):
                if job.start is None or job.start.key in self._unfinished:
                    continue
                released = True
                del self._held[key]
                if job.start.result():
                    self._enqueue(job)
                    continue
                reason = f"{Outcome.NO_START}: {job.start.label}, from which it starts, has no result"
                self.give_up(job, Outcome.NO_START, reason)
                del self._jobs[key]
                self._ended_badly(job, reason)

    def _fill(self) -> None:
        """Start waiting jobs while there is room. A job whose result is there already is only recorded."""
        # Asked for room while nothing waits, an executor would prepare for a run that never comes.
        free = partial(self._executor.free, self._command)
        while (self._left or not self._runs) and free() and (taken := self.ledger.take()):
            number, key, version = taken
            if not self._planned(key, version):
                self.ledger.fail(number, Outcome.SUPERSEDED, "no longer in the plan")
                continue
            if key in self._held:
                self.ledger.fail(number, Outcome.SUPERSEDED, "waits for the run that it starts from")
                continue
            self._left -= 1
            if self._close(number, self._jobs[key]):
                self._summary.reused += not self._verdict(self._jobs[key])
                self._progress.ended(self._jobs[key], reused=True)
            else:
                self._start(number, self._jobs[key])

    def _start(self, number: int, job: Job) -> None:
        make_way(job, self.say)
        config, log = job.logdir / "config.yaml", job.logdir / "log.txt"
        write_atomic(config, job.config.to_yaml().encode())
        if job.run is not None:
            claim_version(job.logdir, job.run)
        (job.logdir / FAILURE).unlink(missing_ok=True)
        log_start = log.stat().st_size if log.exists() else 0
        ranks = self._executor.ranks if job.command == "run" else 1
        attempt = Attempt(config, job.logdir, self._cache_dir, ranks, job.command, job.inputs, job.data_key)
        self._runs.append(_Run(job, number, self._executor.start(attempt), log_start))
        self._progress.started(job)

    def _collect(self) -> None:
        ended = [(run, how) for run in self._runs if (how := run.handle.poll()) is not None]
        for run, how in ended:
            self._runs = [other for other in self._runs if other is not run]
            if self._close(run.number, run.job):
                self._summary.done += not self._verdict(run.job)
                self._progress.ended(run.job, self._verdict(run.job))
            else:
                self._fail(run, how)

    def _close(self, number: int, job: Job) -> bool:
        """Record how a job ended, if it did: stopped early, or with a result that counts."""
        if verdict := self._verdict(job):
            self._unfinished.discard(job.key)
            write_json(job.logdir / "pruned.json", {"reason": verdict})
            self.ledger.prune(number, Outcome.PRUNED, verdict)
            self._summary.pruned += 1
            return True
        result = job.result()
        if result is None:
            return False
        self._unfinished.discard(job.key)
        self.ledger.complete(number, value_of(result))
        (job.logdir / FAILURE).unlink(missing_ok=True)
        return True

    def _prune(self) -> None:
        """End the runs that are to be stopped early; `_collect` closes them."""
        for run in self._runs:
            if self._verdict(run.job):
                run.handle.stop(hard=True)  # nothing of it is needed any more

    def _verdict(self, job: Job) -> str:
        """Once given it stands, even if the end of the run's log is lost with the run."""
        if not self._verdicts.get(job.key):
            self._verdicts[job.key] = self._watch(job)
        return self._verdicts[job.key]

    def _fail(self, run: _Run, ended: Ended) -> None:
        """Record an attempt without a result; queue its job again if such an end may be mended by that."""
        outcome, job = outcome_of(ended), run.job
        tail = read_tail(job.logdir / "log.txt", run.log_start)
        reason = reason_of(ended, tail)
        self.ledger.fail(run.number, outcome, reason, tail)
        # A run that found no memory beside others comes again among fewer; its tries count once it is alone.
        crowded = outcome in MEMORY and job.command == "run" and self._executor.population > 1
        self._tries[job.key, outcome] += not crowded
        if crowded or self._tries[job.key, outcome] < self._allowed.get(outcome, 1):
            self._enqueue(job)
            self._progress.ended(job, f"{reason}; trying again", final=False)
            return
        _write_failure(job.logdir, outcome, reason, tail)
        if NO_BACKEND in reason and not self._summary.done:  # so would every other run
            raise ValueError(reason.removeprefix(f"{outcome}: "))
        self._ended_badly(job, reason)

    def _ended_badly(self, job: Job, reason: str) -> None:
        self._unfinished.discard(job.key)
        self._summary.failed[job.label] = reason
        self._progress.ended(job, reason)

    def _stop(self) -> None:
        """End what still runs: ask, wait, then insist. The runs resume from their checkpoints."""
        for hard in (False, True):
            for run in self._runs:
                run.handle.stop(hard)
            deadline = time.monotonic() + GRACE_SECONDS
            while time.monotonic() < deadline and any(run.handle.poll() is None for run in self._runs):
                time.sleep(POLL_SECONDS)
        for run in self._runs:
            if not self._close(run.number, run.job):
                self.ledger.fail(run.number, Outcome.PREEMPTED, "stopped with its driver")
        self._runs = []


def _write_failure(logdir: Path, outcome: Outcome, reason: str, log_tail: str = "") -> None:
    write_json(logdir / FAILURE, {"outcome": outcome, "reason": reason, "log_tail": log_tail})


@contextmanager
def _first_notice(act: Callable[[], None]) -> Iterator[Callable[[], signal.Signals | None]]:
    """Turn the first notice into a flag, so that no write to the ledger is cut; a second acts as usual."""
    seen: list[signal.Signals] = []

    def note(number: signal.Signals) -> None:
        seen.append(number)
        act()

    with on_notice(note, *NOTICES):
        yield lambda: seen[0] if seen else None

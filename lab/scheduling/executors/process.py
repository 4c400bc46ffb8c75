"""One attempt as a group of child processes that live and die together."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lab.scheduling.executors.executor import Attempt, Cause, Ended
from lab.scheduling.executors.ranks import blamed
from lab.scheduling.logs import tail_bytes
from lab.scheduling.outcomes import PREEMPTED

STALL_SECONDS = 1800.0
ABORT_SECONDS = 5.0  # between the request for stacks and the end
PROGRESS = ("progress.json", "log.txt", "metrics.jsonl")
LOG_BYTES = 64 * 2**20
KEPT_BYTES = 2**20
LOOK_SECONDS = 1.0
LONGEST_GAP = 10.0  # a watcher that slept itself does not hold its sleep against the run


def arguments(attempt: Attempt) -> list[str]:
    """What follows `python -m lab` for an attempt: the command and its options."""
    options = [("config", attempt.config), ("logdir", attempt.logdir), ("cache", attempt.cache_dir)]
    if attempt.command == "run":  # a measurement's configuration names the runs that it reads
        options += [("start", folder) for folder in attempt.inputs]
    named = [*options, ("data-key", attempt.data_key)]
    return [attempt.command, *(text for name, value in named if value for text in (f"--{name}", str(value)))]


def spawn(
    command: Sequence[str], environment: Mapping[str, str], log: Path, cwd: Path | None = None
) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own, whose output is appended to a log."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def rank_log(logdir: Path, rank: int) -> Path:
    """Where the output of one process of an attempt goes."""
    return logdir / ("log.txt" if rank == 0 else f"log-{rank}.txt")


class ProcessGroup:
    """An attempt that runs as child processes of this one, one a rank.

    The first process that ends badly ends all, and its code is the attempt's. A run whose files do not change
    for `stall_seconds` has hung: it is told to dump its stacks into the log and killed.

    Args:
        processes: the attempt's processes by rank, each the leader of its session.
        logdir: the attempt's folder.
        stall_seconds: longest time without progress.
        first: rank of the first of the processes; other machines run those before it.
    """

    def __init__(
        self,
        processes: "Sequence[subprocess.Popen[bytes]]",
        logdir: Path,
        stall_seconds: float = STALL_SECONDS,
        first: int = 0,
    ) -> None:
        self._processes = processes
        self._first = first
        self._logdir = logdir
        self._stall_seconds = stall_seconds
        self._oom_kills = oom_kills()
        self._killed = False
        self._bad: tuple[int, int] | None = None  # rank and code of the first process that ended badly
        self._ended: Ended | None = None
        self._signature: tuple[tuple[int, int], ...] = ()
        self._looked = time.monotonic()
        self._still = 0.0
        self._aborted: float | None = None

    def poll(self) -> Ended | None:
        """None while any of its processes runs, then how it ended."""
        if self._ended is None and not self._all_ended():
            self._watch()
        return self._ended

    def stop(self, hard: bool) -> None:
        """SIGTERM, or SIGKILL if `hard`, to all its processes and their children."""
        if self.poll() is None:
            self._killed |= hard
            self._signal(signal.SIGKILL if hard else signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)

    def _all_ended(self) -> bool:
        reaped = {self._first + i: _reap(process) for i, process in enumerate(self._processes)}
        codes = {rank: code for rank, code in reaped.items() if code is not None}
        if (
            self._bad is None
            and (rank := blamed({rank: Ended(code) for rank, code in codes.items()})) is not None
        ):
            self._end_with(rank, codes[rank])
        if any(process.returncode is None for process in self._processes):
            return False
        preempted = PREEMPTED if PREEMPTED in codes.values() else 0
        self._ended = Ended(self._bad[1] if self._bad else preempted, self._cause())
        return True

    def _end_with(self, rank: int, code: int) -> None:
        """One rank ended badly: the others would wait for it, so they end too."""
        self._bad = rank, code
        if rank and not self._first:
            quote(self._logdir, f"rank {rank}", tail_bytes(rank_log(self._logdir, rank)))
        self._signal(signal.SIGKILL)
        for process in self._processes:
            if process.returncode is None:
                process.wait()

    def _cause(self) -> Cause:
        if self._aborted is not None:
            return "stalled"
        killed = self._bad is not None and self._bad[1] == -signal.SIGKILL and not self._killed
        return "host_oom" if killed and oom_kills() > self._oom_kills else ""

    def _watch(self) -> None:
        now = time.monotonic()
        if self._aborted is not None:
            if now - self._aborted >= ABORT_SECONDS:
                self._signal(signal.SIGKILL)
            return
        gap = now - self._looked
        if gap < min(LOOK_SECONDS, self._stall_seconds / 4):
            return
        self._looked = now
        for i in range(len(self._processes)):
            bound_log(rank_log(self._logdir, self._first + i))
        signature = tuple(_state(self._logdir / name) for name in PROGRESS)
        self._still = self._still + min(gap, LONGEST_GAP) if signature == self._signature else 0.0
        self._signature = signature
        if self._still >= self._stall_seconds:
            self._aborted = now
            note = f"no progress for {self._stall_seconds:g} s; the stacks of all threads:"
            _append(self._logdir / "log.txt", b"", note)
            self._signal(signal.SIGABRT)


def _reap(process: "subprocess.Popen[bytes]") -> int | None:
    """Its exit code once it has ended; what it left behind is killed while its id is still its own."""
    if process.returncode is None and hasattr(os, "waitid"):
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.poll()


def _state(path: Path) -> tuple[int, int]:
    """Size and time of change; a file that is not there has neither."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def bound_log(log: Path, most: int = LOG_BYTES, keep: int = KEPT_BYTES) -> bool:
    """Cut a log that has grown above `most` bytes to its last `keep`, in place: its writer appends to it.

    Returns:
        Whether it was cut.
    """
    size, _ = _state(log)
    if size <= most:
        return False
    tail = tail_bytes(log, keep)
    os.truncate(log, 0)
    _append(log, tail, f"the first {size - len(tail)} bytes of this log were dropped")
    return True


def quote(logdir: Path, whose: str, tail: bytes) -> None:
    """Put the end of the log of another process of a run into that of the run."""
    _append(logdir / "log.txt", tail, f"{whose} ended:")


def _append(log: Path, text: bytes, note: str) -> None:
    """Add a note of the watcher's own, then the text."""
    with log.open("ab") as file:
        file.write(f"\n[{note}]\n".encode() + text)


def oom_kills(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """How often the kernel has killed for want of memory: in our control group, else on the machine."""
    try:
        for line in (
            (proc / "self" / "cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        ):
            if line.startswith("0::"):
                events = (cgroups / line[3:].strip("/") / "memory.events").read_text(encoding="utf-8")
                return _counter(events)
    except OSError:
        pass
    try:
        return _counter((proc / "vmstat").read_text(encoding="utf-8"))
    except OSError:
        return 0


def _counter(text: str) -> int:
    fields = (line.split() for line in text.splitlines())
    return next((int(value) for name, value in fields if name == "oom_kill"), 0)

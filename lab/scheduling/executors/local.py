"""Attempts as child processes of the driver, on the cores and devices of this machine."""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.scheduling.executors.executor import Attempt, Command
from lab.scheduling.executors.process import STALL_SECONDS, ProcessGroup, arguments, rank_log, spawn
from lab.scheduling.executors.ranks import free_address, rank_environment
from lab.scheduling.executors.slots import Slot, environment, make_places
from lab.scheduling.executors.spare import Spare

COMMAND = (sys.executable, "-m", "lab")
STANDBY = (*COMMAND, "standby")
SPARE_AFTER = 5.0  # seconds into an attempt, which gets to its first step undisturbed


@dataclass(frozen=True)
class _Running:
    """An attempt under way: the number of its place, its start (monotonic clock, seconds)."""

    place: int
    attempt: Attempt
    group: ProcessGroup
    started: float


class LocalExecutor:
    """Places on this machine, dealt out evenly.

    Args:
        workers: number of places; 0 means as many as there are devices, or cores, for.
        command: what starts a run; `run` or `measure`, `--config`, `--logdir` and `--cache` are added.
        standby: what starts a process that waits for a run with everything imported; empty to keep none.
        ranks: most processes of one attempt.
        per_device: runs that share one GPU.
        devices: GPUs or TPU chips of each process.
        stall_seconds: a run without progress for so long is killed.

    Raises:
        ValueError: if a number is out of range or the machine has too few devices.
    """

    population = 1

    def __init__(
        self,
        workers: int = 0,
        command: Sequence[str] = COMMAND,
        standby: Sequence[str] = (),
        *,
        ranks: int = 1,
        per_device: int = 1,
        devices: int = 1,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        if not stall_seconds > 0:  # nor NaN
            raise ValueError(f"`stall_seconds` must be > 0, but got stall_seconds={stall_seconds}.")
        self._places = make_places(workers, ranks, per_device, devices)
        self.ranks = ranks
        self._command = command
        self._standby = standby if ranks == 1 else ()
        self._stall_seconds = stall_seconds
        self._running: list[_Running] = []
        self._spares: dict[int, Spare] = {}  # by the number of their place

    def free(self, command: Command = "run") -> int:
        """How many attempts could start now."""
        self._keep_spares()
        return len(self._free_places())

    def start(self, attempt: Attempt) -> ProcessGroup:
        """Start an attempt in a free place.

        Raises:
            ValueError: if it has more processes than a place has slots.
        """
        slots = len(self._places[0])
        if attempt.ranks > slots:
            raise ValueError(
                f"`ranks` must be at most {slots} in this executor, but got ranks={attempt.ranks}."
            )
        place = self._free_places()[0]
        group = ProcessGroup(self._processes(place, attempt), attempt.logdir, self._stall_seconds)
        self._running.append(_Running(place, attempt, group, time.monotonic()))
        return group

    def close(self) -> None:
        """End the processes that wait; the attempts are the driver's to end."""
        for spare in self._spares.values():
            spare.end()
        self._spares = {}

    def _free_places(self) -> list[int]:
        self._running = [run for run in self._running if run.group.poll() is None]
        taken = {run.place for run in self._running}
        return [place for place in range(len(self._places)) if place not in taken]

    def _processes(self, place: int, attempt: Attempt) -> "list[subprocess.Popen[bytes]]":
        """Start an attempt's processes, or hand it to the one that waits in its place."""
        cache = compilation_cache(attempt.cache_dir)
        if spare := self._spares.pop(place, None):
            process = spare.take(attempt, environment(self._places[place][0], cache))
            if process is not None:
                return [process]
        address = free_address() if attempt.ranks > 1 else ""
        return [
            spawn_rank(self._command, attempt, slot, rank, address)
            for rank, slot in enumerate(self._places[place][: attempt.ranks])
        ]

    def _keep_spares(self) -> None:
        """Start a waiting process beside each attempt that has got going."""
        for run in self._running if self._standby else ():
            if run.place not in self._spares and time.monotonic() - run.started >= SPARE_AFTER:
                (slot,) = self._places[run.place]
                # A GPU or TPU belongs to the run that is at work; a CPU also allows a rehearsal of its kind.
                rehearsed = slot.kind == "cpu" and run.attempt.command == "run"
                rehearse = ("--rehearse", str(run.attempt.config.absolute())) if rehearsed else ()
                cache = ("--cache", str(run.attempt.cache_dir.absolute()))
                self._spares[run.place] = Spare(
                    [*self._standby, *cache, *rehearse],
                    environment(slot, compilation_cache(run.attempt.cache_dir)),
                )


def spawn_rank(
    command: Sequence[str],
    attempt: Attempt,
    slot: Slot,
    rank: int = 0,
    address: str = "",
    cwd: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start one process of an attempt on this machine.

    Args:
        command: what starts a run; the attempt's options are added.
        attempt: of which it is a part.
        slot: what it is pinned to.
        rank: which of the attempt's processes.
        address: where rank 0 waits for the others, if there are any.
        cwd: its working folder, if not this process's.
    """
    meeting = rank_environment(rank, attempt.ranks, address) if address else {}
    pins = {**environment(slot, compilation_cache(attempt.cache_dir)), **meeting}
    return spawn([*command, *arguments(attempt)], pins, rank_log(attempt.logdir, rank), cwd)


def compilation_cache(cache_dir: Path) -> dict[str, str]:
    """The variables that make processes share what JAX has compiled.

    Small programs too: the dozens that make the initial weights take longer than the train step to trace.
    """
    return {
        "JAX_COMPILATION_CACHE_DIR": str((cache_dir / "jax").resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

"""Several attempts in one process of each place, which trains them together: the driver's side."""

import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lab.scheduling.executors.executor import Attempt, Command, Ended, Handle
from lab.scheduling.executors.local import COMMAND, LocalExecutor, compilation_cache
from lab.scheduling.executors.process import STALL_SECONDS, ProcessGroup, quote, rank_log
from lab.scheduling.executors.slots import environment, make_places
from lab.scheduling.logs import tail_bytes
from lab.scheduling.outcomes import MEMORY, outcome_of

POPULATION = (*COMMAND, "population")
QUOTED_BYTES = 2**16  # of its log: a process that hung has left the stacks of all its threads
_numbers = itertools.count()


class _Member:
    """An attempt in a population, as the driver sees it."""

    def __init__(self, process: "PopulationProcess", number: int, attempt: Attempt) -> None:
        self._process, self._number = process, number
        self.attempt = attempt
        self.ended: Ended | None = None
        self._asked: set[str] = set()

    @property
    def places(self) -> int:
        """Those of its process."""
        return self._process.places

    def poll(self) -> Ended | None:
        """None while it runs, then how it ended."""
        if self.ended is None:
            self._process.look()
        return self.ended

    def stop(self, hard: bool) -> None:
        """Ask it to end, or (`hard`) have it ended without saving anything. The others go on."""
        do = "drop" if hard else "stop"
        if self.ended is None and do not in self._asked:  # an order interrupts the others: once is enough
            self._asked.add(do)
            self._process.order(do=do, run=self._number)


class PopulationProcess:
    """A process that trains several attempts.

    Args:
        places: most attempts at a time.
        environment: its pins.
        command: what starts it; `--places`, `--folder` and `--reports` are added.
        stall_seconds: it is killed if it shows no life for so long.

    Attributes:
        places: as above.
    """

    def __init__(
        self,
        places: int,
        environment: Mapping[str, str],
        command: Sequence[str] = POPULATION,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.places = places
        self._folder = folder = Path(tempfile.mkdtemp(prefix="lab-population-"))
        self._reports, told = os.pipe()
        with rank_log(folder, 0).open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--places", str(places), "--folder", str(folder), "--reports", str(told)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[told],
                bufsize=0,
                start_new_session=True,
            )
        os.close(told)
        assert self._process.stdin is not None
        self._orders = self._process.stdin
        for pipe in (self._orders.fileno(), self._reports):  # the driver waits for no process
            os.set_blocking(pipe, False)
        self._group = ProcessGroup([self._process], folder, stall_seconds)
        self._members: dict[int, _Member] = {}
        self._unsent = self._said = b""

    @property
    def free(self) -> int:
        """How many attempts could still start; none once it has ended."""
        self.look()
        return 0 if self.ended else self.places - len(self._members)

    @property
    def idle(self) -> bool:
        """Whether it trains nothing."""
        self.look()
        return not self._members

    @property
    def ended(self) -> bool:
        """Whether the process has."""
        return self._group.poll() is not None

    def start(self, attempt: Attempt) -> _Member:
        """Hand it an attempt."""
        number, whole = next(_numbers), attempt.absolute()
        log = rank_log(whole.logdir, 0)
        log.touch()
        member = self._members[number] = _Member(self, number, attempt)
        self.order(
            do="start",
            run=number,
            log=str(log),
            config=str(whole.config),
            logdir=str(whole.logdir),
            cache=str(whole.cache_dir),
            start=next((str(folder) for folder in whole.inputs), ""),
            data_key=whole.data_key,
        )
        return member

    def order(self, **order: object) -> None:
        """Send it a line, as soon as it has room for that; a process that has ended reads none."""
        self._unsent += json.dumps(order).encode() + b"\n"
        self._send()

    def look(self) -> None:
        """Take in which attempts have ended; all have where the process has."""
        self._send()
        ended = self._group.poll()
        with suppress(BlockingIOError):
            while given := os.read(self._reports, 2**16):
                self._said += given
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            said = json.loads(line)
            self._members.pop(said["run"]).ended = Ended(said["code"])
        if ended is None:
            return
        tail = tail_bytes(rank_log(self._folder, 0), QUOTED_BYTES) if self._members else b""
        for member in self._members.values():
            quote(member.attempt.logdir, "the process that trained it with others has", tail)
            member.ended = ended
        self._members = {}

    def close(self) -> None:
        """End it, if it still runs."""
        self._group.stop(hard=True)
        self._process.wait()
        self.look()
        self._orders.close()
        os.close(self._reports)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _send(self) -> None:
        with suppress(BlockingIOError, BrokenPipeError):
            while self._unsent:
                self._unsent = self._unsent[os.write(self._orders.fileno(), self._unsent) :]


class PopulationExecutor:
    """Places on this machine, each with one process that trains several runs together.

    A measurement has a place for itself. Where runs do not fit into a device's memory, later ones come in
    smaller populations.

    Args:
        population: runs of a process.
        workers: number of places; 0 means as many as there are devices, or cores, for.
        command: what starts a process, as of `PopulationProcess`.
        single: what starts a measurement, as of `LocalExecutor`.
        per_device: processes that share one GPU.
        stall_seconds: a process, or a measurement, without progress for so long is killed.

    Raises:
        ValueError: if a number is out of range or the machine has too few devices.
    """

    ranks = 1

    def __init__(
        self,
        population: int,
        workers: int = 0,
        command: Sequence[str] = POPULATION,
        single: Sequence[str] = COMMAND,
        *,
        per_device: int = 1,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.population = population
        self._command = command
        self._single = LocalExecutor(workers, single, per_device=per_device, stall_seconds=stall_seconds)
        self._slots = [slot for (slot,) in make_places(workers, per_device=per_device)]
        self._stall_seconds = stall_seconds
        self._processes: list[PopulationProcess | None] = [None] * len(self._slots)
        self._started: list[_Member] = []

    def free(self, command: Command = "run") -> int:
        """How many attempts could start now."""
        self._shrink()
        if command == "measure":
            return self._single.free() if all(map(_is_idle, self._processes)) else 0
        if self._single.free() < len(self._slots):
            return 0
        return sum(self._room(process) for process in self._processes)

    def start(self, attempt: Attempt) -> Handle:
        """Start an attempt in a free place, where most are at work already."""
        if attempt.command == "measure":
            self.close()
            return self._single.start(attempt)
        room = [self._room(process) for process in self._processes]
        place = min((number for number, free in enumerate(room) if free), key=room.__getitem__)
        process = self._processes[place]
        if process is None or not process.free or process.places != self.population:
            process = self._processes[place] = self._new(place, attempt)
        member = process.start(attempt)
        self._started.append(member)
        return member

    def close(self) -> None:
        """End the processes; the attempts are the driver's to end."""
        for place, process in enumerate(self._processes):
            if process is not None:
                process.close()
            self._processes[place] = None

    def _room(self, process: PopulationProcess | None) -> int:
        if process is None:
            return self.population
        free = process.free  # first: one that ends after this look is idle at the next
        if process.idle:
            return self.population
        return free if process.places == self.population else 0

    def _new(self, place: int, attempt: Attempt) -> PopulationProcess:
        old = self._processes[place]
        if old is not None:
            old.close()
        pins = environment(self._slots[place], compilation_cache(attempt.cache_dir))
        return PopulationProcess(self.population, pins, self._command, self._stall_seconds)

    def _shrink(self) -> None:
        """After a run that found no memory beside others, let half as many be together."""
        for member in self._started:
            if (ended := member.poll()) and outcome_of(ended) in MEMORY:
                self.population = min(self.population, max(1, member.places // 2))
        self._started = [member for member in self._started if member.ended is None]


def _is_idle(process: PopulationProcess | None) -> bool:
    return process is None or process.idle

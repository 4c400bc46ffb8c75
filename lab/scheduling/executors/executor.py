"""What the driver asks of whatever runs the attempts. No type of an engine goes above this line."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

Cause = Literal["", "stalled", "host_oom", "node_lost"]
Command = Literal["run", "measure"]


@dataclass(frozen=True)
class Ended:
    """How an attempt ended.

    Args:
        code: exit code; minus the signal's number if a signal ended it.
        cause: what the executor itself saw or did, which the code cannot tell.
    """

    code: int
    cause: Cause = ""


@dataclass(frozen=True)
class Attempt:
    """One try at one run or measurement: read `config`, leave everything in `logdir`.

    Args:
        config: the resolved configuration.
        logdir: the folder of the run or measurement.
        cache_dir: tokenized corpora and compiled programs.
        ranks: processes of the attempt (a multi-process data- or model-parallel run).
        command: of `python -m lab`, which does it.
        inputs: folders of finished runs that it reads: those it measures, or that whose best stop it begins
            from.
        data_key: under which the cache holds its corpus, so that it need not be read to be found; empty if
            that is not known.
    """

    config: Path
    logdir: Path
    cache_dir: Path
    ranks: int = 1
    command: Command = "run"
    inputs: tuple[Path, ...] = ()
    data_key: str = ""

    def absolute(self) -> "Attempt":
        """The same for a process with another working folder."""
        paths = {name: getattr(self, name).absolute() for name in ("config", "logdir", "cache_dir")}
        return replace(self, **paths, inputs=tuple(path.absolute() for path in self.inputs))


class Handle(Protocol):
    """An attempt that was started."""

    def poll(self) -> Ended | None:
        """None while it runs, then how it ended."""

    def stop(self, hard: bool) -> None:
        """Ask all its processes to end, or (`hard`) end them now. Returns at once."""


class Executor(Protocol):
    """Places, each of which runs one attempt at a time, or several that one process trains together.

    Attributes:
        ranks: processes of each attempt that it is meant for.
        population: runs that one process trains together, at most.
    """

    ranks: int
    population: int

    def free(self, command: Command = "run") -> int:
        """How many attempts of a command could start now."""

    def start(self, attempt: Attempt) -> Handle:
        """Start an attempt in a free place."""

    def close(self) -> None:
        """End what the executor itself keeps: processes that wait, a connection to a cluster."""

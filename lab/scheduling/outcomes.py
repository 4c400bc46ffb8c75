"""How an attempt ended, and how often a cell that ended so is tried again.

A run's process tells its driver by its exit code; what it cannot tell (a signal, a hang, a lost machine) the
executor saw.
"""

import errno
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from signal import Signals

from lab.scheduling.executors.executor import Ended
from lab.training.ending import DivergedError, PreemptedError


class Outcome(StrEnum):
    """What became of an attempt without a result. One that left its result is done, however it ended."""

    USER_ERROR = "user error"
    DIVERGED = "diverged"
    DEVICE_MEMORY = "out of device memory"
    HOST_MEMORY = "out of host memory"
    PREEMPTED = "preempted"
    STALLED = "stalled"
    LOST = "lost"
    NO_RESULT = "no result"
    ERROR = "error"
    SUPERSEDED = "superseded"
    PRUNED = "pruned"
    NOT_TUNED = "not tuned"
    NO_START = "no start"


MEMORY = (Outcome.DEVICE_MEMORY, Outcome.HOST_MEMORY)
PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: a launcher may start the same command again

EXIT_CODES = {
    Outcome.USER_ERROR: 2,
    Outcome.DIVERGED: 3,
    Outcome.DEVICE_MEMORY: 4,
    Outcome.HOST_MEMORY: 5,
    Outcome.PREEMPTED: PREEMPTED,
    Outcome.ERROR: 1,
}

# Tries of one cell that may end this way in one invocation. What would end the same again gets one; what
# another moment may mend, more. A preempted run is no failure: it goes on as often as it must.
TRIES: Mapping[Outcome, float] = {
    Outcome.USER_ERROR: 1,
    Outcome.DIVERGED: 1,
    Outcome.DEVICE_MEMORY: 2,
    Outcome.HOST_MEMORY: 2,
    Outcome.STALLED: 2,
    Outcome.LOST: 3,
    Outcome.NO_RESULT: 2,
    Outcome.ERROR: 2,
    Outcome.PREEMPTED: float("inf"),
}

# Of the system, about a path: what another moment would not mend, but who has the place may.
_PLACE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG),
    *(errno.ELOOP, errno.ENOSPC, errno.EDQUOT),
}

_DEVICE_MEMORY = ("RESOURCE_EXHAUSTED", "ResourceExhausted", "OutOfMemoryError", "CUDA out of memory")


def outcome_of(ended: Ended) -> Outcome:
    """The class of an attempt that left no result."""
    if ended.cause == "stalled":
        return Outcome.STALLED
    if ended.cause == "host_oom":
        return Outcome.HOST_MEMORY
    if ended.code < 0 or ended.cause == "node_lost":
        return Outcome.LOST
    if ended.code == 0:
        return Outcome.NO_RESULT
    return next((outcome for outcome, code in EXIT_CODES.items() if code == ended.code), Outcome.ERROR)


def reason_of(ended: Ended, log_tail: str) -> str:
    """One line for people: the outcome and what is known beyond it.

    Args:
        ended: an attempt without a result.
        log_tail: the end of what it wrote.
    """
    outcome = outcome_of(ended)
    lines = log_tail.strip().splitlines()
    last = lines[-1].strip() if lines else "no output"
    match outcome:
        case Outcome.STALLED:
            return "stalled: no progress; the log has its stacks"
        case Outcome.HOST_MEMORY if ended.code < 0:
            return "out of host memory: the system killed it"
        case Outcome.LOST:
            signal = f" by {Signals(-ended.code).name}" if ended.code < 0 else ""
            return "lost: its machine is gone" if ended.cause == "node_lost" else f"lost: killed{signal}"
        case Outcome.NO_RESULT:
            return "no result: ended without a result.json of its configuration"
        case Outcome.ERROR:
            return f"exit code {ended.code}: {last.removeprefix('error: ')}"
        case _:
            return f"{outcome}: {last.removeprefix('error: ')}"


def parse_tries(assignments: Iterable[str]) -> dict[Outcome, float]:
    """The numbers of tries, some of them in place of the usual ones.

    Args:
        assignments: such as `lost=5` or `out-of-host-memory=1`.

    Raises:
        ValueError: if one is no failure's name with a whole number from 1 on.
    """
    names = {outcome.replace(" ", "-"): outcome for outcome in TRIES}
    chosen = dict(TRIES)
    for assignment in assignments:
        name, _, number = assignment.partition("=")
        if name not in names or not number.isdecimal() or int(number) < 1:
            raise ValueError(
                f"`tries` must be one of {sorted(names)}, = and a whole number >= 1, but got {assignment!r}."
            )
        chosen[names[name]] = int(number)
    return chosen


def exit_code_of(error: BaseException, on_cpu: bool) -> int:
    """The exit code by which a run tells why it ended.

    Args:
        error: what ended it; the errors that it came from count too, since Keras can hide the first.
        on_cpu: whether the run computes in the host's memory.
    """
    if isinstance(error, PreemptedError):  # itself: an error on the way to its checkpoint left none
        return PREEMPTED
    chain = list(_chain(error))
    if any(isinstance(one, MemoryError) for one in chain):
        return EXIT_CODES[Outcome.HOST_MEMORY]
    if any(text in f"{type(one).__name__}: {one}" for one in chain for text in _DEVICE_MEMORY):
        return EXIT_CODES[Outcome.HOST_MEMORY if on_cpu else Outcome.DEVICE_MEMORY]
    if isinstance(error, DivergedError):
        return EXIT_CODES[Outcome.DIVERGED]
    users = isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno in _PLACE)
    return EXIT_CODES[Outcome.USER_ERROR if users else Outcome.ERROR]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

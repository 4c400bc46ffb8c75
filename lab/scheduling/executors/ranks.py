"""How the processes of one run find one another, by the variables of `keras.distribution`, and end as one."""

import socket
from collections.abc import Mapping
from signal import SIGABRT

from lab.scheduling.executors.executor import Ended
from lab.scheduling.outcomes import PREEMPTED

COUNT = "KERAS_DISTRIBUTION_NUM_PROCESSES"
ALONE = {COUNT: "1"}  # whatever launcher surrounds the process


def rank_environment(rank: int, ranks: int, address: str) -> dict[str, str]:
    """What process `rank` of `ranks` needs in its environment.

    Args:
        rank: its number, from 0.
        ranks: how many processes train the run together.
        address: host and port at which rank 0 waits for the others.

    Raises:
        ValueError: if there is no such rank.
    """
    if not 0 <= rank < ranks:
        raise ValueError(f"`rank` must be in 0..{ranks - 1}, but got rank={rank}.")
    return {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
        COUNT: str(ranks),
        "KERAS_DISTRIBUTION_PROCESS_ID": str(rank),
    }


def free_address(host: str = "127.0.0.1") -> str:
    """An address of this machine whose port is free at this moment; each attempt takes a new one."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return f"{host}:{listener.getsockname()[1]}"


def blamed(ends: Mapping[int, Ended]) -> int | None:
    """The rank whose end is that of the run: the first that says why it ended, or of which it is known.

    The ranks that are left lose their connection and abort, which can be noticed first.

    Args:
        ends: how each rank that has ended did so.

    Returns:
        None if all of them finished, or obeyed a notice.
    """
    bad = [rank for rank, end in sorted(ends.items()) if end.code not in (0, PREEMPTED)]
    return min(bad, key=lambda rank: (not explained(ends[rank]), ends[rank].code == -SIGABRT), default=None)


def explained(end: Ended) -> bool:
    """Whether more is known of a bad end than the signal."""
    return end.code > 0 or bool(end.cause)

"""The environment by which the processes of one run find one another, as `keras.distribution` names it."""

import socket


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
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(ranks),
        "KERAS_DISTRIBUTION_PROCESS_ID": str(rank),
    }


def free_address() -> str:
    """An address on loopback whose port is free at this moment; each attempt takes a new one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"

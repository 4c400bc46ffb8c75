"""Stand-in until the merge: where the processes of one attempt meet."""

import socket


def free_address() -> str:
    """A loopback address with a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def rank_environment(rank: int, ranks: int, address: str) -> dict[str, str]:
    """The environment by which process `rank` of `ranks` finds the others at `address`."""
    return {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
        "KERAS_DISTRIBUTION_NUM_PROCESSES": str(ranks),
        "KERAS_DISTRIBUTION_PROCESS_ID": str(rank),
    }

"""Orders of windows and of pieces of a corpus."""

import numpy as np

from lab.threefry import Stream, threefry2x32


def shuffled(count: int, seed: int = 0, epoch: int = 0, stream: Stream = Stream.DATA_ORDER) -> np.ndarray:
    """A permutation of 0 .. count - 1, a pure function of its arguments.

    Args:
        count: how many, below 2**31.
        seed: in [0, 2**31).
        epoch: another permutation for each, >= 0.
        stream: what it is for.

    Returns:
        (count,) int64.
    """
    key = (np.full(1, seed, np.int32), np.full(1, stream, np.int32))
    index = np.arange(count, dtype=np.int32)
    high, low = threefry2x32(key, (index, np.full(1, epoch, np.int32)), np)
    # 64 random bits each: even among 2**20 a tie has a chance of 3e-8, and is still settled.
    keys = (high.view(np.uint32).astype(np.uint64) << np.uint64(32)) | low.view(np.uint32)
    return np.argsort(keys, kind="stable")

"""Allocator settings for training on a CPU."""

import ctypes
import sys

# glibc, malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory for the next step rather than hand it back to the kernel.

    XLA's CPU backend takes its buffers with malloc at every step; by default glibc maps and unmaps them
    each time, and the page faults take about as long as the arithmetic of a small model. To act on all of a
    process, this must come before it starts threads.

    Returns:
        Whether the C library took the settings; other systems are left as they are.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    settings = ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1))
    taken = [mallopt(option, value) for option, value in settings]  # every one, whatever became of the others
    return taken == [1] * len(settings)

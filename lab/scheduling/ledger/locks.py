"""One owner at a time for a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOOK_SECONDS = 1.0  # far longer than `is_owned` keeps an owner out


@contextmanager
def sole_owner(folder: Path, what: str, wait_seconds: float = 0) -> Iterator[None]:
    """Hold `<folder>/<what>.lock`; the system lets it go when the process ends, however it ends.

    Args:
        folder: made if missing.
        what: who holds it, such as `driver`.
        wait_seconds: how long to wait for another owner to end.

    Raises:
        ValueError: if another process holds it, with its id, or the folder may not be written to.
    """
    path = folder / f"{what}.lock"
    lock = FileLock(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=wait_seconds)
    except Timeout:
        owner = path.read_text(encoding="utf-8") or "unknown"
        raise ValueError(
            f"{folder} must have one {what} at a time, but process {owner} "
            "is at work there: wait for it or stop it."
        ) from None
    except PermissionError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}.") from error
    try:
        path.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        lock.release()


def is_owned(folder: Path, what: str) -> bool | None:
    """Whether a process holds `<folder>/<what>.lock`, on any machine that sees it; None if nothing tells."""
    path = folder / f"{what}.lock"
    if not path.is_file():
        return False
    try:
        import fcntl  # not on Windows

        with path.open("rb") as file:  # as it is closed, the lock goes
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return None
    return False

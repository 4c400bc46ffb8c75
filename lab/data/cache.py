"""Folders that are whole or absent: filled beside their place, checksummed, renamed into it."""

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

CHECKSUMS = "checksums.json"
_READ = 1 << 18  # bytes at once


def is_intact(folder: Path) -> bool:
    """Whether a folder is there and every file in it has the bytes that were written."""
    try:
        expected = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        return bool(expected) and expected == _checksums(folder)
    except (OSError, ValueError):
        return False


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Put a new folder in the place of what was there. The caller holds the folder's lock.

    Args:
        folder: its place; other processes that have mapped its former files keep them.
        fill: writes the files into the path it is given.
    """
    # What a builder that was killed has left; the lock says that none is alive.
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(leftover)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fill(temporary)
        (temporary / CHECKSUMS).write_text(json.dumps(_checksums(temporary)), encoding="utf-8")
        for path in (*temporary.iterdir(), temporary):
            _sync(path)
        temporary.chmod(0o755)  # mkdtemp's folders are closed to other users of a shared cache
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync(folder.parent)


def _checksums(folder: Path) -> dict[str, int]:
    """The CRC-32 of each file but the checksums themselves: of damage, not of malice, and fast to compute."""
    checksums = {}
    for path in sorted(folder.iterdir()):
        if path.name != CHECKSUMS:
            checksum = 0
            with path.open("rb") as file:
                while data := file.read(_READ):
                    checksum = zlib.crc32(data, checksum)
            checksums[path.name] = checksum
    return checksums


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

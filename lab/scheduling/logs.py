"""The end of a log, as bytes and as text, whatever was written to it."""

import os
import re
from pathlib import Path

TAIL_BYTES = 4000
_INSIDE = re.compile(rb"\A[\x80-\xbf]{1,3}")  # the rest of a character of UTF-8 whose first byte was cut off


def tail_bytes(log: Path, most: int = TAIL_BYTES, start: int = 0) -> bytes:
    """The last bytes of a log, at most `most`, from a character's beginning on; none if there is no log.

    Args:
        log: its path.
        most: number of bytes.
        start: where the part that counts begins, unless the log was cut since.
    """
    try:
        with log.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            place = max(start if start <= size else 0, size - most)
            file.seek(place)
            return _INSIDE.sub(b"", file.read(most)) if place else file.read(most)
    except FileNotFoundError:
        return b""


def read_tail(log: Path, start: int = 0) -> str:
    """The same as text; what is no text is replaced."""
    text = tail_bytes(log, start=start).decode("utf-8", errors="replace")
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")

"""Texts kept on disk, so that a corpus need not fit into memory."""

import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from lab.data.parts import PART, in_parts
from lab.data.progress import watched


class TextStore:
    """Texts by number, in a file that is gone when it is closed or its process has died.

    In memory are 8 bytes a text.

    Args:
        folder: where there is room for all of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by the store)
        self._edges = array("q", [0])  # where each text begins, and the last one ends
        self._flushed = 0

    def __enter__(self) -> "TextStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._edges) - 1

    def append(self, parts: Iterable[str]) -> None:
        """Keep a text under the next number, from 0 on."""
        self._edges.append(self._edges[-1] + sum(self._file.write(part.encode()) for part in parts))

    def read(self, number: int) -> str:
        """The text of a number."""
        return b"".join(self.chunks(number)).decode()

    def parts(self, number: int) -> Iterable[str]:
        """The same, a part at a time if it is long."""
        return in_parts(self.chunks(number)) if self.size(number) > PART else (self.read(number),)

    def chunks(self, number: int) -> Iterable[bytes]:
        """Its bytes, PART at a time."""
        start, end = self._edges[number], self._edges[number + 1]
        if end - start <= PART:
            return (self._bytes(start, end),)
        return (self._bytes(place, min(place + PART, end)) for place in range(start, end, PART))

    def _bytes(self, start: int, end: int) -> bytes:
        if self._flushed < end:
            self._file.flush()
            self._flushed = self._edges[-1]
        # Not by the file's own buffer, which a seek would fill anew for each text.
        return os.pread(self._file.fileno(), end - start, start)

    def size(self, number: int) -> int:
        """The UTF-8 bytes of the text of a number."""
        return self._edges[number + 1] - self._edges[number]


class Texts:
    """Some texts of a store, in an order, read as they are iterated over; as often as it is asked for.

    Args:
        store: where they are.
        numbers: which ones.
    """

    def __init__(self, store: TextStore, numbers: Sequence[int]) -> None:
        self._store = store
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[str]:
        return map(self._store.read, self._numbers)

    def in_parts(self, stage: str) -> Iterator[Iterable[str]]:
        """The same, each as its parts; `stage` says what for where progress is shown."""
        return map(self._store.parts, self._watched(stage))

    def chunks(self, stage: str) -> Iterator[Iterable[bytes]]:
        """Their bytes, each text's some at a time."""
        return map(self._store.chunks, self._watched(stage))

    def _watched(self, stage: str) -> Iterator[int]:
        return watched(self._numbers, stage, self._store.size, self.size)

    @property
    def size(self) -> int:
        """Their UTF-8 bytes."""
        return sum(map(self._store.size, self._numbers))

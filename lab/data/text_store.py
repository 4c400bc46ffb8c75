"""Texts kept on disk, so that a corpus need not fit into memory."""

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType


class TextStore:
    """Texts by number, in a file that is gone when it is closed or its process has died.

    In memory are 16 bytes a text.

    Args:
        folder: where there is room for all of them.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by the store)
        self._end = 0
        self._starts, self._sizes = array("q"), array("q")

    def __enter__(self) -> "TextStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, text: str) -> None:
        """Keep a text under the next number, from 0 on."""
        self._starts.append(0)
        self._sizes.append(0)
        self.replace(len(self._starts) - 1, text)

    def replace(self, number: int, text: str) -> None:
        """Keep another text under a number; the room of the former is not used again."""
        data = text.encode()
        self._file.seek(self._end)
        self._file.write(data)
        self._starts[number], self._sizes[number] = self._end, len(data)
        self._end += len(data)

    def read(self, number: int) -> str:
        """The text of a number."""
        self._file.seek(self._starts[number])
        return self._file.read(self._sizes[number]).decode()

    def size(self, number: int) -> int:
        """The UTF-8 bytes of the text of a number."""
        return self._sizes[number]


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

    @property
    def size(self) -> int:
        """Their UTF-8 bytes."""
        return sum(map(self._store.size, self._numbers))

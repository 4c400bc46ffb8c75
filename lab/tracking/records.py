"""The append-only log of a run: what training reports, and what was measured."""

import json
from collections.abc import Callable
from pathlib import Path

from lab.files import Row, naming, refuse_non_finite, write_atomic

METRICS = "metrics.jsonl"


def read_rows(path: Path) -> tuple[list[Row], int]:
    """The rows of a log, oldest first, and the number of whole lines that are none; it may be written to.

    The last line may be half written: it is left alone and not counted.
    """
    data = path.read_bytes() if path.is_file() else b""
    lines = [line for line in data[: data.rfind(b"\n") + 1].split(b"\n") if line.strip()]
    rows = [row for line in lines if (row := _parse(line)) is not None]
    return rows, len(lines) - len(rows)


def _parse(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("kind"), str) else None


class MetricsLog:
    """A run's `metrics.jsonl`: one JSON object a line, in the order of writing; its run alone opens it.

    A line torn by a kill in the midst of its write is cut away when the log is opened, and so is one that is
    damaged: what was measured is measured again, and of training's own reports one is missing.

    Args:
        path: the file; it and its folder are made when missing.
        is_sound: whether a row is one that is written there; by default any that says its kind.

    Attributes:
        damaged: number of whole lines that were cut away.
    """

    def __init__(self, path: Path, is_sound: Callable[[Row], bool] = lambda row: True) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        rows, damaged = read_rows(path)
        self._rows = [row for row in rows if is_sound(row)]
        self.damaged = damaged + len(rows) - len(self._rows)
        if path.is_file():
            sound = b"".join(_line(row, path.name) for row in self._rows)
            if path.read_bytes() != sound:
                write_atomic(path, sound)

    @property
    def rows(self) -> list[Row]:
        """Every row, oldest first."""
        return list(self._rows)

    def append(self, row: Row) -> None:
        """Add one row, in a single write.

        Raises:
            ValueError: naming the key, if a number is NaN or infinite.
        """
        line = _line(row, self.path.name)
        with naming(self.path), self.path.open("ab", buffering=0) as file:
            file.write(line)
        self._rows.append(row)


def _line(row: Row, name: str) -> bytes:
    refuse_non_finite(row, name)
    return (json.dumps(row, allow_nan=False) + "\n").encode()

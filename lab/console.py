"""What the commands write to: consoles of any encoding and width, pipes without a reader, closed streams."""

import codecs
import errno
import io
import os
import re
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.table import Table

PLAIN = "lab.plain"  # the name of how text is encoded that a console has no characters for
_PLAIN = str.maketrans({"−": "-", "–": "-", "×": "x", "±": "+-", "†": "*", "→": "->", "…": "...", "≤": "<="})
_POWER = re.compile("[⁻⁰¹²³⁴-⁹]+")


def _as_plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding lacks: ASCII that reads alike, else their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    text = _POWER.sub(lambda power: f"^{unicodedata.normalize('NFKC', power[0])}", text).translate(_PLAIN)
    return text.encode("ascii", errors="backslashreplace").decode("ascii"), error.end


codecs.register_error(PLAIN, _as_plain)


def plain(text: str, encoding: str) -> str:
    """A text as an encoding can hold it; nothing of it is lost."""
    return text.encode(encoding, errors=PLAIN).decode(encoding)


def make_console(**options: Any) -> "Console":
    """A console; a terminal on which nothing can be overwritten (`TERM=dumb`) is none, and gets lines."""
    from rich.console import Console

    console = Console(**options)
    return Console(force_terminal=False, **options) if console.is_dumb_terminal else console


class _Stream(io.FileIO):
    """A standard stream whose reader may leave: what is written then goes nowhere, and the work goes on."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # EIO: the terminal is gone
                raise
            return memoryview(data).nbytes


def open_streams() -> None:
    """Let neither a character that a console lacks nor a reader that has left end a command."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # so that no other file takes a closed one's place
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):  # closed, or not a file's
            continue
        stream.reconfigure(errors=PLAIN)
        if os.name == "posix":
            raw = _Stream(stream.fileno(), "wb", closefd=False)
            buffer = io.BufferedWriter(raw)
            setattr(sys, name, io.TextIOWrapper(buffer, stream.encoding, errors=PLAIN, line_buffering=True))


class Fitting:
    """A table as it is where there is room for its words, else row by row, each cell behind its heading."""

    def __init__(self, table: "Table") -> None:
        self.table = table

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from rich.measure import Measurement
        from rich.table import Table

        table = self.table
        for column in table.columns:
            column.overflow = "fold"  # what is too long is broken, never cut
        if Measurement.get(console, options.update(max_width=10_000), table).minimum <= options.max_width:
            yield table
            return
        rows = Table.grid("", "", padding=(0, 2, 0, 0))
        for place, cells in enumerate(zip(*(column.cells for column in table.columns), strict=True)):
            if place:
                rows.add_row()
            for column, cell in zip(table.columns, cells, strict=True):
                if cell:
                    rows.add_row(_joined(column.header), _joined(cell))
        for column in rows.columns:
            column.overflow = "fold"
        for part in (table.title, rows, table.caption):
            if part:
                yield part


def _joined(cell: "RenderableType") -> "RenderableType":
    """A cell whose lines were broken to fit into a narrower column (`lab.reporting.table`)."""
    return re.sub(r"(?<!_)\n", " ", cell).replace("\n", "") if isinstance(cell, str) else cell

"""A table as data: the page, the terminal and a CSV file all take it from here."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table as Printed

from lab.files import Row
from lab.metrics import Metric
from lab.reporting.words import capital, difference, named_level, p_value, plain, scientific

ABSENT = "–"
LINE = "\n"  # in a cell and in a heading what follows it is small
WIDTH = 80  # of a terminal
# What a line is not broken in: a word, or what an underscore ends of an arm's name; `95 %` is one.
_PIECES = re.compile(r"[^ _\n]+(?: %)?[ _]*|[ _]+")
_LINES = re.compile(r".+")


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        heading: its name; what follows a line break is small.
        cell: a row's text in it; what follows a line break is small.
        left: whether it holds words.
        printed: whether the terminal has room for it.
    """

    heading: str
    cell: Callable[[Row], str]
    left: bool = False
    printed: bool = True


@dataclass(frozen=True)
class Table:
    """Rows of plain values, and how a reader sees them.

    Attributes:
        name: of its CSV file, without the ending.
        rows: as they are in summary.json and the CSV file.
        columns: what is shown.
        caption: what the columns mean, where a heading does not say it.
        group: the key whose values part the rows; empty for none.
        title: where it is one of several.
    """

    name: str
    rows: Sequence[Row]
    columns: Sequence[Column]
    caption: str = ""
    group: str = ""
    title: str = ""

    @property
    def headings(self) -> list[tuple[str, str, bool]]:
        """Of each column the heading, its small part, and whether it holds words."""
        return [(*_parts(column.heading), column.left) for column in self.columns]

    @property
    def cells(self) -> list[tuple[str, list[tuple[str, str, bool]]]]:
        """For each row the text above it, where a group begins, and its cells as `headings` has them."""
        found = []
        before = None
        for row in self.rows:
            group = named_level(str(row[self.group])) if self.group else ""
            begins = group if group != before else ""
            before = group
            found.append((begins, [(*_parts(column.cell(row)), column.left) for column in self.columns]))
        return found

    def printed(self, title: str) -> Printed:
        """The table for a terminal of 80 columns: what is too long is broken, and nothing is cut."""
        table = Printed(
            title=escape(title),
            title_justify="left",
            caption=escape(self.caption),
            caption_justify="left",
            box=SIMPLE,
            padding=(0, 1, 0, 0),
        )
        columns = [column for column in self.columns if column.printed]
        begins = [begin for begin, _ in self.cells]
        cells = [[column.cell(row) for row in self.rows] for column in columns]
        widths = _widths(columns, cells, begins)
        for column, width in zip(columns, widths, strict=True):
            justify = "left" if column.left else "right"
            heading = escape(_broken(column.heading, width))
            table.add_column(heading, justify=justify, overflow="fold", width=width)  # type: ignore[arg-type]
        if not columns:
            table.add_column(width=WIDTH - 3)  # without one there would be no title
        for begin, *row in zip(begins, *cells, strict=True):
            if begin:
                table.add_section()
                table.add_row(f"[bold]{escape(_broken(begin, widths[0]))}[/bold]")
            table.add_row(*(escape(_broken(cell, width)) for cell, width in zip(row, widths, strict=True)))
        return table


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]], begins: Sequence[str]) -> list[int]:
    """The width of each column on a terminal, without its edges.

    Each is as wide as its longest line. If they do not fit, the widest is narrowed, again and again: at first
    only as far as headings can be broken between their pieces, then words too, then numbers, then anything.
    """
    cells = [[*cells[place], *(begins if place == 0 else ())] for place in range(len(columns))]
    headings = [[column.heading] for column in columns]
    whole = list(map(max, _longest(cells, _LINES), _longest(headings, _PIECES)))
    pieces = list(map(max, _longest(cells, _PIECES), _longest(headings, _PIECES)))
    words = [
        least if column.left else line for column, least, line in zip(columns, pieces, whole, strict=True)
    ]
    widths = list(map(max, _longest(cells, _LINES), _longest(headings, _LINES)))
    for least in (whole, words, pieces, [1] * len(columns)):
        while sum(widths) > WIDTH - 2 * len(columns) - 1 and widths != least:
            spare = [place for place, width in enumerate(widths) if width > least[place]]
            widths[max(spare, key=widths.__getitem__)] -= 1
    return widths


def _longest(texts: Sequence[Sequence[str]], parts: re.Pattern[str]) -> list[int]:
    """Of each column the length of the longest part."""
    return [
        max((len(part.rstrip()) for text in column for part in parts.findall(text)), default=1)
        for column in texts
    ]


def _broken(text: str, width: int) -> str:
    """A text whose lines are broken between pieces where they are longer."""
    lines = []
    for line in text.split(LINE):
        lines.append("")
        for piece in _PIECES.findall(line):
            if lines[-1] and len((lines[-1] + piece).rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    return LINE.join(line.rstrip() for line in lines)


def _parts(text: str) -> tuple[str, str]:
    first, _, rest = text.partition(LINE)
    return first, rest


def text(heading: str, key: str, *, printed: bool = True) -> Column:
    """A column of words."""
    return Column(heading, lambda row: ABSENT if row[key] in (None, "") else str(row[key]), True, printed)


def level() -> Column:
    """The column of a row's level, in words."""
    return Column("Level", lambda row: named_level(row["level"]) or ABSENT, left=True)


def number(heading: str, key: str, show: Callable[[float], str] = plain, *, printed: bool = True) -> Column:
    """A column of one number, by default a count."""
    return Column(heading, lambda row: shown(row.get(key), show), printed=printed)


def flops(heading: str, key: str) -> Column:
    """A column of large counts; the terminal has no room for it."""
    return number(heading, key, scientific, printed=False)


def measured(heading: str, key: str, metric: Metric, *, printed: bool = True) -> Column:
    """A column of a metric's mean over seeds, ± their standard deviation below it.

    The row has the deviation under the key and `_standard_deviation`.
    """

    def cell(row: Row) -> str:
        value, deviation = row.get(key), row.get(f"{key}_standard_deviation")
        told = shown(value, metric.shown).replace("-", "−")
        return told if deviation is None else f"{told}{LINE}± {metric.shown(deviation)}"

    return Column(heading, cell, printed=printed)


def estimate(heading: str, prefix: str, metric: Metric, *, printed: bool = True) -> Column:
    """A column of a difference with its interval below it.

    The row has the mean under the prefix and `mean`, the interval under `interval_low` and `interval_high`.
    """

    def cell(row: Row) -> str:
        mean, low, high = (row.get(f"{prefix}{end}") for end in ("mean", "interval_low", "interval_high"))
        if mean is None:
            return ABSENT
        interval = ""
        if low is not None and high is not None:
            interval = f"{LINE}{difference(low, metric)} to {difference(high, metric)}"
        return difference(mean, metric) + interval

    return Column(heading, cell, printed=printed)


def verdict(
    heading: str, prefix: str, mark: Callable[[Row], str] = lambda row: "", *, printed: bool = True
) -> Column:
    """A column of a verdict with the p-value that decides below it.

    Args:
        heading: of the column.
        prefix: of the row's keys.
        mark: what is put behind the verdict of a row.
        printed: whether the terminal has room for it.
    """

    def cell(row: Row) -> str:
        told, p = row.get(f"{prefix}verdict"), row.get(f"{prefix}decisive_p")
        if told is None:
            return "not compared"
        return f"{told}{mark(row)}" + ("" if p is None else f"{LINE}{p_value(p)}")

    return Column(heading, cell, left=True, printed=printed)


def shown(value: float | None, show: Callable[[float], str]) -> str:
    """A number as text, a dash for none."""
    return ABSENT if value is None else show(value)


def in_heading(metric: Metric, before: str = "") -> str:
    """A metric as a heading: its name, and in small its unit, and that it is a bound."""
    name = capital(" ".join(filter(None, [before, metric.name])))
    small = ", ".join(filter(None, [metric.unit, "a bound" * metric.bound]))
    return f"{name}{LINE}{small}" if small else name

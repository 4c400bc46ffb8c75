"""A table as data: the page, the terminal and a CSV file all take it from here."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table as Printed

from lab.files import Row
from lab.metrics import Metric
from lab.reporting.words import EQUIVALENT, capital, named_level, p_value, plain, scientific

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
        groups = [named_level(str(row[self.group])) if self.group else "" for row in self.rows]
        begins = [
            group if group != before else "" for before, group in zip(["", *groups], groups, strict=False)
        ]
        cells = [[(*_parts(column.cell(row)), column.left) for column in self.columns] for row in self.rows]
        return list(zip(begins, cells, strict=True))

    def printed(self, title: str) -> Printed:
        """The table for a terminal of 80 columns: what is too long is broken, and nothing is cut."""
        left: Any = {"title_justify": "left", "caption_justify": "left"}
        caption = escape(self.caption)
        table = Printed(title=escape(title), caption=caption, box=SIMPLE, padding=(0, 1, 0, 0), **left)
        columns = [column for column in self.columns if column.printed]
        begins = [begin for begin, _ in self.cells]
        cells = [[column.cell(row) for row in self.rows] for column in columns]
        widths = _widths(columns, [own + begins * (place == 0) for place, own in enumerate(cells)])
        for column, width in zip(columns, widths, strict=True):
            heading, justify = escape(_broken(column.heading, width)), "left" if column.left else "right"
            table.add_column(heading, justify=justify, overflow="fold", width=width)  # type: ignore[arg-type]
        if not columns:
            table.add_column(width=WIDTH - 3)  # without one there would be no title
        for begin, *row in zip(begins, *cells, strict=True):
            if begin:
                table.add_section()
                table.add_row(f"[bold]{escape(_broken(begin, widths[0]))}[/bold]")
            table.add_row(*(escape(_broken(cell, width)) for cell, width in zip(row, widths, strict=True)))
        return table


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> list[int]:
    """The width of each column on a terminal, without its edges.

    Each is as wide as its longest line. If they do not fit, the widest is narrowed, again and again: at first
    only as far as headings can be broken between their pieces, then words too, then numbers, then anything.
    """
    stages: list[list[int]] = [[] for _ in range(5)]
    for column, own in zip(columns, cells, strict=True):
        heading = _longest([column.heading], _PIECES)
        whole, pieces = max(_longest(own, _LINES), heading), max(_longest(own, _PIECES), heading)
        lines = max(_longest([column.heading], _LINES), whole)
        for stage, width in zip(
            stages, (lines, whole, pieces if column.left else whole, pieces, 1), strict=True
        ):
            stage.append(width)
    widths, *narrower = stages
    for least in narrower:
        while sum(widths) > WIDTH - 2 * len(columns) - 1 and widths != least:
            spare = [place for place, width in enumerate(widths) if width > least[place]]
            widths[max(spare, key=widths.__getitem__)] -= 1
    return widths


def _longest(texts: Sequence[str], parts: re.Pattern[str]) -> int:
    """The length of the longest part."""
    return max((len(part.rstrip()) for text in texts for part in parts.findall(text)), default=1)


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
    """The column of the rows' levels, in words."""
    return Column("Level", lambda row: named_level(row["level"]) or ABSENT, left=True)


def levels(rows: Sequence[Row]) -> list[Column]:
    """The same; none where no row has a level."""
    return [level()] if any(row["level"] for row in rows) else []


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
        mean, deviation = row.get(key), row.get(f"{key}_standard_deviation")
        spread = "" if deviation is None else f"{LINE}± {metric.shown(deviation)}"
        return shown(mean, metric.shown).replace("-", "−") + spread

    return Column(heading, cell, printed=printed)


def estimate(
    heading: str,
    prefix: str,
    show: Callable[[float], str],
    *,
    mean: str = "mean",
    intervals: Sequence[str] = ("interval",),
    printed: bool = True,
) -> Column:
    """A column of a mean with its intervals below it.

    The row has under the prefix the mean, and of each interval `<interval>_low` and `<interval>_high`.
    """

    def cell(row: Row) -> str:
        lines = [shown(row.get(f"{prefix}{mean}"), show)]
        for interval in intervals:
            low, high = (row.get(f"{prefix}{interval}_{end}") for end in ("low", "high"))
            lines += [f"{show(low)} to {show(high)}"] if low is not None and high is not None else []
        return LINE.join(lines)

    return Column(heading, cell, printed=printed)


def verdict(
    heading: str, prefix: str, mark: Callable[[Row], str] = lambda row: "", *, printed: bool = True
) -> Column:
    """A column of a verdict, with a mark behind it and the p-value that decides below it."""

    def cell(row: Row) -> str:
        verdict = row.get(f"{prefix}verdict")
        if verdict is None:
            return "not compared"
        p = row.get(f"{prefix}{'decisive_equivalence_p' if verdict == EQUIVALENT else 'decisive_p'}")
        kind, _, small = verdict.partition(", ")
        lines = [f"{kind}{mark(row)}", small, "" if p is None else p_value(p)]
        return LINE.join(filter(None, lines))

    return Column(heading, cell, left=True, printed=printed)


def shown(value: float | None, show: Callable[[float], str]) -> str:
    """A number as text, a dash for none."""
    return ABSENT if value is None else show(value)


def in_heading(metric: Metric, before: str = "") -> str:
    """A metric as a heading: its name, and in small its unit, and that it is a bound."""
    name = capital(metric.on(before))
    small = ", ".join(filter(None, [metric.unit, "a bound" * metric.bound]))
    return f"{name}{LINE}{small}" if small else name

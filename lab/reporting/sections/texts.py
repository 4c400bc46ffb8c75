"""Samples that arms wrote after their runs, beside real text."""

from lab.data.characters import BROKEN
from lab.evaluation.measurements import GENERATION
from lab.reporting import words
from lab.reporting.content import Content
from lab.reporting.series import Point, after_runs
from lab.reporting.tree import ResultTree
from lab.results import Text
from lab.sections import Texts

REAL = "real text"
_MOST_BROKEN = 3  # bytes of a character without its first


def write(section: Texts, tree: ResultTree, name: str) -> Content:
    """Of the first seed: real text, and of each arm's first sampler the most, some and the fewest passes."""
    measured = after_runs(tree)
    points: list[tuple[str, Point]] = [(REAL, measured.real)] if measured.real else []
    arms = set()
    for series in measured.series.get(GENERATION, ()):
        if series.arm not in arms and (not section.arms or series.arm in section.arms):
            last = len(series.points) - 1
            places = sorted({0, last // 2, last}, reverse=True)
            points += [(words.arm_name(series.arm), series.points[place]) for place in places]
        arms.add(series.arm)
    samples = []
    for who, point in points:
        steps = point.at.get("steps")
        title = who if steps is None else f"{who}, {steps:.0f} pass{'' if steps == 1 else 'es'}"
        for _, row in sorted(point.rows.items())[:1]:
            samples.append((title, tuple(_from_whole_character(text, who == REAL) for text in row.texts)))
    return Content("Samples", samples=tuple(samples), warnings=measured.warnings)


def _from_whole_character(text: Text, real: bool) -> tuple[str, str]:
    """A prompt and its text; without what is no character at the beginning, as a window may begin inside one.

    What an arm wrote is shown as it is.
    """
    given = text.prompt + text.text * real
    broken = min(_MOST_BROKEN, len(given) - len(given.lstrip(BROKEN)))
    return text.prompt[broken:], text.text[max(0, broken - len(text.prompt)) :]

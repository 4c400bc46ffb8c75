"""What a section hands to the page."""

from dataclasses import dataclass

from lab.files import Row
from lab.reporting.drawing import Picture
from lab.reporting.table import Table


@dataclass(frozen=True)
class Content:
    """One section, ready to be written: verdict, picture, table, how certain; the rest folds away.

    Attributes:
        title: its heading.
        verdict: what was found, in at most three short sentences.
        headline: the same in one or two, for the head of the page; empty if it says nothing of its own.
        pictures: what is shown.
        tables: the first is shown.
        certain: how certain it is, in at most three short sentences.
        folded: pictures that fold away.
        details: paragraphs that fold away.
        terms: words that the page must explain (`glossary.TERMS`).
        warnings: what is damaged or missing, in sentences.
        samples: texts to be shown as they are: of whom, and the prompt and text of each.
        summary: more of it for summary.json.
    """

    title: str
    verdict: tuple[str, ...] = ()
    headline: str = ""
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    certain: tuple[str, ...] = ()
    folded: tuple[Picture, ...] = ()
    details: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    samples: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    summary: Row | None = None

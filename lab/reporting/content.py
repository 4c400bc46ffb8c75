"""What a section hands to the page."""

from dataclasses import dataclass, field

from lab.files import Row
from lab.reporting.drawing import Picture
from lab.reporting.table import Table
from lab.results import Record


@dataclass(frozen=True)
class Content:
    """One section, ready to be written: verdict, picture, table, how certain; the rest folds away.

    Attributes:
        title: its heading, where the plan gives it none.
        headline: what came out, in one or two short sentences, for the head of the page; empty for nothing.
        verdict: the same in at most three.
        pictures: the first is shown, the others fold away.
        tables: the first is shown, the others fold away.
        certain: how certain it is, in at most four short sentences.
        note: what the plan says of it.
        tuning: how arms were tuned, which folds away (`templates/tuning.html.jinja`).
        terms: words that the page must explain, of `templates/words.html.jinja`.
        warnings: what is damaged or missing, in sentences.
        samples: texts to be shown as they are: of whom, and the prompt and text of each.
        summary: more of it for summary.json.
    """

    title: str
    headline: str = ""
    verdict: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    tables: tuple[Table, ...] = ()
    certain: tuple[str, ...] = ()
    note: str = ""
    tuning: Record | None = None
    terms: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    samples: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    summary: Row = field(default_factory=dict)

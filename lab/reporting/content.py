"""What an analysis hands to the report, whatever it compares."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

from lab.files import Row


@dataclass(frozen=True)
class Content:
    """One analysis of one result tree, ready to be written.

    Attributes:
        headline: what was found, in one sentence.
        left_out: what failed and missing runs take out of it, empty if nothing.
        template: the page's file in `templates/`; it extends `base.html.jinja`.
        page: the names that this template uses beyond those of the base (`page.render_page`).
        figures: file name without its ending -> figure.
        summary: the analysis's own part of summary.json.
        verdict_table: what the terminal shows.
        tables: CSV files beside those that all analyses have: name without its ending -> rows.
    """

    headline: str
    left_out: str
    template: str
    page: Mapping[str, Any]
    figures: Mapping[str, Figure]
    summary: Row
    verdict_table: Table
    tables: Mapping[str, list[Row]] = field(default_factory=dict)

"""Write the report of a result tree: the page, its figures, and every number as JSON and CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from lab.files import Row, write_atomic, write_json
from lab.reporting import drawing, tables
from lab.reporting.attribution.content import content as attribution
from lab.reporting.content import Content
from lab.reporting.crossover.content import content as crossover
from lab.reporting.inference.content import content as inference
from lab.reporting.page import render_page
from lab.reporting.results import ResultTree, read_tree, readings_of
from lab.reporting.sweep.content import content as sweep
from lab.reporting.tuning import TuningReport, read_tuning
from lab.results import DamagedError

SUMMARY_SCHEMA = 2

# The analysis that a plan names -> what reads its result tree. A new analysis is one line here, a folder
# beside `crossover/`, and its page in `templates/`.
ANALYSES: dict[str, Callable[[ResultTree], Content]] = {
    "attribution": attribution,
    "crossover": crossover,
    "inference": inference,
    "sweep": sweep,
}


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes:
        page: path of `index.html`.
        summary: as in summary.json.
        verdict_table: what the terminal shows.
    """

    page: Path
    summary: Row
    verdict_table: Table


def write_report(tree: Path) -> Report:
    """Analyse `results/<ablation>/<preset>/` as its plan says and write its `report/`.

    Raises:
        ValueError: if there is no plan, it names an unknown analysis, no run is finished, or the arms may not
            be compared.
    """
    results = read_tree(tree)
    analysis = results.plan.analysis
    if analysis not in ANALYSES:
        raise ValueError(f"`analysis` must be one of {sorted(ANALYSES)}, but {tree} plans {analysis!r}.")
    content = ANALYSES[analysis](results)
    notes = _damaged_logs(results)
    try:
        tuning = read_tuning(results)
    except DamagedError as error:
        tuning = None
        notes.append(f"Tuning is not shown. {error} The same command makes it again.")
    folder = tree / "report"
    figures = {**content.figures, **({"tuning": tuning.figure} if tuning else {})}
    vectors = {name: drawing.render(figure, "svg") for name, figure in figures.items()}
    for name, figure in figures.items():
        write_atomic(folder / f"{name}.svg", vectors[name])
        write_atomic(folder / f"{name}.png", drawing.render(figure, "png"))
    files = {
        "curves": tables.curve_rows(results),
        "best_stops": tables.chosen_stop_rows(results),
        "windows": tables.window_rows(results),
        **content.tables,
        **({"tuning": tuning.trials} if tuning else {}),
    }
    for name, rows in files.items():
        _write_csv(folder / f"{name}.csv", rows)
    summary = summarise(results, content, tuning, notes)
    write_json(folder / "summary.json", summary)
    page = render_page(results, content, vectors, [f"{name}.csv" for name in files], tuning, notes)
    write_atomic(folder / "index.html", page.encode())
    return Report(folder / "index.html", summary, content.verdict_table)


def _damaged_logs(results: ResultTree) -> list[str]:
    """Of which runs' logs lines are left out, in sentences."""
    found = [(cell, cell.log.damaged) for cell in results.finished]
    return [
        f"In the log of {cell.cell.label} {count} line{'s are' if count > 1 else ' is'} damaged and left out "
        "of its training speed."
        for cell, count in found
        if count
    ]


def summarise(
    results: ResultTree, content: Content, tuning: TuningReport | None = None, notes: Sequence[str] = ()
) -> Row:
    """The verdict and all numbers of the page's tables, for machines."""
    return {
        "schema": SUMMARY_SCHEMA,
        "plan": results.plan.model_dump(mode="json", exclude={"schema_version", "cells"}),
        "headline": content.headline,
        "headline_reading": readings_of(results)[0],
        **content.summary,
        "tuning": tuning.studies if tuning else None,
        "runs": tables.run_rows(results),
        "run_counts": tables.run_counts(results),
        "notes": list(notes),
        "provenance": tables.provenance(results),
    }


def _write_csv(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())

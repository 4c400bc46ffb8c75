"""Write the report of a result tree: the page, its figures, and every number as JSON and CSV."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from lab.reporting import figures, tables, words
from lab.reporting.crossover import Crossover, analyse
from lab.reporting.page import render_page
from lab.reporting.results import read_tree
from lab.tracking.records import write_atomic, write_json

SUMMARY_SCHEMA = 1


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes:
        page: path of `index.html`.
        headline: the verdict over all budgets in one sentence.
        verdicts: one row per budget, as in summary.json.
    """

    page: Path
    headline: str
    verdicts: list[tables.Row]


def write_report(tree: Path) -> Report:
    """Analyse `results/<ablation>/<preset>/` and write its `report/`.

    Raises:
        ValueError: if there is no plan, no finished run, or the arms may not be compared.
    """
    crossover = analyse(read_tree(tree))
    folder = tree / "report"
    drawn = figures.draw_all(crossover)
    vectors = {name: figures.render(figure, "svg") for name, figure in drawn.items()}
    for name, figure in drawn.items():
        write_atomic(folder / f"{name}.svg", vectors[name])
        write_atomic(folder / f"{name}.png", figures.render(figure, "png"))
    summary = summarise(crossover)
    write_json(folder / "summary.json", summary)
    _write_csv(folder / "curves.csv", tables.curve_rows(crossover))
    _write_csv(folder / "best_stops.csv", tables.best_stop_of_run_rows(crossover))
    write_atomic(folder / "index.html", render_page(crossover, vectors).encode())
    return Report(folder / "index.html", summary["headline"], summary["verdicts"])


def summarise(crossover: Crossover) -> tables.Row:
    """The verdict and all numbers of the page's tables, for machines."""
    plan = {name: value for name, value in crossover.tree.plan.items() if name not in ("schema", "cells")}
    statuses = [cell.status for cell in crossover.tree.cells]
    return {
        "schema": SUMMARY_SCHEMA,
        "plan": plan,
        "headline": words.headline(crossover),
        "headline_reading": crossover.headline,
        "comparisons": sum(budget.adjusted_p is not None for budget in crossover.budgets),
        "budgets_won": {
            "dlm": sum(budget.verdict.winner > 0 for budget in crossover.budgets),
            "ar": sum(budget.verdict.winner < 0 for budget in crossover.budgets),
            "undecided": sum(budget.verdict.winner == 0 for budget in crossover.budgets),
        },
        "verdicts": tables.verdict_rows(crossover.budgets),
        "verdicts_by_reading": {
            reading: tables.verdict_rows(budgets) for reading, budgets in crossover.readings.items()
        },
        "best_stops": tables.best_stop_rows(crossover.budgets),
        "runs": tables.run_rows(crossover),
        "run_counts": {status: statuses.count(status) for status in ("done", "failed", "missing")},
        "provenance": tables.provenance(crossover),
    }


def _write_csv(path: Path, rows: list[tables.Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())

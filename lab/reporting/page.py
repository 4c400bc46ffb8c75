"""The report's page: one HTML file with its figures inside, which needs no network."""

import base64
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lab.reporting import tables, words
from lab.reporting.crossover import Crossover

ABSENT = "–"


def render_page(crossover: Crossover, figures: Mapping[str, bytes]) -> str:
    """The page as HTML.

    Args:
        crossover: the findings.
        figures: name -> SVG.
    """
    headline, *others = crossover.readings
    rates = {cell.done["config"]["training"]["learning_rate"] for cell in crossover.tree.finished}
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            plan=crossover.tree.plan,
            headline=words.headline(crossover),
            left_out=words.left_out(crossover),
            budgets=[
                {"found": words.found(budget), "crossing": words.crossing_sentence(budget)}
                for budget in crossover.budgets
            ],
            uncertainty=words.uncertainty(crossover),
            verdicts=tables.verdict_rows(crossover.budgets),
            other_verdicts={reading: tables.verdict_rows(crossover.readings[reading]) for reading in others},
            best_stops=tables.best_stop_rows(crossover.budgets),
            runs=tables.run_rows(crossover),
            reading=words.READING_WORDS[headline],
            reading_words=words.READING_WORDS,
            seeds=crossover.tree.seeds,
            learning_rates=[f"{rate:g}" for rate in sorted(rates)],
            provenance=tables.provenance(crossover),
            figures={name: _data_url(svg) for name, svg in figures.items()},
        )
    )


def _data_url(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _environment() -> Environment:
    """Jinja with every value escaped; a missing number shows as a dash, a missing name is an error."""
    environment = Environment(
        loader=PackageLoader("lab.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats: dict[str, Any] = {
        "fixed": lambda value: f"{value:.3f}",
        "percent": lambda value: f"{100 * value:.1f} %",
        "plain": words.plain,
        "signed": words.signed,
        "scientific": words.scientific,
        "p_value": words.p_value,
        "duration": words.duration,
    }
    for name, text_of in formats.items():
        environment.filters[name] = lambda value, text_of=text_of: ABSENT if value is None else text_of(value)
    return environment

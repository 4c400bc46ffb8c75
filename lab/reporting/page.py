"""The report's page: one HTML file with its figures inside, which needs no network."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lab.metrics import NLL, Metric
from lab.reporting import tables, words
from lab.reporting.content import Content
from lab.reporting.results import ResultTree, readings_of, stop_spacing
from lab.reporting.statistics import provisional_rate
from lab.reporting.tuning import TuningReport, best_in_words

ABSENT = "–"
# From here on chance makes next to no provisional winner.
MANY_SEEDS = 7


def render_page(
    tree: ResultTree,
    content: Content,
    figures: Mapping[str, bytes],
    files: Sequence[str],
    tuning: TuningReport | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The page as HTML.

    Args:
        tree: the planned runs and their states.
        content: what the analysis found.
        figures: name -> SVG.
        files: names of the CSV files beside the page.
        tuning: of its arms, if they were tuned.
        notes: what is damaged, in sentences.
    """
    readings = readings_of(tree)
    rates = {cell.done.config.training.learning_rate for cell in tree.finished}
    shared = {
        "plan": tree.plan,
        "headline": content.headline,
        "left_out": content.left_out,
        "notes": notes,
        "metric": tree.metric,
        "by_nll": tree.metric.key == NLL,
        "topic": words.topic(tree.metric),
        "direction": words.direction(tree.metric),
        "error_name": words.capital((tree.metric.sample or "windows")[:-1]),
        "readings": readings,
        "reading": words.READING_WORDS[readings[0]],
        "reading_words": words.READING_WORDS,
        "seeds": tree.seeds,
        "provisional_rates": {
            n: words.percent(provisional_rate(n)) for n in range(2, min(len(tree.seeds), MANY_SEEDS) + 1)
        },
        "within_words": words.WITHIN,
        "stop_spacing": stop_spacing(tree),
        "levels": any(cell.level for cell in tree.cells),
        "learning_rates": [f"{rate:g}" for rate in sorted(rates)],
        "runs": tables.run_rows(tree),
        "provenance": tables.provenance(tree),
        "figures": {name: _data_url(svg) for name, svg in figures.items()},
        "files": files,
        "tuning": tuning,
    }
    return _environment().get_template(content.template).render(shared | dict(content.page))


def _data_url(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _environment() -> Environment:
    """Jinja with every value escaped; a missing number shows as a dash, a missing name is an error."""
    environment = Environment(
        loader=PackageLoader("lab.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats: dict[str, Any] = {
        "percent": lambda value: f"{100 * value:.1f} %",
        "plain": words.plain,
        "scientific": words.scientific,
        "p_value": words.p_value,
        "duration": words.duration,
        "tuned_value": best_in_words,
    }
    environment.filters["last_stop"] = words.last_stop
    environment.filters["capital"] = words.capital
    environment.filters["fixed"] = _decimals(lambda value, decimals: f"{value:.{decimals}f}")
    environment.filters["shown"] = _shown
    environment.filters["signed"] = _decimals(words.signed)
    for name, text_of in formats.items():
        environment.filters[name] = lambda value, text_of=text_of: ABSENT if value is None else text_of(value)
    return environment


def _shown(value: float | None, metric: Metric) -> str:
    """A value in its metric's decimals, a share in percent."""
    if value is None:
        return ABSENT
    return f"{100 * value:.1f} %" if metric.percent else f"{value:.{metric.decimals}f}"


def _decimals(text_of: Callable[[float, int], str]) -> Callable[..., str]:
    """A filter for numbers, of three decimals where nothing else is said."""
    return lambda value, decimals=3: ABSENT if value is None else text_of(value, decimals)

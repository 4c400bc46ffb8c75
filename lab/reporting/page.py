"""The report's page: one HTML file with its pictures inside, which needs no network."""

import base64
import re
from collections.abc import Iterable, Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from lab.files import Row
from lab.metrics import NLL
from lab.reporting import words
from lab.reporting.content import Content
from lab.reporting.glossary import ALWAYS, TERMS
from lab.reporting.statistics import provisional_rate
from lab.reporting.table import Table
from lab.reporting.tree import ResultTree, stop_spacing

# Of every page, as the template names them.
PLACES = ("arms", "runs", "caveats", "words", "reproduce")


def render_page(
    tree: ResultTree,
    sections: Sequence[tuple[str, str, Content]],
    head: Row,
    pictures: Mapping[str, bytes],
    tables: Mapping[str, Table],
    files: Sequence[str],
    provenance: Mapping[str, str],
) -> str:
    """The page as HTML.

    Args:
        tree: the planned runs and their states.
        sections: of each the name of its place, its note, and what it says.
        head: `headline` and `warnings`.
        pictures: file name without ending -> SVG.
        tables: `arms` and `runs`.
        files: names of the CSV files beside the page.
        provenance: what is needed to get the same numbers again.
    """
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            plan=tree.plan,
            headline=head["headline"],
            warnings=head["warnings"],
            sections=sections,
            pictures={name: _data_url(svg) for name, svg in pictures.items()},
            arms=tables["arms"],
            runs=tables["runs"],
            run_lines=[
                (row["folder"] if (tree.path / row["folder"]).is_dir() else "", cells)
                for row, (_, cells) in zip(tables["runs"].rows, tables["runs"].cells, strict=True)
            ],
            failures=[cell for cell in tree.cells if cell.log_tail],
            caveats=list(_caveats(tree, any("trial" in content.terms for *_, content in sections))),
            terms=_terms(sections, tree),
            provenance=provenance,
            files=files,
        )
    )


def render_index(rows: Sequence[Row]) -> str:
    """The page over all result trees below a folder.

    Args:
        rows: of each tree `ablation`, `preset`, `question`, `headline`, `runs` and `href`.
    """
    return _environment().get_template("index.html.jinja").render(rows=rows)


def anchor(title: str) -> str:
    """A heading as the name of its place on the page."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def _data_url(svg: bytes) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg).decode()


def _environment() -> Environment:
    """Jinja with every value escaped; a missing name is an error."""
    return Environment(
        loader=PackageLoader("lab.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _caveats(tree: ResultTree, tuned: bool) -> Iterable[str]:
    """What to hold against the numbers of any page."""
    yield (
        "Every arm is judged by the exact left-to-right chain rule. One trained on other orders or on masks "
        "was not trained on this task. A NELBO is a bound, not to be compared with an NLL."
    )
    leveled = " and level" * any(cell.level for cell in tree.cells)
    seeds = words.count(len(tree.seeds), "seed")
    yield f"{seeds} per arm{leveled}. A spread over so few is itself uncertain."
    if len(tree.readings) > 1:
        yield (
            "Verdicts rest on annealed stops: the learning rate was lowered first, as one would to keep "
            "that model. The same on checkpoints of the one long run folds away; its p-values are corrected "
            "on their own."
        )
    else:
        yield (
            f"There is one reading only: {words.READING_WORDS[tree.readings[0]]}. With a schedule that "
            f"decays over the "
            "whole run, a stop before its end is judged at a high learning rate, which is hard on an arm "
            "that peaks early."
        )
    rates = sorted({cell.done.config.training.learning_rate for cell in tree.finished})
    if tuned:
        yield (
            "Arms under Tuning have their own learning rate and regularisation, found on one seed within "
            "the ranges and trials given there; more trials may find better ones."
        )
    else:
        yield (
            f"The learning rate ({', '.join(f'{rate:g}' for rate in rates)}) and the regularisation are "
            f"shared, not "
            "tuned for each arm. A more strongly regularised AR may do better."
        )
    spacing = stop_spacing(tree)
    apart = f", each at about {spacing:.1f} times the tokens of the one before" if spacing else ""
    chosen = (
        ""
        if tree.metric.key == NLL
        else f" It has the lowest validation NLL, though {tree.metric.name} is compared."
    )
    yield (
        f"The best stop is chosen on the validation split and reported on the test split. Stops are "
        f"few{apart}: the best one measured is not the best there is, by an amount that no interval here "
        f"includes.{chosen}"
    )
    if tree.metric.bound:
        yield f"The {tree.metric.name} is an upper bound on the NLL, and not the NLL."
    yield "Times and speeds are of this machine, with other runs beside them, and do not hold for another."


def _terms(sections: Sequence[tuple[str, str, Content]], tree: ResultTree) -> list[tuple[str, str]]:
    """The words that this page uses; a provisional verdict with how often chance makes it."""
    used = {*ALWAYS, *(term for _, _, content in sections for term in content.terms)}
    found = []
    for name, (word, meaning) in TERMS.items():
        if name in used:
            if name == "provisional":
                rates = [
                    f"{words.percent(provisional_rate(n))} with {n} seeds"
                    for n in range(2, len(tree.seeds) + 1)
                ]
                meaning += (
                    f" Of comparisons without a true difference {words.join(rates)} come out so by chance."
                )
            found.append((word, meaning))
    return found

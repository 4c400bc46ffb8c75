"""The report's page: one HTML file with its pictures inside, which needs no network."""

import base64
import re
from collections.abc import Mapping, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from lab.ablation import dotted_values
from lab.files import Row
from lab.reporting import words
from lab.reporting.content import Content
from lab.reporting.table import Table
from lab.reporting.tree import ResultTree, stop_spacing

# Of every page: names of places that the template gives, and words that it explains.
PLACES = ("arms", "runs", "caveats", "words", "reproduce")
TERMS = ("arms", "tokens", "nll", "nelbo", "choice", "flops", "seed", "stop")


def render_page(
    tree: ResultTree,
    contents: Sequence[Content],
    head: Row,
    pictures: Mapping[str, bytes],
    tables: Mapping[str, Table],
    files: Sequence[str],
    provenance: Mapping[str, str],
) -> str:
    """The page as HTML.

    Args:
        tree: the planned runs and their states.
        contents: what its sections say.
        head: `headline` and `warnings`.
        pictures: file name without ending -> SVG.
        tables: `arms` and `runs`.
        files: names of the CSV files beside the page.
        provenance: what is needed to get the same numbers again.
    """
    terms = {*TERMS, *(term for content in contents for term in content.terms)}
    if any(cell.done.baselines for cell in tree.finished):
        terms.add("n-gram")
    rates = {cell.done.config.training.learning_rate for cell in tree.finished}
    return _template("page").render(
        tree=tree,
        plan=tree.plan,
        **head,
        sections=dict(zip(_places(contents), contents, strict=True)),
        pictures={
            name: "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
            for name, svg in pictures.items()
        },
        **tables,
        run_lines=[
            (row["folder"] if (tree.path / row["folder"]).is_dir() else "", cells)
            for row, (_, cells) in zip(tables["runs"].rows, tables["runs"].cells, strict=True)
        ],
        failures=[cell for cell in tree.cells if cell.log_tail],
        tuned="trial" in terms,
        bound=words.BOUND,
        seeds=words.count(len(tree.seeds), "seed"),
        reading=words.READING_WORDS[tree.readings[0]],
        strong={
            words.arm_name(arm): words.join([f"{key}={value}" for key, value in dotted_values(layer)])
            for arm, layer in tree.plan.strong.items()
        },
        rates=", ".join(f"{rate:g}" for rate in sorted(rates)),
        spacing=stop_spacing(tree),
        terms=terms,
        provenance=provenance,
        files=files,
    )


def render_index(rows: Sequence[Row]) -> str:
    """The page over all result trees below a folder.

    Args:
        rows: of each tree `ablation`, `preset`, `question`, `headline`, `runs` and `href`.
    """
    return _template("index").render(rows=rows)


def _template(name: str) -> Template:
    """A Jinja template, with every value escaped; a missing name is an error."""
    loader = PackageLoader("lab.reporting", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(f"{name}.html.jinja")


def _places(contents: Sequence[Content]) -> list[str]:
    """A name for the place of each section on the page, none of them twice and none that the page has."""
    taken = list(PLACES)
    for content in contents:
        name = place = re.sub(r"[^a-z0-9]+", "-", content.title.lower()).strip("-") or "section"
        number = 1
        while place in taken:
            number += 1
            place = f"{name}-{number}"
        taken.append(place)
    return taken[len(PLACES) :]

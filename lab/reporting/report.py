"""Write the report of a result tree: the page, its pictures, and every number as JSON and CSV."""

import csv
import importlib
import io
import json
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib as mpl
from rich.table import Table as Printed

from lab.files import Row, read_json, write_atomic, write_json
from lab.reporting import baselines, components, drawing, primary, rows, tuning, words
from lab.reporting.content import Content
from lab.reporting.page import render_index, render_page
from lab.reporting.tree import ResultTree, check_sound, read_tree
from lab.results import DamagedError
from lab.sections import AnySection
from lab.tracking.tensorboard import write_report_board

SUMMARY_SCHEMA = 3
# Sections that say what is better than what, and all that tests or estimates.
COMPARING = ("differences", "interaction", "factorial", "quantity", "frontier")
TESTING = (*COMPARING, "against", "fit")
REPORT, PAGE, SUMMARY = "report", "index.html", "summary.json"


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes:
        page: path of `index.html`.
        summary: as in summary.json.
        printed: what the terminal shows.
    """

    page: Path
    summary: Row
    printed: Printed


def write_report(path: Path) -> Report:
    """Read `results/<ablation>/<preset>/` as its plan says and write its `report/`.

    Raises:
        ValueError: if there is no plan, no run is finished, or the arms may not be compared.
    """
    tree = read_tree(path)
    tree.readings  # noqa: B018 (no run has finished: nothing else needs to be said)
    check_sound(tree)
    sections, first = _named(tree.plan.sections), primary.write(tree)
    with mpl.rc_context(drawing.STYLE):
        contents = [_write(section, tree, name) for section, name in sections]
        tuned, damage = _tuning(tree)
    shown = [*filter(None, [first]), *contents]
    all_arms, provenance = rows.arm_rows(tree), rows.provenance(tree)
    arms, runs = rows.arm_table(tree, all_arms), rows.run_table(tree)
    warnings = [
        *_left_out(tree),
        *_missing_beside(tree),
        *filter(None, [tree.plan.left_out]),
        *baselines.warning(arms.rows),
        *(warning for content in shown for warning in content.warnings),
    ]
    head: Row = {
        "headline": next((content.headline for content in shown if content.headline), _no_headline(tree)),
        "warnings": list(dict.fromkeys([*warnings, *damage, *_damaged_logs(tree)])),
    }
    summaries = [_summary(section.kind, one) for (section, _), one in zip(sections, contents, strict=True)]
    varying = components.write(tree)
    contents = [*shown, *filter(None, [varying, tuned])]
    summary = {
        "schema": SUMMARY_SCHEMA,
        "plan": tree.plan.model_dump(mode="json", exclude={"schema_version", "cells"}),
        **head,
        "headline_reading": tree.readings[0],
        "primary": _summary("primary", first) if first else None,
        "sections": summaries,
        "components": _summary("components", varying) if varying else None,
        "tuning": _summary("tuning", tuned) if tuned else None,
        "arms": all_arms,
        "runs": runs.rows,
        "run_counts": rows.run_counts(tree),
        "provenance": provenance,
    }
    folder = path / REPORT
    write_json(folder / SUMMARY, summary)
    csv_files = {
        "curves": rows.curve_rows(tree),
        "best_stops": rows.chosen_stop_rows(tree),
        "windows": rows.window_rows(tree),
        "arms": all_arms,
        **{table.name: table.rows for table in (runs, *(one for c in contents for one in c.tables))},
    }
    for name, content in csv_files.items():
        _write_csv(folder / f"{name}.csv", content)
    verdict = [head["headline"], *(sentence for content in contents for sentence in content.verdict)]
    texts = {"question": tree.plan.question, "verdict": "\n\n".join(verdict), "command": tree.plan.command}
    pictures = _write_pictures(folder, contents, texts)
    tables, files = {"arms": arms, "runs": runs}, [f"{name}.csv" for name in csv_files]
    page = render_page(tree, contents, head, pictures, tables, files, provenance)
    write_atomic(folder / PAGE, page.encode())
    _remove_old(folder, {*files, *(f"{name}.{kind}" for name in pictures for kind in ("svg", "png"))})
    main = next((table for one in contents if one.headline for table in one.tables[:1]), arms)
    return Report(folder / PAGE, summary, main.printed(head["headline"]))


def _remove_old(folder: Path, files: Container[str]) -> None:
    """Remove pictures and CSV files of sections that the page has no more."""
    for path in folder.iterdir():
        if path.suffix in (".csv", ".svg", ".png") and path.name not in files:
            path.unlink()


def write_index(root: Path, trees: Iterable[Path]) -> Path:
    """Write `index.html` over result trees: of each the question, what was found, and the way to its page.

    Args:
        root: where it is written.
        trees: result trees below it.
    """
    path = root / PAGE
    write_atomic(path, render_index([_index_row(root, tree) for tree in sorted(trees)]).encode())
    return path


def _index_row(root: Path, tree: Path) -> Row:
    place = {"ablation": tree.parent.name, "preset": tree.name}
    try:
        summary = read_json(tree / REPORT / SUMMARY)
        counts = [f"{number} {status}" for status, number in summary["run_counts"].items() if number]
        return place | {
            "ablation": summary["plan"]["ablation"],
            "question": summary["plan"]["question"],
            "headline": summary["headline"],
            "runs": f"runs: {words.join(counts)}",
            "href": Path(os.path.relpath(tree / REPORT / PAGE, root)).as_posix(),
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return place | {"headline": "No page yet.", "runs": "", "href": ""}


def _named(sections: Sequence[AnySection]) -> list[tuple[AnySection, str]]:
    """Each section with what the names of its files begin with: its kind, numbered if there are several."""
    kinds = [section.kind for section in sections]
    return [
        (section, kind if kinds.count(kind) == 1 else f"{kind}_{kinds[: place + 1].count(kind)}")
        for place, (section, kind) in enumerate(zip(sections, kinds, strict=True))
    ]


def _write(section: AnySection, tree: ResultTree, name: str) -> Content:
    """What a section says: its module has the name of its kind."""
    module = importlib.import_module(f"lab.reporting.sections.{section.kind}")
    content: Content = module.write(section, tree, name)
    note, verdict = section.note, content.verdict
    if tree.plan.registration:  # whose headline is the page's, so the section's stands in the section
        verdict = tuple(dict.fromkeys(filter(None, [content.headline, *verdict])))
        note = " ".join(filter(None, [note, primary.EXPLORATORY * (section.kind in TESTING)]))
    return replace(content, title=section.title or content.title, note=note, verdict=verdict)


def _tuning(tree: ResultTree) -> tuple[Content | None, list[str]]:
    """What the tuning came to, or why it cannot be shown."""
    try:
        return tuning.write(tree), []
    except DamagedError as error:
        return None, [f"Tuning is not shown. {error} The same command makes it again."]


def _left_out(tree: ResultTree) -> list[str]:
    """Which planned runs there is no result of: a sentence or two, or nothing."""
    counts = rows.run_counts(tree)
    if not counts["failed"] and not counts["missing"]:
        return []
    seeds: dict[str, list[str]] = {}
    for cell in tree.cells:
        if cell.status != "done":
            seeds.setdefault(f"{cell.arm}{words.at_level(cell.level)}", []).append(str(cell.seed))
    names = words.some([f"seed {', '.join(own)} of {arm}" for arm, own in seeds.items()])
    return [
        f"Of {len(tree.cells)} planned runs, {counts['failed']} failed and {counts['missing']} are missing. "
        f"Only seeds that both arms finished are compared. Left out: {names}."
    ]


def _missing_beside(tree: ResultTree) -> list[str]:
    """Which members of ensembles and twins there is no result of: a sentence, or nothing."""
    missing = [cell.cell.label for cell in tree.beside if cell.status != "done"]
    return [f"Runs beside those that are compared are missing: {words.some(missing)}."] if missing else []


def _damaged_logs(tree: ResultTree) -> list[str]:
    """Of which runs' logs lines are left out, in sentences."""
    return [
        f"In the log of {cell.cell.label} {count} line{'s are' if count > 1 else ' is'} damaged and left out "
        "of its training speed."
        for cell in tree.finished
        if (count := cell.log.damaged)
    ]


def _no_headline(tree: ResultTree) -> str:
    done = f"{len(tree.finished)} of {len(tree.cells)} runs are done"
    compares = any(section.kind in COMPARING for section in tree.plan.sections)
    return f"{done}." if compares else f"{done}; no arm is declared to be compared with another."


def _write_pictures(folder: Path, contents: Iterable[Content], texts: Mapping[str, str]) -> dict[str, bytes]:
    """Every panel as SVG and PNG, and in TensorBoard beside texts; returns the SVGs by file name."""
    vectors, images = {}, {}
    pictures = [picture for content in contents for picture in content.pictures]
    for name, panel in ((name, panel) for picture in pictures for name, panel in picture.files().items()):
        vectors[name], images[name] = drawing.render(panel, "svg"), drawing.render(panel, "png")
        write_atomic(folder / f"{name}.svg", vectors[name])
        write_atomic(folder / f"{name}.png", images[name])
    write_report_board(folder, images, texts)
    return vectors


def _summary(kind: str, content: Content) -> Row:
    """What a section says, and all numbers of its tables, for machines."""
    return {
        "kind": kind,
        "title": content.title,
        "headline": content.headline,
        "verdict": list(content.verdict),
        "certain": list(content.certain),
        **content.summary,
        "tables": {one.name: list(one.rows) for one in content.tables},
    }


def _write_csv(path: Path, content: Sequence[Mapping[str, object]]) -> None:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in content for name in row))
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in content)
    write_atomic(path, text.getvalue().encode())


def _cell(value: object) -> object:
    """What is no single value, such as a gain by seed, as JSON."""
    return json.dumps(value) if isinstance(value, Mapping | list | tuple) else value

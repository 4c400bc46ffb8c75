"""Write the report of a result tree: the page, its pictures, and every number as JSON and CSV."""

import csv
import importlib
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from rich.table import Table as Printed

from lab.files import Row, read_json, write_atomic, write_json
from lab.metrics import find_metric
from lab.reporting import drawing, rows, table, tuning, words
from lab.reporting.content import Content
from lab.reporting.page import PLACES, anchor, render_index, render_page
from lab.reporting.table import Column, Table
from lab.reporting.tree import YARDSTICK, ResultTree, check_sound, read_tree
from lab.results import DamagedError
from lab.sections import AnySection
from lab.tracking.tensorboard import write_report_board

SUMMARY_SCHEMA = 3
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
    with mpl.rc_context(drawing.STYLE):
        found = [(section, _write(section, tree, name)) for section, name in _named(tree.plan.sections)]
        warnings = [*_left_out(tree), *(said for _, content in found for said in content.warnings)]
        tuned = _tuning(tree, warnings)
    warnings += _damaged_logs(tree)
    contents = [*(content for _, content in found), *([tuned] if tuned else [])]
    notes = [*(section.note for section, _ in found), *([""] if tuned else [])]
    headline = next((content.headline for content in contents if content.headline), _no_headline(tree))
    head = {"headline": headline, "warnings": list(dict.fromkeys(warnings))}
    folder = path / REPORT
    told = [headline, *(sentence for content in contents for sentence in content.verdict)]
    texts = {"question": tree.plan.question, "verdict": "\n\n".join(told), "command": tree.plan.command}
    pictures = _write_pictures(folder, contents, texts)
    tables = [one for content in contents for one in content.tables]
    reached, provenance = rows.arm_rows(tree), rows.provenance(tree)
    arms, runs = _arm_table(tree, reached), _run_table(tree)
    files = {
        "curves": rows.curve_rows(tree),
        "best_stops": rows.chosen_stop_rows(tree),
        "windows": rows.window_rows(tree),
        "arms": reached,
        **{one.name: one.rows for one in (runs, *tables)},
    }
    for name, content in files.items():
        _write_csv(folder / f"{name}.csv", content)
    summary = {
        "schema": SUMMARY_SCHEMA,
        "plan": tree.plan.model_dump(mode="json", exclude={"schema_version", "cells"}),
        **head,
        "headline_reading": tree.readings[0],
        "sections": [_summary(section.kind, content) for section, content in found],
        "tuning": _summary("tuning", tuned) if tuned else None,
        "arms": reached,
        "runs": runs.rows,
        "run_counts": rows.run_counts(tree),
        "provenance": provenance,
    }
    write_json(folder / SUMMARY, summary)
    places = _places(contents)
    page = render_page(
        tree,
        list(zip(places, notes, contents, strict=True)),
        head,
        pictures,
        {"arms": arms, "runs": runs},
        [f"{name}.csv" for name in files],
        provenance,
    )
    write_atomic(folder / PAGE, page.encode())
    main = next((one for content in contents if content.headline for one in content.tables[:1]), arms)
    return Report(folder / PAGE, summary, main.printed(headline))


def write_index(root: Path, trees: Iterable[Path]) -> Path:
    """Write `index.html` over result trees: of each the question, what was found, and the way to its page.

    Args:
        root: where it is written.
        trees: result trees below it.
    """
    found = [_index_row(root, tree) for tree in sorted(trees)]
    path = root / PAGE
    write_atomic(path, render_index(found).encode())
    return path


def _index_row(root: Path, tree: Path) -> Row:
    row: Row = {
        "ablation": tree.parent.name,
        "preset": tree.name,
        "headline": "No page yet.",
        "runs": "",
        "href": "",
    }
    try:
        summary = read_json(tree / REPORT / SUMMARY)
        counts = summary["run_counts"]
        told = [f"{number} {status}" for status, number in counts.items() if number]
        row |= {"question": summary["plan"]["question"], "headline": summary["headline"]}
        row |= {"ablation": summary["plan"]["ablation"], "runs": f"runs: {words.join(told)}"}
        row["href"] = Path(os.path.relpath(tree / REPORT / PAGE, root)).as_posix()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass
    return row


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
    return content


def _tuning(tree: ResultTree, warnings: list[str]) -> Content | None:
    try:
        return tuning.write(tree)
    except DamagedError as error:
        warnings.append(f"Tuning is not shown. {error} The same command makes it again.")
        return None


def _left_out(tree: ResultTree) -> list[str]:
    """Which planned runs there is no result of: a sentence or two, or nothing."""
    counts = rows.run_counts(tree)
    if not counts["failed"] and not counts["missing"]:
        return []
    gaps: dict[str, list[str]] = {}
    for cell in tree.cells:
        if cell.status != "done":
            gaps.setdefault(f"{cell.arm}{words.at_level(cell.level)}", []).append(str(cell.seed))
    told = [f"seed {', '.join(seeds)} of {arm}" for arm, seeds in gaps.items()]
    return [
        f"Of {len(tree.cells)} planned runs, {counts['failed']} failed and {counts['missing']} are missing. "
        f"Only seeds that both arms finished are compared. Left out: {words.some(told)}."
    ]


def _damaged_logs(tree: ResultTree) -> list[str]:
    """Of which runs' logs lines are left out, in sentences."""
    found = [(cell, cell.log.damaged) for cell in tree.finished]
    return [
        f"In the log of {cell.cell.label} {count} line{'s are' if count > 1 else ' is'} damaged and left out "
        "of its training speed."
        for cell, count in found
        if count
    ]


def _no_headline(tree: ResultTree) -> str:
    done = f"{len(tree.finished)} of {len(tree.cells)} runs are done"
    compares = any(section.kind in ("differences", "factorial", "quantity") for section in tree.plan.sections)
    return f"{done}." if compares else f"{done}; no arm is declared to be compared with another."


def _write_pictures(folder: Path, contents: Iterable[Content], texts: Mapping[str, str]) -> dict[str, bytes]:
    """Every panel as SVG and PNG, and in TensorBoard beside texts; returns the SVGs by file name."""
    vectors, images = {}, {}
    for content in contents:
        for picture in (*content.pictures, *content.folded):
            for name, panel in picture.files().items():
                vectors[name], images[name] = drawing.render(panel, "svg"), drawing.render(panel, "png")
                write_atomic(folder / f"{name}.svg", vectors[name])
                write_atomic(folder / f"{name}.png", images[name])
    write_report_board(folder, images, texts)
    return vectors


def _places(contents: Sequence[Content]) -> list[str]:
    """A name for the place of each section on the page, none of them twice and none that the page has."""
    taken = list(PLACES)
    for content in contents:
        name, number = anchor(content.title), 1
        while (place := name if number == 1 else f"{name}-{number}") in taken:
            number += 1
        taken.append(place)
    return taken[len(PLACES) :]


def _arm_table(tree: ResultTree, reached: Sequence[Row]) -> Table:
    found = [row for row in reached if row["reading"] == tree.readings[0]]
    metrics = [find_metric(key) for key in dict.fromkeys((tree.plan.metric, *YARDSTICK, "nelbo"))]
    shown = [metric for metric in metrics if any(row.get(f"best_{metric.key}") is not None for row in found)]

    def epoch(row: Row) -> str:
        told = table.shown(row["best_epoch"], words.plain)
        low, high = (table.shown(row[f"best_epoch_{end}"], words.plain) for end in ("low", "high"))
        return (
            told
            + (f"{table.LINE}{low} to {high}" if low != high else "")
            + words.MARK * bool(row["best_at_last_stop"])
        )

    return Table(
        name="arms",
        rows=found,
        group="level" if any(row["level"] for row in found) else "",
        columns=[
            Column("Arm", lambda row: row["arm"], left=True),
            Column(
                "Seeds",
                lambda row: (
                    f"{row['seeds']}" + f" of {row['seeds_planned']}" * (row["seeds"] < row["seeds_planned"])
                ),
            ),
            Column(f"Best epoch{table.LINE}median, range", epoch),
            *[
                table.measured(
                    table.in_heading(metric, "test"), f"best_{metric.key}", metric, printed=place == 0
                )
                for place, metric in enumerate(shown)
            ],
            *[
                table.measured(
                    f"{words.capital(metric.name)}{table.LINE}at the end", f"end_{metric.key}", metric
                )
                for metric in shown[:1]
            ],
            table.flops(f"FLOPs{table.LINE}to best stop", "train_flops_at_best"),
            table.flops(f"FLOPs{table.LINE}to end", "train_flops"),
            table.number("Parameters", "parameters", printed=False),
        ],
        caption=f"At the best stop, chosen by validation NLL, on the test split. Means over seeds, ± their "
        f"standard deviation. {words.MARK} still improving when a run ended.",
    )


def _run_table(tree: ResultTree) -> Table:
    found = rows.run_rows(tree)
    return Table(
        name="runs",
        rows=found,
        columns=[
            Column("Arm", lambda row: row["arm"], left=True),
            *([table.level()] if any(row["level"] for row in found) else []),
            table.number("Seed", "seed"),
            Column("Status", lambda row: ": ".join(filter(None, [row["status"], row["reason"]])), left=True),
            table.number("Wall time", "wall_seconds", words.duration),
            table.number("Tokens seen", "tokens_seen"),
            table.number(f"Tokens/s{table.LINE}training, median", "tokens_per_second"),
            table.flops(f"Training FLOPs{table.LINE}with branches", "train_flops"),
            table.flops("Evaluation FLOPs", "evaluation_flops"),
            table.text("Device", "device"),
        ],
    )


def _summary(kind: str, content: Content) -> Row:
    """What a section says, and all numbers of its tables, for machines."""
    return {
        "kind": kind,
        "title": content.title,
        "headline": content.headline,
        "verdict": list(content.verdict),
        "certain": list(content.certain),
        **(content.summary or {}),
        "tables": {one.name: list(one.rows) for one in content.tables},
    }


def _write_csv(path: Path, content: Sequence[Mapping[str, object]]) -> None:
    text = io.StringIO()
    names = list(dict.fromkeys(name for row in content for name in row))
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(content)
    write_atomic(path, text.getvalue().encode())

"""Rows of plain values that every analysis has: the page, summary.json and the CSV files all read these."""

from collections.abc import Iterable
from statistics import median
from typing import Any

from lab.reporting.results import Cell, ResultTree, Stop, level_name, readings_of, stops_of

Row = dict[str, Any]

# Of a stop's metrics, those that the tables show.
METRICS = (
    "nll",
    "nll_standard_error",
    "bits_per_byte",
    "choice_accuracy",
    "option_gap",
    "nelbo",
    "nelbo_example_standard_error",
    "nelbo_mask_standard_error",
)


def run_rows(tree: ResultTree) -> list[Row]:
    """One row per planned run: whether it finished, and what it cost."""
    return [_run_row(cell) for cell in tree.cells]


def _run_row(cell: Cell) -> Row:
    row: Row = {"arm": cell.arm, "level": level_name(cell.level), "seed": cell.seed}
    row |= {"status": cell.status, "reason": cell.reason, "log_tail": cell.log_tail}
    cost = dict.fromkeys(
        ("wall_seconds", "tokens_seen", "tokens_per_second", "train_flops", "evaluation_flops")
    )
    if cell.result is None:
        return row | cost | {"device": None}
    return row | {
        "wall_seconds": cell.done["wall_seconds"],
        "tokens_seen": max(stop["tokens_seen"] for stop in cell.done["stops"]),
        "tokens_per_second": tokens_per_second(cell),
        "train_flops": cell.done["train_flops"],
        "evaluation_flops": cell.done["evaluation_flops"],
        "device": cell.done["device"],
    }


def run_counts(tree: ResultTree) -> dict[str, int]:
    """How many planned runs are done, failed and missing."""
    statuses = [cell.status for cell in tree.cells]
    return {status: statuses.count(status) for status in ("done", "failed", "missing")}


def tokens_per_second(cell: Cell) -> float | None:
    """The median training speed of a finished run; None if it left no metrics."""
    rates = [line["tokens_per_second"] for line in cell.metrics() if line["kind"] == "train"]
    return float(median(rates)) if rates else None


def provenance(tree: ResultTree) -> dict[str, str]:
    """What is needed to get the same numbers again; where runs differ, every value."""
    results = [cell.done for cell in tree.finished]
    packages = sorted({package for result in results for package in result["versions"]})
    hashes = [(result["data"]["unique_tokens"], result["data"]["hash"]) for result in results]
    return {
        "Command": tree.plan["command"],
        "Seeds": ", ".join(map(str, tree.seeds)),
        "Corpus and tokenizer": _distinct(
            f"{r['data']['corpus']}, {r['data']['tokenizer']}" for r in results
        ),
        "Data hash by unique tokens": ", ".join(f"{u:,}: {name}" for u, name in sorted(set(hashes))),
        "Code hash": _distinct(result["code_hash"] for result in results),
        "Backend and device": _distinct(f"{result['backend']} on {result['device']}" for result in results),
        "Parameters": _distinct(f"{result['parameters']:,}" for result in results),
        "Versions": ", ".join(
            f"{package} {_distinct(r['versions'][package] for r in results if package in r['versions'])}"
            for package in packages
        ),
    }


def _distinct(values: Iterable[str]) -> str:
    return " / ".join(sorted(set(values)))


def curve_rows(tree: ResultTree) -> list[Row]:
    """One row per run, reading and stop, on the validation split."""
    return [
        _place(tree, cell, reading) | _measured(stop, "validation")
        for cell in tree.finished
        for reading in readings_of(tree)
        for stop in stops_of(cell.done, reading)
    ]


def chosen_stop_rows(tree: ResultTree) -> list[Row]:
    """One row per run and reading and each of the best stop and the last, on both splits."""
    return [
        _place(tree, cell, reading)
        | {"which": which}
        | _measured(cell.done[which][reading], "validation")
        | _measured(cell.done[which][reading], "test")
        for cell in tree.finished
        for reading in readings_of(tree)
        for which in ("best", "end")
    ]


def _measured(stop: Stop, split: str) -> Row:
    """Where a stop lies and what it measures on one split."""
    place = {name: stop[name] for name in ("step", "tokens_seen", "epoch", "train_flops")}
    return place | {f"{split}_{metric}": stop[split].get(metric) for metric in METRICS}


def _place(tree: ResultTree, cell: Cell, reading: str) -> Row:
    return {
        "ablation": tree.plan["ablation"],
        "preset": tree.plan["preset"],
        "arm": cell.arm,
        "level": level_name(cell.level),
        "unique_tokens": cell.done["data"]["unique_tokens"],
        "seed": cell.seed,
        "reading": reading,
    }

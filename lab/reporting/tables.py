"""The report's numbers as rows of plain values: the page, summary.json and the CSV files all read these."""

from collections.abc import Iterable, Sequence
from statistics import fmean, median, stdev
from typing import Any

from lab.reporting.crossover import AR, DLM, BudgetFinding, CrossingSummary, Crossover, Stop, stops_of
from lab.reporting.results import Cell, level_name
from lab.reporting.words import crossing_short, verdict_words

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


def verdict_rows(budgets: Sequence[BudgetFinding]) -> list[Row]:
    """One row per budget: both arms' best stops, their difference with its uncertainty, and the crossover."""
    return [_verdict_row(budget) for budget in budgets]


def _verdict_row(budget: BudgetFinding) -> Row:
    gain = budget.gain
    low, high = (gain.interval if gain and gain.interval else None) or (None, None)
    return {
        "budget": budget.name,
        "unique_tokens": budget.unique_tokens,
        "reading": budget.reading,
        "seeds": list(budget.seeds),
        "seeds_left_out": list(budget.left_out),
        **{f"{arm}_{name}": value for arm in (AR, DLM) for name, value in _best_of(budget, arm).items()},
        "gain": gain.mean if gain else None,
        "gain_by_seed": {str(seed): value for seed, value in gain.by_seed.items()} if gain else {},
        "gain_low": gain.low if gain else None,
        "gain_high": gain.high if gain else None,
        "gain_standard_deviation": gain.standard_deviation if gain else None,
        "gain_interval_low": low,
        "gain_interval_high": high,
        "gain_window_standard_error": gain.window_standard_error if gain else None,
        "p_value": gain.p_value if gain else None,
        "holm_p_value": budget.adjusted_p,
        "crossover": crossing_short(budget.below_best),
        "verdict": verdict_words(budget.verdict),
        "evidence": budget.verdict.evidence,
        "below_best": _crossing(budget.below_best),
        "below_current": _crossing(budget.below_current),
    }


def _best_of(budget: BudgetFinding, arm: str) -> Row:
    stops = budget.best_stops(arm)
    return {
        "best_epoch": median(stop["epoch"] for stop in stops) if stops else None,
        "train_flops_at_best": median(stop["train_flops"] for stop in stops) if stops else None,
        "test_nll": fmean(stop["test"]["nll"] for stop in stops) if stops else None,
    }


def _crossing(summary: CrossingSummary) -> Row:
    """Where the curves cross: medians and ranges over seeds, and each seed's own point."""
    row: Row = {
        "seeds_that_cross": len(summary.crossed),
        "from_first_stop": summary.from_first_stop,
        "holds_to_the_end": bool(summary.crossed) and all(crossing.holds for crossing in summary.crossed),
        "by_seed": {
            str(seed): None
            if crossing is None
            else {"epoch": crossing.epoch, "tokens_seen": crossing.tokens_seen}
            for seed, crossing in summary.by_seed.items()
        },
    }
    for field in ("tokens_seen", "epoch", "train_flops"):
        low, high = summary.range(field) or (None, None)
        row |= {field: summary.median(field), f"{field}_low": low, f"{field}_high": high}
    return row


def best_stop_rows(budgets: Sequence[BudgetFinding]) -> list[Row]:
    """One row per budget and arm: what its best stop measures, mean over the seeds."""
    rows = []
    for budget in budgets:
        for arm in (AR, DLM):
            stops = budget.best_stops(arm)
            if stops:
                rows.append(_best_stop_row(budget, arm, stops))
    return rows


def _best_stop_row(budget: BudgetFinding, arm: str, stops: list[Stop]) -> Row:
    epochs = [stop["epoch"] for stop in stops]
    row: Row = {
        "budget": budget.name,
        "unique_tokens": budget.unique_tokens,
        "arm": arm,
        "reading": budget.reading,
        "seeds": len(stops),
        "best_epoch": median(epochs),
        "best_epoch_low": min(epochs),
        "best_epoch_high": max(epochs),
        "validation_nll": fmean(stop["validation"]["nll"] for stop in stops),
    }
    for metric in METRICS:
        values = [stop["test"][metric] for stop in stops if metric in stop["test"]]
        row[f"test_{metric}"] = fmean(values) if values else None
    values = [stop["test"]["nll"] for stop in stops]
    row["test_nll_standard_deviation"] = stdev(values) if len(values) > 1 else None
    return row


def run_rows(crossover: Crossover) -> list[Row]:
    """One row per planned run: whether it finished, and what it cost."""
    return [_run_row(cell) for cell in crossover.tree.cells]


def _run_row(cell: Cell) -> Row:
    row: Row = {"arm": cell.arm, "level": level_name(cell.level), "seed": cell.seed}
    row |= {"status": cell.status, "reason": cell.reason, "log_tail": cell.log_tail}
    cost = dict.fromkeys(
        ("wall_seconds", "tokens_seen", "tokens_per_second", "train_flops", "evaluation_flops")
    )
    if cell.result is None:
        return row | cost | {"device": None}
    rates = [line["tokens_per_second"] for line in cell.metrics() if line["kind"] == "train"]
    return row | {
        "wall_seconds": cell.done["wall_seconds"],
        "tokens_seen": max(stop["tokens_seen"] for stop in cell.done["stops"]),
        "tokens_per_second": median(rates) if rates else None,
        "train_flops": cell.done["train_flops"],
        "evaluation_flops": cell.done["evaluation_flops"],
        "device": cell.done["device"],
    }


def provenance(crossover: Crossover) -> dict[str, str]:
    """What is needed to get the same numbers again; where runs differ, every value."""
    results = [cell.done for cell in crossover.tree.finished]
    packages = sorted({package for result in results for package in result["versions"]})
    hashes = [(result["data"]["unique_tokens"], result["data"]["hash"]) for result in results]
    return {
        "Command": crossover.tree.plan["command"],
        "Seeds": ", ".join(map(str, crossover.tree.seeds)),
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


def curve_rows(crossover: Crossover) -> list[Row]:
    """One row per run, reading and stop, on the validation split."""
    return [
        _place(crossover, cell, reading) | _measured(stop, "validation")
        for cell in crossover.tree.finished
        for reading in crossover.readings
        for stop in stops_of(cell.done, reading)
    ]


def best_stop_of_run_rows(crossover: Crossover) -> list[Row]:
    """One row per run and reading: the best stop and the last, on both splits."""
    return [
        _place(crossover, cell, reading)
        | {"which": which}
        | _measured(cell.done[which][reading], "validation")
        | _measured(cell.done[which][reading], "test")
        for cell in crossover.tree.finished
        for reading in crossover.readings
        for which in ("best", "end")
    ]


def _place(crossover: Crossover, cell: Cell, reading: str) -> Row:
    return {
        "ablation": crossover.tree.plan["ablation"],
        "preset": crossover.tree.plan["preset"],
        "arm": cell.arm,
        "unique_tokens": cell.done["data"]["unique_tokens"],
        "seed": cell.seed,
        "reading": reading,
    }


def _measured(stop: Stop, split: str) -> Row:
    place = {name: stop[name] for name in ("step", "tokens_seen", "epoch", "train_flops")}
    return place | {f"{split}_{metric}": stop[split].get(metric) for metric in METRICS}

"""The numbers of a crossover as rows of plain values: the page and summary.json both read these."""

from collections.abc import Sequence
from statistics import fmean, median, stdev

from lab.files import Row
from lab.metrics import NLL
from lab.reporting.crossover.findings import AR, DLM, BudgetFinding, CrossingSummary
from lab.reporting.crossover.words import crossing_short, verdict_words
from lab.reporting.tables import METRICS
from lab.results import Stop


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
        "within_run_length": budget.within_run_length,
        "below_best": _crossing(budget.below_best),
        "below_current": _crossing(budget.below_current),
    }


def _best_of(budget: BudgetFinding, arm: str) -> Row:
    stops, key = budget.best_stops(arm), budget.metric.key
    return {
        "best_epoch": median(stop.epoch for stop in stops) if stops else None,
        "best_at_last_stop": budget.improving(arm),
        "runs": len(stops),
        "train_flops_at_best": median(stop.train_flops for stop in stops) if stops else None,
        f"test_{key}": fmean(stop.test[key] for stop in stops) if stops else None,
    }


def _crossing(summary: CrossingSummary) -> Row:
    """Where the curves cross: medians and ranges over seeds, and each seed's own point."""
    row: Row = {
        "seeds_that_cross": len(summary.crossed),
        "seeds": len(summary.by_seed),
        "from_first_stop": summary.from_first_stop,
        "holds_to_the_end": summary.holds,
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
    epochs, key = [stop.epoch for stop in stops], budget.metric.key
    row: Row = {
        "budget": budget.name,
        "unique_tokens": budget.unique_tokens,
        "arm": arm,
        "reading": budget.reading,
        "seeds": len(stops),
        "best_epoch": median(epochs),
        "best_epoch_low": min(epochs),
        "best_epoch_high": max(epochs),
        "best_at_last_stop": budget.improving(arm),
        **{
            f"validation_{name}": fmean(stop.validation[name] for stop in stops)
            for name in dict.fromkeys((NLL, key))
        },
    }
    for metric in dict.fromkeys([*METRICS, key, *budget.metric.errors]):
        values = [stop.test[metric] for stop in stops if metric in stop.test]
        row[f"test_{metric}"] = fmean(values) if values else None
    values = [stop.test[key] for stop in stops]
    row[f"test_{key}_standard_deviation"] = stdev(values) if len(values) > 1 else None
    return row

"""The numbers of a sweep as rows of plain values: the page, summary.json and the CSV files all read these."""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median, stdev

from lab.reporting.results import STOPS, Stop, level_name
from lab.reporting.sweep.findings import ArmFinding, Contrast, LevelFinding
from lab.reporting.sweep.words import verdict_words
from lab.reporting.tables import Row


def arm_rows(levels: Sequence[LevelFinding]) -> list[Row]:
    """One row per level and arm, in declared order: what it reaches and what that costs."""
    return [_arm_row(arm) for level in levels for arm in level.arms.values()]


def _arm_row(arm: ArmFinding) -> Row:
    best, end = arm.stops("best"), arm.stops("end")

    def test(stops: list[Stop], metric: str) -> float | None:
        return _of(fmean, (stop["test"][metric] for stop in stops))

    epochs = [stop["epoch"] for stop in best]
    return {
        "level": level_name(arm.level),
        "arm": arm.arm,
        "reading": arm.reading,
        "seeds": len(arm.cells),
        "seeds_planned": arm.planned,
        "best_epoch": _of(median, epochs),
        "best_epoch_low": _of(min, epochs),
        "best_epoch_high": _of(max, epochs),
        "best_at_last_stop": arm.improving,
        "best_test_nll": test(best, "nll"),
        "best_test_nll_standard_deviation": _deviation(arm.test_nll("best")),
        "best_test_nll_standard_error": test(best, "nll_standard_error"),
        "end_test_nll": test(end, "nll"),
        "end_test_nll_standard_deviation": _deviation(arm.test_nll("end")),
        "best_choice_accuracy": test(best, "choice_accuracy"),
        "best_option_gap": test(best, "option_gap"),
        "end_choice_accuracy": test(end, "choice_accuracy"),
        "end_option_gap": test(end, "option_gap"),
        "train_flops_at_best": _of(median, (stop["train_flops"] for stop in best)),
        "train_flops": arm.run_flops,
        "tokens_per_second": arm.speed,
        "parameters": arm.cells[0].done["parameters"] if arm.cells else None,
    }


def _of(statistic: Callable[[list[float]], float], values: Iterable[float]) -> float | None:
    """A statistic of the values, None of no values."""
    known = list(values)
    return float(statistic(known)) if known else None


def _deviation(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def contrast_rows(levels: Sequence[LevelFinding]) -> list[Row]:
    """One row per level and contrast, in declared order: the gain at the best stop and at the end."""
    return [_contrast_row(contrast) for level in levels for contrast in level.contrasts]


def _contrast_row(contrast: Contrast) -> Row:
    row: Row = {
        "level": level_name(contrast.arm.level),
        "arm": contrast.arm.arm,
        "reference": contrast.reference.arm,
        "reading": contrast.arm.reading,
        "seeds": len(contrast.seeds),
        "seeds_left_out": len(contrast.left_out),
        "within_run_length": contrast.within_run_length,
        "train_flops_ratio": contrast.flops_ratio,
        "train_time_ratio": contrast.time_ratio,
    }
    for which in STOPS:
        made = contrast.at[which]
        low, high = (made.gain.interval if made.gain and made.gain.interval else None) or (None, None)
        row |= {
            f"{which}_gain": made.gain.mean if made.gain else None,
            f"{which}_gain_low": made.gain.low if made.gain else None,
            f"{which}_gain_high": made.gain.high if made.gain else None,
            f"{which}_gain_interval_low": low,
            f"{which}_gain_interval_high": high,
            f"{which}_gain_window_standard_error": made.gain.window_standard_error if made.gain else None,
            f"{which}_p_value": made.gain.p_value if made.gain else None,
            f"{which}_holm_p_value": made.adjusted_p,
            f"{which}_verdict": verdict_words(made.verdict) if made.gain else None,
            f"{which}_evidence": made.verdict.evidence if made.gain else None,
        }
    return row

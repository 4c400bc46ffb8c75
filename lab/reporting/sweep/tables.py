"""The numbers of a sweep as rows of plain values: the page, summary.json and the CSV files all read these."""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median, stdev

from lab.files import Row
from lab.reporting.results import STOPS, YARDSTICK, level_name
from lab.reporting.sweep.findings import ArmFinding, Contrast, LevelFinding
from lab.reporting.sweep.words import verdict_words
from lab.results import Stop


def arm_rows(levels: Sequence[LevelFinding]) -> list[Row]:
    """One row per level and arm, in declared order: what it reaches and what that costs."""
    return [_arm_row(arm) for level in levels for arm in level.arms.values()]


def _arm_row(arm: ArmFinding) -> Row:
    best, end, key = arm.stops("best"), arm.stops("end"), arm.metric.key

    def test(stops: list[Stop], metric: str) -> float | None:
        return _of(fmean, [stop.test[metric] for stop in stops if metric in stop.test])

    epochs = [stop.epoch for stop in best]
    others = [name for name in YARDSTICK if name != key]
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
        f"best_test_{key}": test(best, key),
        f"best_test_{key}_standard_deviation": _deviation(arm.test("best")),
        f"best_test_{key}_standard_error": test(best, arm.metric.errors[0]) if arm.metric.errors else None,
        f"end_test_{key}": test(end, key),
        f"end_test_{key}_standard_deviation": _deviation(arm.test("end")),
        **{f"best_{name}": test(best, name) for name in others},
        **{f"end_{name}": test(end, name) for name in others},
        "train_flops_at_best": _of(median, (stop.train_flops for stop in best)),
        "train_flops": arm.run_flops,
        "tokens_per_second": arm.speed,
        "parameters": arm.cells[0].done.parameters if arm.cells else None,
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

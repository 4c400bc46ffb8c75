"""The numbers of an inference ablation as rows of plain values: the page, summary.json and the CSV files."""

from lab.evaluation.measurements import CHOICE, GENERATION
from lab.files import Row
from lab.reporting.inference.findings import Curve, Inference, Point, gain_over
from lab.reporting.inference.words import verdict_words

TEXT_METRICS = ("judge_nll", "distinct", "repetition", "parse_rate")
CHOICE_METRICS = ("choice_accuracy", "option_gap")


def generation_rows(found: Inference) -> list[Row]:
    """One row for real text, then one per arm, sampler and number of passes; means over seeds."""
    rows = []
    if found.real:
        rows.append(_row(found, None, found.real, TEXT_METRICS))
    return rows + [
        _row(found, curve, point, TEXT_METRICS) for curve in found.of(GENERATION) for point in curve.points
    ]


def choice_rows(found: Inference) -> list[Row]:
    """One row per arm and number of draws, the exact chain rule without draws; means over seeds."""
    return [_row(found, curve, point, CHOICE_METRICS) for curve in found.of(CHOICE) for point in curve.points]


def _row(found: Inference, curve: Curve | None, point: Point, metrics: tuple[str, ...]) -> Row:
    row: Row = {
        "arm": curve.arm if curve else "real text",
        "sampler": curve.sampler if curve else "",
        "steps": point.steps,
        "num_draws": point.num_draws,
        "seeds": len(point.rows),
        **dict.fromkeys(("flops", "flops_computed", "flops_ratio")),
    }
    if curve:
        row["flops"], row["flops_computed"] = point.cost("flops"), point.cost("flops_computed")
    for metric in metrics:
        row[metric] = point.mean(metric)
        row[f"{metric}_standard_deviation"] = point.deviation(metric)
    if metrics == TEXT_METRICS:
        row["lines"] = point.mean("lines")
    return row | _compared(found, curve, point)


def _compared(found: Inference, curve: Curve | None, point: Point) -> Row:
    row: Row = dict.fromkeys(("flops_ratio", "gain", "gain_interval_low", "gain_interval_high"))
    reference = found.reference(curve.kind) if curve else None
    if curve is None or reference is None:
        return row
    row["flops_ratio"] = point.cost("flops") / reference.most.cost("flops")
    gain = gain_over(point, reference.most, curve.kind)
    if curve is not reference and gain:
        low, high = gain.interval or (None, None)
        row |= {"gain": gain.mean, "gain_interval_low": low, "gain_interval_high": high}
    return row


def match_rows(found: Inference) -> list[Row]:
    """One row per curve compared with AR: what it needs to match, and its gain at the most compute."""
    rows = []
    for kind in (GENERATION, CHOICE):
        for curve in found.against(kind):
            match, gain = curve.match, curve.gain
            low, high = (match.interval if match else None) or (None, None)
            gain_low, gain_high = (gain.interval if gain else None) or (None, None)
            rows.append(
                {
                    "kind": kind,
                    "arm": curve.arm,
                    "sampler": curve.sampler,
                    "seeds": len(match.by_seed) if match else 0,
                    "seeds_that_match": len(match.reached) if match else 0,
                    "from_first": len(match.from_first) if match else 0,
                    "in_passing": len(match.in_passing) if match else 0,
                    "flops_ratio": match.mean if match else None,
                    "flops_ratio_low": low,
                    "flops_ratio_high": high,
                    "flops_ratio_by_seed": {str(s): v for s, v in match.by_seed.items()} if match else {},
                    "most_flops_ratio": _compared(found, curve, curve.most)["flops_ratio"],
                    "gain": gain.mean if gain else None,
                    "gain_interval_low": gain_low,
                    "gain_interval_high": gain_high,
                    "holm_p_value": curve.adjusted_p,
                    "verdict": verdict_words(curve.verdict) if gain else None,
                    "within_run_length": found.within_run_length(curve.arm),
                }
            )
    return rows


def seed_rows(found: Inference, kind: str) -> list[Row]:
    """One row per arm, sampler, amount of compute and seed: all that was measured but the texts."""
    return [
        {
            "arm": curve.arm,
            "seed": seed,
            "sampler": row.task.settings.get("sampler", ""),
            "steps": point.steps,
            "num_draws": point.num_draws,
            **row.values,
            **row.costs,
        }
        for curve in found.of(kind)
        for point in curve.points
        for seed, row in sorted(point.rows.items())
    ]


def example_rows(found: Inference) -> list[Row]:
    """Texts of the first seed: real ones, AR's, and the first sampler's of each other arm.

    Of a sampler those with the most, a middle number, and the fewest passes.
    """
    told: list[tuple[str, Point]] = [("real text", found.real)] if found.real else []
    first = {curve.arm: curve for curve in reversed(found.of(GENERATION))}
    for arm, curve in reversed(first.items()):
        places = sorted({0, len(curve.points) // 2, len(curve.points) - 1}, reverse=True)
        told += [(arm, curve.points[place]) for place in places]
    return [
        {"arm": arm, "steps": point.steps, "examples": row.texts}
        for arm, point in told
        for _, row in sorted(point.rows.items())[:1]
    ]

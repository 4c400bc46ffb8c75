"""The numbers of an attribution as rows of plain values: for the page, summary.json and the CSV files."""

from collections.abc import Callable, Iterable
from statistics import fmean, median, stdev

from lab.arms import CORNERS
from lab.files import Row
from lab.reporting.attribution.effects import FACTORS, INTERACTION, Effect
from lab.reporting.attribution.findings import BESIDE, Attribution, Cube, unit_of
from lab.reporting.attribution.words import effect_name, evidence_words
from lab.reporting.results import STOPS, still_improving
from lab.results import Reading


def corner_rows(cube: Cube, reading: Reading) -> list[Row]:
    """One row per arm, each control behind its corner: what it is and what it reaches."""
    return [_corner_row(cube, arm, reading) for arm in cube.arms]


def _corner_row(cube: Cube, arm: str, reading: Reading) -> Row:
    levels = CORNERS.get(arm, (None,) * len(FACTORS))
    best = cube.stops(arm, reading, "best")
    row: Row = {
        "arm": arm,
        "control_of": BESIDE.get(arm),
        **dict(zip(FACTORS, levels, strict=True)),
        "reading": reading,
        "seeds": len(best),
        "best_epoch": _of(median, (stop.epoch for stop in best)),
        "best_at_last_stop": still_improving(cube.runs(arm), reading),
        "train_flops_at_best": _of(median, (stop.train_flops for stop in best)),
    }
    for which in STOPS:
        stops = cube.stops(arm, reading, which)
        for metric in cube.metrics:
            values = [stop.test[metric.key] for stop in stops]
            row[f"{which}_{metric.key}"] = _of(fmean, values)
            row[f"{which}_{metric.key}_standard_deviation"] = stdev(values) if len(values) > 1 else None
    return row


def _of(statistic: Callable[[list[float]], float], values: Iterable[float]) -> float | None:
    """A statistic of the values, None of no values."""
    known = list(values)
    return float(statistic(known)) if known else None


def effect_rows(cube: Cube) -> list[Row]:
    """One row per reading, stop, metric and effect, the gain first; none if attribution is refused."""
    return [
        _effect_row(found, effect)
        for found in cube.attributions.values()
        for effect in (found.gain, *found.effects)
    ]


def _effect_row(found: Attribution, effect: Effect) -> Row:
    low, high = effect.interval or (None, None)
    bootstrap_low, bootstrap_high = effect.bootstrap_interval or (None, None)
    return {
        "reading": found.reading,
        "stop": found.stop,
        "metric": found.metric.key,
        "unit": unit_of(found.metric),
        "kind": effect.contrast.kind,
        "effect": effect_name(effect.contrast),
        "seeds": len(effect.by_seed),
        "mean": effect.mean,
        "standard_deviation": effect.standard_deviation,
        "interval_low": low,
        "interval_high": high,
        "bootstrap_low": bootstrap_low,
        "bootstrap_high": bootstrap_high,
        "p_value": effect.p_value,
        "holm_p_value": effect.adjusted_p,
        "verdict": evidence_words(effect),
        "evidence": effect.evidence,
        "window_standard_error": found.window_error(effect),
    }


def share_rows(cube: Cube, reading: Reading) -> list[Row]:
    """One row per metric and stop: the gain, the three Shapley values and the largest interaction."""
    rows = []
    for metric in cube.metrics:
        for stop in STOPS:
            found = cube.attributions.get((reading, stop, metric.key))
            if found is None:
                continue
            parts = {effect.contrast.name: _effect_row(found, effect) for effect in found.shapley}
            largest = max(found.of_kind(INTERACTION), key=lambda effect: abs(effect.mean))
            row = {
                "gain": _effect_row(found, found.gain),
                **parts,
                "interaction": _effect_row(found, largest),
            }
            rows.append({"metric": metric, "stop": stop, **row})
    return rows


def by_seed_rows(cube: Cube) -> list[Row]:
    """One row per reading, stop, metric, effect and seed."""
    return [
        {
            "reading": found.reading,
            "stop": found.stop,
            "metric": found.metric.key,
            "unit": unit_of(found.metric),
            "kind": effect.contrast.kind,
            "effect": effect_name(effect.contrast),
            "seed": seed,
            "value": value,
        }
        for found in cube.attributions.values()
        for effect in (found.gain, *found.effects)
        for seed, value in effect.by_seed.items()
    ]


def step_rows(cube: Cube) -> list[Row]:
    """One row per control, reading, stop, metric and half of its edge."""
    return [
        {
            "control": step.control,
            "reading": step.reading,
            "stop": step.stop,
            "metric": step.metric.key,
            "unit": unit_of(step.metric),
            "from": step.start,
            "to": step.end,
            "seeds": len(step.seeds),
            "gain": step.gain,
            "interval_low": step.interval[0] if step.interval else None,
            "interval_high": step.interval[1] if step.interval else None,
            "p_value": step.p_value,
        }
        for step in cube.steps
    ]

"""Rows of plain values that every page has: the page, summary.json and the CSV files all read these."""

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

from lab.files import Row
from lab.metrics import NLL, find_metric
from lab.reporting.series import Point, runs_of
from lab.reporting.statistics import Estimate
from lab.reporting.tree import YARDSTICK, CellResult, ResultTree, level_name
from lab.reporting.words import verdict_words
from lab.results import Reading, RunResult, Split, Stop
from lab.sections import PLACES, Place

SPLITS: tuple[Split, ...] = ("validation", "test")
# Of a stop's metrics, those that the tables show, each with its standard errors.
METRICS = tuple(
    key
    for name in (NLL, "bits_per_byte", "choice_accuracy", "option_gap", "nelbo")
    for key in (name, *find_metric(name).errors)
)
# Of an estimate, what rows hold, with the value of each seed behind it.
_ESTIMATE = (
    *("mean", "standard_deviation", "interval_low", "interval_high", "low", "high", "held_out_error"),
    *("p_value", "adjusted_p", "decisive_p", "verdict", "evidence"),
)


def estimate_fields(prefix: str, made: Estimate | None) -> Row:
    """What is known of an estimate, each key with a prefix; None throughout if there is none."""
    if made is None:
        found: Row = {**dict.fromkeys(_ESTIMATE), "by_seed": {}}
    else:
        low, high = made.interval or (None, None)
        found = {name: getattr(made, name, None) for name in _ESTIMATE} | {
            "interval_low": low,
            "interval_high": high,
            "verdict": verdict_words(made.verdict),
            "evidence": made.verdict.evidence,
            "by_seed": {str(seed): value for seed, value in made.by_seed.items()},
        }
    return {f"{prefix}{name}": value for name, value in found.items()}


def ratio(value: float | None, reference: float | None) -> float | None:
    """A value as a multiple of another; None if one is not known."""
    return None if value is None or not reference else value / reference


def metric_fields(prefix: str, point: Point | None, metrics: Iterable[str]) -> Row:
    """Mean, deviation and standard errors of metrics at a point, each key with a prefix."""
    row: Row = {}
    for key in metrics:
        metric = find_metric(key)
        row[f"{prefix}{key}"] = point.mean(key) if point else None
        row[f"{prefix}{key}_standard_deviation"] = point.deviation(key) if point else None
        row |= {f"{prefix}{error}": point.mean(error) if point else None for error in metric.errors}
    return row


def arm_rows(tree: ResultTree) -> list[Row]:
    """One row per reading, level and arm, in declared order: what it reaches and what that costs."""
    return [
        _arm_row(tree, arm, level, reading)
        for reading in tree.readings
        for level in tree.levels
        for arm in tree.plan.arms
    ]


def _arm_row(tree: ResultTree, arm: str, level: dict[str, Any], reading: Reading) -> Row:
    runs = runs_of(tree, arm, level, reading)
    best, end = runs.at("best"), runs.at("end")
    epochs = [cell.stop("best", runs.reading).epoch for cell in runs.cells]
    metrics = list(dict.fromkeys((tree.plan.metric, *YARDSTICK, "bits_per_byte", "nelbo")))
    metrics = [key for key in metrics if find_metric(key).of_stops]
    validation = runs.validation("best")
    return {
        "level": level_name(level),
        "arm": arm,
        "reading": runs.reading,
        "seeds": len(runs.cells),
        "seeds_planned": runs.planned,
        "unique_tokens": runs.cells[0].done.data.unique_tokens if runs.cells else None,
        "best_epoch": _of(median, epochs),
        "best_epoch_low": _of(min, epochs),
        "best_epoch_high": _of(max, epochs),
        "best_at_last_stop": runs.improving,
        "best_validation_nll": validation.mean(NLL) if validation else None,
        **metric_fields("best_", best, metrics),
        **metric_fields("end_", end, metrics),
        "train_flops_at_best": best.at["train_flops"] if best else None,
        "train_flops": runs.run_flops,
        "tokens_per_second": runs.speed,
        "parameters": runs.cells[0].done.parameters if runs.cells else None,
    }


def _of(statistic: Callable[[list[float]], float], values: list[float]) -> float | None:
    return float(statistic(values)) if values else None


def run_rows(tree: ResultTree) -> list[Row]:
    """One row per planned run: whether it finished, and what it cost."""
    return [_run_row(cell) for cell in tree.cells]


def _run_row(cell: CellResult) -> Row:
    row: Row = {"arm": cell.arm, "level": level_name(cell.level), "seed": cell.seed}
    row["folder"] = cell.cell.logdir
    row |= {"status": cell.status, "reason": cell.reason, "log_tail": cell.log_tail}
    cost = dict.fromkeys(
        ("wall_seconds", "tokens_seen", "tokens_per_second", "train_flops", "evaluation_flops")
    )
    if cell.result is None:
        return row | cost | {"device": None}
    return row | {
        "wall_seconds": cell.result.wall_seconds,
        "tokens_seen": max(stop.tokens_seen for stop in cell.result.stops),
        "tokens_per_second": cell.log.tokens_per_second,
        "train_flops": cell.result.train_flops,
        "evaluation_flops": cell.result.evaluation_flops,
        "device": cell.result.process.device,
    }


def run_counts(tree: ResultTree) -> dict[str, int]:
    """How many planned runs are done, failed and missing."""
    statuses = [cell.status for cell in tree.cells]
    return {status: statuses.count(status) for status in ("done", "failed", "missing")}


def provenance(tree: ResultTree) -> dict[str, str]:
    """What is needed to get the same numbers again; where runs differ, every value."""
    results = [cell.done for cell in tree.finished]
    hashes = sorted({(result.data.unique_tokens, result.data.hash) for result in results})
    told = {
        "Command": tree.plan.command,
        "Seeds": ", ".join(map(str, tree.seeds)),
        "Corpus and tokenizer": _distinct(f"{r.data.corpus}, {r.data.tokenizer}" for r in results),
        "Packages of the corpus": _versions([result.data.packages for result in results]),
        "Data hash by unique tokens": ", ".join(f"{tokens:,}: {name}" for tokens, name in hashes),
        "Held-out hashes": ", ".join(
            f"{split}: {_distinct(r.data.hashes[split] for r in results if split in r.data.hashes)}"
            for split in SPLITS
        ),
        "Code hash": _distinct(result.version.code for result in results),
        "Backend and device": _distinct(f"{r.process.backend} on {r.process.device}" for r in results),
        "Processor and threads": _distinct(f"{r.process.cpu}, {r.process.threads} threads" for r in results),
        "Trained together": _distinct(filter(None, map(_population, results))),
        "Parameters": _distinct(f"{result.parameters:,}" for result in results),
        "Versions": _versions([result.process.versions for result in results]),
    }
    return {name: value for name, value in told.items() if value}


def _distinct(values: Iterable[str]) -> str:
    return " / ".join(sorted(set(values)))


def _versions(found: list[dict[str, str]]) -> str:
    """Each package with its version, or every version that runs had."""
    packages = sorted({package for versions in found for package in versions})
    return ", ".join(
        f"{package} {_distinct(versions[package] for versions in found if package in versions)}"
        for package in packages
    )


def _population(result: RunResult) -> str:
    """The runs that one process trained together; empty if a run was alone."""
    population = result.process.population
    return f"{len(population)} runs: {', '.join(population)}" if population else ""


def curve_rows(tree: ResultTree) -> list[Row]:
    """One row per run, reading and stop, on the validation split."""
    return [
        _place(tree, cell, reading) | _measured(stop, "validation")
        for cell in tree.finished
        for reading in tree.readings
        for stop in cell.done.along(reading)
    ]


def chosen_stop_rows(tree: ResultTree) -> list[Row]:
    """One row per run and reading and each of the best stop and the last, on both splits."""
    return [
        place | {"which": which} | _measured(stop, "validation") | _measured(stop, "test")
        for place, which, stop in _chosen(tree)
    ]


def window_rows(tree: ResultTree) -> list[Row]:
    """One row per run, reading, best or last stop, split and held-out window: its NLL, and its document."""
    return [
        place | {"which": which, "split": split, "window": window, "document": document, NLL: value}
        for place, which, stop in _chosen(tree)
        for split in SPLITS
        if (examples := stop.examples(NLL, split))
        for window, (document, value) in enumerate(zip(examples.documents, examples.values, strict=True))
    ]


def _chosen(tree: ResultTree) -> list[tuple[Row, Place, Stop]]:
    """Where it is, which it is, and the stop: of each run and reading the best and the last."""
    return [
        (_place(tree, cell, reading), which, cell.stop(which, reading))
        for cell in tree.finished
        for reading in tree.readings
        for which in PLACES
    ]


def _measured(stop: Stop, split: Split) -> Row:
    """Where a stop lies and what it measures on one split."""
    place: Row = {name: getattr(stop, name) for name in ("step", "tokens_seen", "epoch", "train_flops")}
    values: dict[str, Any] = stop.metrics(split)
    return place | {f"{split}_{metric}": values.get(metric) for metric in METRICS}


def _place(tree: ResultTree, cell: CellResult, reading: Reading) -> Row:
    return {
        "ablation": tree.plan.ablation,
        "preset": tree.plan.preset,
        "arm": cell.arm,
        "level": level_name(cell.level),
        "unique_tokens": cell.done.data.unique_tokens,
        "seed": cell.seed,
        "reading": reading,
    }

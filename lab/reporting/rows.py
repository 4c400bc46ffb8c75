"""Rows of plain values that every page has: the page, summary.json and the CSV files all read these."""

from collections.abc import Iterable
from itertools import product
from statistics import median

from lab.files import Row
from lab.metrics import NLL, find_metric
from lab.reporting import table, words
from lab.reporting.baselines import LevelBaseline, baselines_of, over_ngram
from lab.reporting.series import Point, Runs, runs_of
from lab.reporting.statistics import Estimate
from lab.reporting.table import Column, Table
from lab.reporting.tree import YARDSTICK, CellResult, ResultTree, level_name
from lab.results import Reading, Split, Stop
from lab.sections import PLACES, Place

SPLITS: tuple[Split, ...] = ("validation", "test")
# Of a stop's metrics, those that every page has.
METRICS = (NLL, "nll_by_token", "nll_exact", "bits_per_byte", "choice_accuracy", "option_gap", "nelbo")
# Of an estimate, what rows hold, with the value of each seed behind it.
_ESTIMATE = (
    *("mean", "standard_deviation", "interval_low", "interval_high", "low", "high", "alpha"),
    *("standard_error", "degrees", "moderated", "p_value", "adjusted_p", "decisive_p"),
    *("margin", "equivalence_alpha", "equivalence_p", "adjusted_equivalence_p", "decisive_equivalence_p"),
    *("document_error", "verdict", "within_margin", "undecided_because"),
)


def estimate_fields(prefix: str, made: Estimate | None) -> Row:
    """What is known of an estimate, each key with a prefix; None throughout if there is none."""
    fields: Row = {name: getattr(made, name, None) for name in _ESTIMATE} | {"by_seed": {}}
    if made:
        low, high = made.interval or (None, None)
        verdict = made.verdict
        fields |= {"interval_low": low, "interval_high": high, "verdict": words.verdict_words(verdict)}
        fields |= {"within_margin": verdict.within_margin, "undecided_because": verdict.reason}
        fields["by_seed"] = {str(seed): value for seed, value in made.by_seed.items()}
    return {f"{prefix}{name}": value for name, value in fields.items()}


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
    """One row per reading, level and arm, in declared order: what it reaches and what that costs.

    Below the arms of a level stands what counting their tokens reaches (`LevelBaseline`).
    """
    metrics = [key for key in dict.fromkeys((tree.plan.metric, *METRICS)) if find_metric(key).of_stops]
    rows = []
    for reading, level in product(tree.readings, tree.levels):
        arms = [runs for arm in tree.plan.arms if (runs := runs_of(tree, arm, level, reading)).planned]
        baselines = baselines_of(cell for runs in arms for cell in runs.cells)
        rows += [_arm_row(runs, metrics) for runs in arms]
        ensembles = [runs_of(tree, name, level, reading) for name in tree.plan.ensembles]
        rows += [_arm_row(runs, metrics) for runs in ensembles if runs.cells]
        rows += [_baseline_row(baseline, reading, metrics) for baseline in baselines]
    return rows


def _baseline_row(baseline: LevelBaseline, reading: Reading, metrics: Iterable[str]) -> Row:
    """What counting reaches, in the columns of an arm that it has."""
    seeds = len(baseline.by_seed)
    return {
        "level": level_name(baseline.level),
        "arm": baseline.title,
        "reading": reading,
        "seeds": seeds,
        "seeds_planned": seeds,
        "unique_tokens": baseline.unique_tokens,
        "best_epoch": None,
        "best_epoch_low": None,
        "best_epoch_high": None,
        "best_at_last_stop": None,
        "best_validation_nll": baseline.point("validation").mean(NLL),
        "best_nll_over_ngram": None,
        **metric_fields("best_", baseline.point("test"), metrics),
        **metric_fields("end_", None, metrics),
        "train_flops_at_best": None,
        "train_flops": None,
        "tokens_per_second": None,
        "parameters": None,
    }


def _arm_row(runs: Runs, metrics: Iterable[str]) -> Row:
    best, end, validation = runs.at("best"), runs.at("end"), runs.at("best", "validation")
    epochs = [cell.stop("best", runs.reading).epoch for cell in runs.cells]
    first = runs.cells[0].done if runs.cells else None
    return {
        "level": level_name(runs.level),
        "arm": runs.arm,
        "reading": runs.reading,
        "seeds": len(runs.cells),
        "seeds_planned": runs.planned,
        "unique_tokens": first and first.data.unique_tokens,
        "best_epoch": float(median(epochs)) if epochs else None,
        "best_epoch_low": min(epochs, default=None),
        "best_epoch_high": max(epochs, default=None),
        "best_at_last_stop": runs.improving,
        "best_validation_nll": validation and validation.mean(NLL),
        "best_nll_over_ngram": over_ngram(runs),
        **metric_fields("best_", best, metrics),
        **metric_fields("end_", end, metrics),
        "train_flops_at_best": best and best.at["train_flops"],
        "train_flops": runs.costs("end").get("train_flops"),
        "tokens_per_second": runs.speed,
        "parameters": best and round(best.at["parameters"]),
    }


def arm_table(tree: ResultTree, arms: Iterable[Row]) -> Table:
    """What each arm reaches under the reading that verdicts rest on, of `arm_rows`."""
    shown = [row for row in arms if row["reading"] == tree.readings[0]]
    keys = dict.fromkeys((tree.plan.metric, "nll_by_token", "nll_exact", *YARDSTICK, "nelbo"))
    metrics = [find_metric(key) for key in keys if any(row.get(f"best_{key}") is not None for row in shown)]

    def seeds(row: Row) -> str:
        return f"{row['seeds']}" + f" of {row['seeds_planned']}" * (row["seeds"] < row["seeds_planned"])

    def epoch(row: Row) -> str:
        middle, low, high = (
            table.shown(row[f"best_epoch{end}"], words.plain) for end in ("", "_low", "_high")
        )
        spread = f"{table.LINE}{low} to {high}" * (low != high)
        return middle + spread + words.MARK * bool(row["best_at_last_stop"])

    columns = [
        table.text("Arm", "arm"),
        Column("Seeds", seeds),
        Column(f"Best epoch{table.LINE}median, range", epoch),
    ]
    for metric in metrics:
        heading = table.in_heading(metric, "test")
        columns.append(table.measured(heading, f"best_{metric.key}", metric, printed=metric == metrics[0]))
    for metric in metrics[:1]:
        heading = f"{words.capital(metric.name)}{table.LINE}at the end"
        columns.append(table.measured(heading, f"end_{metric.key}", metric))
    columns += [
        table.flops(f"FLOPs{table.LINE}to best stop", "train_flops_at_best"),
        table.flops(f"FLOPs{table.LINE}to end", "train_flops"),
        table.number("Parameters", "parameters", printed=False),
    ]
    caption = (
        "At the best stop, chosen by validation NLL, on the test split. Means over seeds, ± their standard "
        f"deviation. {words.MARK} still improving when a run ended. {words.bound_beside(metrics)}"
    ).rstrip()
    return Table("arms", shown, columns, caption, group="level" if any(row["level"] for row in shown) else "")


def run_table(tree: ResultTree) -> Table:
    """One row per planned run: whether it finished, and what it cost."""
    runs = [_run_row(cell) for cell in tree.cells]

    def status(row: Row) -> str:
        return ": ".join(filter(None, [row["status"], row["reason"]]))

    share = find_metric("dropped_share")
    dropped = table.measured(f"Without an expert{table.LINE}of the tokens, training", share.key, share)
    columns = [
        table.text("Arm", "arm"),
        *table.levels(runs),
        table.number("Seed", "seed"),
        Column("Status", status, left=True),
        table.number("Wall time", "wall_seconds", words.duration),
        table.number("Tokens seen", "tokens_seen"),
        table.number(f"Tokens/s{table.LINE}training, median", "tokens_per_second"),
        *([dropped] if any(row["dropped_share"] is not None for row in runs) else []),
        table.flops(f"Training FLOPs{table.LINE}with branches", "train_flops"),
        table.flops("Evaluation FLOPs", "evaluation_flops"),
        table.text("Device", "device"),
    ]
    return Table("runs", runs, columns)


def _run_row(cell: CellResult) -> Row:
    result = cell.result
    return {
        "arm": cell.arm,
        "level": level_name(cell.level),
        "seed": cell.seed,
        "folder": cell.cell.logdir,
        "status": cell.status,
        "reason": cell.reason,
        "log_tail": cell.log_tail,
        "wall_seconds": result and result.wall_seconds,
        "tokens_seen": result and max(stop.tokens_seen for stop in result.stops),
        "tokens_per_second": result and cell.log.tokens_per_second,
        "dropped_share": result and cell.log.dropped_share,
        "train_flops": result and result.train_flops,
        "evaluation_flops": result and result.evaluation_flops,
        "device": result and result.process.device,
    }


def run_counts(tree: ResultTree) -> dict[str, int]:
    """How many planned runs are done, failed and missing."""
    statuses = [cell.status for cell in tree.cells]
    return {status: statuses.count(status) for status in ("done", "failed", "missing")}


def provenance(tree: ResultTree) -> dict[str, str]:
    """What is needed to get the same numbers again; where runs differ, every value."""
    results = [cell.done for cell in tree.finished]
    data, processes = [result.data for result in results], [result.process for result in results]
    hashes = sorted({(one.unique_tokens, one.hash) for one in data})
    held_out = {split: _distinct(one.hashes.get(split, "") for one in data) for split in SPLITS}
    together = {
        f"{len(one.population)} runs: {', '.join(one.population)}" for one in processes if one.population
    }
    values = {
        "Command": tree.plan.command,
        "Seeds": ", ".join(map(str, tree.seeds)),
        "Corpus and tokenizer": _distinct(f"{one.corpus}, {one.tokenizer}" for one in data),
        "Packages of the corpus": _versions([one.packages for one in data]),
        "Data hash by unique tokens": ", ".join(f"{tokens:,}: {name}" for tokens, name in hashes),
        "Held-out hashes": ", ".join(f"{split}: {names}" for split, names in held_out.items()),
        "Code hash": _distinct(result.version.code for result in results),
        "Backend and device": _distinct(f"{one.backend} on {one.device}" for one in processes),
        "Processor and threads": _distinct(f"{one.cpu}, {one.threads} threads" for one in processes),
        "Trained together": _distinct(together),
        "Parameters": _distinct(f"{result.parameters:,}" for result in results),
        "Versions": _versions([one.versions for one in processes]),
    }
    return {name: value for name, value in values.items() if value}


def _distinct(values: Iterable[str]) -> str:
    return " / ".join(sorted({*values} - {""}))


def _versions(versions: list[dict[str, str]]) -> str:
    """Each package with its version, or every version that runs had."""
    packages = sorted(set().union(*versions))
    return ", ".join(f"{name} {_distinct(one.get(name, '') for one in versions)}" for name in packages)


def curve_rows(tree: ResultTree) -> list[Row]:
    """One row per run, reading and stop, on the validation split."""
    return [
        place | _measured(stop, "validation")
        for place, cell, reading in _places(tree)
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
        (place, which, cell.stop(which, reading))
        for (place, cell, reading), which in product(_places(tree), PLACES)
    ]


def _measured(stop: Stop, split: Split) -> Row:
    """Where a stop lies and what it measures on one split."""
    place: Row = {name: getattr(stop, name) for name in ("step", "tokens_seen", "epoch", "train_flops")}
    values: Row = dict(stop.metrics(split))
    keys = [key for metric in METRICS for key in (metric, *find_metric(metric).errors)]
    return place | {f"{split}_{key}": values.get(key) for key in keys}


def _places(tree: ResultTree) -> list[tuple[Row, CellResult, Reading]]:
    """What begins the rows of each finished run under each reading."""
    return [
        (
            {
                "ablation": tree.plan.ablation,
                "preset": tree.plan.preset,
                "arm": cell.arm,
                "level": level_name(cell.level),
                "unique_tokens": cell.done.data.unique_tokens,
                "seed": cell.seed,
                "reading": reading,
            },
            cell,
            reading,
        )
        for cell, reading in product(tree.finished, tree.readings)
    ]

"""Measure finished runs: an attempt like a run, which goes on row by row where it was stopped."""

from collections.abc import Sequence
from pathlib import Path

from lab.config import MeasurementConfig, RunConfig, Values, load_config, make_config
from lab.data.dataset import Dataset, prepare
from lab.evaluation.arm import Arm
from lab.evaluation.held_out import require_held_out
from lab.evaluation.measurements import (
    JUDGED,
    code_digest,
    find_set,
    measure,
    passes,
    rows_digest,
    wanted_rows,
)
from lab.files import write_atomic
from lab.results import RESULT, Measured, MeasurementResult, StopReference, stops_of, write_record
from lab.tracking.records import METRICS, MetricsLog
from lab.training.ending import Notice
from lab.training.finished import at_stop, finished_result, load_arm, require_corpus, tokenizer_beside
from lab.training.measured import MEASURED, measured_of, require_finite
from lab.training.progress import ProgressFile
from lab.training.records import this_process


def measure_runs(
    config: MeasurementConfig,
    logdir: Path,
    cache_dir: Path,
    notice: Notice | None = None,
    data_key: str = "",
) -> MeasurementResult:
    """Measure what is missing of a set of tasks; what was measured before is not measured again.

    Args:
        config: which tasks, of whose weights, with which settings.
        logdir: the measurement's folder. Holds `config.yaml`, `metrics.jsonl` with a line for each row,
            `progress.json`, and at the end `result.json`.
        cache_dir: where tokenized corpora are kept.
        notice: how to ask it to end before it is finished.
        data_key: the cache key of the corpus, if it is known.

    Returns:
        What `result.json` holds.

    Raises:
        ValueError: if a run or its corpus is not what it was, its weights are gone, the held-out text does
            not suffice, or a run beside the subject cannot read what the subject does.
        DivergedError: if a metric is not finite.
        PreemptedError: if notice was given.
    """
    notice = notice or Notice()
    write_atomic(logdir / "config.yaml", config.to_yaml().encode())
    dataset = prepare(config.config.data, cache_dir, data_key)
    tasks = find_set(config.measurement)
    require_held_out(config.config, dataset, tasks.section)
    stops = [StopReference.to(stop) for stop in config.stops]
    wanted = wanted_rows(config.measurement, config.config, config.stops, dataset.hashes)
    log = MetricsLog(logdir / METRICS)
    measured = _measured_in_run(logdir / config.stops[0].run)
    measured |= {one.key: one for row in log.rows if (one := measured_of(row)) is not None}
    progress = ProgressFile(logdir / "progress.json", {"phase": "measure"})
    missing = [key for key in wanted if key not in measured]
    total = sum(passes(config.config, task) for task, _ in wanted.values())
    done = total - sum(passes(config.config, wanted[key][0]) for key in missing)
    progress.update(force=True, share=done / total)
    with notice.at_once():
        arms = _load_arms(config, logdir, dataset, cache_dir) if missing else []
        for key in missing:
            task, stop = wanted[key]
            if arms[0].stop != StopReference.to(stop):
                arms[0] = at_stop(arms[0], logdir / stop.run, StopReference.to(stop))
            row = measure(task, arms, dataset)
            require_finite(row)
            log.append({"kind": MEASURED, "measured": row.to_row()})
            measured[key] = row
            done += passes(config.config, task)
            progress.update(force=True, share=done / total)
    result = MeasurementResult(
        measurement=config.measurement,
        wanted=rows_digest(wanted),
        code=code_digest(task for task, _ in wanted.values()),
        stops=tuple(stops),
        tokens_seen=config.stops[0].tokens_seen,
        epoch=config.stops[0].epoch,
        process=this_process(),
        wall_seconds=progress.seconds,
        rows=tuple(measured[key] for key in wanted),
    )
    write_record(logdir / RESULT, result)
    progress.update(force=True, phase="done", share=1.0)
    return result


def measurement_of(
    measurement: str, logdir: Path, runs: Sequence[Path], overrides: Values
) -> MeasurementConfig:
    """A measurement of finished runs: of the subject's stops that the set asks for, of others' best ones.

    Args:
        measurement: name of the set of tasks.
        logdir: the measurement's folder.
        runs: the folders of the runs, the subject's first.
        overrides: a configuration layer over the subject's own, of the sections of what is measured.

    Raises:
        ValueError: if a run is not finished, an override sets what its weights depend on, or a judge is
            needed and there is none.
    """
    results = [finished_result(run) for run in runs]
    own = results[0].config
    config = make_config(own.model_dump(mode="json", exclude_none=True), overrides)
    asked, trained = config.keyed_values(), own.keyed_values()
    if changed := [key for key in {**trained, **asked} if asked.get(key) != trained.get(key)]:
        raise ValueError(
            f"a finished run is measured as it was trained, but got other values of {', '.join(changed)}."
        )
    choice = find_set(measurement).stops
    stops = [
        stop
        for place, (run, result) in enumerate(zip(runs, results, strict=True))
        for stop in stops_of(result, run, logdir, "best" if place else choice)
    ]
    judged = any(task.measurement in JUDGED for task in find_set(measurement).tasks(config))
    if judged and all(stop.run == stops[0].run for stop in stops):
        raise ValueError(
            f"measurement={measurement} needs a judge: --with must name another finished run than {runs[0]}, "
            f"but got {'that one' if len(runs) > 1 else 'none'}."
        )
    return MeasurementConfig(measurement=measurement, stops=tuple(stops), config=config)


def _measured_in_run(folder: Path) -> dict[str, Measured]:
    """What the run measured of its stops itself, by the backend of this process: key -> row."""
    result = finished_result(folder)
    if result.process.backend != this_process().backend:
        return {}
    return {row.key: row for stop in result.stops for row in stop.measured}


def _load_arms(config: MeasurementConfig, logdir: Path, dataset: Dataset, cache_dir: Path) -> list[Arm]:
    """The subject at its best stop, and after it what it is measured with."""
    first, *others = config.stops
    read = [first, *(stop for stop in others if stop.run != first.run)]
    folders = [logdir / stop.run for stop in read]
    configs = [config.config, *(load_config(folder / "config.yaml") for folder in folders[1:])]
    require_corpus(folders[0], dataset)
    for folder, own in zip(folders[1:], configs[1:], strict=True):
        _require_same_text(folder, own, config.config.data.length, dataset, cache_dir)
    return [
        load_arm(folder, StopReference.to(stop), dataset.tokenizer.vocab_size, own)
        for folder, stop, own in zip(folders, read, configs, strict=True)
    ]


def _require_same_text(folder: Path, own: RunConfig, length: int, dataset: Dataset, cache_dir: Path) -> None:
    """Refuse a run beside the subject that reads other ids, or shorter windows.

    Args:
        folder: of the run.
        own: its configuration.
        length: of the subject's windows.
        dataset: the subject's corpus.
        cache_dir: where tokenized corpora are kept.
    """
    if own.data.length < length:
        raise ValueError(
            f"{folder} must read windows of data.length={length}, as the subject does, "
            f"but got data.length={own.data.length}."
        )
    if tokenizer_beside(folder, own, dataset, cache_dir).state() != dataset.tokenizer.state():
        raise ValueError(
            f"{folder} must have the subject's tokenizer, {dataset.tokenizer.name} with the same ids, "
            f"but got {own.data.tokenizer} with other ones."
        )

"""Measure finished runs: an attempt like a run, which goes on row by row where it was stopped."""

from collections.abc import Sequence
from pathlib import Path

from lab.config import MeasurementConfig, Values, load_config, make_config
from lab.data.dataset import Dataset, prepare
from lab.evaluation.arm import Arm
from lab.evaluation.held_out import require_held_out
from lab.evaluation.measurements import code_digest, find_set, measure, passes, row_key, rows_digest
from lab.files import write_atomic
from lab.results import RESULT, MeasurementResult, StopReference, best_stop_of, write_record
from lab.tracking.records import METRICS, MetricsLog
from lab.training.ending import Notice
from lab.training.finished import finished_result, load_arm
from lab.training.measured import MEASURED, measured_of, require_finite
from lab.training.progress import ProgressFile
from lab.training.records import this_process
from lab.version import read_version


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
        ValueError: if a run or its corpus is not what it was, its weights are gone, or the held-out text does
            not suffice.
        DivergedError: if a metric is not finite.
        PreemptedError: if notice was given.
    """
    notice = notice or Notice()
    write_atomic(logdir / "config.yaml", config.to_yaml().encode())
    dataset = prepare(config.config.data, cache_dir, data_key)
    tasks = find_set(config.measurement)
    require_held_out(config.config, dataset, tasks.section)
    stops = [StopReference.to(stop) for stop in config.stops]
    wanted = {row_key(task, stops, dataset.hashes[task.split]): task for task in tasks.tasks(config.config)}
    log = MetricsLog(logdir / METRICS)
    measured = {one.key: one for row in log.rows if (one := measured_of(row)) is not None}
    progress = ProgressFile(logdir / "progress.json", {"phase": "measure"})
    missing = [key for key in wanted if key not in measured]
    total = sum(passes(config.config, task) for task in wanted.values())
    done = total - sum(passes(config.config, wanted[key]) for key in missing)
    progress.update(force=True, share=done / total)
    with notice.at_once():
        arms = _load_arms(config, stops, logdir, dataset) if missing else []
        for key in missing:
            row = measure(wanted[key], arms, dataset)
            require_finite(row)
            log.append({"kind": MEASURED, "measured": row.to_row()})
            measured[key] = row
            done += passes(config.config, wanted[key])
            progress.update(force=True, share=done / total)
    result = MeasurementResult(
        measurement=config.measurement,
        wanted=rows_digest(wanted),
        code=code_digest(wanted.values()),
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
    """A measurement of the best stops of finished runs.

    Args:
        measurement: name of the set of tasks.
        logdir: the measurement's folder.
        runs: the folders of the runs, the subject's first.
        overrides: a configuration layer over the subject's own, of `evaluation` and `inference`.

    Raises:
        ValueError: if a run is not finished, or an override sets what its weights depend on.
    """
    results = [finished_result(run) for run in runs]
    own = results[0].config
    config = make_config(own.model_dump(mode="json", exclude_none=True), overrides)
    asked, trained = config.keyed_values(), own.keyed_values()
    if changed := [key for key in {**trained, **asked} if asked.get(key) != trained.get(key)]:
        raise ValueError(
            f"a finished run is measured as it was trained, but got other values of {', '.join(changed)}."
        )
    stops = [best_stop_of(result, run, logdir) for run, result in zip(runs, results, strict=True)]
    return MeasurementConfig(measurement=measurement, stops=tuple(stops), config=config)


def _load_arms(
    config: MeasurementConfig, stops: Sequence[StopReference], logdir: Path, dataset: Dataset
) -> list[Arm]:
    """The subject, and after it what it is measured with."""
    folders = [logdir / stop.run for stop in config.stops]
    arms = [
        load_arm(
            folder,
            stop,
            dataset.tokenizer.vocab_size,
            load_config(folder / "config.yaml") if place else config.config,
        )
        for place, (folder, stop) in enumerate(zip(folders, stops, strict=True))
    ]
    version = read_version(folders[0])
    trained = version and version.values.get("data")
    if trained != dataset.hash:
        raise ValueError(
            f"{folders[0]} must be measured on the corpus that it was trained on, whose hash is {trained}, "
            f"but got {dataset.hash}."
        )
    return arms

"""What a run records of itself: its log, TensorBoard's events, its progress, and at the end its result."""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from lab.config import RunConfig
from lab.data.dataset import HELD_OUT, Dataset
from lab.data.held_out import held_out_room
from lab.data.overlaps import seen_windows
from lab.environment import available_cpus, cpu_model, versions
from lab.evaluation.flops import TRAIN_PASSES, training_forward_flops_per_token
from lab.files import Row
from lab.models.footprint import parameters
from lab.results import (
    Baseline,
    DataRecord,
    Measured,
    Process,
    RunResult,
    StopReference,
    VersionRecord,
    is_run_row,
)
from lab.results import Stop as StopRecord
from lab.tracking.records import METRICS, MetricsLog
from lab.tracking.tensorboard import RunBoard
from lab.training.distribution import Muted, Ranks
from lab.training.engine import Engine
from lab.training.learner import Learner
from lab.training.measured import MEASURED, SAMPLE, MeasuredStops
from lab.training.progress import ProgressFile
from lab.training.timeline import Stop, Timeline
from lab.version import Version

SHOW_SECONDS = 0.1


class RunRecords:
    """The records of one run. Every rank knows what was measured; rank 0 alone writes.

    Args:
        config: the run's configuration.
        logdir: its folder.
        version: what its weights follow from.
        dataset: its corpus.
        timeline: its steps.
        ranks: its processes.
        started: when this attempt began, unix seconds.

    Attributes:
        measured: what was measured of its stops.
        board: its TensorBoard events.
    """

    def __init__(
        self,
        config: RunConfig,
        logdir: Path,
        version: Version,
        dataset: Dataset,
        timeline: Timeline,
        ranks: Ranks,
        started: float,
    ) -> None:
        self._config, self._logdir, self._version, self._dataset = config, logdir, version, dataset
        self._timeline, self._ranks = timeline, ranks
        self._log = _open_log(logdir / METRICS) if ranks.first else Muted()
        rows = ranks.share(lambda: self._log.rows)
        total = timeline.place(timeline.total_steps)
        totals = {"total_steps": total["step"], "total_epochs": total["epoch"]}
        values = {**totals, "tokens_per_second": 0.0, "train_loss": None}
        self._progress = ProgressFile(logdir / "progress.json", values, started) if ranks.first else Muted()
        self.board = RunBoard(logdir, config, rows) if ranks.first else Muted()
        self.measured = MeasuredStops(config, version.digest(), dataset.hashes, timeline, rows)
        self._shown: tuple[str, float] = ("", 0.0)  # phase of the last progress, and when
        self._reported = {row["step"] for row in rows if row["kind"] == "train"}

    def progress(self, phase: str, main: int, step: int) -> None:
        """Write how far the run has come.

        Args:
            phase: `compile`, `train`, `evaluate` or `done`.
            main: updates that the main run has had.
            step: those of the weights that are trained or measured now.
        """
        shown, now = self._shown, time.monotonic()
        if phase == "train" == shown[0] and now - shown[1] < SHOW_SECONDS:
            return  # to find the share takes longer than a small step does on a GPU
        self._shown = phase, now
        self._progress.update(
            force=phase != "train",
            phase=phase,
            share=self.measured.share_done(main, step),
            step=step,
            epoch=self._timeline.epoch(step),
        )

    def add_training(
        self,
        step: int,
        train_loss: float,
        gradient_norm: float,
        learning_rate: float,
        tokens_per_second: float,
        **others: float,
    ) -> None:
        """Log what training reports of the updates up to a step; `others` are further means of `TrainRow`."""
        self._progress.update(train_loss=train_loss, tokens_per_second=tokens_per_second)
        if step in self._reported:  # by an attempt that went beyond its last checkpoint
            return
        self._reported.add(step)
        self._write(
            "train",
            **self._timeline.place(step),
            train_loss=train_loss,
            gradient_norm=gradient_norm,
            learning_rate=learning_rate,
            tokens_per_second=tokens_per_second,
            **others,
        )

    def add_measured(self, stop: Stop, measured: Measured) -> None:
        """Log a measurement of a stop."""
        self.measured.add(measured)
        self._write(MEASURED, **self._place(stop), measured=measured.to_row())

    def add_sample(self, stop: Stop, text: str) -> None:
        """Log a text that the weights of a stop wrote."""
        self.measured.add_sample(stop)
        self._write(SAMPLE, **self._place(stop), text=text)

    def _place(self, stop: Stop) -> dict[str, Any]:
        return {"reading": stop.reading, "start": stop.start, **self._timeline.place(stop.step)}

    def _write(self, kind: str, **values: Any) -> None:
        row = {"kind": kind, **values}
        self._log.append(row)
        self.board.write(row)

    def result(
        self,
        evaluation: str,
        engine: Engine,
        parent: StopReference | None,
        baselines: Sequence[Row],
        population: tuple[str, ...] = (),
    ) -> RunResult:
        """The record of the run when nothing is missing; all ranks must ask.

        Args:
            evaluation: the digest of what was to be measured.
            engine: the run's.
            parent: the stop that its weights began from.
            baselines: what it is measured beside, as `Baseline` rows.
            population: digests of the versions of the runs that were trained together.
        """
        config, dataset, timeline = self._config, self._dataset, self._timeline
        architecture = config.model.architecture(dataset.tokenizer.vocab_size, config.data.length)
        forward = training_forward_flops_per_token(config, dataset.tokenizer.vocab_size)
        per_token = TRAIN_PASSES * forward

        def train_flops(steps: int) -> float:
            return steps * config.factors.passes * timeline.tokens_seen(1) * per_token

        stops = [
            StopRecord(
                **self._place(stop),
                train_flops=train_flops(stop.step),
                measured=self.measured.rows(stop),
            )
            for stop in self.measured.stops
        ]
        return RunResult(
            config=config,
            version=VersionRecord(values=dict(self._version.values), code=self._version.code),
            evaluation=evaluation,
            process=this_process(engine.layout.describe(), population),
            data=DataRecord(
                hash=dataset.hash,
                hashes=dataset.hashes,
                corpus=config.data.corpus,
                packages=dataset.statistics.get("packages", {}),
                tokenizer=config.data.tokenizer,
                unique_tokens=engine.windows.count * config.data.length,
                windows=engine.windows.count,
                length=config.data.length,
                bytes_per_token=dataset.statistics["bytes_per_token"],
                train_tokens=len(dataset.train),
                documents={
                    split: held_out_room(dataset, split, config.data.length).documents for split in HELD_OUT
                },
                seen_tokens=dataset.statistics["seen"],
                seen_windows={
                    split: seen_windows(dataset.seen[split], config.data.length) for split in HELD_OUT
                },
            ),
            parameters=parameters(architecture).total,
            train_flops_per_token=per_token,
            forward_flops_per_token=forward,
            train_flops=train_flops(timeline.work_to(self.measured.stops)),
            evaluation_flops=sum(row.flops for stop in stops for row in stop.measured),
            wall_seconds=self._ranks.share(lambda: self._progress.seconds),
            parent=parent,
            stops=tuple(sorted(stops, key=lambda stop: (stop.step, stop.reading))),
            baselines=tuple(map(Baseline.model_validate, baselines)),
        )


def _open_log(path: Path) -> MetricsLog:
    log = MetricsLog(path, is_run_row)
    if log.damaged:
        warnings.warn(
            f"{path}: {log.damaged} damaged lines are dropped; what they measured is measured again.",
            stacklevel=2,
        )
    return log


def this_process(devices: dict[str, Any] | None = None, population: tuple[str, ...] = ()) -> Process:
    """What this process computes by and on.

    Args:
        devices: number, processes and layout.
        population: digests of the versions of the runs that it trained together.
    """
    return Process(
        backend=keras.backend.backend(),
        device=Learner.device(),
        devices=devices or {},
        cpu=cpu_model(),
        threads=len(available_cpus()),
        versions=versions(),
        population=population,
    )

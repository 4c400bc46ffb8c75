"""One run: one arm at one seed, trained, measured at its stops, resumable at any moment."""

import math
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lab.code import closure_hash
from lab.config import RunConfig
from lab.data.dataset import Dataset, prepare
from lab.environment import available_cpus, cpu_model, versions
from lab.evaluation.arm import Arm, make_scorer
from lab.evaluation.flops import forward_flops_per_token, train_flops_per_token
from lab.evaluation.generation import sample_left_to_right
from lab.evaluation.held_out import require_held_out
from lab.evaluation.measurements import evaluation_digest, load_measurements, measure
from lab.files import Row, write_atomic
from lab.results import (
    RESULT,
    DamagedError,
    DataRecord,
    Measured,
    Process,
    Reading,
    RunResult,
    VersionRecord,
    is_run_row,
    order_readings,
    read_result,
    write_record,
)
from lab.results import Stop as StopRecord
from lab.tracking.records import METRICS, MemoryLog, MetricsLog
from lab.tracking.tensorboard import RunBoard
from lab.training.checkpoint import Checkpoints, load_arrays, save_arrays, stop_weights_path
from lab.training.distribution import Muted, Ranks, find_ranks
from lab.training.ending import DivergedError, Notice, PreemptedError
from lab.training.engine import Engine
from lab.training.learner import Learner
from lab.training.measured import MEASURED, MeasuredStops
from lab.training.progress import ProgressFile, StepLog
from lab.training.timeline import Stop, make_timeline
from lab.training.variables import Arrays
from lab.version import ENGINE, Version, claim_version

PROMPT_TOKENS = 16
MEGABYTE = 2**20

# Of the code that this process runs: read when it is imported, as an edit may come before it is used.
CODE_HASH = closure_hash(ENGINE)
load_measurements()


def train_run(
    config: RunConfig,
    logdir: Path,
    cache_dir: Path,
    notice: Notice | None = None,
    start: Path | None = None,
    data_key: str = "",
) -> RunResult:
    """Train one run, or go on with it from its last checkpoint, and measure it.

    What is there already is not made again: of a finished run only what is newly asked for is measured, and
    a new stop trains its own branch from the nearest checkpoint before it.

    Args:
        config: everything that decides the numbers.
        logdir: the run's folder. Holds `config.yaml`, `version.json`, `metrics.jsonl`, `progress.json`,
            `checkpoints/`, an event file for TensorBoard, and at the end `result.json`.
        cache_dir: where tokenized corpora are kept.
        notice: how to ask it to end before it is finished.

    Returns:
        What `result.json` holds.

    Raises:
        ValueError: if the folder belongs to another run, or the data do not suffice.
        DivergedError: if a loss stops being finite.
        PreemptedError: if notice was given. Every update made is in a checkpoint, but for those since the
            last one if the notice came while the finished run was measured.
    """
    ranks = find_ranks(config.training.parallel)
    dataset = prepare(config.data, cache_dir)
    require_held_out(config, dataset, "evaluation")
    version = Version.of(config, dataset.hash, keras.backend.backend(), CODE_HASH)
    evaluation = evaluation_digest(config, dataset.hashes)
    ranks.require_equal("version of the run", version.digest())
    ranks.require_equal("evaluation", evaluation)
    if ranks.first:
        claim_version(logdir, version)
        write_atomic(logdir / "config.yaml", config.to_yaml().encode())
    found = _share(ranks, _sound_result(logdir) if ranks.first else None)
    if found is not None and found.evaluation == evaluation:
        return found
    return Run(config, logdir, dataset, version, notice or Notice()).finish(evaluation)


def _sound_result(logdir: Path) -> RunResult | None:
    try:
        return read_result(logdir)
    except DamagedError as error:
        warnings.warn(f"{error} It is made again.", stacklevel=2)
        return None


def _share(ranks: Ranks, result: RunResult | None) -> RunResult | None:
    """The first rank's result on all of them."""
    found = ranks.share(lambda: result and result.model_dump(mode="json", by_alias=True))
    return result if ranks.first or found is None else RunResult.model_validate(found)


class Run:
    """The state of one run.

    The main run is a sequence of steps with checkpoints. A stop's branch starts from the main run in memory,
    anneals, is measured, and is forgotten; a run killed in a branch goes back to the last checkpoint.
    Measuring draws no random number that training uses. Of several ranks each keeps all of this state, and
    the first alone reads and writes the folder.

    Args:
        config: the run's configuration.
        logdir: its folder.
        dataset: its corpus.
        version: what its weights follow from.
        notice: how it is asked to end early.
    """

    def __init__(
        self, config: RunConfig, logdir: Path, dataset: Dataset, version: Version, notice: Notice
    ) -> None:
        self.config, self.logdir, self.dataset, self.version = config, logdir, dataset, version
        started = time.time()
        self.engine = self._new_engine()
        self.timeline = make_timeline(config, self.engine.windows.count)
        self.ranks = self.engine.layout.ranks
        self.own_notice = notice
        self.notice = notice if self.ranks.count == 1 else Notice()
        self.scorer = make_scorer(self.engine.learner.transformer, config)
        self._decide_what_is_kept()
        self.checkpoints = Checkpoints(logdir / "checkpoints", version, self.keeps_checkpoints)
        self.log: MetricsLog | MemoryLog
        self.progress: ProgressFile | Muted = Muted()
        self.board: RunBoard | Muted = Muted()
        if self.ranks.first:
            self.log = self._open_log()
            self.ranks.share(lambda: self.log.rows)
            self.progress = ProgressFile(
                logdir / "progress.json",
                {
                    "total_steps": self.timeline.total_steps,
                    "total_epochs": self.timeline.epoch(self.timeline.total_steps),
                    "tokens_per_second": 0.0,
                    "train_loss": None,
                },
                started,
            )
            self.board = RunBoard(logdir, config, self.log.rows)
        else:
            self.log = MemoryLog(self.ranks.share(list))
        self.measured = MeasuredStops(config, version.digest(), dataset.hashes, self.timeline, self.log.rows)
        self.step = 0
        self.on_main = True  # whether the engine holds the main run, at `step`
        self.reported = {row["step"] for row in self.log.rows if row["kind"] == "train"}

    def _new_engine(self) -> Engine:
        return Engine(self.config, self.dataset.train, self.dataset.tokenizer.vocab_size)

    def _decide_what_is_kept(self) -> None:
        """All weights of stops, and all checkpoints, if they are small (`kept_megabytes`)."""
        left = self.config.training.kept_megabytes * MEGABYTE
        left -= len(self.timeline.stops) * self.engine.weight_bytes
        self.keeps_weights = left >= 0
        checkpoints = self.timeline.total_steps // self.config.training.checkpoint_steps + 1
        self.keeps_checkpoints = left >= checkpoints * self.engine.state_bytes

    def _open_log(self) -> MetricsLog:
        log = MetricsLog(self.logdir / METRICS, is_run_row)
        if log.damaged:
            warnings.warn(
                f"{log.path}: {log.damaged} damaged lines are dropped; what they measured is measured again.",
                stacklevel=2,
            )
        return log

    def finish(self, evaluation: str) -> RunResult:
        """Train and measure whatever is still missing; write and return the result.

        Args:
            evaluation: the digest of what is to be measured.
        """
        self._progress("compile")
        try:
            with self.board:
                while pending := self.ranks.share(self._pending):
                    stops = {self.timeline.stops[number]: kept for number, kept in pending}
                    self._measure_kept([stop for stop, kept in stops.items() if kept])
                    self._train([stop for stop, kept in stops.items() if not kept])
                result = self._result(evaluation)
                self.board.finish(result.best())
        except PreemptedError:
            if self.on_main:
                self._save()
            raise
        if self.ranks.first:
            write_record(self.logdir / RESULT, result)
            self._progress("done")
            if not self.keeps_weights:
                self._forget_weights()
            if not self.keeps_checkpoints:
                self.checkpoints.remove()
        return result

    def _pending(self) -> list[tuple[int, bool]]:
        """The stops that lack a measurement, by number, and whether their weights are there to be measured.

        So do those that lack their sample while their weights are there, and the best and the last ones if
        their weights are not.
        """
        picked = self.measured.picked()
        pending = []
        for number, stop in enumerate(self.timeline.stops):
            path = self._weights_path(stop)
            unsaid = path.is_file() and self._wants_sample(stop)
            if unsaid or self.measured.missing(stop, picked):
                pending.append((number, _are_sound(path)))
            elif stop in picked and not path.is_file():
                pending.append((number, False))
        return pending

    # Training.

    def _train(self, stops: Sequence[Stop]) -> None:
        """Train to these stops from the nearest checkpoint, and measure each."""
        if not stops:
            return
        self._restore(min(stop.start for stop in stops))
        for stop in stops:
            self._train_main(stop.start)
            self._train_stop(stop)

    def _train_main(self, stop: int) -> None:
        """Advance the main run to a step, with a checkpoint at every multiple of `checkpoint_steps`."""
        every = self.config.training.checkpoint_steps
        while self.step < stop:
            target = min(stop, (self.step // every + 1) * every)
            self.step = self._fit(self.step, target, log=True)
            self._agree_to_end()
            self.notice.obey()
            if target % every == 0:
                self._save()

    def _agree_to_end(self) -> None:
        """Several ranks obey a notice together, at the end of a stretch: all must make the same updates."""
        if self.ranks.count > 1 and self.ranks.any(self.own_notice.given):
            self.notice.give()

    def _train_stop(self, stop: Stop) -> None:
        """Anneal if the stop asks for it, keep and measure its weights, and return to the main run."""
        main = self.engine.state() if stop.reading == "annealed" else None
        self.on_main = main is None
        try:
            if main is not None:
                self.engine.follow_branch(stop.step)
                self._fit(stop.start, stop.step, log=False)
                self.notice.obey()
            weights = self.engine.weights()
            if self.ranks.first:
                path = self._weights_path(stop)
                path.parent.mkdir(parents=True, exist_ok=True)
                save_arrays(path, weights)
            with self.engine.averaged():
                self._measure(stop)
        finally:
            if main is not None:
                self.engine.assign_state(main)
                self.on_main = True

    def _fit(self, first: int, last: int, log: bool) -> int:
        """Make the updates first .. last - 1, or some of them if the run is asked to end.

        Returns:
            The number of updates that the weights have had then.

        Raises:
            DivergedError: if the loss or the gradient is not finite.
        """
        training = self.config.training
        steps = StepLog(
            first,
            training.accumulation,
            training.log_steps,
            training.batch_size * self.config.data.length,
            self._report if log else lambda *_: None,
            lambda step: self._progress("train", step),
            lambda: self.notice.given,
        )
        self.engine.fit(first, last, [steps])
        if steps.failure:
            raise DivergedError(f"the training loss must stay finite, but got {steps.failure}.")
        return steps.step

    def _report(self, step: int, train_loss: float, gradient_norm: float, tokens_per_second: float) -> None:
        self.progress.update(train_loss=train_loss, tokens_per_second=tokens_per_second)
        if step in self.reported:  # by an attempt that went beyond its last checkpoint
            return
        self.reported.add(step)
        self._log(
            {
                "kind": "train",
                **self._place(step),
                "train_loss": train_loss,
                "gradient_norm": gradient_norm,
                "learning_rate": self.engine.main_learning_rate(step),
                "tokens_per_second": tokens_per_second,
            }
        )

    # Measuring.

    def _measure_kept(self, stops: Sequence[Stop]) -> None:
        """Measure stops whose weights were kept, and go back to where training was."""
        if not stops:
            return
        state = self.engine.state()
        on_main, self.on_main = self.on_main, False
        for stop in stops:
            arrays: Arrays = self.ranks.share_arrays(partial(load_arrays, self._weights_path(stop)))
            self.engine.assign_weights(arrays)
            self._measure(stop)
        self.engine.assign_state(state)
        self.on_main = on_main

    def _measure(self, stop: Stop) -> None:
        """Measure of the weights as they are what is missing, and log it."""
        place = {"reading": stop.reading, "start": stop.start, **self._place(stop.step)}
        arm = Arm(self.config, self.scorer, self.measured.reference(stop))
        self._progress("evaluate", stop.step)
        with self.notice.at_once():
            for task in self.measured.missing(stop, self.measured.picked()):
                found = measure(task, [arm], self.dataset)
                require_finite(found)
                self.measured.add(found)
                self._log({"kind": MEASURED, **place, "measured": found.to_row()})
        if self._wants_sample(stop):
            self._log({"kind": "sample", **place, "text": self._sample()})
        self.board.flush()

    @property
    def _headline(self) -> Reading:
        return order_readings(stop.reading for stop in self.timeline.stops)[0]

    def _wants_sample(self, stop: Stop) -> bool:
        if stop.reading != self._headline or not self.config.evaluation.sample_tokens:
            return False
        samples = (row for row in self.log.rows if row["kind"] == "sample")
        return all((row["reading"], row["step"]) != (stop.reading, stop.step) for row in samples)

    def _sample(self) -> str:
        length = self.config.data.length
        prompt = np.asarray(self.dataset.validation[: min(PROMPT_TOKENS, length // 2)], np.int32)
        total = min(length, len(prompt) + self.config.evaluation.sample_tokens)
        sampled = sample_left_to_right(self.scorer, prompt[None], total - len(prompt), self.config.seed)
        return self.dataset.tokenizer.decode(sampled[0])

    # Checkpoints.

    def _weights_path(self, stop: Stop) -> Path:
        return stop_weights_path(self.logdir, stop.reading, stop.step)

    def _save(self) -> None:
        """Save the main run; then forget weights of stops that can be neither the best nor the last."""
        arrays = self.engine.state()
        if self.ranks.first:
            self.checkpoints.save(self.step, arrays)
            if not self.keeps_weights:
                self._forget_weights()

    def _forget_weights(self) -> None:
        needed = {self._weights_path(stop) for stop in self.measured.best_and_last(self.measured.validated)}
        for path in stop_weights_path(self.logdir, "any", 0).parent.glob("*.npz"):
            if path not in needed:
                path.unlink()

    def _restore(self, most: int) -> None:
        """Take the main run from the newest checkpoint up to a step, unless it is there already."""
        found = self.checkpoints.load(most) if self.ranks.first else None
        step: int | None = self.ranks.share(lambda: found and found[0])
        if step is not None and (step > self.step or self.step > most):
            self.engine.assign_state(self.ranks.share_arrays(lambda: found[1] if found else {}))
            self.step = step
        elif self.step > most:
            self.engine.assign_state(self._new_engine().state())
            self.step = 0
        self.engine.follow_main()

    # Records.

    def _log(self, row: Row) -> None:
        self.log.append(row)
        self.board.write(row)

    def _place(self, step: int) -> Row:
        return {
            "step": step,
            "tokens_seen": self.timeline.tokens_seen(step),
            "epoch": self.timeline.epoch(step),
        }

    def _progress(self, phase: str, step: int | None = None) -> None:
        """Say how far the run has come: the updates of its stops and of the main run, of all there are."""
        at = self.step if step is None else step
        validated = self.measured.validated
        branches = sum(stop.step - stop.start for stop in validated)
        main = max([self.step, *(stop.start for stop in validated)])
        work = (
            self.timeline.total_steps + branches if phase == "done" else main + branches + max(0, at - main)
        )
        self.progress.update(
            force=phase != "train",
            phase=phase,
            share=min(1.0, work / self.timeline.work),
            step=at,
            epoch=self.timeline.epoch(at),
        )

    def _train_flops(self, steps: int) -> float:
        passes = self.config.factors.passes
        return steps * passes * self.timeline.tokens_seen(1) * self._flops_per_token(train_flops_per_token)

    def _flops_per_token(self, count: Any) -> float:
        vocab_size, length = self.dataset.tokenizer.vocab_size, self.config.data.length
        return float(count(self.config.model.architecture(vocab_size, length), self.scorer.causal))

    def _result(self, evaluation: str) -> RunResult:
        stops = [
            StopRecord(
                reading=stop.reading,
                start=stop.start,
                **self._place(stop.step),
                train_flops=self._train_flops(stop.step),
                measured=self.measured.rows(stop),
            )
            for stop in self.timeline.stops
        ]
        config, dataset = self.config, self.dataset
        return RunResult(
            config=config,
            version=VersionRecord(values=dict(self.version.values), code=self.version.code),
            evaluation=evaluation,
            process=this_process(self.engine.layout.describe()),
            data=DataRecord(
                hash=dataset.hash,
                hashes=dataset.hashes,
                corpus=config.data.corpus,
                packages=dataset.statistics.get("packages", {}),
                tokenizer=config.data.tokenizer,
                unique_tokens=self.engine.windows.count * config.data.length,
                windows=self.engine.windows.count,
                length=config.data.length,
                bytes_per_token=dataset.statistics["bytes_per_token"],
            ),
            parameters=self.engine.learner.transformer.count_params(),
            train_flops_per_token=self._flops_per_token(train_flops_per_token),
            forward_flops_per_token=self._flops_per_token(forward_flops_per_token),
            train_flops=self._train_flops(self.timeline.work),
            evaluation_flops=sum(row.flops for stop in stops for row in stop.measured),
            wall_seconds=self.progress.seconds if isinstance(self.progress, ProgressFile) else 0.0,
            stops=tuple(sorted(stops, key=lambda stop: (stop.step, stop.reading))),
        )


def _are_sound(weights: Path) -> bool:
    """Whether these weights are there and can be measured."""
    try:
        return weights.is_file() and bool(load_arrays(weights))
    except DamagedError as error:
        warnings.warn(f"{error} They are made again.", stacklevel=2)
        return False


def require_finite(found: Measured) -> None:
    """Raise where a metric is not finite, as where the weights are finite and the logits are not."""
    bad = {
        name: value for name, value in found.values.items() if value is not None and not math.isfinite(value)
    }
    if bad:
        raise DivergedError(f"every metric on the {found.task.split} split must be finite, but got {bad}.")


def this_process(devices: dict[str, Any] | None = None) -> Process:
    """What this process computes by and on.

    Args:
        devices: number, processes and layout.
    """
    return Process(
        backend=keras.backend.backend(),
        device=Learner.device(),
        devices=devices or {},
        cpu=cpu_model(),
        threads=len(available_cpus()),
        versions=versions(),
    )

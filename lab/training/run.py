"""One run: one arm at one seed, trained, measured at its stops, resumable at any moment."""

import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lab.config import RunConfig, load_config
from lab.data.budget import budget
from lab.data.dataset import Dataset, prepare
from lab.data.windows import TrainingWindows
from lab.evaluation.flops import forward_flops_per_token, shape_of, train_flops_per_token
from lab.evaluation.generation import SlotLogits, sample_left_to_right
from lab.evaluation.yardstick import Yardstick, make_scorer
from lab.tracking.records import (
    MemoryLog,
    MetricsLog,
    code_hash,
    read_json,
    versions,
    write_atomic,
    write_json,
)
from lab.tracking.tensorboard import RunBoard
from lab.tracking.version import Version, claim_version
from lab.training.build import build_learner
from lab.training.checkpoint import (
    Arrays,
    Checkpoints,
    assign_variables,
    load_arrays,
    read_variables,
    save_arrays,
    stop_weights_path,
)
from lab.training.distribution import Muted, find_ranks, set_layout
from lab.training.ending import DivergedError, Notice, PreemptedError
from lab.training.progress import ProgressFile, StepLog
from lab.training.schedule import branch_decay, learning_rate, main_decay
from lab.training.timeline import Stop, make_timeline

Row = dict[str, Any]

SCHEMA = 1
PROMPT_TOKENS = 16


def train_run(config: RunConfig, logdir: Path, cache_dir: Path, notice: Notice | None = None) -> Row:
    """Train one run, or go on with it from its last checkpoint, and measure it.

    Args:
        config: everything that decides the numbers.
        logdir: the run's folder. Holds `config.yaml`, `metrics.jsonl`, `progress.json`, `checkpoints/`,
            `tensorboard/`, and at the end `result.json`.
        cache_dir: where tokenized corpora are kept.
        notice: how to ask it to end before it is finished.

    Returns:
        What `result.json` holds; untrained if it is already there.

    Raises:
        ValueError: if the folder belongs to another configuration, code or data, or the data do not suffice.
        DivergedError: if a loss stops being finite.
        PreemptedError: if notice was given. Every update made is in a checkpoint, but for those since the
            last one if the notice came while the finished run was measured on the test split.
    """
    ranks = find_ranks(config.training.parallel)
    ranks.require_equal("configuration", config.key())
    if ranks.first:
        _claim(logdir, config)
    dataset = prepare(config.data, cache_dir)
    ranks.require_equal("data", dataset.hash)
    if ranks.first:
        claim_version(logdir, Version(config.key(), code_hash(), dataset.hash))
    path = logdir / "result.json"
    found: Row | None = ranks.share(lambda: read_json(path) if path.is_file() else None)
    if found is not None:
        return found
    return Run(config, logdir, dataset, notice or Notice()).finish()


def _claim(logdir: Path, config: RunConfig) -> None:
    path = logdir / "config.yaml"
    if not path.is_file():
        write_atomic(path, config.to_yaml().encode())
    elif (found := load_config(path)).key() != config.key():
        raise ValueError(
            f"{logdir} must hold the run {config.key()}, but it holds {found.key()} ({path.name})."
        )


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
        notice: how it is asked to end early.
    """

    def __init__(self, config: RunConfig, logdir: Path, dataset: Dataset, notice: Notice) -> None:
        self.config, self.logdir, self.dataset = config, logdir, dataset
        self.started = time.time()
        training = config.training
        tokens = budget(dataset.train, config.data.unique_tokens, config.data.length)
        self.windows = TrainingWindows(
            tokens, config.data.length, training.batch_size, config.seed, config.data.windows
        )
        self.timeline = make_timeline(config, self.windows.count)
        self.yardstick = Yardstick(config, dataset)
        self.layout = set_layout(training)
        self.ranks = self.layout.ranks
        self.own_notice = notice
        self.notice = notice if self.ranks.count == 1 else Notice()
        self.learner = build_learner(config, dataset.tokenizer.vocab_size)
        self.scorer = make_scorer(self.learner.transformer, config)
        self.sampler = SlotLogits(self.learner.transformer, self.scorer.causal)
        self.checkpoints = Checkpoints(logdir / "checkpoints", config.key())
        self.log: MetricsLog | MemoryLog
        self.progress: ProgressFile | Muted = Muted()
        self.board: RunBoard | Muted = Muted()
        if self.ranks.first:
            self.log = MetricsLog(logdir / "metrics.jsonl")
            self.ranks.share(lambda: self.log.rows)
            self.progress = ProgressFile(
                logdir / "progress.json",
                self.timeline.total_steps,
                self.timeline.epoch(self.timeline.total_steps),
            )
        else:
            self.log = MemoryLog(self.ranks.share(list))
        self.step = self._restore()
        if self.ranks.first:
            self.board = RunBoard(logdir, self.log.rows)

    def finish(self) -> Row:
        """Make every step and measurement that is still missing; write and return the result."""
        self._progress("compile", self.step)
        try:
            with self.board:
                for stop in self.timeline.stops:
                    if self._stop_row(stop) is None:
                        self._train_main(stop.start)
                        self._measure_stop(stop)
                self._train_main(self.timeline.total_steps)
        except PreemptedError:
            self._save()
            raise
        with self.notice.at_once():  # from here on the learner holds the weights of stops
            result = self._result()
        if self.ranks.first:
            write_json(self.logdir / "result.json", result)
            self._progress("done", self.timeline.total_steps)
            self.checkpoints.remove()
        return result

    # Training.

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
            self._record if log else lambda *_: None,
            lambda step: self._progress("train", step),
            lambda: self.notice.given,
        )
        self.learner.fit(
            self._micro_batches(first, last),
            steps_per_epoch=(last - first) * training.accumulation,
            shuffle=False,
            verbose=0,
            callbacks=[steps],
        )
        if steps.failure:
            raise DivergedError(f"the training loss must stay finite, but got {steps.failure}.")
        return steps.step

    def _micro_batches(self, first: int, last: int) -> Iterator[tuple[dict[str, np.ndarray]]]:
        accumulation = self.config.training.accumulation
        rows = self.config.training.batch_size // accumulation
        skipped, own = self.layout.own_rows(rows)
        for step in range(first, last):
            for part in range(accumulation):
                yield (self.windows.batch(step, part * rows + skipped, own)._asdict(),)

    def _record(self, step: int, train_loss: float, gradient_norm: float, tokens_per_second: float) -> None:
        row = {
            "kind": "train",
            **self._place(step),
            "train_loss": train_loss,
            "gradient_norm": gradient_norm,
            "learning_rate": self._main_learning_rate(step),
            "tokens_per_second": tokens_per_second,
        }
        self.log.append(row)
        self.board.write(row)
        self.progress.update(train_loss=train_loss, tokens_per_second=tokens_per_second)

    def _main_learning_rate(self, step: int) -> float:
        decay = main_decay(self.config.training, self.timeline.total_steps)
        return float(learning_rate(self.config.training, step - 1, decay.start, decay.stop, np))

    # Stops.

    def _measure_stop(self, stop: Stop) -> None:
        """Anneal if the stop asks for it, measure on the validation split, and return to the main run."""
        variables = [*self.learner.variables, *self.learner.optimizer.variables]
        main = read_variables(variables) if stop.reading == "annealed" else None
        try:
            if main is not None:
                self.learner.optimizer.set_decay(branch_decay(self.config.training, stop.step))
                self._fit(stop.start, stop.step, log=False)
            self._record_stop(stop)
        finally:
            if main is not None:
                assign_variables(variables, main)

    def _record_stop(self, stop: Stop) -> None:
        """Measure the weights as they are, keep them, and log it all."""
        self._progress("evaluate", stop.step)
        with self.notice.at_once():
            validation = self._measured("validation")
        place = {"reading": stop.reading, **self._place(stop.step)}
        row = {
            "kind": "stop",
            **place,
            "train_flops": self._train_flops(stop.step),
            "validation": validation,
        }
        weights = read_variables(self.learner.trainable_variables)
        if self.ranks.first:
            path = self._weights_path(stop.reading, stop.step)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_arrays(path, weights)
        if stop.reading == self._readings()[0] and self.config.evaluation.sample_tokens:
            sample = {"kind": "sample", **place, "text": self._sample()}
            self.log.append(sample)
            self.board.write(sample)
        self.log.append(row)
        self.board.write(row)
        self.board.flush()

    def _measured(self, split: str) -> dict[str, float]:
        """The metrics of a split.

        Raises:
            DivergedError: if one is not finite, as where the weights are finite and the logits are not.
        """
        metrics = self.yardstick.measure(self.scorer, split)
        bad = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if bad:
            raise DivergedError(f"every metric on the {split} split must be finite, but got {bad}.")
        return metrics

    def _sample(self) -> str:
        length = self.config.data.length
        prompt = np.asarray(self.dataset.validation[: min(PROMPT_TOKENS, length // 2)], np.int32)
        total = min(length, len(prompt) + self.config.evaluation.sample_tokens)
        return self.dataset.tokenizer.decode(
            sample_left_to_right(self.sampler, prompt[None], total, self.config.seed)[0]
        )

    def _stop_row(self, stop: Stop) -> Row | None:
        for row in self.log.rows:
            if row["kind"] == "stop" and (row["reading"], row["step"]) == (stop.reading, stop.step):
                return row
        return None

    def _readings(self) -> list[str]:
        """The readings of this run, the headline first."""
        return sorted({stop.reading for stop in self.timeline.stops}, key=["annealed", "along_run"].index)

    def _stop_rows(self, reading: str) -> list[Row]:
        rows = [row for row in self.log.rows if row["kind"] == "stop" and row["reading"] == reading]
        return sorted(rows, key=lambda row: row["step"])

    def _best_and_end(self, reading: str) -> tuple[Row, Row]:
        rows = self._stop_rows(reading)
        return min(rows, key=lambda row: row["validation"]["nll"]), rows[-1]

    # Checkpoints.

    def _weights_path(self, reading: str, step: int) -> Path:
        return stop_weights_path(self.logdir, reading, step)

    def _save(self) -> None:
        """Save the main run; then forget weights of stops that can be neither the best nor the last."""
        arrays = read_variables([*self.learner.variables, *self.learner.optimizer.variables])
        if self.ranks.first:
            self.checkpoints.save(self.step, arrays)
            self._keep_weights()

    def _keep_weights(self) -> None:
        needed = {
            self._weights_path(reading, row["step"])
            for reading in self._readings()
            if self._stop_rows(reading)
            for row in self._best_and_end(reading)
        }
        for path in self._weights_path("any", 0).parent.glob("*.npz"):
            if path not in needed:
                path.unlink()

    def _restore(self) -> int:
        """Go back to the last checkpoint, and drop the records of what came after it."""
        variables = [*self.learner.variables, *self.learner.optimizer.variables]
        self.learner.optimizer.set_decay(main_decay(self.config.training, self.timeline.total_steps))
        found = self.checkpoints.load() if self.ranks.first else None
        step: int | None = self.ranks.share(lambda: found and found[0])
        if step is None:
            self.log.keep(lambda row: False)
            return 0
        assign_variables(variables, self.ranks.share_arrays(lambda: found[1] if found else {}))
        starts = {(stop.reading, stop.step): stop.start for stop in self.timeline.stops}
        done = {
            (row["reading"], row["step"])
            for row in self.log.rows
            if row["kind"] == "stop" and starts[row["reading"], row["step"]] <= step
        }
        self.log.keep(
            lambda row: (
                row["step"] <= step if row["kind"] == "train" else (row["reading"], row["step"]) in done
            )
        )
        return step

    # Records.

    def _place(self, step: int) -> Row:
        return {
            "step": step,
            "tokens_seen": self.timeline.tokens_seen(step),
            "epoch": self.timeline.epoch(step),
        }

    def _progress(self, phase: str, step: int) -> None:
        done = sum(row["kind"] == "stop" for row in self.log.rows)
        work = self.timeline.work_before(self.step, done) + max(0, step - self.step)
        self.progress.update(
            force=phase != "train",
            phase=phase,
            share=min(1.0, work / self.timeline.work),
            step=step,
            epoch=self.timeline.epoch(step),
        )

    def _train_flops(self, steps: int) -> float:
        passes = self.config.factors.passes
        return steps * passes * self.timeline.tokens_seen(1) * self._flops_per_token(train_flops_per_token)

    def _evaluation_flops(self, tested: Row) -> float:
        """FLOPs of all measurements: every stop on validation, those picked on test too."""
        picked = {(stop["reading"], stop["step"]) for stops in tested.values() for stop in stops.values()}
        validation, test = (self.yardstick.flops(split) for split in ("validation", "test"))
        return len(self.timeline.stops) * validation + len(picked) * test

    def _flops_per_token(self, count: Any) -> float:
        model, vocab_size = self.config.model, self.dataset.tokenizer.vocab_size
        length, causal = self.config.data.length, self.scorer.causal
        return float(count(shape_of(model), length, vocab_size, causal, model.loops))

    def _tested(self) -> Row:
        """The best and the last stop of each reading, measured on the test split."""
        tested: dict[tuple[str, int], Row] = {}
        picked: dict[str, Row] = {"best": {}, "end": {}}
        for reading in self._readings():
            for name, row in zip(picked, self._best_and_end(reading), strict=True):
                key = (reading, row["step"])
                if key not in tested:
                    weights: Arrays = self.ranks.share_arrays(partial(load_arrays, self._weights_path(*key)))
                    assign_variables(self.learner.trainable_variables, weights)
                    self._progress("evaluate", row["step"])
                    stop = {name: value for name, value in row.items() if name != "kind"}
                    tested[key] = {**stop, "test": self._measured("test")}
                picked[name][reading] = tested[key]
        return picked

    def _result(self) -> Row:
        config, dataset = self.config, self.dataset
        tested = self._tested()
        if self.ranks.first:
            self._keep_weights()
        stops = [
            {k: v for k, v in row.items() if k != "kind"}
            for r in self._readings()
            for row in self._stop_rows(r)
        ]
        return {
            "schema": SCHEMA,
            "arm": config.arm,
            "seed": config.seed,
            "config": config.model_dump(mode="json"),
            "config_key": config.key(),
            "backend": keras.backend.backend(),
            "device": self.learner.device(),
            "devices": self.layout.describe(),
            "code_hash": code_hash(),
            "versions": versions(),
            "parameters": self.learner.transformer.count_params(),
            "data": {
                "hash": dataset.hash,
                "corpus": config.data.corpus,
                "tokenizer": config.data.tokenizer,
                "unique_tokens": self.windows.count * config.data.length,
                "windows": self.windows.count,
                "length": config.data.length,
                "bytes_per_token": dataset.statistics["bytes_per_token"],
            },
            "train_flops_per_token": self._flops_per_token(train_flops_per_token),
            "forward_flops_per_token": self._flops_per_token(forward_flops_per_token),
            "train_flops": self._train_flops(self.timeline.work),
            "evaluation_flops": self._evaluation_flops(tested),
            "wall_seconds": time.time() - self.started,
            "stops": sorted(stops, key=lambda stop: (stop["step"], stop["reading"])),
            **tested,
        }

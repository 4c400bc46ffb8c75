"""One run: one arm at one seed, trained, measured at its stops, resumable at any moment."""

import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np

from lab.code import closure_hash
from lab.config import RunConfig
from lab.data.characters import decode_whole
from lab.data.dataset import Dataset, prepare
from lab.evaluation.arm import Arm, make_scorer
from lab.evaluation.baselines import measure_baselines
from lab.evaluation.generation import sample_left_to_right
from lab.evaluation.held_out import require_held_out
from lab.evaluation.measurements import evaluation_digest, load_measurements, measure
from lab.files import Row, write_atomic
from lab.results import RESULT, DamagedError, RunResult, read_result, write_record
from lab.training.distribution import Muted, Ranks, find_ranks
from lab.training.ending import DivergedError, Notice, PreemptedError
from lab.training.engine import Engine, fit_alone
from lab.training.finished import Start, load_start
from lab.training.kept import KeptWeights
from lab.training.kind import kind_of
from lab.training.measured import require_finite
from lab.training.progress import Logs, StepLog, logs_as_arrays, split_logs
from lab.training.records import RunRecords
from lab.training.timeline import Stop, make_timeline
from lab.training.variables import Arrays
from lab.version import ENGINE, Version, claim_version

if TYPE_CHECKING:
    from lab.training.population import Member

PROMPT_TOKENS = 16  # of a sample, or half the window if that is shorter: the rest is the model's

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
    member: "Member | None" = None,
) -> RunResult:
    """Train one run, or go on with it from its last checkpoint, and measure it.

    What is there already is not made again: of a finished run only what is newly asked for is measured, and
    a new stop trains its own branch from the nearest checkpoint before it.

    Args:
        config: everything that decides the numbers.
        logdir: the run's folder. Holds `config.yaml`, `version.json`, `metrics.jsonl`, `progress.json`,
            `checkpoints/`, an event file for TensorBoard, and at the end `result.json`.
        cache_dir: where tokenized corpora are kept, and what counting them gives.
        notice: how to ask it to end before it is finished.
        start: the folder of the finished run that `training.start_from` names: the weights of its best stop
            are those that this run begins with.
        data_key: the cache key of the corpus, if it is known.
        member: of the population that it is trained in, whose notice it obeys; None if it is trained alone.

    Returns:
        What `result.json` holds.

    Raises:
        ValueError: if the folder belongs to another run, the data do not suffice, or `start` is not as it
            must be.
        DivergedError: if a loss stops being finite.
        PreemptedError: if notice was given. Every update made is in a checkpoint, but for those since the
            last one if the notice came while the finished run was measured.
    """
    ranks = find_ranks(config.training.parallel)
    dataset = prepare(config.data, cache_dir, data_key)
    require_held_out(config, dataset, "evaluation")
    begun_from = load_start(config, start, ranks, dataset, cache_dir)
    version = Version.of(
        config, dataset.hash, keras.backend.backend(), CODE_HASH, begun_from.digest if begun_from else ""
    )
    evaluation = evaluation_digest(config, dataset.hashes)
    ranks.require_equal("version of the run", version.digest())
    ranks.require_equal("evaluation", evaluation)
    if ranks.first:
        claim_version(logdir, version)
        write_atomic(logdir / "config.yaml", config.to_yaml().encode())
    result = _sound_result(logdir, ranks)
    if result is not None and result.evaluation == evaluation:
        return result
    notice = member.notice if member else notice or Notice()
    run = Run(config, logdir, dataset, version, notice, begun_from, member)
    baselines = ranks.share(lambda: [one.to_row() for one in measure_baselines(config, dataset, cache_dir)])
    return run.finish(evaluation, baselines)


def _sound_result(logdir: Path, ranks: Ranks) -> RunResult | None:
    """The result that the folder holds, on all ranks; None if it is missing or damaged."""
    result = None
    if ranks.first:
        try:
            result = read_result(logdir)
        except DamagedError as error:
            warnings.warn(f"{error} It is made again.", stacklevel=2)
    shared = ranks.share(lambda: result and result.model_dump(mode="json", by_alias=True))
    return shared and RunResult.model_validate(shared)


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
        start: what it begins with; None if its weights are drawn.
        member: of the population that it is trained in; None if it is trained alone.
    """

    def __init__(
        self,
        config: RunConfig,
        logdir: Path,
        dataset: Dataset,
        version: Version,
        notice: Notice,
        start: Start | None = None,
        member: "Member | None" = None,
    ) -> None:
        started = time.time()
        self.config, self.logdir, self.dataset, self.start = config, logdir, dataset, start
        self.member = member
        self.engine = self._new_engine()
        self.timeline = make_timeline(config, self.engine.windows.count)
        self.ranks = self.engine.layout.ranks
        self.own_notice = notice
        self.notice = notice if self.ranks.count == 1 else Notice()
        self.scorer = make_scorer(self.engine.learner.transformer, config)
        if member is not None:
            member.run, member.kind = version.digest(), kind_of(config)
            self.scorer.predict_on_batch = partial(member.predict, self.scorer)  # type: ignore[method-assign]
        self.kept = (
            KeptWeights(logdir, version, config.training, self.timeline, self.engine)
            if self.ranks.first
            else Muted()
        )
        self.records = RunRecords(config, logdir, version, dataset, self.timeline, self.ranks, started)
        self.measured = self.records.measured
        self.step = 0  # updates that the main run has had
        self.logs: Logs = {}  # of the main run since the last row of its log

    def _new_engine(self) -> Engine:
        """The engine at step 0.

        Raises:
            ValueError: if the weights that the run begins with do not fit.
        """
        fit = self.member.fit if self.member else fit_alone
        engine = Engine(self.config, self.dataset.train, self.dataset.tokenizer.vocab_size, fit)
        if self.start is not None:
            try:
                engine.assign_weights(self.start.weights)
            except ValueError as error:
                raise ValueError(
                    f"`start` must have weights that fit this run's model, but {error}"
                ) from None
        return engine

    def finish(self, evaluation: str, baselines: Sequence[Row]) -> RunResult:
        """Train and measure whatever is still missing; write and return the result.

        Args:
            evaluation: the digest of what is to be measured.
            baselines: what the run is measured beside, as `Baseline` rows.
        """
        self._progress("compile")
        with self.records.board as board:
            while pending := self.ranks.share(self._pending):
                stops = {self.timeline.stops[number]: kept for number, kept in pending}
                self._measure_kept([stop for stop, kept in stops.items() if kept])
                self._train([stop for stop, kept in stops.items() if not kept])
            parent = self.start and self.start.stop
            population = self.member.population if self.member else ()
            result = self.records.result(evaluation, self.engine, parent, baselines, population)
            board.finish(result.best())
        if self.ranks.first:
            write_record(self.logdir / RESULT, result)
        self._progress("done")
        self.kept.finish(self.measured.best_and_last())
        return result

    def _pending(self) -> list[tuple[int, bool]]:
        """The stops that lack a measurement, by number, and whether their weights are there to be measured.

        So do those that lack their sample while their weights are there, and the best and the last ones if
        their weights are not.
        """
        picked = self.measured.picked()
        pending = []
        wanted = set(self.measured.stops)
        for number, stop in enumerate(self.timeline.stops):
            if stop not in wanted:
                continue
            kept = self.kept.has(stop)
            if self.measured.missing(stop) or (kept and self.measured.lacks_sample(stop)):
                pending.append((number, self.kept.has_sound(stop)))
            elif stop in picked and not kept:
                pending.append((number, False))
        return pending

    def _train(self, stops: Sequence[Stop]) -> None:
        """Train to these stops from the nearest checkpoint, and measure each."""
        if not stops:
            return
        self._restore(min(stop.start for stop in stops))
        try:
            for stop in stops:
                if stop not in self.measured.stops:
                    continue
                self._train_main(stop.start)
                self._train_stop(stop)
        except PreemptedError:
            self._save()
            raise

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
        if stop.reading == "along_run":
            self._keep_and_measure(stop)
            return
        main = self.engine.state()
        try:
            self.engine.follow_branch(stop.step)
            self._fit(stop.start, stop.step, log=False)
            self.notice.obey()
            self._keep_and_measure(stop)
        finally:
            self.engine.assign_state(main)

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
            self._log if log else lambda *_, **__: None,
            lambda step: self._progress("train", step),
            lambda: self.notice.given,
            self.logs if log else None,
        )
        self.engine.fit(first, last, [steps])
        if steps.failure:
            raise DivergedError(f"the training loss must stay finite, but got {steps.failure}.")
        if log:
            self.logs = steps.logs
        return steps.step

    def _log(
        self, step: int, train_loss: float, gradient_norm: float, tokens_per_second: float, **others: float
    ) -> None:
        rate = self.engine.main_learning_rate(step)
        self.records.add_training(step, train_loss, gradient_norm, rate, tokens_per_second, **others)

    def _progress(self, phase: str, step: int | None = None) -> None:
        self.records.progress(phase, self.step, self.step if step is None else step)

    def _keep_and_measure(self, stop: Stop) -> None:
        self.kept.save_stop(stop, self.engine.weights())
        with self.engine.averaged():
            self._measure(stop)

    def _measure_kept(self, stops: Sequence[Stop]) -> None:
        """Measure stops whose weights were kept, and go back to where training was."""
        if not stops:
            return
        main = self.engine.state()
        for stop in stops:
            arrays: Arrays = self.ranks.share_arrays(partial(self.kept.load_stop, stop))
            self.engine.assign_weights(arrays)
            self._measure(stop)
        self.engine.assign_state(main)

    def _measure(self, stop: Stop) -> None:
        """Measure of the weights as they are what is missing, and log it."""
        arm = Arm(self.config, self.scorer, self.measured.reference(stop))
        self._progress("evaluate", stop.step)
        with self.notice.at_once():
            for task in self.measured.missing(stop):
                row = measure(task, [arm], self.dataset)
                require_finite(row)
                self.records.add_measured(stop, row)
        if self.measured.lacks_sample(stop):
            self.records.add_sample(stop, self._sample())
        self.records.board.flush()

    def _sample(self) -> str:
        length = self.config.data.length
        prompt = np.asarray(self.dataset.validation[: min(PROMPT_TOKENS, length // 2)], np.int32)
        total = min(length, len(prompt) + self.config.evaluation.sample_tokens)
        sampled = sample_left_to_right(
            self.scorer, prompt[None], total - len(prompt), self.config.training_seed
        )
        return decode_whole(self.dataset.tokenizer, sampled[0])

    def _save(self) -> None:
        """Save the main run; weights of stops that can be neither the best nor the last may go."""
        state = {**self.engine.state(), **logs_as_arrays(self.logs)}
        self.kept.save(self.step, state, self.measured.best_and_last())

    def _restore(self, most: int) -> None:
        """Take the main run from the newest checkpoint up to a step, unless it is there already."""
        checkpoint = self.kept.load(most)
        step: int | None = self.ranks.share(lambda: checkpoint and checkpoint[0])
        if step is not None and (step > self.step or self.step > most):
            arrays = self.ranks.share_arrays(lambda: checkpoint[1] if checkpoint else {})
            state, self.logs = split_logs(arrays)
            self.engine.assign_state(state)
            self.step = step
        elif self.step > most:
            self.engine.assign_state(self._new_engine().state())
            self.step, self.logs = 0, {}
        self.engine.follow_main()

"""The study of one arm at one level: which values are tried next, and what came of those tried before.

A round's suggestions rest only on the trials of earlier rounds, in their order. They are taken from a study
in memory that holds just those; the stored one is the record, and what a restart goes on from.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from lab.ablation import Cell, level_text
from lab.config import RunConfig
from lab.evaluation.measurements import NLL, yardstick
from lab.files import Row, read_json
from lab.results import order_readings
from lab.scheduling.jobs import Job, value_of
from lab.scheduling.ledger.ledger import Ledger
from lab.scheduling.plan import Plan
from lab.scheduling.tuning.tuning import Choice, Range, Tuning, keys_of, space_of, value_at, with_values
from lab.tracking.records import METRICS, read_rows
from lab.training.measured import measured_of
from lab.training.timeline import make_timeline
from lab.version import read_version

DIGITS = 12  # after the point: three steps of 0.1 are 0.3

ENDED_EARLY = "ended early"
STATES = {TrialState.COMPLETE: "done", TrialState.FAIL: "failed", TrialState.RUNNING: "not finished"}


@dataclass(frozen=True)
class StopLosses:
    """What a run has measured so far.

    Attributes:
        losses: validation NLL at each stop in the headline reading, nats/token.
        tokens_seen: at each of these stops.
        last: index of the run's last stop.
    """

    losses: tuple[float, ...] = ()
    tokens_seen: tuple[int, ...] = ()
    last: int = 0


class _End(NamedTuple):
    """How a trial ended: its state and value, the loss at each stop, tokens seen, why it has no value."""

    state: TrialState
    value: float | None
    losses: Sequence[float]
    tokens_seen: int
    reason: str


def stop_losses(config: RunConfig, windows: int, logdir: Path) -> StopLosses:
    """Read a run's stops while it may be writing: half a line at the end is left alone.

    Args:
        config: of the run.
        windows: windows of its epochs.
        logdir: its folder.
    """
    timeline = make_timeline(config, windows)
    reading = order_readings(stop.reading for stop in timeline.stops)[0]
    stops = {stop.step: stop for stop in timeline.stops if stop.reading == reading}
    task = next(task for task in yardstick(config, "validation") if task.measurement == NLL)
    losses: dict[int, float] = {}
    for row in read_rows(logdir / METRICS)[0]:
        measured = measured_of(row)
        if measured and measured.task == task and row.get("reading") == reading and row["step"] in stops:
            losses[row["step"]] = float(measured.values[NLL] or 0.0)
    steps = sorted(losses)
    return StopLosses(
        tuple(losses[step] for step in steps),
        tuple(timeline.tokens_seen(step) for step in steps),
        len(stops) - 1,
    )


class ArmStudy:
    """An arm's trials at one level.

    Args:
        plan: of the result tree.
        ledger: of the tree; its storage holds the study.
        tuning: the specification.
        cell: one of the arm's decisive cells at the level, as it is before tuning.
        own_keys: the configuration keys that the arm, its level or the user sets: they keep their values.
    """

    def __init__(
        self, plan: Plan, ledger: Ledger, tuning: Tuning, cell: Cell, own_keys: frozenset[str]
    ) -> None:
        self._tuning, self._cell = tuning, cell
        self._persist = ledger.persist
        self._plan = plan
        # All but the values that are tuned.
        self._job = plan.job(cell.model_copy(update={"config": self._configuration()}))
        self.arm, self.level = cell.arm, cell.level
        self._space = space_of(tuning.space, cell.config, own_keys)
        settable = {key for name, tried in tuning.space.items() for key in keys_of(name, tried)}
        self.fixed = {key: value_at(cell.config, key) for key in sorted(settable & own_keys)}
        held = {key: tried.held(key, cell.config) for key, tried in self._space.items()}
        self._start = {key: value for key, value in held.items() if value is not None}
        self._distributions = {key: _distribution(tried) for key, tried in self._space.items()}
        self._folder = "/".join(filter(None, ["tuning", cell.arm, level_text(cell.level)]))
        self._study, self._storage, self._study_id = self._open(ledger)
        self._asked: dict[str, tuple[int, Cell]] = {}
        self._judged: dict[str, tuple[int, str]] = {}

    def _open(self, ledger: Ledger) -> tuple[optuna.Study, optuna.storages.BaseStorage, int]:
        """The stored study. Where all trials of the last one failed, a new one: the cause may be mended."""
        for attempt in range(1, 1000):
            spec = {name: value for name, value in self._tuning.spec().items() if name != "trials"}
            spec |= {"fixed": self.fixed, "version": self._job.version}
            identity = hashlib.sha256(json.dumps([spec, attempt], sort_keys=True).encode()).hexdigest()[:8]
            name = re.sub("[^A-Za-z0-9-]", "-", f"{self._folder}-{identity}")
            study = ledger.beside(name, self._sampler(0), NopPruner())
            trials = self._trials_of(study)
            if len(trials) < self._tuning.trials or any(trial.state != TrialState.FAIL for trial in trials):
                break
        self._persist(lambda: study.set_user_attr("specification", spec))
        storage = ledger.storage
        return study, storage, self._persist(lambda: storage.get_study_id_from_name(study.study_name))

    def _configuration(self) -> RunConfig:
        return with_values(self._cell.config, self._tuning.seed, {}, {})

    def _sampler(self, round_number: int) -> BaseSampler:
        seed = np.random.SeedSequence([self._tuning.sampler_seed, round_number]).generate_state(1)[0]
        return TPESampler(seed=int(seed), **self._tuning.sampler_arguments)

    def _trials_of(self, study: optuna.Study) -> list[FrozenTrial]:
        return self._stored(study)[: self._tuning.trials if self._distributions else 0]

    def _stored(self, study: optuna.Study) -> list[FrozenTrial]:
        return self._persist(lambda: study.get_trials(deepcopy=False))

    def _trials(self) -> list[FrozenTrial]:
        """The stored trials that count: a study that was once larger has more."""
        return self._trials_of(self._study)

    # Asking.

    def ask(self, round_number: int) -> list[Cell]:
        """The cells of a round that are not told yet; its trials are stored first, if they are not.

        Args:
            round_number: all earlier rounds must have been told.
        """
        if not self._distributions:
            return []
        first = round_number * self._tuning.round_size
        last = min(first + self._tuning.round_size, self._tuning.trials)
        stored = self._stored(self._study)
        if len(stored) < last:
            earlier = self._in_memory(stored[:first], round_number)
            attributes = {"round": round_number, "arm": self.arm, "level": dict(self.level)}
            new = [
                create_trial(
                    state=TrialState.RUNNING,
                    params=params,
                    distributions=self._distributions,
                    user_attrs=attributes,
                )
                for params in self._suggest(earlier, first)[: last - first]
            ]
            self._persist(lambda: self._store(new, first))
        self._judged.clear()
        open_trials = [
            (trial.number, self._trial_cell(trial))
            for trial in self._stored(self._study)[first:last]
            if trial.state == TrialState.RUNNING
        ]
        self._asked = {cell.logdir: (number, cell) for number, cell in open_trials}
        return [cell for _, cell in self._asked.values()]

    def _store(self, trials: Sequence[FrozenTrial], first: int) -> None:
        """Add those of a round's trials that the study lacks."""
        for trial in trials[len(self._study.get_trials(deepcopy=False)) - first :]:
            self._study.add_trial(trial)

    def _in_memory(self, trials: Sequence[FrozenTrial], round_number: int) -> optuna.Study:
        study = optuna.create_study(
            direction="minimize", sampler=self._sampler(round_number), pruner=NopPruner()
        )
        study.add_trials(trials)
        return study

    def _suggest(self, earlier: optuna.Study, first: int) -> list[dict[str, Any]]:
        """A whole round's values, always in the same order, whichever of them are stored already."""
        if first == 0:
            earlier.enqueue_trial(self._start)
        asked = (earlier.ask(self._distributions).params for _ in range(self._tuning.round_size))
        return [{key: _rounded(value) for key, value in params.items()} for params in asked]

    def _trial_cell(self, trial: FrozenTrial) -> Cell:
        config = self.with_values(self._cell, self._tuning.seed, trial.params)
        logdir = f"{self._folder}/trial={trial.number:03}"
        return Cell(arm=self.arm, level=self.level, seed=self._tuning.seed, logdir=logdir, config=config)

    def with_values(self, cell: Cell, seed: int, values: Mapping[str, Any]) -> RunConfig:
        """The configuration of a cell of the arm and level with what was tried, at a seed."""
        return with_values(cell.config, seed, values, self._space)

    # Judging and telling.

    def verdict(self, job: Job) -> str:
        """Why a run of this round is to be stopped early; empty if it is not, or is another study's."""
        if job.key not in self._asked:
            return ""
        _, cell = self._asked[job.key]
        path = job.logdir / METRICS
        size = path.stat().st_size if path.is_file() else 0
        known, verdict = self._judged.get(job.key, (0, ""))
        if size != known:
            stops = self._stop_losses(cell)
            place = self._ended_at(stops)
            if place is not None:
                verdict = (
                    f"ended at stop {place + 1} of {stops.last + 1} ({stops.tokens_seen[place]:,} tokens): "
                    f"worse for {self._tuning.patience} stops than its best validation NLL, "
                    f"{min(stops.losses[: place + 1]):.4f} nats/token"
                )
            self._judged[job.key] = (size, verdict)
        return verdict

    def _stop_losses(self, cell: Cell) -> StopLosses:
        """None where the place still holds another run."""
        if read_version(self._plan.logdir(cell)) != self._plan.version(cell):
            return StopLosses()
        return stop_losses(cell.config, self._plan.windows(cell), self._plan.logdir(cell))

    def _ended_at(self, stops: StopLosses) -> int | None:
        """The first stop at which a run has shown its best. At its last stop nothing is left to be saved."""
        patience = self._tuning.patience
        for last in range(patience, min(len(stops.losses), stops.last)):
            before, after = stops.losses[: last + 1 - patience], stops.losses[last + 1 - patience : last + 1]
            if min(before) < min(after):
                return last
        return None

    def tell(self) -> None:
        """Record how the round's runs ended, in the order in which they were asked for."""
        for number, cell in self._asked.values():
            job = self._plan.job(cell)
            stops = self._stop_losses(cell)
            place = self._ended_at(stops)
            result = job.result()
            if place is not None:
                losses, tokens = stops.losses[: place + 1], stops.tokens_seen[place]
                end = _End(TrialState.COMPLETE, min(losses), losses, tokens, self.verdict(job))
            elif result is not None:
                loss, tokens = value_of(result), stops.tokens_seen[-1]
                end = _End(TrialState.COMPLETE, loss, stops.losses, tokens, "")
            else:
                tokens = stops.tokens_seen[-1] if stops.tokens_seen else 0
                end = _End(TrialState.FAIL, None, (), tokens, _failure(job.logdir))
            self._persist(partial(self._close, number, end))
        self._asked = {}

    def _close(self, number: int, end: _End) -> None:
        """Record a trial's end, unless it was recorded before and the answer was lost."""
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        if self._storage.get_trial(trial_id).state.is_finished():
            return
        for place, loss in enumerate(end.losses):
            self._storage.set_trial_intermediate_value(trial_id, place, loss)
        self._storage.set_trial_user_attr(trial_id, "tokens_seen", end.tokens_seen)
        self._storage.set_trial_user_attr(trial_id, "reason", end.reason)
        self._study.tell(number, end.value, state=end.state)

    # What came out.

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The values with the lowest validation NLL, the first of equals; None if no trial was finished."""
        if not self._distributions:
            return {}
        complete = [trial for trial in self._trials() if trial.state == TrialState.COMPLETE]
        return min(complete, key=lambda trial: (trial.value, trial.number)).params if complete else None

    @property
    def failure(self) -> str:
        """Why there is no best."""
        trials = self._trials()
        reasons = sorted({trial.user_attrs["reason"] for trial in trials if "reason" in trial.user_attrs})
        return f"none of {len(trials)} tuning trials finished: {'; '.join(reasons)}"

    def rows(self) -> Row:
        """The study for `tuning.json`."""
        return {
            "arm": self.arm,
            "level": dict(self.level),
            "study": self._study.study_name,
            "fixed": self.fixed,
            "start": self._start,
            "best": None if self.best is None else dict(self.best),
            "trials": [self._row(trial) for trial in self._trials()],
        }

    def _row(self, trial: FrozenTrial) -> Row:
        state, reason = STATES[trial.state], trial.user_attrs.get("reason", "")
        return {
            "trial": trial.number,
            "round": trial.user_attrs["round"],
            "state": ENDED_EARLY if state == "done" and reason else state,
            "validation_nll": trial.value if trial.state == TrialState.COMPLETE else None,
            "stops": len(trial.intermediate_values),
            "tokens_seen": trial.user_attrs.get("tokens_seen"),
            "reason": reason,
            "values": dict(trial.params),
        }


def _failure(logdir: Path) -> str:
    path = logdir / "failure.json"
    return str(read_json(path)["reason"]) if path.is_file() else "not run"


def _distribution(tried: Range | Choice) -> BaseDistribution:
    if isinstance(tried, Choice):
        return CategoricalDistribution(tuple(tried.options))
    return FloatDistribution(tried.low, tried.high, log=tried.log, step=tried.step)


def _rounded(value: Any) -> Any:
    return round(value, DIGITS) if isinstance(value, float) else value

"""The ledger of one result tree: an Optuna study in which each job is one trial, waiting, running or done.

Only the driver that holds the tree's lock opens it. A new attempt is a new trial, so what a trial says is
never rewritten. Every operation may be repeated: when a database drops the connection, nobody knows whether
it took the last one, so each looks first at what is there.
"""

import hashlib
import inspect
import math
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import optuna
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import BaseStorage, get_storage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError
from tenacity import RetryCallState

from lab.data.characters import safe_text
from lab.files import write_atomic
from lab.scheduling.jobs import RUN_VALUE, Job
from lab.scheduling.ledger.secrets import masked, redacted
from lab.scheduling.ledger.storage import (
    JOURNAL,
    RetryPolicy,
    close_storage,
    open_storage,
    safe_name,
    trouble,
)
from lab.scheduling.ledger.trials import attributes, known_choices, parameters

# Rises when what trials mean changes. A study of a newer lab is refused; one of an older is taken over:
# its trials have no version, so its jobs are recorded again from their results.
SCHEMA = 2
SCHEMA_ATTRIBUTE = "lab_schema"
REASON_CHARACTERS = 500
TAIL_CHARACTERS = 4000
LOOK_SECONDS = 0.05  # between two looks, while waiting, whether to wait on

T = TypeVar("T")


class Taken(NamedTuple):
    """A trial under way: its number, its job's key, and the version of the job that it runs."""

    number: int
    key: str
    version: str


class AwayError(Exception):
    """The database is away, and was not to be waited for."""


class Ledger:
    """What was planned, started and finished, by job key and version.

    Args:
        tree: the result tree.
        name: the study's name; characters that are not safe in a path become dashes.
        storage: an Optuna database URL (sqlite or postgresql); empty for a journal file in the tree.
        retries: how long an operation waits for a database that went away.
        value: name and unit of the number that a complete trial has.

    Raises:
        ValueError: if the storage cannot be opened, or a newer lab made the study. The message never holds
            the URL's secrets. Every operation raises it too, once the storage has failed for good: then
            nothing more is written, and the next driver finds what is missing from the results.
        AwayError: in its place, by every operation, if waiting was ended by `stop_waiting`.
    """

    def __init__(
        self,
        tree: Path,
        name: str,
        storage: str = "",
        retries: RetryPolicy | None = None,
        value: str = RUN_VALUE,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._tree, self._url, self._retries = tree, storage, retries or RetryPolicy()
        self._place = masked(storage) if storage else str(tree / JOURNAL)
        self._failure: ValueError | AwayError | None = None
        self._waits, self._outage = True, ""
        self._plan, self._name = name, study_name(tree, name, storage)
        self._opened = open_storage(tree, storage, self._check_schema)
        self._storage = get_storage(self._opened)  # with Optuna's cache of what no longer changes
        self._study = self.persist(lambda: self._open_study(value))
        self._study_id = self._storage.get_study_id_from_name(self._name)
        self._known = {taken.number for taken in self.running()}

    def close(self) -> None:
        """Close the connections to a database."""
        close_storage(self._opened)

    def stop_waiting(self) -> None:
        """Wait for a database no longer, now and from now on. A signal's handler may call it."""
        self._waits = False

    @property
    def storage(self) -> BaseStorage:
        """Where the study is kept."""
        return self._storage

    def beside_runs(self, part: str, value: str) -> "Ledger":
        """A ledger of other jobs of the same tree, in the same storage: this one's name, then `part`."""
        return Ledger(self._tree, f"{self._plan}-{part}", self._url, self._retries, value)

    def beside(self, part: str, sampler: BaseSampler, pruner: BasePruner) -> optuna.Study:
        """Another study in the same storage: this one's name, then `part`. Its values are those of runs."""
        return self.persist(
            lambda: _named(
                optuna.create_study(
                    study_name=f"{self._name}-{part}",
                    storage=self._storage,
                    sampler=sampler,
                    pruner=pruner,
                    direction="minimize",
                    load_if_exists=True,
                ),
                RUN_VALUE,
            )
        )

    def done(self) -> set[tuple[str, str]]:
        """(key, version) of the jobs that have a complete trial."""
        return {_job(trial) for trial in self._trials(TrialState.COMPLETE)}

    def pruned(self) -> set[tuple[str, str]]:
        """(key, version) of the jobs that have a trial that was stopped early."""
        return {_job(trial) for trial in self._trials(TrialState.PRUNED)}

    def running(self) -> list[Taken]:
        """The trials that are marked as running, oldest first."""
        return [_taken(trial) for trial in self._trials(TrialState.RUNNING)]

    def enqueue(self, jobs: Iterable[Job]) -> int:
        """Add a waiting trial for each job that has none; returns how many."""
        wanted = {(job.key, job.version): job for job in jobs}
        before = self._waiting()
        self.persist(lambda: self._add_missing(wanted))
        return len(wanted.keys() - before)

    def take(self) -> Taken | None:
        """Mark the trial that has waited longest as running, or None if none waits."""
        taken = self.persist(self._take)
        if taken:
            self._known.add(taken.number)
        return taken

    def complete(self, number: int, value: float) -> None:
        """Close a running trial with the job's best validation NLL, nats/token.

        Raises:
            ValueError: if the value is not finite.
        """
        if not math.isfinite(value):
            raise ValueError(f"`value` must be a finite number, but got value={value}.")
        self.persist(lambda: self._finish(number, TrialState.COMPLETE, float(value), {}))

    def fail(self, number: int, outcome: str, reason: str, log_tail: str = "") -> None:
        """Close a running trial as failed. What is said of it goes in first: a finished trial takes no more.

        Args:
            number: of the trial.
            outcome: the class of the failure, one word.
            reason: kept as one line of at most `REASON_CHARACTERS`.
            log_tail: of which the last `TAIL_CHARACTERS` are kept.
        """
        failure = _failure(outcome, reason)
        if log_tail:
            failure["log_tail"] = safe_text(log_tail[-TAIL_CHARACTERS:])
        self.persist(lambda: self._finish(number, TrialState.FAIL, None, failure))

    def record_untried(self, job: Job, outcome: str, reason: str) -> None:
        """Add a failed trial of a job that cannot be tried, unless its last trial says the same.

        Args:
            job: which has no attempt.
            outcome: the class of the failure.
            reason: as of a failed trial.
        """
        self.persist(lambda: self._add_failed(job, _failure(outcome, reason)))

    def prune(self, number: int, outcome: str, reason: str) -> None:
        """Close a running trial as stopped early, which is neither done nor failed."""
        why = {"outcome": outcome, "reason": safe_text(reason)}
        self.persist(lambda: self._finish(number, TrialState.PRUNED, None, why))

    def _check_schema(self, storage: BaseStorage) -> None:
        """Refuse a study that a newer lab made, before anything is written."""
        for study in storage.get_all_studies():
            schema = study.user_attrs.get(SCHEMA_ATTRIBUTE, 0)
            if study.study_name == self._name and schema > SCHEMA:
                raise ValueError(
                    f"{self._place}: the study {self._name} has schema {schema}, but this lab knows "
                    f"{SCHEMA} and older; a newer version of the lab made it. Nothing was changed."
                )

    def _open_study(self, value: str) -> optuna.Study:
        names = {study.study_name for study in self._storage.get_all_studies()}
        settings: dict[str, Any] = {
            "study_name": self._name,
            "storage": self._storage,
            "sampler": RandomSampler(seed=0),
            "pruner": NopPruner(),
        }
        if self._name in names:
            study = optuna.load_study(**settings)
        else:
            study = optuna.create_study(**settings, direction="minimize", load_if_exists=True)
        if study.user_attrs.get(SCHEMA_ATTRIBUTE) != SCHEMA:
            study.set_user_attr(SCHEMA_ATTRIBUTE, SCHEMA)
        return _named(study, value)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self.persist(lambda: self._study.get_trials(deepcopy=False, states=states))

    def _waiting(self) -> set[tuple[str, str]]:
        return {_job(trial) for trial in self._trials(TrialState.WAITING)}

    def _add_missing(self, wanted: Mapping[tuple[str, str], Job]) -> None:
        """Make each wanted job wait exactly once, whatever of it was there before."""
        missing, trials = dict(wanted), self._study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state == TrialState.WAITING:
                missing.pop(_job(trial), None)
        self._add(missing.values(), TrialState.WAITING, {}, trials)
        self._drop_twins()

    def _add_failed(self, job: Job, failure: Mapping[str, str]) -> None:
        """Also if the answer to an earlier insertion was lost, there is one."""
        trials = self._study.get_trials(deepcopy=False)
        last = next((trial for trial in reversed(trials) if _job(trial) == (job.key, job.version)), None)
        if last is None or not failure.items() <= last.user_attrs.items():
            self._add([job], TrialState.FAIL, failure, trials)

    def _add(
        self, jobs: Iterable[Job], state: TrialState, why: Mapping[str, str], earlier: Iterable[FrozenTrial]
    ) -> None:
        known = known_choices(earlier)
        for job in jobs:
            params, distributions = parameters(job, known)
            attrs = {**attributes(job), **why}
            trial = create_trial(state=state, params=params, distributions=distributions, user_attrs=attrs)
            self._study.add_trial(trial)
            known = {**known_choices([trial]), **known}

    def _drop_twins(self) -> None:
        """Close all but the first of the trials that wait for one job.

        Optuna itself repeats an insertion whose answer was lost.
        """
        seen: set[tuple[str, str]] = set()
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            if _job(trial) in seen:
                twin = {"outcome": "twin", "reason": "the job waits already"}
                self._finish(trial.number, TrialState.FAIL, None, twin)
            seen.add(_job(trial))

    def _take(self) -> Taken | None:
        trials = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
        for trial in trials:
            # The answer to an earlier question, which was lost on its way.
            if trial.state == TrialState.RUNNING and trial.number not in self._known:
                return _taken(trial)
        if all(trial.state == TrialState.RUNNING for trial in trials):
            return None  # asking now would invent a trial
        asked = self._study.ask()
        return Taken(asked.number, asked.user_attrs["key"], asked.user_attrs.get("version", ""))

    def _finish(self, number: int, state: TrialState, value: float | None, why: Mapping[str, str]) -> None:
        """Close a trial, unless it was closed so before and the answer was lost."""
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        current = self._storage.get_trial(trial_id).state
        if current == state:
            return
        if current.is_finished():
            raise ValueError(f"trial {number} must be open to become {state.name}, but it is {current.name}.")
        for name, text in why.items():
            self._storage.set_trial_user_attr(trial_id, name, text)
        self._storage.set_trial_state_values(trial_id, state, None if value is None else [value])

    def persist(self, operation: Callable[[], T]) -> T:
        """Carry out an operation that may be repeated, again and again while the database is away.

        Raises:
            ValueError: if it stays away, or the storage cannot be written to.
            AwayError: if it is away, and is not to be waited for.
        """
        if self._failure:
            raise self._failure
        try:
            result = self._retries.retrying(self._wait, self._note_outage)(operation)
        except AwayError as error:
            self._failure = error
        except (OSError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            reason = redacted(trouble(error), self._url).rstrip(".")
            self._failure = ValueError(
                f"cannot write the ledger {self._place}: {reason}. "
                "Results that are there are kept; the same command goes on from here."
            )
        else:
            if self._outage:
                self._retries.say(f"the database {self._place} is back")
                self._outage = ""
            return result
        raise self._failure  # outside of the handlers, so that no context of it holds the URL

    def _note_outage(self, state: RetryCallState) -> None:
        """Say once that the database is away, and how long it is waited for."""
        error, known = state.outcome and state.outcome.exception(), self._outage
        reason = redacted(trouble(error), self._url) if error else ""
        self._outage = f"the database {self._place} is away ({reason})"
        if self._waits and not known:
            self._retries.say(f"{self._outage}: waiting up to {self._retries.seconds:.0f} s")

    def _wait(self, seconds: float) -> None:
        # No `threading.Event`: a signal's handler that sets one can meet its lock taken, and hang.
        end = time.monotonic() + seconds
        while self._waits and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))
        if not self._waits:
            self._retries.say(f"{self._outage}: the next start brings it in line with the results")
            raise AwayError(self._outage)


def study_name(tree: Path, name: str, storage: str = "") -> str:
    """The name of a tree's study.

    One database may serve many trees, of several machines. So a study there carries a digest of the tree's
    path and of a number drawn once for the tree, kept in `study.id`.
    """
    name = safe_name(name)
    if not storage:
        return name
    path = tree / "study.id"
    if not path.exists():
        write_atomic(path, f"{uuid.uuid4().hex}\n".encode())
    digest = hashlib.sha256(f"{path.read_text(encoding='ascii')}{tree.resolve()}".encode()).hexdigest()
    return f"{name}-{digest[:8]}"


def _named(study: optuna.Study, value: str) -> optuna.Study:
    """The study, which says what its values are."""
    if study.metric_names != [value]:
        # Unwrapped, it does not warn of being experimental. A filter of warnings would be other threads' too.
        inspect.unwrap(optuna.Study.set_metric_names)(study, [value])
    return study


def _failure(outcome: str, reason: str) -> dict[str, str]:
    """What a failed trial says of itself."""
    words = " ".join(reason[: 4 * REASON_CHARACTERS].split())
    return {"outcome": str(outcome), "reason": safe_text(words)[:REASON_CHARACTERS]}


def _job(trial: FrozenTrial) -> tuple[str, str]:
    """(key, version) of a trial; empty texts where it has none."""
    return trial.user_attrs.get("key", ""), trial.user_attrs.get("version", "")


def _taken(trial: FrozenTrial) -> Taken:
    return Taken(trial.number, *_job(trial))

"""The ledger of one result tree: an Optuna study in which each cell is one trial, waiting, running or done.

Only the driver that holds the tree's lock opens it. A new attempt is a new trial, so what a trial says is
never rewritten.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from lab.scheduling.ablation import Cell

JOURNAL = "study.journal"


class Taken(NamedTuple):
    """A trial, and the cell and version of it that it stands for."""

    number: int
    key: str
    version: str


class Ledger:
    """What was planned, started and finished, by cell key.

    Args:
        tree: the result tree.
        name: the study's name, letters, digits and dashes.
        storage: an Optuna database URL (sqlite or postgresql); empty for a journal file in the tree.

    Raises:
        ValueError: if the storage cannot be opened. The message never holds the URL's password.
    """

    def __init__(self, tree: Path, name: str, storage: str = "") -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._storage = _open_database(storage) if storage else _open_journal(tree / JOURNAL)
        if storage:  # one database may serve many trees
            name += "-" + hashlib.sha256(str(tree.resolve()).encode()).hexdigest()[:8]
        self._study = optuna.create_study(
            study_name=name,
            storage=self._storage,
            sampler=RandomSampler(seed=0),
            pruner=NopPruner(),
            direction="minimize",
            load_if_exists=True,
        )
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)

    def done(self) -> set[tuple[str, str]]:
        """Key and version of the cells that were finished."""
        return {(key, version) for _, key, version in self._in(TrialState.COMPLETE)}

    def running(self) -> list[Taken]:
        """The trials that are marked as running."""
        return self._in(TrialState.RUNNING)

    def enqueue(self, cells: Iterable[tuple[Cell, str]]) -> int:
        """Add a waiting trial for each cell and version that has none; returns how many."""
        waiting = {(key, version) for _, key, version in self._in(TrialState.WAITING)}
        new = [(cell, version) for cell, version in cells if (cell.key, version) not in waiting]
        for cell, version in new:
            place = {"arm": cell.arm, "level": dict(cell.level), "seed": cell.seed}
            attributes = {"key": cell.key, "version": version, **place}
            self._study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=attributes))
        return len(new)

    def take(self) -> Taken | None:
        """Mark the trial that has waited longest as running, or None."""
        if not self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            return None  # asking now would invent a trial
        trial = self._study.ask()
        return Taken(trial.number, trial.user_attrs["key"], trial.user_attrs["version"])

    def _in(self, state: TrialState) -> list[Taken]:
        trials = self._study.get_trials(deepcopy=False, states=(state,))
        return [
            Taken(trial.number, trial.user_attrs["key"], trial.user_attrs.get("version", ""))
            for trial in trials
        ]

    def complete(self, number: int, value: float) -> None:
        """Close a running trial with the cell's best validation NLL, nats/token."""
        self._study.tell(number, value)

    def fail(self, number: int, outcome: str, reason: str, log_tail: str = "") -> None:
        """Close a running trial as failed. What is known goes in first: a finished trial takes no more."""
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        for name, value in (("outcome", outcome), ("reason", reason), ("log_tail", log_tail)):
            self._storage.set_trial_user_attr(trial_id, name, value)
        self._study.tell(number, state=TrialState.FAIL)


def masked(url: str) -> str:
    """A database URL without its password and its query, fit to be shown.

    Raises:
        ValueError: if it is not a URL; the message does not repeat it.
    """
    return _parse(url).set(query={}).render_as_string(hide_password=True)


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "`storage` must be a database URL such as sqlite:///study.db or postgresql://user@host/name, "
            "but got a text that is none."
        ) from None


def _open_database(url: str) -> BaseStorage:
    parsed = _parse(url)
    kind = parsed.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        raise ValueError(f"`storage` must be a sqlite or postgresql URL, but got {masked(url)}.")
    try:
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
    except (SQLAlchemyError, ImportError, optuna.exceptions.OptunaError) as error:
        told = str(error).partition("\n")[0].replace(url, masked(url))
        for secret in (parsed.password, *parsed.query.values()):
            told = told.replace(str(secret), "***") if secret else told
        raise ValueError(f"cannot open the storage {masked(url)}: {told}") from None


def _open_journal(path: Path) -> BaseStorage:
    """Open the journal after undoing what a killed driver may have left: its lock and half a line.

    The caller holds the tree's lock, so no living process owns either.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    _drop_torn_line(path)
    return JournalStorage(JournalFileBackend(str(path)))


def _drop_torn_line(path: Path) -> None:
    """Cut the journal after its last whole line; Optuna would glue the next entry onto the half one."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        path.with_name(path.name + ".torn").write_bytes(content)
        with path.open("r+b") as file:
            file.truncate(whole)

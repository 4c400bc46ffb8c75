"""Where a ledger is kept: a journal file in the tree (the default), SQLite, or PostgreSQL.

Nothing that is not understood is written to: a damaged or foreign journal is refused as it lies. Only half a
line at its end, which a killed driver leaves, is cut away, with a copy kept.
"""

import json
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy import create_engine, func, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    PendingRollbackError,
    SAWarning,
    SQLAlchemyError,
)
from sqlalchemy.pool import NullPool
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, wait_exponential

from lab.scheduling.ledger.secrets import masked, parse_url, redacted

JOURNAL = "study.journal"
ENTRY = b'{"op_code":'  # how every line of a journal begins
POSTGRESQL = "postgresql+psycopg"
# What the URL may set otherwise. Without the encoding, a database made under the C locale answers in bytes;
# by the seconds libpq notices that a host has gone without a word.
POSTGRESQL_OPTIONS = {
    "client_encoding": "utf8",
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
NAME_CHARACTERS = 200
TABLES_LOCK = 0x1AB  # an advisory lock: while a driver makes the tables of a new database
_FILTERS = threading.Lock()  # the filters of warnings are the process's: threads change them in turn


@dataclass(frozen=True)
class RetryPolicy:
    """How an operation is tried again while a database is away.

    Args:
        seconds: how long in all.
        first_pause: seconds before the second try; each pause is twice the one before it, up to `last_pause`.
        last_pause: seconds.
        say: told once when the wait begins and once when it ends.
    """

    seconds: float = 300.0  # a database's restart takes seconds, a machine's some minutes
    first_pause: float = 0.5
    last_pause: float = 15.0
    say: Callable[[str], None] = print

    def retrying(
        self, sleep: Callable[[float], None], before_sleep: Callable[[RetryCallState], None]
    ) -> Retrying:
        """What carries out an operation, again and again while it fails since the database is away.

        Args:
            sleep: waits so many seconds.
            before_sleep: called before each wait.
        """
        return Retrying(
            retry=retry_if_exception(is_away),
            wait=wait_exponential(self.first_pause, self.last_pause),
            stop=stop_before_delay(self.seconds),
            sleep=sleep,
            before_sleep=before_sleep,
            reraise=True,
        )


def safe_name(text: str) -> str:
    """A study's name that any path and any database takes: letters, digits, dots, dashes, underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:NAME_CHARACTERS].lstrip(".") or "study"


def open_storage(
    tree: Path, url: str = "", check: Callable[[BaseStorage], None] | None = None
) -> BaseStorage:
    """Open a tree's storage for its driver, which holds the tree's lock.

    Args:
        tree: the result tree.
        url: of a database; empty for the journal in the tree.
        check: called with what is there before anything is written to it; raises to refuse it.

    Raises:
        ValueError: if it cannot be opened, or is refused. No message holds the URL's secrets.
    """
    if url:
        storage = _open_database(url)
        if check:
            check(storage)
        return storage
    return _open_journal(tree / JOURNAL, check)


def view_storage(tree: Path, url: str = "") -> BaseStorage:
    """Open a tree's storage to be read, beside a driver that may be at work on it.

    Raises:
        ValueError: if there is none, or it cannot be read.
    """
    if url:
        parsed = parse_url(url)
        if parsed.drivername == "sqlite" and not Path(_sqlite_path(parsed)).is_file():
            raise ValueError(f"cannot open the storage {masked(url)}: there is no such file.")
        return _open_database(url, create=False)
    path = tree / JOURNAL
    if not path.is_file():
        raise ValueError(f"expected a journal at {path}, but there is none; STORAGE= names a database.")
    return _read_journal(path)


def trouble(error: BaseException) -> str:
    """What went wrong with a storage, in one line."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    cause = cause or error
    if isinstance(cause, OSError):
        return cause.strerror or str(cause)
    text = str(cause.orig if isinstance(cause, DBAPIError) and cause.orig else cause).strip()
    return text.partition("\n")[0] or type(cause).__name__


def is_away(error: BaseException) -> bool:
    """Whether a database may come back: it restarts, dropped the connection, is read-only or locked."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    if isinstance(cause, PendingRollbackError):
        return True  # Optuna asked a second time over the connection that had just dropped
    if not isinstance(cause, DBAPIError):
        return False
    if type(cause.orig).__module__.startswith("sqlite3"):
        return "locked" in str(cause.orig)
    return cause.connection_invalidated or isinstance(
        cause, (OperationalError, InterfaceError, InternalError)
    )


def close_storage(storage: BaseStorage) -> None:
    """Close the connections that a storage keeps."""
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def _open_database(url: str, create: bool = True) -> BaseStorage:
    parsed = parse_url(url)
    if parsed.drivername not in ("sqlite", "postgresql", POSTGRESQL):
        raise ValueError(f"`storage` must be a sqlite or postgresql URL, but got {masked(url)}.")
    try:
        if parsed.drivername == "sqlite":
            return _rdb(parsed, create, {})
        parsed = parsed.set(drivername=POSTGRESQL)
        options = {name: value for name, value in POSTGRESQL_OPTIONS.items() if name not in parsed.query}
        with _tables_lock(parsed, options) if create else nullcontext():
            return _rdb(parsed, create, options)
    except ImportError:
        reason = "psycopg is missing; `make setup EXTRAS=postgres` installs it"
    except (
        SQLAlchemyError,
        SAWarning,
        RuntimeError,
        TypeError,
        ValueError,
        optuna.exceptions.OptunaError,
    ) as error:
        reason = trouble(error)
    # Outside of the handlers, so that no context of the error holds the URL.
    raise ValueError(f"cannot open the storage {masked(url)}: {redacted(reason, url)}")


def _rdb(parsed: URL, create: bool, options: dict[str, Any]) -> RDBStorage:
    text = parsed.render_as_string(hide_password=False)
    text = text.replace("{", "{{").replace("}", "}}")  # Optuna fills in a template
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("error", SAWarning)  # what is ignored in the URL is an error
        return RDBStorage(
            text,
            {"pool_pre_ping": True, "connect_args": options},
            skip_compatibility_check=not create,
            skip_table_creation=not create,
        )


@contextmanager
def _tables_lock(parsed: URL, options: dict[str, Any]) -> Iterator[None]:
    """Let one driver at a time look whether a database has its tables."""
    engine = create_engine(parsed, poolclass=NullPool, connect_args=options)
    with engine.begin() as connection:
        connection.execute(select(func.pg_advisory_xact_lock(TABLES_LOCK)))
        yield


def _sqlite_path(parsed: URL) -> str:
    return (parsed.database or "").removeprefix("file:").partition("?")[0]


def _open_journal(path: Path, check: Callable[[BaseStorage], None] | None) -> BaseStorage:
    """Open the journal after undoing what a killed driver may have left: its lock and half a line.

    The caller holds the tree's lock, so no living process owns either.
    """
    if path.exists():
        journal = _read_journal(path)
        if check:
            check(journal)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name + ".lock").unlink(missing_ok=True)
        _drop_torn_line(path)
        return JournalStorage(JournalFileBackend(str(path), _JournalLock(str(path))))
    except OSError as error:
        raise ValueError(f"cannot write the journal {path}: {trouble(error)}.") from None


def _drop_torn_line(path: Path) -> None:
    """Cut the journal after its last whole line; Optuna would glue the next entry onto the half one."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        path.with_name(path.name + ".torn").write_bytes(content)
        with path.open("r+b") as file:
            file.truncate(whole)


def _read_journal(path: Path) -> BaseStorage:
    """A journal to be read only.

    Raises:
        ValueError: naming the line that is not an entry, or why the file cannot be read.
    """
    view = JournalView(path)
    try:
        return JournalStorage(view)
    except OSError as error:
        raise ValueError(f"cannot read the journal {path}: {trouble(error)}.") from None
    except (AssertionError, LookupError, TypeError, ValueError, optuna.exceptions.OptunaError) as error:
        raise ValueError(
            f"{path}, line {view.line}: not an entry of an Optuna journal ({type(error).__name__}). The file "
            "was left as it is. Move it away, and the same command makes it again from the results."
        ) from None


class _JournalLock(JournalFileSymlinkLock):
    """Optuna's lock, which tells the system's own error where it cannot be let go."""

    def release(self) -> None:
        try:
            super().release()
        except RuntimeError as error:
            raise error.__context__ or error from None


class JournalView(BaseJournalBackend):
    """A journal as it stands, whole lines only; it refuses to be written to.

    Args:
        path: the file.

    Attributes:
        line: number of the line read last, from 1.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self.line = 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The entries from a number on, up to the last whole line."""
        with self._path.open("rb") as file:
            if log_number_from == self.line:
                file.seek(self._offset)
            else:
                self._offset = self.line = 0
            for line in file:
                if not line.endswith(b"\n"):
                    if self.line == 0 and not line.startswith(ENTRY) and not ENTRY.startswith(line):
                        self.line = 1
                        raise ValueError("a file without lines, of another kind")
                    return
                self.line += 1
                self._offset += len(line)
                if self.line > log_number_from:
                    yield json.loads(line)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Refused.

        Raises:
            PermissionError: always.
        """
        raise PermissionError(f"{self._path} is open to be read only.")

"""Opening a storage: journals that were torn, damaged or foreign, databases, names, full and closed disks."""

import errno
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.trial import TrialState
from scheduling_bench import trials
from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError

from lab.scheduling.ledger.ledger import Ledger, study_name
from lab.scheduling.ledger.locks import sole_owner
from lab.scheduling.ledger.secrets import masked, redacted, without_secrets
from lab.scheduling.ledger.storage import JOURNAL, JournalView, RetryPolicy, is_away, safe_name, view_storage


def versioned(plan):
    return [plan.job(cell) for cell in plan.cells]


def filled(bench):
    """A journal with the plan of four cells; its path."""
    Ledger(bench.tree, "tiny-tiny").enqueue(versioned(bench.plan()))
    return bench.tree / JOURNAL


# The journal.


def test_a_torn_line_is_cut_off_and_kept(bench):
    Ledger(bench.tree, "tiny-tiny").enqueue(versioned(bench.plan())[:1])
    journal = bench.tree / JOURNAL
    whole = journal.read_bytes()
    torn = whole + whole.splitlines()[-1][:20]
    journal.write_bytes(torn)
    ledger = Ledger(bench.tree, "tiny-tiny")
    assert ledger.enqueue(versioned(bench.plan())) == 3
    assert len(trials(bench.tree)) == 4
    assert journal.with_name(JOURNAL + ".torn").read_bytes() == torn


@pytest.mark.parametrize(
    ("garbage", "kind"),
    [
        (b"no JSON at all", "JSONDecodeError"),
        (b'{"op_code": 4, "worker', "JSONDecodeError"),
        (b"\x00" * 40, "UnicodeDecodeError"),
        (b'"\xff"', "UnicodeDecodeError"),
        (b"[1]", "TypeError"),
        (b"{}", "KeyError"),
        (b'{"op_code": 99}', "AssertionError"),
    ],
    ids=["text", "two lines glued", "zeros", "no UTF-8", "a list", "no operation", "an unknown operation"],
)
def test_garbage_in_the_middle_is_refused_by_line_and_nothing_is_written(bench, garbage, kind):
    journal = filled(bench)
    lines = journal.read_bytes().splitlines()
    lines.insert(3, garbage)
    journal.write_bytes(b"\n".join(lines) + b'\n{"half')
    before = {path: path.read_bytes() for path in bench.tree.iterdir()}
    message = rf"study\.journal, line 4: not an entry of an Optuna journal \({kind}\)\. The file was left"
    with pytest.raises(ValueError, match=message):
        Ledger(bench.tree, "tiny-tiny")
    assert {path: path.read_bytes() for path in bench.tree.iterdir()} == before


def test_a_journal_that_was_moved_away_is_made_again_from_the_results(bench):
    bench.drive()
    journal = bench.tree / JOURNAL
    journal.write_bytes(b"garbage\n" + journal.read_bytes())
    with pytest.raises(ValueError, match=r"line 1: not an entry .* Move it away, and the same command"):
        bench.drive()
    journal.rename(journal.with_suffix(".damaged"))
    summary = bench.drive()
    assert (summary.done, summary.reused) == (0, 4)


def test_a_foreign_file_is_refused(bench):
    bench.tree.mkdir(parents=True)
    with sqlite3.connect(bench.tree / JOURNAL) as connection:
        connection.execute("create table a (b)")
    connection.close()
    before = (bench.tree / JOURNAL).read_bytes()
    with pytest.raises(ValueError, match="line 1: not an entry of an Optuna journal"):
        Ledger(bench.tree, "tiny-tiny")
    assert (bench.tree / JOURNAL).read_bytes() == before


def test_a_journal_that_cannot_be_read_is_named(bench):
    (bench.tree / JOURNAL).mkdir(parents=True)
    with pytest.raises(ValueError, match=r"cannot read the journal .*study\.journal: Is a directory"):
        Ledger(bench.tree, "tiny-tiny")


def test_a_dead_drivers_journal_lock_is_no_obstacle(bench):
    Ledger(bench.tree, "tiny-tiny")
    (bench.tree / (JOURNAL + ".lock")).symlink_to(bench.tree / JOURNAL)
    begun = time.monotonic()
    assert Ledger(bench.tree, "tiny-tiny").enqueue(versioned(bench.plan())) == 4
    assert time.monotonic() - begun < 20  # Optuna itself would wait for 30 s


def test_a_view_reads_on_beside_its_writer_and_changes_nothing(bench):
    ledger = Ledger(bench.tree, "tiny-tiny")
    ledger.enqueue(versioned(bench.plan()))
    journal = bench.tree / JOURNAL
    lock = journal.with_name(JOURNAL + ".lock")
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"half a li')
    lock.symlink_to(journal)
    view = view_storage(bench.tree)
    (study,) = view.get_all_studies()
    assert {trial.state for trial in view.get_all_trials(study._study_id)} == {TrialState.WAITING}
    assert journal.read_bytes() == whole + b'{"half a li'
    assert lock.is_symlink()
    journal.write_bytes(whole)
    lock.unlink()
    ledger.complete(ledger.take().number, 2.0)
    (done,) = view.get_all_trials(study._study_id, states=(TrialState.COMPLETE,))
    assert done.value == 2.0
    assert JournalStorage(JournalView(journal)).get_all_trials(study._study_id) == trials(bench.tree)
    with pytest.raises(PermissionError, match=r"study\.journal is open to be read only"):
        view.delete_study(study._study_id)


def test_what_is_not_there_cannot_be_viewed(bench):
    with pytest.raises(
        ValueError, match=r"expected a journal at .*study\.journal, but there is none; STORAGE="
    ):
        view_storage(bench.tree)
    for url in (f"sqlite:///{bench.folder}/none.db", f"sqlite:///file:{bench.folder}/none.db?uri=true"):
        with pytest.raises(
            ValueError, match=r"cannot open the storage sqlite:///.*none\.db: there is no such"
        ):
            view_storage(bench.tree, url)
    (bench.folder / "empty.db").touch()
    with pytest.raises(ValueError, match=r"cannot open the storage .*empty\.db: no such table"):
        view_storage(bench.tree, f"sqlite:///{bench.folder}/empty.db")


# Databases.


def test_one_database_serves_several_trees(bench):
    url = f"sqlite:///{bench.folder / 'study.db'}"
    assert Ledger(bench.tree, "tiny-tiny", url).enqueue(versioned(bench.plan())) == 4
    assert Ledger(bench.tree, "tiny-tiny", url).enqueue(versioned(bench.plan())) == 0
    assert Ledger(bench.folder / "other", "tiny-tiny", url).enqueue(versioned(bench.plan())) == 4
    with sqlite3.connect(bench.folder / "study.db") as connection:
        names = [name for (name,) in connection.execute("select study_name from studies")]
    connection.close()
    assert len(set(names)) == 2
    assert all(name.startswith("tiny-tiny-") for name in names)


def test_equal_paths_on_two_machines_are_two_studies(bench):
    first = study_name(bench.tree, "tiny", "sqlite:///study.db")
    assert study_name(bench.tree, "tiny", "sqlite:///study.db") == first
    (bench.tree / "study.id").unlink()
    assert study_name(bench.tree, "tiny", "sqlite:///study.db") != first
    assert study_name(bench.tree, "tiny") == "tiny"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("crossover-laptop", "crossover-laptop"),
        ("../../etc/passwd", "-..-etc-passwd"),
        ("a b\n';drop table", "a-b-drop-table"),
        ("x" * 1000, "x" * 200),
        ("...", "study"),
        ("", "study"),
    ],
)
def test_study_names_are_safe_in_paths_and_databases(text, name):
    assert safe_name(text) == name
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", name)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "mysql://me:sesame@host/name",
            r"must be a sqlite or postgresql URL, but got mysql://me:\*\*\*@host/name",
        ),
        ("postgresql+pg8000://host/name", "must be a sqlite or postgresql URL, but got postgresql"),
        ("sesame", "must be a database URL such as sqlite:///study.db"),
        ("postgresql://me:sesame@host:port/name", "must be a database URL such as"),
        (
            "sqlite:////no/such/folder/study.db",
            "cannot open the storage sqlite:////no/such/folder/study.db: u",
        ),
        ("sqlite:///a.db?timeout=sesame", r"cannot open the storage sqlite:///a.db: .*\*\*\*"),
        ("sqlite:///a.db?key=sesame", "cannot open the storage sqlite:///a.db: .*key"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_named_without_its_secrets(bench, url, message):
    with pytest.raises(ValueError, match=message) as caught:
        Ledger(bench.tree, "tiny-tiny", url)
    assert "sesame" not in str(caught.value)
    assert caught.value.__context__ is None


def test_without_its_driver_postgresql_says_what_to_install(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(
        ValueError, match="psycopg is missing; `make setup EXTRAS=postgres` installs it"
    ) as caught:
        Ledger(bench.tree, "tiny-tiny", "postgresql://me:sesame@127.0.0.1:1/name")
    assert "sesame" not in str(caught.value)
    assert caught.value.__context__ is None


def test_braces_in_a_url_are_no_template(bench):
    url = f"sqlite:///{bench.folder / '{name}.db'}"
    assert Ledger(bench.tree, "tiny-tiny", url).enqueue(versioned(bench.plan())) == 4
    assert (bench.folder / "{name}.db").is_file()


def test_a_database_of_another_schema_is_refused(bench):
    url = f"sqlite:///{bench.folder / 'study.db'}"
    Ledger(bench.tree, "tiny-tiny", url)
    with sqlite3.connect(bench.folder / "study.db") as connection:
        connection.execute("update alembic_version set version_num = 'v99.0.0'")
    connection.close()
    with pytest.raises(ValueError, match=r"cannot open the storage .*: The runtime optuna version"):
        Ledger(bench.tree, "tiny-tiny", url)


def test_a_locked_sqlite_file_is_waited_for(bench):
    """Only one driver opens it, but anybody may look into it, which locks it for a moment."""
    path, said = bench.folder / "study.db", []
    url = f"sqlite:///{path}?timeout=0.05"
    policy = RetryPolicy(seconds=3.0, first_pause=0.02, last_pause=0.05, say=said.append)
    ledger = Ledger(bench.tree, "tiny-tiny", url, policy)
    ledger.enqueue(versioned(bench.plan()))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("begin exclusive")
    with pytest.raises(ValueError, match="database is locked"):
        ledger.take()
    connection.close()
    assert len(said) == 1
    assert Ledger(bench.tree, "tiny-tiny", url).take().number == 0


def test_a_second_driver_on_sqlite_is_refused(bench):
    url = f"sqlite:///{bench.folder / 'study.db'}"
    with (
        sole_owner(bench.tree, "driver"),
        pytest.raises(ValueError, match="must have one driver at a time"),
    ):
        bench.drive(storage=url)
    assert not (bench.folder / "study.db").exists()
    assert bench.drive(storage=url).done == 4


def test_an_error_that_no_waiting_cures_is_not_waited_for():
    assert not is_away(OSError(28, "No space left on device"))
    assert not is_away(ValueError())


def test_the_ways_in_which_a_database_goes_away():
    wrapped = optuna.exceptions.StorageInternalError("commit")
    wrapped.__cause__ = PendingRollbackError("cannot reconnect")
    assert is_away(wrapped)
    assert is_away(OperationalError("", {}, Exception("server closed the connection")))
    assert is_away(DBAPIError("", {}, Exception(), connection_invalidated=True))
    assert not is_away(DBAPIError("", {}, Exception()))
    assert is_away(OperationalError("", {}, sqlite3.OperationalError("database is locked")))
    assert not is_away(OperationalError("", {}, sqlite3.OperationalError("disk I/O error")))


# Disks.

FULL = """
import pathlib, random, resource, sys
random.random = lambda: 0.0  # Optuna waits so many seconds before it inserts again
sys.path.insert(0, sys.argv[1])
from scheduling_bench import Bench
from lab.scheduling.ledger.ledger import Ledger
bench = Bench(pathlib.Path(sys.argv[2]))
room, url = int(sys.argv[3]), sys.argv[4]
ledger = Ledger(bench.tree, "tiny-tiny", url)
file = pathlib.Path(url.removeprefix("sqlite:///")) if url else bench.tree / "study.journal"
resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + room, -1))
try:
    plan = bench.plan(seeds=20)
    ledger.enqueue(map(plan.job, plan.cells))
except ValueError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))  # somebody made room
try:
    ledger.take()
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("database", [False, True], ids=["journal", "sqlite"])
def test_a_full_disk_is_a_clear_error_and_the_rerun_converges(bench, database):
    """The limit on a file's size fails a write in its midst, as a full disk does."""
    url = f"sqlite:///{bench.folder / 'study.db'}" if database else ""
    room = 2500 if database else 100
    command = [sys.executable, "-c", FULL, str(Path(__file__).parents[1]), str(bench.folder), str(room), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.cwd())
    first, second = said.stdout.splitlines()
    reason = "(disk I/O error|database or disk is full)" if database else "File too large"
    assert re.search(rf"^cannot write the ledger .*: {reason}\. Results that are there are kept", first)
    assert second == first  # nothing more was written
    assert database or not (bench.tree / JOURNAL).read_bytes().endswith(b"\n")  # onto half a line
    summary = bench.drive(storage=url)
    assert (summary.done, summary.failed) == (4, {})


@pytest.mark.parametrize("folder", ["file", "dangling"])
def test_a_results_folder_that_takes_no_files_is_named(bench, folder):
    (bench.folder / "file").touch()
    (bench.folder / "dangling").symlink_to("/proc/none")
    bench.tree = bench.folder / folder / "tiny"
    with pytest.raises(ValueError, match=rf"cannot go on in {bench.tree}: .* '{bench.folder}/{folder}"):
        bench.drive()


@pytest.mark.parametrize("lock", [False, True], ids=["journal", "its lock too"])
def test_a_journal_on_a_stale_handle_is_a_clear_error_and_the_rerun_converges(
    bench, stale, lock, monkeypatch
):
    def rename(*_):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    bench.drive()
    plan = bench.plan(seeds=2)
    if lock:
        monkeypatch.setattr(os, "rename", rename)
    message = rf"cannot write the ledger {bench.tree / JOURNAL}: Stale file handle\. Results that are there"
    with stale(JOURNAL), pytest.raises(ValueError, match=message):
        bench.drive(plan)
    monkeypatch.undo()
    summary = bench.drive(plan)
    assert (summary.done, summary.reused) == (4, 4)


def test_a_journal_that_takes_no_writes_is_named(bench):
    journal = filled(bench)
    journal.write_bytes(journal.read_bytes() + b"half")
    journal.with_name(JOURNAL + ".torn").mkdir()
    with pytest.raises(ValueError, match=r"cannot write the journal .*study\.journal: Is a directory"):
        Ledger(bench.tree, "tiny-tiny")


@pytest.fixture
def timezone():
    """Sets the process's time zone."""
    before = os.environ.get("TZ")

    def change(name):
        os.environ["TZ"] = name
        time.tzset()

    yield change
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def test_hosts_in_two_time_zones_share_a_ledger(bench, timezone, monkeypatch):
    timezone("Pacific/Auckland")
    assert bench.drive().done == 4
    timezone("America/Los_Angeles")
    hour_ago = time.time() - 3600
    monkeypatch.setattr(time, "time", lambda: hour_ago)
    summary = bench.drive(bench.plan(seeds=2))
    assert (summary.done, summary.reused) == (4, 4)


# Secrets in words; test_secrets.py looks for them in files and processes.


def test_masked_hides_the_password_and_the_query():
    assert masked("postgresql://me:sesame@host/name") == "postgresql://me:***@host/name"
    assert masked("postgresql://host/name?password=sesame") == "postgresql://host/name"
    assert masked("sqlite:///file:a.db?uri=true&key=sesame") == "sqlite:///file%3Aa.db"
    assert masked("sqlite:///study.db") == "sqlite:///study.db"


def test_redacted_text_holds_no_secret():
    url = "postgresql://me:open%20sesame@host/name?sslpassword=poppy&a=1&a=2"
    text = f"{url}: open sesame, poppy and more"
    assert redacted(text, url) == "postgresql://me:***@host/name: ***, *** and more"
    assert redacted(text, "") == text


def test_a_runs_environment_has_no_secret():
    environment = {"STORAGE": "a", "PGPASSWORD": "b", "HOME": "c"}
    assert without_secrets(environment) == {"HOME": "c"}
    assert json.dumps(environment)

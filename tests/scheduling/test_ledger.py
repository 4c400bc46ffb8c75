import sqlite3
import time

import pytest
from optuna.trial import TrialState
from scheduling_bench import trials

from lab.scheduling.ledger import JOURNAL, Ledger, masked


def test_cells_are_enqueued_once_and_a_growing_plan_adds_what_is_new(bench):
    ledger = Ledger(bench.tree, "tiny-tiny")
    assert ledger.enqueue(bench.plan().cells) == 4
    assert ledger.enqueue(bench.plan().cells) == 0
    assert Ledger(bench.tree, "tiny-tiny").enqueue(bench.plan(seeds=2).cells) == 4
    written = trials(bench.tree)
    assert len({trial.user_attrs["key"] for trial in written}) == len(written) == 8
    assert {trial.state for trial in written} == {TrialState.WAITING}
    assert {name: value for name, value in written[1].user_attrs.items() if name != "key"} == {
        "arm": "dlm",
        "level": {"data.unique_tokens": 1000},
        "seed": 0,
    }


def test_trials_are_taken_in_planned_order_until_there_is_none(bench):
    ledger = Ledger(bench.tree, "tiny-tiny")
    ledger.enqueue(bench.plan().cells)
    taken = [ledger.take() for _ in range(5)]
    assert taken == [(number, cell.key) for number, cell in enumerate(bench.plan().cells)] + [None]
    assert len(trials(bench.tree)) == 4
    assert ledger.running() == dict(taken[:4])


def test_outcomes_are_recorded(bench):
    ledger = Ledger(bench.tree, "tiny-tiny")
    ledger.enqueue(bench.plan().cells)
    for _ in range(2):
        ledger.take()
    ledger.complete(0, 1.25)
    ledger.fail(1, "out of luck")
    done, failed, *waiting = trials(bench.tree)
    assert (done.state, done.value) == (TrialState.COMPLETE, 1.25)
    assert (failed.state, failed.user_attrs["reason"]) == (TrialState.FAIL, "out of luck")
    assert ledger.keys(TrialState.COMPLETE) == {bench.plan().cells[0].key}
    assert ledger.keys(TrialState.WAITING) == {cell.key for cell in bench.plan().cells[2:]}
    assert ledger.running() == {}
    assert len(waiting) == 2


def test_a_torn_line_is_cut_off_and_kept(bench):
    Ledger(bench.tree, "tiny-tiny").enqueue(bench.plan().cells[:1])
    journal = bench.tree / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole.splitlines()[-1][:20])
    ledger = Ledger(bench.tree, "tiny-tiny")
    assert ledger.enqueue(bench.plan().cells) == 3
    assert len(trials(bench.tree)) == 4
    assert journal.with_name(JOURNAL + ".torn").read_bytes().startswith(whole)


def test_a_dead_drivers_journal_lock_is_no_obstacle(bench):
    Ledger(bench.tree, "tiny-tiny")
    (bench.tree / (JOURNAL + ".lock")).symlink_to(bench.tree / JOURNAL)
    begun = time.monotonic()
    assert Ledger(bench.tree, "tiny-tiny").enqueue(bench.plan().cells) == 4
    assert time.monotonic() - begun < 10  # Optuna itself would wait for 30 s


def test_one_database_serves_several_trees(bench):
    url = f"sqlite:///{bench.folder / 'study.db'}"
    assert Ledger(bench.tree, "tiny-tiny", url).enqueue(bench.plan().cells) == 4
    assert Ledger(bench.tree, "tiny-tiny", url).enqueue(bench.plan().cells) == 0
    assert Ledger(bench.folder / "other", "tiny-tiny", url).enqueue(bench.plan().cells) == 4
    with sqlite3.connect(bench.folder / "study.db") as connection:
        names = [name for (name,) in connection.execute("select study_name from studies")]
    connection.close()
    assert len(set(names)) == 2
    assert all(name.startswith("tiny-tiny-") for name in names)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "mysql://me:sesame@host/name",
            r"must be a sqlite or postgresql URL, but got mysql://me:\*\*\*@host/name",
        ),
        ("sesame", "must be a database URL such as sqlite:///study.db"),
        ("postgresql://me:sesame@host:port/name", "must be a database URL such as"),
        (
            "postgresql://me:sesame@127.0.0.1:1/name",
            r"cannot open the storage postgresql://me:\*\*\*@127.0.0.1:1/",
        ),
        (
            "postgresql://127.0.0.1:1/name?password=sesame",
            r"cannot open the storage postgresql://127.0.0.1:1/name: ",
        ),
        (
            "sqlite:////no/such/folder/study.db",
            "cannot open the storage sqlite:////no/such/folder/study.db: ",
        ),
    ],
)
def test_a_storage_that_cannot_be_opened_is_named_without_its_password(bench, url, message):
    with pytest.raises(ValueError, match=message) as caught:
        Ledger(bench.tree, "tiny-tiny", url)
    assert "sesame" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_masked_hides_the_password():
    assert masked("postgresql://me:sesame@host/name") == "postgresql://me:***@host/name"
    assert masked("postgresql://host/name?password=sesame") == "postgresql://host/name"
    assert masked("sqlite:///study.db") == "sqlite:///study.db"

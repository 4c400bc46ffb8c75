"""The ledger's own promises, over a journal; what lies below is in test_storage.py and test_postgres.py."""

import math
import threading
import time
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.trial import TrialState
from scheduling_bench import trials
from sqlalchemy.exc import OperationalError

from lab.scheduling.ledger.ledger import REASON_CHARACTERS, SCHEMA, TAIL_CHARACTERS, AwayError, Ledger, Taken
from lab.scheduling.ledger.storage import RetryPolicy

VERSION = "0123456789abcdef"


def versioned(plan, version=VERSION):
    return [replace(plan.job(cell), version=version) for cell in plan.cells]


def away():
    """What Optuna raises when a database drops the connection."""
    error = optuna.exceptions.StorageInternalError("commit")
    error.__cause__ = OperationalError("", {}, Exception("server closed the connection"))
    return error


@pytest.fixture
def drop(monkeypatch):
    """`drop(method, taken)` lets the next call of a storage's method fail, after it was `taken` or before."""

    def drop(method, taken, times=1):
        real = getattr(JournalStorage, method)
        left = [times]

        def flaky(self, *arguments, **named):
            if left[0] == 0:
                return real(self, *arguments, **named)
            left[0] -= 1
            if taken:
                real(self, *arguments, **named)
            raise away()

        monkeypatch.setattr(JournalStorage, method, flaky)

    return drop


def hasty(said=None, seconds=20.0):
    say = (lambda text: None) if said is None else said.append
    return RetryPolicy(seconds=seconds, first_pause=0.001, last_pause=0.002, say=say)


def test_cells_are_enqueued_once_and_a_growing_plan_adds_what_is_new(bench):
    ledger = Ledger(bench.tree, "tiny-tiny")
    assert ledger.enqueue(versioned(bench.plan())) == 4
    assert ledger.enqueue(versioned(bench.plan())) == 0
    assert Ledger(bench.tree, "tiny-tiny").enqueue(versioned(bench.plan(seeds=2))) == 4
    written = trials(bench.tree)
    assert len({trial.user_attrs["key"] for trial in written}) == len(written) == 8
    assert {trial.state for trial in written} == {TrialState.WAITING}
    assert {name: value for name, value in written[1].user_attrs.items() if name != "key"} == {
        "version": VERSION,
        "arm": "dlm",
        "level": {"data.unique_tokens": 1000},
        "seed": 0,
    }


def test_another_version_of_a_cell_waits_on_its_own(bench):
    ledger = Ledger(bench.tree, "tiny-tiny")
    plan = bench.plan()
    assert ledger.enqueue(versioned(plan)) == 4
    assert ledger.enqueue(versioned(plan, "f" * 16)) == 4
    ledger.complete(ledger.take().number, 1.0)
    assert ledger.done() == {(plan.cells[0].logdir, VERSION)}


def test_trials_are_taken_in_planned_order_until_there_is_none(bench):
    ledger = Ledger(bench.tree, "tiny-tiny")
    ledger.enqueue(versioned(bench.plan()))
    taken = [ledger.take() for _ in range(5)]
    expected = [Taken(number, cell.logdir, VERSION) for number, cell in enumerate(bench.plan().cells)]
    assert taken == [*expected, None]
    assert len(trials(bench.tree)) == 4
    assert ledger.running() == Ledger(bench.tree, "tiny-tiny").running() == expected


def test_outcomes_are_recorded(bench):
    ledger = Ledger(bench.tree, "tiny-tiny")
    ledger.enqueue(versioned(bench.plan()))
    for _ in range(2):
        ledger.take()
    ledger.complete(0, 1.25)
    ledger.fail(1, "diverged", "out of luck", "the last line")
    done, failed, *waiting = trials(bench.tree)
    assert (done.state, done.value) == (TrialState.COMPLETE, 1.25)
    told = [failed.user_attrs[name] for name in ("outcome", "reason", "log_tail")]
    assert (failed.state, told) == (TrialState.FAIL, ["diverged", "out of luck", "the last line"])
    assert ledger.done() == {(bench.plan().cells[0].logdir, VERSION)}
    assert ledger.running() == []
    assert len(waiting) == 2


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_refused(bench, value):
    ledger = Ledger(bench.tree, "tiny-tiny")
    ledger.enqueue(versioned(bench.plan()))
    with pytest.raises(ValueError, match="`value` must be a finite number, but got value="):
        ledger.complete(ledger.take().number, value)


def test_a_closed_trial_keeps_its_outcome(bench):
    ledger = Ledger(bench.tree, "tiny-tiny")
    ledger.enqueue(versioned(bench.plan()))
    number = ledger.take().number
    ledger.fail(number, "lost", "first")
    ledger.fail(number, "lost", "second")
    with pytest.raises(ValueError, match="trial 0 must be open to become COMPLETE, but it is FAIL"):
        ledger.complete(number, 1.0)
    assert trials(bench.tree)[0].user_attrs["reason"] == "first"


def test_attributes_of_any_kind_are_kept_as_text_and_numbers(bench):
    ledger = Ledger(bench.tree, "tiny-tiny")
    level = {
        "number": np.float32(0.5),
        "numbers": np.arange(2),
        "bytes": b"\xffa\x00",
        "text": "line\nline\ud800",
        "deep": {1: (np.bool_(True), None, {2}), "other": 1j},
    }
    job = versioned(bench.plan())[0]
    factors = {**job.factors, **{name: [value] for name, value in level.items()}}
    ledger.enqueue([replace(job, level=level, factors=factors)])
    ledger.fail(
        ledger.take().number, "error", "one\ntwo\x00\udcff" + "x" * 10**7, "a\x1b\x00\n" + "y" * 10**7
    )
    (trial,) = trials(bench.tree)
    assert trial.user_attrs["level"] == {
        "number": 0.5,
        "numbers": [0, 1],
        "bytes": "\ufffda\ufffd",
        "text": "line\nline\ufffd",
        "deep": {"1": [True, None, [2]], "other": "1j"},
    }
    assert trial.user_attrs["reason"].startswith("one two\ufffd\ufffdxxx")
    assert len(trial.user_attrs["reason"]) == REASON_CHARACTERS
    assert trial.user_attrs["log_tail"] == "y" * TAIL_CHARACTERS
    assert (bench.tree / "study.journal").stat().st_size < 20_000


def test_a_log_tail_holds_no_control_character(bench):
    ledger = Ledger(bench.tree, "tiny-tiny")
    ledger.enqueue(versioned(bench.plan()))
    ledger.fail(
        ledger.take().number, "error", "no", b"a\x1b[31m\x00\tb\xff\nc".decode(errors="surrogateescape")
    )
    assert trials(bench.tree)[0].user_attrs["log_tail"] == "a\ufffd[31m\ufffd\tb\ufffd\nc"


@pytest.mark.parametrize("taken", [True, False], ids=["answer lost", "question lost"])
def test_enqueue_adds_each_cell_once_though_the_connection_drops(bench, drop, taken):
    ledger = Ledger(bench.tree, "tiny-tiny", retries=hasty())
    drop("create_new_trial", taken)
    assert ledger.enqueue(versioned(bench.plan())) == 4
    assert [trial.user_attrs["key"] for trial in trials(bench.tree)] == [c.logdir for c in bench.plan().cells]


@pytest.mark.parametrize("taken", [True, False], ids=["answer lost", "question lost"])
def test_take_hands_each_cell_out_once_though_the_connection_drops(bench, drop, taken):
    ledger = Ledger(bench.tree, "tiny-tiny", retries=hasty())
    ledger.enqueue(versioned(bench.plan()))
    drop("set_trial_state_values", taken)
    assert [ledger.take().number for _ in range(4)] == [0, 1, 2, 3]
    assert ledger.take() is None


@pytest.mark.parametrize("taken", [True, False], ids=["answer lost", "question lost"])
def test_an_outcome_is_told_once_though_the_connection_drops(bench, drop, taken):
    ledger = Ledger(bench.tree, "tiny-tiny", retries=hasty())
    ledger.enqueue(versioned(bench.plan()))
    first, second = ledger.take(), ledger.take()
    drop("set_trial_state_values", taken)
    ledger.complete(first.number, 1.5)
    drop("set_trial_user_attr", taken)
    drop("set_trial_state_values", taken)
    ledger.fail(second.number, "lost", "killed")
    done, failed, *_ = trials(bench.tree)
    assert (done.state, done.value) == (TrialState.COMPLETE, 1.5)
    assert (failed.state, failed.user_attrs["reason"]) == (TrialState.FAIL, "killed")


@pytest.mark.parametrize("taken", [True, False], ids=["answer lost", "question lost"])
def test_a_cell_that_cannot_be_tried_is_recorded_once_for_each_reason(bench, drop, taken):
    ledger = Ledger(bench.tree, "tiny-tiny", retries=hasty())
    first, second = versioned(bench.plan())[:2]
    drop("create_new_trial", taken)
    for job, reason in ((first, "a"), (first, "a"), (second, "a"), (first, "b"), (second, "a")):
        ledger.record_untried(job, "not tuned", reason)
    told = [(trial.user_attrs["key"], trial.user_attrs["reason"]) for trial in trials(bench.tree)]
    assert told == [(first.key, "a"), (second.key, "a"), (first.key, "b")]
    assert {trial.state for trial in trials(bench.tree)} == {TrialState.FAIL}
    assert ledger.take() is None


def test_trials_that_an_insertion_doubled_are_closed(bench, monkeypatch):
    real = JournalStorage.create_new_trial

    def twice(self, *arguments, **named):
        real(self, *arguments, **named)
        return real(self, *arguments, **named)

    ledger = Ledger(bench.tree, "tiny-tiny")
    monkeypatch.setattr(JournalStorage, "create_new_trial", twice)
    assert ledger.enqueue(versioned(bench.plan())) == 4
    written = trials(bench.tree)
    assert [trial.state.name for trial in written] == ["WAITING", "FAIL"] * 4
    assert {trial.user_attrs["outcome"] for trial in written[1::2]} == {"twin"}


def test_an_outage_is_said_once_and_waited_for(bench, drop):
    said = []
    ledger = Ledger(bench.tree, "tiny-tiny", retries=hasty(said))
    ledger.enqueue(versioned(bench.plan()))
    drop("get_all_trials", taken=False, times=5)
    assert ledger.take().number == 0
    gone, back = said
    assert "is away (server closed the connection): waiting up to 20 s" in gone
    assert back.endswith("is back")


def test_a_storage_that_stays_away_ends_in_one_clear_error(bench, drop, monkeypatch):
    ledger = Ledger(bench.tree, "tiny-tiny", retries=hasty(seconds=0.05))
    ledger.enqueue(versioned(bench.plan()))
    ledger.take()
    drop("get_all_trials", taken=False, times=10**9)
    for operation in (ledger.take, ledger.done, lambda: ledger.complete(0, 1.0)):
        with pytest.raises(
            ValueError, match=r"cannot write the ledger .*: server closed the connection\. Res"
        ):
            operation()
    monkeypatch.undo()
    assert trials(bench.tree)[0].state == TrialState.RUNNING


def test_waiting_for_a_storage_can_be_ended(bench, drop, monkeypatch):
    said = []

    def say(text):
        if not said:
            threading.Timer(0.1, ledger.stop_waiting).start()
        said.append(text)

    ledger = Ledger(bench.tree, "tiny-tiny", retries=RetryPolicy(600.0, 400.0, 400.0, say))
    ledger.enqueue(versioned(bench.plan()))
    ledger.take()
    drop("get_all_trials", taken=False, times=10**9)
    begun = time.monotonic()
    with pytest.raises(AwayError, match=r"is away \(server closed the connection\)"):
        ledger.take()
    assert time.monotonic() - begun < 300
    monkeypatch.undo()
    with pytest.raises(AwayError):
        ledger.complete(0, 1.0)
    assert trials(bench.tree)[0].state == TrialState.RUNNING
    assert [text.rpartition(": ")[2] for text in said] == [
        "waiting up to 600 s",
        "the next start brings it in line with the results",
    ]


def test_after_a_notice_no_storage_is_waited_for(bench, drop):
    said = []
    ledger = Ledger(bench.tree, "tiny-tiny", retries=RetryPolicy(5.0, 4.0, 4.0, said.append))
    ledger.stop_waiting()
    assert ledger.enqueue(versioned(bench.plan())) == 4
    drop("get_all_trials", taken=False)
    with pytest.raises(AwayError):
        ledger.take()
    assert len(said) == 1


def test_pauses_double_up_to_the_last_and_end_in_time(monkeypatch):
    clock, pauses = [0.0], []
    monkeypatch.setattr("tenacity.time.monotonic", lambda: clock[0])

    def sleep(seconds):
        pauses.append(seconds)
        clock[0] += seconds

    def ask():
        raise away()

    policy = RetryPolicy(seconds=10.0, first_pause=0.5, last_pause=3.0)
    with pytest.raises(type(away())):
        policy.retrying(sleep, lambda state: None)(ask)
    assert pauses == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_study_of_a_newer_lab_is_refused_and_left_as_it_is(bench):
    ledger = Ledger(bench.tree, "tiny-tiny")
    ledger.enqueue(versioned(bench.plan()))
    optuna.load_study(
        study_name="tiny-tiny",
        storage=JournalStorage(optuna.storages.journal.JournalFileBackend(str(bench.tree / "study.journal"))),
        sampler=optuna.samplers.RandomSampler(),
    ).set_user_attr("lab_schema", SCHEMA + 1)
    journal = bench.tree / "study.journal"
    journal.write_bytes(journal.read_bytes() + b'{"half')
    before = {path: path.read_bytes() for path in bench.tree.iterdir()}
    with pytest.raises(ValueError, match=rf"has schema {SCHEMA + 1}, but this lab knows {SCHEMA} and older"):
        Ledger(bench.tree, "tiny-tiny")
    assert {path: path.read_bytes() for path in bench.tree.iterdir()} == before


def test_a_study_of_an_older_lab_is_taken_over(bench):
    """Before schemas and versions: its cells are no longer known by version, and wait again."""
    bench.tree.mkdir(parents=True)
    backend = optuna.storages.journal.JournalFileBackend(str(bench.tree / "study.journal"))
    study = optuna.create_study(study_name="tiny-tiny", storage=JournalStorage(backend))
    key = bench.plan().cells[0].logdir
    study.add_trial(optuna.trial.create_trial(state=TrialState.COMPLETE, value=1.0, user_attrs={"key": key}))
    ledger = Ledger(bench.tree, "tiny-tiny")
    assert ledger.done() == {(key, "")}
    assert ledger.enqueue(versioned(bench.plan())) == 4
    assert optuna.load_study(study_name="tiny-tiny", storage=study._storage).user_attrs == {
        "lab_schema": SCHEMA
    }

import dataclasses
import json
import os
import shutil
import signal
import threading

import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from result_bench import result, stop
from scheduling_bench import alive, trials, wait_for
from sqlalchemy.exc import OperationalError

from lab.config import load_config
from lab.results import RunResult, VersionRecord, write_record
from lab.scheduling import driver
from lab.scheduling.jobs import value_of
from lab.scheduling.ledger.ledger import Ledger
from lab.scheduling.logs import TAIL_BYTES, read_tail
from lab.scheduling.outcomes import Outcome
from lab.scheduling.plan import UNREAD, DataFacts
from lab.scheduling.progress import RunsProgress
from lab.version import claim_version


def outcomes(bench):
    """Cell key -> the states of its trials, oldest first."""
    found = {}
    for trial in trials(bench.tree):
        found.setdefault(trial.user_attrs["key"], []).append(trial.state.name)
    return found


def finished(plan, cell, nll):
    """The result of a run."""
    job = plan.job(cell)
    version = VersionRecord(values=dict(job.run.values), code=job.run.code)
    return result(stop(1, nll), config=cell.config, version=version, evaluation=job.wanted)


def failure(bench, cell):
    return json.loads((bench.tree / cell.logdir / "failure.json").read_text())


def kept(plan, cell):
    """Where a run of this plan lies once another version has its place."""
    return plan.logdir(cell).with_name(f"{plan.logdir(cell).name}.{plan.version(cell).digest()}")


def test_every_cell_runs_once_and_its_loss_is_told(bench):
    plan = bench.plan(seeds=2)
    summary = bench.drive(plan)
    assert (summary.done, summary.reused, summary.failed, summary.interrupted) == (8, 0, {}, None)
    told = {trial.user_attrs["key"]: trial.value for trial in trials(bench.tree)}
    assert told == {cell.logdir: bench.value(cell) for cell in plan.cells}
    assert all(len(bench.tries(cell)) == 1 for cell in plan.cells)
    assert (bench.tree / "plan.json").exists()
    assert [load_config(plan.logdir(cell) / "config.yaml") for cell in plan.cells] == [
        cell.config for cell in plan.cells
    ]
    assert "8/8 runs" in bench.said.getvalue()


def test_a_second_invocation_does_nothing(bench):
    bench.drive()
    before = trials(bench.tree)
    summary = bench.drive()
    assert (summary.done, summary.reused) == (0, 4)
    assert trials(bench.tree) == before


def test_a_growing_plan_runs_only_what_is_new(bench):
    bench.drive()
    summary = bench.drive(bench.plan(seeds=2))
    assert (summary.done, summary.reused) == (4, 4)
    assert set(map(tuple, outcomes(bench).values())) == {("COMPLETE",)}


def test_a_lost_ledger_is_made_again_from_the_results(bench):
    plan = bench.plan()
    bench.drive(plan)
    (bench.tree / "study.journal").unlink()
    summary = bench.drive(plan)
    assert (summary.done, summary.reused) == (0, 4)
    assert outcomes(bench) == {cell.logdir: ["COMPLETE"] for cell in plan.cells}
    assert all(len(bench.tries(cell)) == 1 for cell in plan.cells)


def test_a_lost_result_is_made_again(bench):
    plan = bench.plan()
    bench.drive(plan)
    shutil.rmtree(plan.logdir(plan.cells[2]))
    summary = bench.drive(plan)
    assert (summary.done, summary.reused) == (1, 3)
    assert plan.job(plan.cells[2]).result()


def test_a_changed_configuration_runs_again_beside_the_old_result(bench):
    bench.drive()
    changed = bench.plan(overrides={"training": {"batch_size": 8}})
    assert bench.drive(changed).done == 4
    old = bench.plan()
    assert (kept(old, old.cells[0]) / "result.json").exists()
    assert bench.said.getvalue().count(": training.batch_size (32 became 8); the old run is kept in ") == 4


@pytest.mark.parametrize(
    ("behaviour", "outcome", "reason", "tries"),
    [
        ("raise", "error", "exit code 1: RuntimeError: no such luck", 2),
        ("exit 9", "error", "exit code 9: so it went", 2),
        ("user error", "user error", "user error: `width` must be even", 1),
        ("exit 3", "diverged", "diverged: so it went", 1),
        ("exit 4", "out of device memory", "out of device memory: so it went", 2),
        ("exit 5", "out of host memory", "out of host memory: so it went", 2),
        ("vanish", "no result", "no result: ended without a result.json of its configuration", 2),
        ("other version", "no result", "no result: ended without a result.json of its configuration", 2),
        ("other evaluation", "no result", "no result: ended without a result.json of its configuration", 2),
        ("not finite", "no result", "no result: ended without a result.json of its configuration", 2),
        ("killed always", "lost", "lost: killed by SIGKILL", 3),
    ],
)
def test_a_failure_is_recorded_and_the_others_go_on(bench, behaviour, outcome, reason, tries):
    bench.behave({"dlm/1000/0": behaviour})
    plan = bench.plan()
    summary = bench.drive(plan)
    cell = plan.cells[1]
    assert summary.done == 3
    assert summary.failed == {cell.label: reason}
    assert {name: failure(bench, cell)[name] for name in ("outcome", "reason")} == {
        "outcome": outcome,
        "reason": reason,
    }
    assert len(bench.tries(cell)) == tries
    assert outcomes(bench)[cell.logdir] == ["FAIL"] * tries
    failed = [trial.user_attrs for trial in trials(bench.tree) if trial.state == TrialState.FAIL]
    assert [(told["outcome"], told["reason"]) for told in failed] == [(outcome, reason)] * tries
    assert failed[-1].get("log_tail", "") == failure(bench, cell)["log_tail"]


def test_a_backend_that_no_run_can_import_ends_the_study_at_once(bench):
    bench.behave({"ar": "no backend", "dlm": "no backend"})
    told = "^KERAS_BACKEND=torch: the backend cannot be imported: ImportError: torn"
    with pytest.raises(ValueError, match=told):
        bench.drive(workers=1)
    assert len(list(bench.tree.rglob("failure.json"))) == 1
    bench.behave({"dlm/2000/0": "no backend"})  # one node of several
    summary = bench.drive(workers=1)
    assert (summary.done, len(summary.failed)) == (3, 1)


def test_how_often_a_cell_is_tried_can_be_chosen(bench):
    bench.behave({"dlm/1000/0": "killed always"})
    plan = bench.plan()
    bench.drive(plan, tries={Outcome.LOST: 5})
    assert len(bench.tries(plan.cells[1])) == 5


def test_a_preempted_run_is_no_failure_and_goes_on(bench):
    bench.behave({"dlm/1000/0": "preempted twice"})
    plan = bench.plan()
    summary = bench.drive(plan, tries={})
    assert (summary.done, summary.failed) == (3, {plan.cells[1].label: "preempted: no output"})
    summary = bench.drive(plan)
    assert (summary.done, summary.failed) == (1, {})
    assert len(bench.tries(plan.cells[1])) == 3


def test_changed_code_or_data_runs_again_beside_the_old_result(bench):
    bench.drive()
    first = bench.plan()
    second = dataclasses.replace(first, code="0" * 16)
    summary = bench.drive(second)
    assert (summary.done, summary.reused) == (4, 0)
    assert bench.said.getvalue().count(": code; the old run is kept in ") == 4
    cell = first.cells[0]
    facts = DataFacts({**UNREAD.hashes, "train": "1" * 16}, 0)
    third = dataclasses.replace(second, data={cell.config.data: facts})
    summary = bench.drive(third)
    assert (summary.done, summary.reused) == (2, 2)
    assert bench.said.getvalue().count(f": data ( became {'1' * 16}); the old run is kept in ") == 2
    assert all(kept(plan, cell).exists() for plan in (first, second))
    assert bench.drive(third).reused == 4
    assert outcomes(bench)[cell.logdir] == ["COMPLETE"] * 3
    assert len({trial.user_attrs["version"] for trial in trials(bench.tree)}) == 10


def test_the_tail_of_the_log_is_bounded_and_of_the_last_try(bench):
    bench.behave({"dlm/1000/0": "raise"})
    plan = bench.plan()
    bench.drive(plan)
    tail = failure(bench, plan.cells[1])["log_tail"]
    assert tail.endswith("RuntimeError: no such luck\n")
    assert len(tail) == TAIL_BYTES
    bench.behave({"dlm/1000/0": "user error"})
    bench.drive(plan)
    assert failure(bench, plan.cells[1])["log_tail"] == "error: `width` must be even\n"


@pytest.mark.parametrize(
    ("content", "start", "expected"),
    [
        (b"one\ntwo\n", 4, "two\n"),
        (b"cut since\n", 5000, "cut since\n"),
        (b"\xff\x00end", 0, "\N{REPLACEMENT CHARACTER}" * 2 + "end"),
        (b"x" * 10**6, 0, "x" * TAIL_BYTES),
        ("漢".encode() * 4000, 0, "漢" * (TAIL_BYTES // 3)),
        (b"one\n" + "🙂".encode() * 4000, 5, "🙂" * (TAIL_BYTES // 4)),
        (None, 0, ""),
    ],
    ids=["own part", "cut", "binary", "long", "characters", "characters of four bytes", "none"],
)
def test_a_tail_is_short_text_whatever_the_log_holds(tmp_path, content, start, expected):
    if content is not None:
        (tmp_path / "log.txt").write_bytes(content)
    assert read_tail(tmp_path / "log.txt", start) == expected


def test_a_failed_cell_is_tried_again_by_the_next_invocation(bench):
    bench.behave({"dlm": "raise"})
    plan = bench.plan()
    assert len(bench.drive(plan).failed) == 2
    bench.behave({})
    summary = bench.drive(plan)
    assert (summary.done, summary.reused, summary.failed) == (2, 2, {})
    assert outcomes(bench)[plan.cells[1].logdir] == ["FAIL", "FAIL", "COMPLETE"]
    assert not (plan.logdir(plan.cells[1]) / "failure.json").exists()


def test_a_lost_process_is_tried_again_at_once(bench):
    bench.behave({"dlm": "killed once"})
    plan = bench.plan()
    summary = bench.drive(plan)
    assert (summary.done, summary.failed) == (4, {})
    assert outcomes(bench)[plan.cells[1].logdir] == ["FAIL", "COMPLETE"]
    assert "trying again" in bench.said.getvalue()


def test_a_result_counts_even_if_the_process_crashed_after_writing_it(bench):
    bench.behave({"ar": "crash at exit"})
    summary = bench.drive()
    assert (summary.done, summary.failed) == (4, {})


def test_a_cell_that_left_the_plan_is_not_run(bench):
    plan = bench.plan(seeds=2)
    ledger = Ledger(bench.tree, "tiny-tiny")
    ledger.enqueue(map(plan.job, plan.cells))
    smaller = bench.plan(seeds=1)
    assert bench.drive(smaller).done == 4
    gone = [cell for cell in plan.cells if cell.seed == 1]
    assert not any(bench.tries(cell) for cell in gone)
    assert all(outcomes(bench)[cell.logdir] == ["FAIL"] for cell in gone)
    assert bench.drive(plan).done == 4


def test_killed_driver_is_taken_over_from(bench):
    bench.behave({"ar": "wait", "dlm": "wait"})
    plan = bench.plan()
    process = bench.driver()
    first, second = plan.cells[:2]
    wait_for(lambda: bench.tries(first) and bench.tries(second))
    with pytest.raises(
        ValueError, match=rf"must have one driver at a time, but process {process.pid} is at work"
    ):
        bench.drive(plan)
    process.kill()
    process.communicate()
    children = bench.tries(first) + bench.tries(second)
    wait_for(lambda: not any(alive(pid) for pid in children))
    assert [trial.state.name for trial in trials(bench.tree)] == ["RUNNING"] * 2 + ["WAITING"] * 2

    # The first had just finished; the second had not.
    write_record(plan.logdir(first) / "result.json", finished(plan, first, 0.5))
    (bench.folder / "go").touch()
    summary = bench.drive(plan)
    assert (summary.done, summary.reused) == (3, 1)
    assert len(bench.tries(first)) == 1
    expected = {cell.logdir: ["COMPLETE"] for cell in plan.cells} | {second.logdir: ["FAIL", "COMPLETE"]}
    assert outcomes(bench) == expected
    lost = next(trial for trial in trials(bench.tree) if trial.state == TrialState.FAIL)
    assert lost.user_attrs["reason"] == "lost: the driver ended before the run did"
    assert trials(bench.tree)[0].value == 0.5


@pytest.mark.parametrize("notice", driver.NOTICES, ids=lambda notice: notice.name)
def test_a_notice_stops_the_runs_and_the_same_command_goes_on(bench, notice):
    bench.behave({"ar": "wait", "dlm": "wait"})
    plan = bench.plan()
    process = bench.driver()
    wait_for(lambda: bench.tries(plan.cells[0]) and bench.tries(plan.cells[1]))
    process.send_signal(notice)
    said, _ = process.communicate(timeout=60)
    assert said.splitlines()[-1] == f"{notice.name} 0"
    assert not any(alive(pid) for cell in plan.cells for pid in bench.tries(cell))
    stopped = [trial for trial in trials(bench.tree) if trial.state == TrialState.FAIL]
    assert [trial.user_attrs["reason"] for trial in stopped] == ["stopped with its driver"] * 2
    (bench.folder / "go").touch()
    assert bench.drive(plan).done == 4


@pytest.mark.parametrize("notice", [signal.SIGINT, signal.SIGTERM])
def test_a_notice_ends_the_wait_for_a_database_that_is_away(bench, monkeypatch, notice):
    away, over = threading.Event(), threading.Event()

    def unless_away(real):
        def ask(*arguments):
            if away.is_set():
                raise OperationalError("", {}, Exception("no route to host"))
            return real(*arguments)

        return ask

    for name in ("append_logs", "read_logs"):
        monkeypatch.setattr(JournalFileBackend, name, unless_away(getattr(JournalFileBackend, name)))

    def disturb():
        wait_for(lambda: bench.tries(first) and bench.tries(second))
        away.set()
        (bench.folder / "go").touch()  # the first has a result, which cannot be told
        try:
            wait_for(lambda: "is away" in bench.said.getvalue())
        finally:
            os.kill(os.getpid(), notice)
        if not over.wait(120):
            away.clear()

    bench.behave({"ar": "wait", "dlm": "checkpoint"})
    plan = bench.plan()
    first, second = plan.cells[:2]
    helper = threading.Thread(target=disturb)
    helper.start()
    summary = bench.drive(plan)
    over.set()
    helper.join()
    assert away.is_set()
    assert summary.interrupted == notice
    assert (plan.logdir(second) / "checkpoint").exists()
    assert not alive(*bench.tries(second))
    assert bench.said.getvalue().count("is away (no route to host): ") == 2
    away.clear()
    assert outcomes(bench) == {
        cell.logdir: ["RUNNING" if cell in (first, second) else "WAITING"] for cell in plan.cells
    }
    bench.behave({})
    summary = bench.drive(plan)
    assert (summary.done, summary.reused) == (3, 1)
    expected = {cell.logdir: ["COMPLETE"] for cell in plan.cells} | {second.logdir: ["FAIL", "COMPLETE"]}
    assert outcomes(bench) == expected


def test_ctrl_c_twice_does_not_wait(bench):
    bench.behave({"ar": "stubborn", "dlm": "stubborn"})
    plan = bench.plan()
    process = bench.driver()
    wait_for(lambda: bench.tries(plan.cells[0]) and bench.tries(plan.cells[1]))
    process.send_signal(signal.SIGINT)
    wait_for(lambda: all((plan.logdir(cell) / "asked").exists() for cell in plan.cells[:2]))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode != 0
    wait_for(lambda: not any(alive(pid) for cell in plan.cells for pid in bench.tries(cell)))
    # Had it waited, it would have told their ends.
    assert [trial.state.name for trial in trials(bench.tree)] == ["RUNNING"] * 2 + ["WAITING"] * 2


@pytest.mark.parametrize("behaviour", ["wait", "stubborn"])
def test_an_error_in_the_driver_leaves_no_run_behind(bench, monkeypatch, behaviour):
    def fail(progress):
        wait_for(lambda: bench.tries(plan.cells[0]) and bench.tries(plan.cells[1]))
        raise OSError("disk full")

    bench.behave({"ar": behaviour, "dlm": behaviour})
    plan = bench.plan()
    monkeypatch.setattr(RunsProgress, "refresh", fail)
    monkeypatch.setattr(driver, "GRACE_SECONDS", 0.5)
    with pytest.raises(ValueError, match=f"cannot go on in {bench.tree}: disk full"):
        bench.drive(plan)
    wait_for(lambda: not any(alive(pid) for cell in plan.cells for pid in bench.tries(cell)))


@pytest.mark.parametrize("name", ["plan.json", "config.yaml"])
def test_a_stale_handle_of_the_driver_is_a_clear_error_and_the_same_command_goes_on(bench, stale, name):
    plan = bench.plan()
    message = (
        rf"cannot go on in {bench.tree}: \[Errno \d+\] Stale file handle: '.*/{name}'\. Results that are"
    )
    with stale(name), pytest.raises(ValueError, match=message):
        bench.drive(plan)
    assert bench.drive(plan).done == 4


def test_a_stale_handle_of_a_run_is_an_error_of_its_attempt(bench):
    bench.behave({"dlm/1000/0": "stale once"})
    plan = bench.plan()
    assert bench.drive(plan).done == 4
    failed, done = (t for t in trials(bench.tree) if t.user_attrs["key"] == plan.cells[1].logdir)
    assert (failed.user_attrs["outcome"], done.state) == ("error", TrialState.COMPLETE)
    assert failed.user_attrs["reason"].endswith(f"Stale file handle: '{plan.logdir(plan.cells[1])}'")


def test_a_database_works_in_place_of_the_journal(bench):
    storage = f"sqlite:///{bench.folder / 'study.db'}"
    assert bench.drive(storage=storage).done == 4
    assert bench.drive(storage=storage).reused == 4
    assert not (bench.tree / "study.journal").exists()


DAMAGED = {
    "empty": lambda text: "",
    "cut": lambda text: text[: len(text) // 2],
    "no record": lambda text: "[]",
    "a key is missing": lambda text: text.replace('"evaluation":', '"other":'),
    "a text for a number": lambda text: text.replace('"wall_seconds": 2.5', '"wall_seconds": "long"'),
    "no number": lambda text: text.replace('"wall_seconds": 2.5', '"wall_seconds": NaN'),
    "another schema": lambda text: text.replace('"schema": 4', '"schema": 2'),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_result_is_named_in_one_line_and_made_again(bench, damage):
    plan = bench.plan()
    bench.drive(plan)
    path = plan.logdir(plan.cells[2]) / "result.json"
    whole = path.read_text()
    path.write_text(damage(whole))
    assert path.read_text() != whole
    summary = bench.drive(plan)
    assert (summary.done, summary.reused, summary.failed) == (1, 3, {})
    assert [len(bench.tries(cell)) for cell in plan.cells] == [1, 1, 2, 1]
    (said,) = (line for line in bench.said.getvalue().splitlines() if "result.json" in line)
    assert said.startswith(f"{path}: ")
    assert said.endswith(" It is made again.")
    assert path.read_text() == whole
    assert bench.drive(plan).reused == 4


def test_a_damaged_version_follows_from_the_result(bench):
    plan = bench.plan()
    bench.drive(plan)
    first, second = (plan.logdir(cell) for cell in plan.cells[:2])
    (first / "version.json").write_text("{")
    (second / "version.json").unlink()
    assert bench.drive(plan).reused == 4
    changed = bench.plan(overrides={"training": {"batch_size": 8}})
    assert bench.drive(changed).done == 4
    assert (kept(plan, plan.cells[0]) / "result.json").exists()
    assert (kept(plan, plan.cells[1]) / "result.json").exists()


def test_a_folder_with_work_of_unknown_version_is_moved_aside_and_it_is_said(bench):
    plan = bench.plan()
    worked, empty = (plan.logdir(cell) for cell in plan.cells[:2])
    for logdir in (worked, empty):
        (logdir / "checkpoints").mkdir(parents=True)
        (logdir / "metrics.jsonl").touch()
    (worked / "metrics.jsonl").write_text('{"kind": "train"}\n')
    assert bench.drive(plan).done == 4
    aside = worked.with_name("seed=0.unknown")
    said = f"{plan.cells[0].label}: it does not say what it holds; the old run is kept in {aside}\n"
    assert bench.said.getvalue().count("is kept in") == bench.said.getvalue().count(said) == 1
    assert (aside / "metrics.jsonl").read_text() == '{"kind": "train"}\n'
    assert not empty.with_name("seed=0.unknown").exists()


def test_a_damaged_plan_is_written_anew(bench):
    bench.drive()
    path = bench.tree / "plan.json"
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], b"[]"):
        path.write_bytes(damaged)
        assert bench.drive().reused == 4
        assert path.read_bytes() == whole


def tries(bench):
    """Of all runs, those kept aside too."""
    return sorted(len(path.read_text().split()) for path in bench.tree.rglob("tries"))


RATES = ({"training": {"learning_rate": rate}} for rate in (0.001, 0.01))


def test_settings_toggled_back_take_the_old_runs_back_and_compute_nothing(bench):
    one, other = (bench.plan(overrides=overrides) for overrides in RATES)
    bench.drive(one)
    assert bench.drive(other).done == 4
    assert tries(bench) == [1] * 8
    for plan, place in ((one, kept(one, one.cells[0])), (other, kept(other, other.cells[0]))):
        bench.said.truncate(0)
        summary = bench.drive(plan)
        assert (summary.done, summary.reused) == (0, 4)
        assert tries(bench) == [1] * 8
        assert not place.exists()
        assert f": the run that was kept in {place} is taken back\n" in bench.said.getvalue()
        assert all(plan.job(cell).result() for cell in plan.cells)
    changes = ("0.01 became 0.001", "0.001 became 0.01")
    assert changes[1] in bench.said.getvalue()
    assert f": training.learning_rate ({changes[1]}); the old run is kept in {kept(one, one.cells[0])}\n" in (
        bench.said.getvalue()
    )
    assert set(outcomes(bench)[one.cells[0].logdir]) == {"COMPLETE"}


def test_failing_settings_leave_nothing_behind_and_good_runs_come_back(bench):
    good, bad = bench.plan(), bench.plan(overrides={"training": {"learning_rate": 7.0}})
    worse = bench.plan(overrides={"training": {"learning_rate": 8.0}})
    bench.drive(good)
    bench.behave({"ar": "user error", "dlm": "user error"})
    assert len(bench.drive(bad).failed) == 4
    logdir = good.logdir(good.cells[0])
    assert failure(bench, good.cells[0])["outcome"] == "user error"
    assert len(bench.drive(worse).failed) == 4
    assert {path.name for path in logdir.parent.iterdir()} == {logdir.name, kept(good, good.cells[0]).name}
    summary = bench.drive(good)
    assert (summary.done, summary.reused, summary.failed) == (0, 4, {})
    assert [path.name for path in logdir.parent.iterdir()] == [logdir.name]
    assert tries(bench) == [1] * 4


def test_good_runs_stay_in_place_until_a_new_one_starts(bench):
    good, other = bench.plan(), bench.plan(overrides={"training": {"learning_rate": 7.0}})
    bench.drive(good)
    bench.behave({"ar": "wait", "dlm": "wait"})
    seen = []

    def look():
        first = good.cells[0]
        try:
            wait_for(lambda: (kept(good, first) / "tries").exists() and bench.tries(first))
            seen.extend(good.job(cell).result() is not None for cell in good.cells)
        finally:
            (bench.folder / "go").touch()

    helper = threading.Thread(target=look)
    helper.start()
    bench.drive(other, workers=1)
    helper.join()
    assert seen == [False, True, True, True]


def test_a_kept_run_that_was_not_finished_is_gone_on_with(bench):
    one, other = (bench.plan(overrides={"training": {"learning_rate": rate}}) for rate in (0.5, 0.25))
    for cell in one.cells:
        claim_version(one.logdir(cell), one.version(cell))
        (one.logdir(cell) / "metrics.jsonl").write_text("{}\n")
    bench.drive(other)
    assert bench.drive(one).done == 4
    assert all((one.logdir(cell) / "metrics.jsonl").read_text() == "{}\n" for cell in one.cells)


INDEPENDENT = {
    "a bigger evaluation": {"evaluation": {"test_windows": 100, "choice_items": 8}},
    "another inference": {"inference": {"prompts": 7}},
    "another log": {"training": {"log_steps": 3}},
    "other checkpoints": {"training": {"checkpoint_steps": 3}},
}


@pytest.mark.parametrize("overrides", INDEPENDENT.values(), ids=INDEPENDENT)
def test_what_no_weight_depends_on_moves_no_run(bench, overrides):
    plan, changed = bench.plan(), bench.plan(overrides=overrides)
    bench.drive(plan)
    summary = bench.drive(changed)
    again = 4 if "evaluation" in overrides else 0
    assert (summary.done, summary.reused) == (again, 4 - again)
    assert "kept" not in bench.said.getvalue()
    assert {path.name for path in plan.logdir(plan.cells[0]).parent.iterdir()} == {"seed=0"}
    trial = ["COMPLETE"] * (2 if again else 1)
    assert outcomes(bench) == {cell.logdir: trial for cell in plan.cells}
    versions = {trial.user_attrs["version"] for trial in trials(bench.tree)}
    assert len(versions) == 4 + again


def test_the_same_text_elsewhere_moves_no_run(bench):
    made = [
        bench.plan(overrides={"data": {"corpus": "text", "paths": [path]}}) for path in ("a.txt", "b.txt")
    ]
    facts = DataFacts({**UNREAD.hashes, "train": "t"}, 5000)
    one, other = (
        dataclasses.replace(plan, data={cell.config.data: facts for cell in plan.cells}) for plan in made
    )
    bench.drive(one)
    assert bench.drive(other).reused == 4
    assert {trial.state.name for trial in trials(bench.tree)} == {"COMPLETE"}
    assert len(trials(bench.tree)) == 4


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_what_is_no_result_does_not_count(bench, text):
    plan = bench.plan()
    job, said = plan.job(plan.cells[0]), []
    assert job.result(said.append) is None
    assert said == []
    job.logdir.mkdir(parents=True)
    (job.logdir / "result.json").write_text(text)
    assert job.result(said.append) is None
    assert len(said) == 1
    write_record(job.logdir / "result.json", finished(plan, plan.cells[0], 0.5))
    assert isinstance(job.result(), RunResult)
    for changed in (
        {"version": VersionRecord(values={}, code="")},
        {"evaluation": "other"},
    ):
        other = finished(plan, plan.cells[0], 0.5).model_copy(update=changed)
        write_record(job.logdir / "result.json", other)
        assert job.result(said.append) is None
    assert len(said) == 1


def test_the_annealed_reading_goes_before_the_one_along_the_run():
    stops = [stop(10, 2.0, "annealed"), stop(10, 1.0, "along_run")]
    assert value_of(result(*stops)) == 2.0
    assert value_of(result(stops[1])) == 1.0

"""A run that begins from another's best stop waits for it."""

import dataclasses
import json
import shutil
import threading
from pathlib import Path

import pytest
from ablation_bench import tiny_ablation
from measuring_bench import Tree
from scheduling_bench import starting_ablation, trials, wait_for

import lab
from lab.ablation import Scale
from lab.arms import arm_values
from lab.reporting.tree import read_tree
from lab.scheduling.executors.executor import Attempt
from lab.scheduling.executors.process import arguments
from lab.scheduling.ledger.ledger import Ledger
from lab.scheduling.plan import UNREAD
from lab.scheduling.status import TreeStatus
from lab.scheduling.tuning.driver import drive_tuned
from lab.scheduling.tuning.tuning import Tuning
from lab.version import digest


@pytest.fixture
def plan(bench):
    """`dlm` starts from `ar`, at two levels."""
    return bench.plan(ablation=starting_ablation())


def states(bench):
    """Cell key -> the states of its trials, oldest first."""
    found = {}
    for trial in trials(bench.tree):
        found.setdefault(trial.user_attrs["key"], []).append(trial.state.name)
    return found


def test_a_version_holds_that_of_the_run_it_starts_from(bench, plan):
    first, second = map(plan.job, plan.cells[:2])
    assert (first.start, first.inputs) == (None, ())
    assert (second.start.key, second.inputs) == (first.key, (first.logdir,))
    assert second.run.values["start"] == digest([first.run.digest(), first.wanted])
    assert "start" not in first.run.values
    changed = bench.plan(ablation=starting_ablation(ar={"training": {"learning_rate": 0.5}}))
    assert changed.job(changed.cells[1]).run.values["start"] != second.run.values["start"]
    for changes in ({"evaluation": {"stops": 3}}, {"training": {"batch_size": 8}}):
        other = bench.plan(ablation=starting_ablation(), overrides=changes)
        assert other.job(other.cells[1]).run.values["start"] != second.run.values["start"]


def test_a_run_is_started_once_the_other_has_its_result_and_gets_its_folder(bench, plan):
    bench.behave({"ar": "wait"})
    seen = []

    def look():
        try:
            wait_for(lambda: all(bench.tries(cell) for cell in plan.cells if cell.arm == "ar"))
            queued = {trial.user_attrs["key"] for trial in trials(bench.tree)}
            seen.extend(cell.logdir in queued for cell in plan.cells if cell.arm == "dlm")
        finally:
            (bench.folder / "go").touch()

    helper = threading.Thread(target=look)
    helper.start()
    summary = bench.drive(plan, workers=4)
    helper.join()
    assert (summary.done, summary.failed, seen) == (4, {}, [False, False])
    for cell in plan.cells:
        start = plan.logdir(cell) / "start"
        assert start.exists() == (cell.arm == "dlm")
        assert cell.arm == "ar" or Path(start.read_text()) == plan.job(cell).start.logdir
    assert bench.drive(plan).reused == 4


def test_a_run_whose_start_failed_is_given_up_with_the_reason_and_goes_on_when_it_is_there(bench, plan):
    bench.behave({"ar/1000/0": "user error"})
    summary = bench.drive(plan)
    first, second = plan.cells[:2]
    reason = f"no start: {first.label}, from which it starts, has no result"
    assert (summary.done, set(summary.failed)) == (2, {first.label, second.label})
    assert summary.failed[second.label] == reason
    failure = json.loads((plan.logdir(second) / "failure.json").read_text())
    assert (failure["outcome"], failure["reason"]) == ("no start", reason)
    assert f"  {second.label}: {reason}\n" in bench.said.getvalue()
    assert [job.failure for job in TreeStatus(bench.tree).jobs() if job.arm == "dlm"] == [reason, ""]
    assert next(cell.reason for cell in read_tree(bench.tree).cells if cell.arm == "dlm") == reason
    assert states(bench)[second.logdir] == ["FAIL"]
    bench.behave({})
    summary = bench.drive(plan)
    assert (summary.done, summary.reused, summary.failed) == (2, 2, {})
    assert states(bench)[second.logdir] == ["FAIL", "COMPLETE"]
    assert not (plan.logdir(second) / "failure.json").exists()


@pytest.mark.parametrize("fails", [False, True])
def test_starts_make_a_chain(bench, fails):
    arms = {"dlm": ("ar",), "a": ("dlm",), "b": ("a",), "ar": ()}  # none is planned after its start
    layers = {
        arm: {**arm_values("ar"), "training": {"start_from": "".join(start)}} for arm, start in arms.items()
    }
    plan = bench.plan(ablation=tiny_ablation(arms=layers, sections=()))
    bench.behave({"ar": "user error"} if fails else {})
    summary = bench.drive(plan)
    assert (summary.done, len(summary.failed)) == ((0, 8) if fails else (8, 0))
    if not fails:
        assert plan.job(plan.cells[2]).start.start.start.arm == "ar"
        times = [(plan.logdir(cell) / "result.json").stat().st_mtime_ns for cell in plan.cells[:4]]
        assert times[3] < times[0] < times[1] < times[2]


def test_a_run_that_was_queued_waits_again_when_the_result_it_starts_from_is_gone(bench, plan):
    ledger = Ledger(bench.tree, "tiny-tiny")
    ledger.enqueue(map(plan.job, plan.cells))
    ledger.close()
    assert bench.drive(plan, workers=4).done == 4
    assert states(bench)[plan.cells[1].logdir] == ["FAIL", "COMPLETE"]
    assert {states(bench)[cell.logdir][-1] for cell in plan.cells} == {"COMPLETE"}
    assert all(len(bench.tries(cell)) == 1 for cell in plan.cells)
    for cell in plan.cells:
        shutil.rmtree(plan.logdir(cell))
    assert bench.drive(plan).done == 4


def test_a_start_outside_the_jobs_counts_if_it_has_a_result(bench, plan):
    cells = {arm: [cell for cell in plan.cells if cell.arm == arm] for arm in ("ar", "dlm")}
    with bench.driving(plan) as driver:
        plan.write()
        late = [plan.job(cell) for cell in cells["dlm"]]
        assert len(driver.run_jobs(late).failed) == 2
        assert driver.run_jobs([plan.job(cell) for cell in cells["ar"]]).done == 2
        assert driver.run_jobs(late).done == 2


def test_a_killed_driver_is_taken_over_from(bench, plan):
    bench.behave({"ar": "wait"})
    process = bench.driver("ablation=starting_ablation()")
    wait_for(lambda: bench.tries(plan.cells[0]))
    process.kill()
    process.communicate()
    (bench.folder / "go").touch()
    summary = bench.drive(plan)
    assert (summary.done + summary.reused, summary.failed) == (4, {})
    assert all((plan.logdir(cell) / "start").exists() for cell in plan.cells if cell.arm == "dlm")


def test_an_arm_that_starts_from_another_is_not_tuned_and_the_other_may_be(bench):
    for tuned in ((), ("dlm",)):
        plan = bench.plan(ablation=dataclasses.replace(starting_ablation(), tuned=tuned))
        plan = dataclasses.replace(plan, tuning=Tuning(4))
        with (
            bench.driving(plan) as driver,
            pytest.raises(ValueError, match="arms that start from another cannot be tuned, but got dlm"),
        ):
            drive_tuned(plan, driver)
        assert not (bench.tree / "plan.json").exists()


def test_the_command_of_an_attempt_names_what_it_starts_from_and_where_its_corpus_is(bench, plan):
    facts = UNREAD._replace(key="abc")
    plan = dataclasses.replace(plan, data={cell.config.data: facts for cell in plan.cells})
    job = plan.job(plan.cells[1])
    attempt = Attempt(Path("c"), Path("l"), Path("x"), 1, job.command, job.inputs, job.data_key)
    assert arguments(attempt)[-4:] == ["--start", str(job.start.logdir), "--data-key", "abc"]
    measures = dataclasses.replace(attempt, command="measure", data_key="")
    assert arguments(measures) == ["measure", "--config", "c", "--logdir", "l", "--cache", "x"]
    assert attempt.absolute().inputs == (job.start.logdir.absolute(),)


@pytest.mark.slow
def test_a_real_run_begins_from_the_best_stop_of_the_one_it_names(tmp_path):
    """Two real processes, the second of which waits for the first."""
    tree = Tree(tmp_path)
    tree.write_corpus()
    arms = starting_ablation().arms
    ablation = tiny_ablation(
        arms={arm: arms[arm] for arm in ("dlm", "ar")},
        sections=(),
        scales={"tiny": Scale({}, seeds=1, budget="seconds")},
    )
    preset, places = str(tmp_path / "configs" / "tiny.yaml"), lab.Places(tmp_path / "results", tree.cache)
    ran = lab.run_ablation(ablation, preset, places=places)
    assert (ran.summary.done, ran.summary.failed) == (2, {})
    runs = {cell.arm: cell.done for cell in lab.load_results(ran.tree).tree.finished}
    assert runs["ar"].parent is None
    assert runs["dlm"].parent == runs["ar"].reference(runs["ar"].best())
    assert lab.run_ablation(ablation, preset, places=places).summary.reused == 2

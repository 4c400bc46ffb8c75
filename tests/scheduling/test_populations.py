"""Driven in populations: with stand-ins for what trains, and once for real."""

import os
import signal
import sys
import threading

import pytest
from ablation_bench import tiny_ablation
from measuring_bench import Tree
from rich.console import Console
from scheduling_bench import Bench, starting_ablation, trials, wait_for

from lab.ablation import Scale
from lab.arms import arm_values
from lab.results import read_result
from lab.scheduling.driver import driving
from lab.scheduling.executors.population_executor import PopulationExecutor
from lab.scheduling.measuring import measurement_jobs
from lab.scheduling.places import Places
from lab.scheduling.progress import RunsProgress


def queued(bench):
    """The runs in the order in which they were queued."""
    return [trial.user_attrs["key"] for trial in trials(bench.tree)]


def test_a_kind_is_what_runs_that_differ_in_numbers_have_in_common(bench):
    plan = bench.plan(seeds=2, ablation=tiny_ablation(measurements={"yardstick": ""}))
    kinds = {arm: {plan.job(cell).kind for cell in plan.cells if cell.arm == arm} for arm in ("ar", "dlm")}
    assert [len(found) for found in kinds.values()] == [1, 1]
    assert kinds["ar"] != kinds["dlm"]
    bench.drive(plan)
    assert {job.kind for job in measurement_jobs(plan)} == {""}


@pytest.mark.parametrize("population", [1, 3])
def test_runs_of_a_kind_are_queued_one_after_the_other_where_they_may_be_together(bench, population):
    plan = bench.plan(seeds=2)
    summary = bench.drive(plan, workers=1, population=population)
    assert (summary.done, summary.failed) == (8, {})
    assert all(len(bench.tries(cell)) == 1 for cell in plan.cells)
    planned = [cell.logdir for cell in plan.cells]
    assert [cell.arm for cell in plan.cells[:4]] == ["ar", "dlm"] * 2
    if population > 1:
        planned.sort(key=lambda logdir: "dlm" in logdir)
    assert queued(bench) == planned
    assert {trial.user_attrs["key"]: trial.value for trial in trials(bench.tree)} == {
        cell.logdir: bench.value(cell) for cell in plan.cells
    }
    assert bench.drive(plan, workers=1, population=population).reused == 8


def test_a_run_that_fails_fails_alone_with_its_reason(bench):
    bench.behave({"ar/1000/0": "exit 3", "dlm/2000/0": "raise"})
    plan = bench.plan()
    summary = bench.drive(plan, workers=1, population=4)
    assert (summary.done, summary.failed) == (
        2,
        {
            plan.cells[0].label: "diverged: so it went",
            plan.cells[3].label: "exit code 1: RuntimeError: no such luck",
        },
    )
    assert [len(bench.tries(cell)) for cell in plan.cells] == [1, 1, 1, 2]


def test_a_run_that_is_stopped_early_frees_its_place(bench):
    bench.behave({"ar": "wait"})  # both of the places, until they are stopped
    plan = bench.plan()
    watch = lambda job: "bad" if job.arm == "ar" and (job.logdir / "tries").exists() else ""  # noqa: E731
    with bench.driving(plan, workers=1, population=2) as driver:
        plan.write()
        summary = driver.run(plan, watch)
    assert (summary.done, summary.pruned, summary.failed) == (2, 2, {})
    assert [trial.state.name for trial in trials(bench.tree)] == ["PRUNED"] * 2 + ["COMPLETE"] * 2


def test_a_run_without_memory_comes_again_among_fewer_and_its_tries_count_once_it_is_alone(bench):
    bench.behave({"dlm/1000/0": "exit 4"})
    plan = bench.plan()
    summary = bench.drive(plan, workers=1, population=4)
    assert (summary.done, summary.failed) == (3, {plan.cells[1].label: "out of device memory: so it went"})
    assert [len(bench.tries(cell)) for cell in plan.cells] == [1, 4, 1, 1]  # of 4, of 2, and twice alone


def test_a_measurement_without_memory_is_tried_as_often_as_ever(bench):
    bench.behave({"measure ar/1000/0": "exit 5"})
    plan = bench.plan(ablation=tiny_ablation(measurements={"yardstick": ""}))
    bench.drive(plan)
    summary = bench.measure(plan, workers=1, population=4)
    assert (summary.done, len(summary.failed)) == (3, 1)
    made = trials(bench.tree, "tiny-tiny-measurements")
    failed = [trial for trial in made if trial.state.name == "FAIL"]
    assert [trial.user_attrs["outcome"] for trial in failed] == ["out of host memory"] * 2


def test_runs_that_start_from_others_come_once_these_have_results(bench):
    plan = bench.plan(ablation=starting_ablation())
    assert bench.drive(plan, workers=1, population=4).done == 4
    assert all((plan.logdir(cell) / "start").exists() == (cell.arm == "dlm") for cell in plan.cells)


def test_a_backend_that_cannot_be_imported_is_said_once(bench):
    told = "error: KERAS_BACKEND=jax: the backend cannot be imported: ImportError: torn"
    code = f"import sys; print({told!r}, file=sys.stderr); sys.exit(2)"
    executor = PopulationExecutor(3, 1, (sys.executable, "-c", code))
    plan = bench.plan()
    places, progress = Places(cache=bench.folder / "cache"), RunsProgress(Bench.quiet())
    with (
        pytest.raises(ValueError, match=r"^KERAS_BACKEND=jax: the backend cannot be imported: ImportError"),
        driving(plan, executor, places, progress) as driver,
    ):
        driver.bring(plan)
    assert len(list(bench.tree.rglob("failure.json"))) == 1


def test_a_notice_ends_all_runs_at_their_checkpoints_and_the_same_command_goes_on(bench):
    bench.behave({"ar": "checkpoint", "dlm": "checkpoint"})
    plan = bench.plan()

    def tell():
        try:
            wait_for(lambda: all(bench.tries(cell) for cell in plan.cells))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    helper = threading.Thread(target=tell)
    helper.start()
    summary = bench.drive(plan, workers=1, population=4)
    helper.join()
    assert (summary.done, summary.interrupted) == (0, signal.SIGTERM)
    assert all((plan.logdir(cell) / "checkpoint").exists() for cell in plan.cells)
    reasons = [trial.user_attrs["reason"] for trial in trials(bench.tree)]
    assert reasons == ["stopped with its driver"] * 4
    bench.behave({})
    assert bench.drive(plan, workers=1, population=4).done == 4


class Refusing:
    """An executor that is never to start anything."""

    ranks, population = 1, 3

    def free(self, command="run"):
        return 3

    def start(self, attempt):
        raise AssertionError(f"started {attempt.logdir}")

    def close(self):
        pass


def study(tree, *arms):
    """A plan of three seeds; the arm `wild` diverges, and is of the kind of `ar`."""
    layers = {"ar": arm_values("ar"), "wild": {**arm_values("ar"), "training": {"learning_rate": 1e15}}}
    scales = {"tiny": Scale({}, seeds=3, budget="seconds")}
    return tree.plan(
        ablation=tiny_ablation(arms={arm: layers[arm] for arm in arms}, sections=(), scales=scales)
    )


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("KERAS_BACKEND", "jax") != "jax", reason="populations are JAX's")
def test_a_study_in_one_process(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    tree = Tree(tmp_path)
    tree.write_corpus()
    plan = study(tree, "ar", "wild")
    ar, wild = ([plan.job(cell) for cell in plan.cells if cell.arm == arm] for arm in ("ar", "wild"))
    assert len({job.kind for job in (*ar, *wild)}) == 1
    watch = lambda job: "slow" if job.key == ar[2].key and (job.logdir / "progress.json").exists() else ""  # noqa: E731

    def drive(plan, executor, watch=lambda job: ""):
        progress = RunsProgress(Console(quiet=True))
        with driving(plan, executor, Places(cache=tree.cache), progress) as driver:
            plan.write()
            return driver.run(plan, watch)

    summary = drive(plan, PopulationExecutor(3, 1), watch)
    assert (summary.done, summary.pruned, set(summary.failed)) == (2, 1, {job.label for job in wild})
    for job in wild:
        assert summary.failed[job.label].startswith("diverged: the training loss must stay finite, but got ")
        assert "error: the training loss must stay finite" in (job.logdir / "log.txt").read_text()
    results = [read_result(job.logdir) for job in ar[:2]]
    assert [result.config for result in results] == [job.config for job in ar[:2]]
    digests = {job.run.digest() for job in (*ar, *wild)}
    for job, result in zip(ar, results, strict=False):
        assert job.run.digest() in result.process.population
        assert len(result.process.population) > 1
        assert set(result.process.population) <= digests
        assert list((job.logdir / "checkpoints").rglob("*.npz"))
        assert list((job.logdir).glob("**/events.out.tfevents*"))
    assert results[0].best().validation != results[1].best().validation
    summary = drive(study(tree, "ar"), Refusing(), watch)
    assert (summary.done, summary.reused, summary.pruned) == (0, 2, 1)

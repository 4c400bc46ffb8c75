"""The first line: what is about to run, beside runs that are there and weights that a run has kept."""

import os
import re
from dataclasses import replace

import pytest
from ablation_bench import TINY
from result_bench import PROCESS, result

from lab.arms import arm_values
from lab.config import make_config
from lab.environment import available_cpus, cpu_model
from lab.results import VersionRecord, write_record
from lab.scheduling import outlook
from lab.scheduling.outlook import describe_plan, describe_run, find_earlier
from lab.scheduling.time_left import run_work
from lab.scheduling.tuning.tuning import Tuning

STATED = "no time, as the ablation says of its own 4 runs"


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


def work_of(made):
    return sum(run_work(made))


def config(**layer):
    return make_config(TINY, arm_values("ar"), layer)


def write(folder, seconds=10.0, process=None, **changes):
    own = PROCESS.model_copy(
        update={
            "cpu": cpu_model(),
            "device": "cpu",
            "backend": os.environ["KERAS_BACKEND"],
            **(process or {}),
        }
    )
    write_record(
        folder / "result.json", result(config=config(), wall_seconds=seconds, process=own, **changes)
    )


def finish(plan, cell, seconds):
    job = plan.job(cell)
    version = VersionRecord(values=dict(job.run.values), code=job.run.code)
    made = {"config": cell.config, "version": version, "evaluation": job.wanted}
    write_record(job.logdir / "result.json", result(wall_seconds=seconds, **made))


def test_earlier_runs_of_such_a_machine_say_how_fast_it_is(tmp_path):
    assert find_earlier(tmp_path / "none") is None
    write(tmp_path / "a" / "b" / "runs" / "ar" / "seed=0", seconds=10.0)
    write(tmp_path / "runs" / "ar", seconds=30.0)
    for name, process in (("c", {"cpu": "another"}), ("d", {"device": "gpu"}), ("e", {"backend": "another"})):
        write(tmp_path / "runs" / name, 1e6, process)
    for name, content in (("f", "{"), ("g", ""), ("h", '{"schema": 1}')):
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / "result.json").write_text(content, encoding="utf-8")
    assert find_earlier(tmp_path) == (2, pytest.approx(20.0 / work_of(config())))


def test_the_newest_of_them_count(tmp_path):
    for number in range(outlook.EARLIER + 4):
        folder = tmp_path / "runs" / str(number)
        write(folder, seconds=1e6 if number < 4 else 10.0)
        os.utime(folder / "result.json", (number, number))
    assert find_earlier(tmp_path) == (outlook.EARLIER, pytest.approx(10.0 / work_of(config())))


def test_before_any_run_the_scales_own_words_are_said(bench):
    said = describe_plan(bench.plan(), 2, STATED, bench.folder / "results")
    cores = len(available_cpus())
    backend = os.environ["KERAS_BACKEND"]
    assert said.pace is None
    assert re.fullmatch(
        rf"tiny \(tiny\): 4 runs, 2 at once; {backend} on cpu \({cores} cores\), float32; {STATED}; "
        r"about \d+ MB on disk, where [\d,.]+ [GM]B are free",
        said.line,
    )


def test_then_what_earlier_runs_took_and_then_what_its_own_did(bench):
    plan = bench.plan()
    write(bench.tree.parent.parent / "runs" / "ar", seconds=60.0)
    said = describe_plan(plan, 1, STATED, bench.tree.parent.parent)
    work = sum(work_of(cell.config) for cell in plan.cells)
    assert said.pace == pytest.approx(60.0 / work_of(config()))
    minutes = round(work * said.pace / 60)
    assert f"; about {minutes} min by 1 earlier runs here; " in said.line
    for cell in plan.cells[:2]:
        finish(plan, cell, 100.0)
    said = describe_plan(plan, 2, STATED, bench.tree.parent.parent)
    assert said.line.startswith("tiny (tiny): 2 of 4 runs, 2 at once; ")
    longest = max(work_of(cell.config) for cell in plan.cells[2:])  # of the two that are left, at once
    assert f"; about {200 * longest / (work / 2) / 60:.0f} min by the runs that are done; " in said.line
    assert said.pace is None


def test_a_study_that_has_nothing_left_to_do_says_so(bench):
    plan = bench.plan()
    for cell in plan.cells:
        finish(plan, cell, 100.0)
    assert describe_plan(plan, 2, STATED, bench.folder) == ("tiny (tiny): all 4 runs are done", None)


def test_tuning_seeds_and_measurements_are_told(bench):
    plan = replace(bench.plan(), tuning=Tuning(trials=3), auto=True)
    plan = replace(plan, ablation=replace(plan.ablation, measurements={"ability": ""}))
    write(bench.folder / "runs" / "ar", seconds=work_of(config()))  # a second for a FLOP
    said = describe_plan(plan, 1, STATED, bench.folder)
    assert said.line.startswith(
        "tiny (tiny): 12 tuning runs at most, then 4 runs of the first look, 1 at once"
    )
    assert " by 1 earlier runs here, and their measurements; " in said.line
    hours = 4 * sum(work_of(cell.config) for cell in plan.cells) / 3600
    assert f"about {hours:.1f} h by" in said.line


def test_where_the_number_at_once_is_not_known_the_time_is_not(bench):
    write(bench.folder / "runs" / "ar")
    assert f"4 runs; jax on cpu ({len(available_cpus())} cores), float32; how long is not known yet; " in (
        describe_plan(bench.plan(), None, "", bench.folder).line.replace(os.environ["KERAS_BACKEND"], "jax")
    )


def test_a_run_that_is_alone(tmp_path):
    write(tmp_path / "runs" / "ar", seconds=50.0)
    said = describe_run(config(seed=3), tmp_path / "deep" / "folder", tmp_path)
    assert said.line.startswith("ar seed=3: 1 run; ")
    assert "; about 50 s by 1 earlier runs here; " in said.line


@pytest.mark.parametrize(
    ("training", "stops", "checkpoints"),
    [({}, 6, 4), ({"kept_megabytes": 0.0}, 4, 2), ({"kept_megabytes": 3.0}, 6, 2)],
)
def test_the_disk_that_a_run_takes_is_what_it_keeps(training, stops, checkpoints):
    made = config(
        training={
            "schedule": "wsd",
            "total_steps": 60,
            "total_tokens": None,
            "checkpoint_steps": 20,
            **training,
        },
        evaluation={"stops": 3},
    )
    weights = 4 * outlook.parameters(made.model.architecture(257, 16)).total
    assert outlook.disk_bytes(made) == weights * (stops + 3 * checkpoints)

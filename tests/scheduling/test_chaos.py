"""Drivers and runs killed at random moments: every cell is done exactly once and no number changes."""

import os
import random
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import psutil
import pytest
from measuring_bench import Tree
from scheduling_bench import Bench, tiny_ablation, trials, wait_for

from lab.ablation import Scale
from lab.arms import arm_values
from lab.files import write_json
from lab.results import read_result
from lab.scheduling.driver import driving
from lab.scheduling.executors.local import LocalExecutor
from lab.scheduling.executors.population_executor import PopulationExecutor
from lab.scheduling.jobs import value_of
from lab.scheduling.outcomes import TRIES, Outcome
from lab.scheduling.places import Places
from lab.scheduling.progress import RunsProgress

pytestmark = pytest.mark.slow

WORKERS, TOGETHER = 8, 4
KILLS = 10  # of the processes of a population and of its drivers, in the test of real runs
ROWS = 15  # of the 200 and more of a real run's log that it may write between two kills
# A killed process is a lost try of each of its runs.
STUBBORN = {**TRIES, Outcome.LOST: 1000}

# Counts to ten, with a checkpoint after each; what it sums up depends on every number counted. The last of
# the plan ends after the last kill.
COUNTING_RUN = """
import json, pathlib, sys, time, zlib
from lab.scheduling.executors import child
child.enter()
logdir = pathlib.Path(sys.argv[sys.argv.index("--logdir") + 1])
folder, tree = pathlib.Path(__file__).parent, logdir.parents[3]
name = logdir.relative_to(tree).as_posix()
state = logdir / "state.json"
step, total = json.loads(state.read_text()) if state.exists() else (0, zlib.crc32(name.encode()) % 1000)
while step < 10:
    step += 1
    total = (total * 31 + step) % 1000
    (logdir / ".state").write_text(json.dumps((step, total)))
    (logdir / ".state").replace(state)
    time.sleep(0.03)
evaluations = json.loads((folder / "evaluations.json").read_text())
while name == list(evaluations)[-1] and not (folder / "calm").exists():
    time.sleep(0.03)
made = json.loads((folder / "run.json").read_text())
made["version"] = json.loads((logdir / "version.json").read_text())
made["evaluation"] = evaluations[name]
for row in (row for stop in made["stops"] for row in stop["measured"]):
    row["values"]["nll"] = total / 1000
(logdir / ".result").write_text(json.dumps(made))
(logdir / ".result").replace(logdir / "result.json")
"""

DRIVER = """
import pathlib, sys
sys.path[:0] = {folders!r}
import test_chaos
test_chaos.{finish}(pathlib.Path({folder!r}), {size})
"""


def counting_plan(bench, size):
    levels = {"data.unique_tokens": tuple(range(1000, 11_000, 1000))}
    scale = Scale(levels, seeds=size // 20, budget="no time")
    return bench.plan(ablation=tiny_ablation(scales={"tiny": scale}))


def finish(folder, size, population=1):
    """Drive the plan in `folder` to its end, or until somebody kills this process."""
    bench = Bench(folder)
    (folder / "counting_run.py").write_text(COUNTING_RUN, encoding="utf-8")
    run = (sys.executable, str(folder / "counting_run.py"))
    together = (sys.executable, str(folder / "fake_population.py"), *run)
    executor = (
        PopulationExecutor(population, WORKERS // population, together)
        if population > 1
        else LocalExecutor(WORKERS, run)
    )
    plan = counting_plan(bench, size)
    evaluations = {cell.logdir: plan.job(cell).wanted for cell in plan.cells}
    write_json(folder / "evaluations.json", evaluations)
    places, progress = Places(cache=folder / "cache"), RunsProgress(Bench.quiet())
    with driving(plan, executor, places, progress, STUBBORN) as driver:
        return driver.bring(plan)


def finish_together(folder, size):
    """The same with runs in populations."""
    return finish(folder, size, TOGETHER)


def driver(folder, size, finish=finish):
    """A driver that can be killed."""
    folders = list(map(str, Path(__file__).parents[:2]))
    code = DRIVER.format(folders=folders, folder=str(folder), size=size, finish=finish.__name__)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)


def wait_for_runs(process):
    """The runs under way, once there are some."""
    parent, runs = psutil.Process(process.pid), []
    wait_for(lambda: process.poll() is not None or runs.extend(parent.children()) or runs, seconds=300)
    assert process.poll() is None, "the driver ended before the last kill"
    return runs


def kill_one(process, moments, runs):
    """Kill a run that is still there."""
    while True:
        try:
            moments.choice(runs).kill()
            return
        except psutil.NoSuchProcess:
            runs = wait_for_runs(process)


def expected(name):
    total = zlib.crc32(name.encode()) % 1000
    for step in range(1, 11):
        total = (total * 31 + step) % 1000
    return total / 1000


@pytest.mark.parametrize(
    ("size", "kills", "finish"),
    [(200, 30, finish), (60, 20, finish_together)],
    ids=["alone", "together"],
)
def test_many_cells_8_at_a_time_and_many_kills(bench, size, kills, finish):
    moments = random.Random(0)
    plan = counting_plan(bench, size)
    assert len(plan.cells) == size
    targets = ["driver", "run"] * (kills // 2)
    moments.shuffle(targets)
    process = driver(bench.folder, size, finish)
    try:
        for target in targets:
            runs = wait_for_runs(process)
            time.sleep(moments.uniform(0, 0.3))
            if target == "driver":
                process.kill()
                process.wait()
                process = driver(bench.folder, size, finish)
            else:
                kill_one(process, moments, runs)
        (bench.folder / "calm").touch()
        assert process.wait(timeout=1800) == 0
    finally:
        process.kill()
    states = {}
    for trial in trials(bench.tree):
        states.setdefault(trial.user_attrs["key"], Counter())[trial.state.name] += 1
    assert states.keys() == {cell.logdir for cell in plan.cells}
    assert all(found["COMPLETE"] == 1 for found in states.values())
    assert all(set(found) <= {"COMPLETE", "FAIL"} for found in states.values())
    assert sum(found["FAIL"] for found in states.values()) >= kills / 2
    values = {
        trial.user_attrs["key"]: trial.value for trial in trials(bench.tree) if trial.state.name == "COMPLETE"
    }
    assert values == {cell.logdir: expected(cell.logdir) for cell in plan.cells}
    for cell in plan.cells:
        assert value_of(plan.job(cell).result()) == expected(cell.logdir)
    summary = finish(bench.folder, size)
    assert (summary.reused, summary.done, summary.failed) == (size, 0, {})


# `python -m lab`, whose runs have no more rows in their logs than a file has bytes.
SLOWED = """
import pathlib, time
from lab.__main__ import main
from lab.tracking.records import MetricsLog
append, allowed = MetricsLog.append, pathlib.Path({allowed!r})
def append_if_allowed(self, row):
    while len(self.rows) >= allowed.stat().st_size:
        time.sleep(0.01)
    append(self, row)
MetricsLog.append = append_if_allowed
main()
"""


def study(folder, name, size):
    """A plan of real runs of one kind: 1000 updates, a checkpoint every 50."""
    tree = Tree(folder)
    tree.tree = folder / name / "tiny" / "tiny"
    arms, scale = {"ar": arm_values("ar")}, Scale({}, seeds=size, budget="a minute")
    ablation = tiny_ablation(arms=arms, scales={"tiny": scale}, sections=())
    return tree.plan(ablation=ablation, training={"total_steps": 1000, "checkpoint_steps": 50})


def finish_real(folder, size, name="disturbed"):
    """As `finish`, of real runs, three at a time in one process."""
    plan, places = study(folder, name, size), Places(cache=folder / "cache")
    slowed = (sys.executable, "-c", SLOWED.format(allowed=str(folder / "allowed")), "population")
    executor = PopulationExecutor(3, 1, slowed)
    with driving(plan, executor, places, RunsProgress(Bench.quiet()), STUBBORN) as driver:
        return driver.bring(plan)


def numbers(plan):
    """All that was measured, and the weights of the stops."""
    results = [read_result(plan.logdir(cell)).stops for cell in plan.cells]
    weights = [
        {path.name: path.read_bytes() for path in (plan.logdir(cell) / "checkpoints" / "stops").iterdir()}
        for cell in plan.cells
    ]
    return results, weights


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND", "jax") != "jax", reason="populations are JAX's")
def test_no_number_of_a_population_depends_on_kills(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    moments, size = random.Random(0), 4
    Tree(tmp_path).write_corpus()
    plan = study(tmp_path, "disturbed", size)
    runs = plan.tree / "runs"

    def written():
        return sum(path.stat().st_size for path in runs.rglob("metrics.jsonl"))

    def allow(rows):
        with (tmp_path / "allowed").open("a") as file:
            file.write("x" * rows)

    allow(0)
    process = driver(tmp_path, size, finish_real)
    try:
        for number in range(KILLS):
            children = wait_for_runs(process)
            before = written()
            allow(ROWS)
            if number % 2:  # else while it starts
                wait_for(lambda: written() > before or process.poll() is not None, seconds=600)  # noqa: B023
            time.sleep(moments.uniform(0, 0.3))
            assert process.poll() is None, "the driver ended before the last kill"
            if number in (4, 7):
                process.kill()
                process.wait()
                process = driver(tmp_path, size, finish_real)
            else:
                kill_one(process, moments, children)
        allow(1000)
        assert process.wait(timeout=1800) == 0
    finally:
        process.kill()
    states = Counter((trial.user_attrs["key"], trial.state.name) for trial in trials(plan.tree))
    assert all(states[cell.logdir, "COMPLETE"] == 1 for cell in plan.cells)
    assert sum(states.values()) > size + KILLS
    assert finish_real(tmp_path, size).reused == size
    undisturbed = study(tmp_path, "undisturbed", size)
    assert finish_real(tmp_path, size, "undisturbed").done == size
    assert numbers(plan) == numbers(undisturbed)

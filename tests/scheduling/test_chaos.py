"""Drivers and runs killed at random moments: every cell is done exactly once and no number changes."""

import random
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import psutil
import pytest
from scheduling_bench import Bench, tiny_ablation, trials, wait_for

from lab.ablation import Scale
from lab.files import write_json
from lab.scheduling.driver import driving
from lab.scheduling.executors.local import LocalExecutor
from lab.scheduling.jobs import value_of
from lab.scheduling.places import Places
from lab.scheduling.progress import RunsProgress

pytestmark = pytest.mark.slow

CELLS, WORKERS, KILLS = 200, 8, 30

# Counts to ten, with a checkpoint after each; what it sums up depends on every number counted.
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
made = json.loads((folder / "run.json").read_text())
made["version"] = json.loads((logdir / "version.json").read_text())
made["evaluation"] = json.loads((folder / "evaluations.json").read_text())[name]
for row in (row for stop in made["stops"] for row in stop["measured"]):
    row["values"]["nll"] = total / 1000
(logdir / ".result").write_text(json.dumps(made))
(logdir / ".result").replace(logdir / "result.json")
"""

DRIVER = """
import pathlib, sys
sys.path.insert(0, {tests!r})
import test_chaos
test_chaos.finish(pathlib.Path({folder!r}))
"""


def counting_plan(bench):
    levels = {"data.unique_tokens": tuple(range(1000, 11_000, 1000))}
    scale = Scale(levels, seeds=CELLS // 20, budget="no time")
    return bench.plan(ablation=tiny_ablation(scales={"tiny": scale}))


def finish(folder):
    """Drive the plan in `folder` to its end, or until somebody kills this process."""
    bench = Bench(folder)
    (folder / "counting_run.py").write_text(COUNTING_RUN, encoding="utf-8")
    executor = LocalExecutor(WORKERS, (sys.executable, str(folder / "counting_run.py")))
    plan = counting_plan(bench)
    evaluations = {cell.logdir: plan.job(cell).wanted for cell in plan.cells}
    write_json(folder / "evaluations.json", evaluations)
    with driving(plan, executor, Places(cache=folder / "cache"), RunsProgress(Bench.quiet())) as driver:
        return driver.bring(plan)


def driver(folder):
    code = DRIVER.format(tests=str(Path(__file__).parent), folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)


def wait_for_runs(process):
    """The runs under way, once there are some."""
    parent = psutil.Process(process.pid)
    wait_for(lambda: process.poll() is not None or parent.children(), seconds=60)
    assert process.poll() is None, "every cell was done before the last kill"
    return parent.children()


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


def test_200_cells_8_workers_30_kills(bench):
    moments = random.Random(0)
    plan = counting_plan(bench)
    assert len(plan.cells) == CELLS
    targets = ["driver", "run"] * (KILLS // 2)
    moments.shuffle(targets)
    process = driver(bench.folder)
    for target in targets:
        runs = wait_for_runs(process)
        time.sleep(moments.uniform(0, 0.3))
        if target == "driver":
            process.kill()
            process.wait()
            process = driver(bench.folder)
        else:
            kill_one(process, moments, runs)
    assert process.wait(timeout=300) == 0
    states = {}
    for trial in trials(bench.tree):
        states.setdefault(trial.user_attrs["key"], Counter())[trial.state.name] += 1
    assert states.keys() == {cell.logdir for cell in plan.cells}
    assert all(found["COMPLETE"] == 1 for found in states.values())
    assert all(set(found) <= {"COMPLETE", "FAIL"} for found in states.values())
    values = {
        trial.user_attrs["key"]: trial.value for trial in trials(bench.tree) if trial.state.name == "COMPLETE"
    }
    assert values == {cell.logdir: expected(cell.logdir) for cell in plan.cells}
    for cell in plan.cells:
        assert value_of(plan.job(cell).result()) == expected(cell.logdir)
    summary = finish(bench.folder)
    assert (summary.reused, summary.done, summary.failed) == (CELLS, 0, {})

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from scheduling_bench import alive, wait_for

from lab.environment import available_cpus
from lab.scheduling.executors import local
from lab.scheduling.executors.executor import Attempt, Ended
from lab.scheduling.executors.local import LocalExecutor

SLEEP = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.fixture
def attempt(tmp_path):
    return Attempt(tmp_path / "config.yaml", tmp_path, tmp_path / "cache")


def finish(handle):
    wait_for(lambda: handle.poll() is not None)
    return handle.poll()


def test_slots_fill_and_empty(attempt):
    executor = LocalExecutor(2, SLEEP)
    assert executor.free() == 2
    handles = [executor.start(attempt) for _ in range(2)]
    assert executor.free() == 0
    handles[0].stop(hard=True)
    assert finish(handles[0]) == Ended(-9)
    assert executor.free() == 1
    handles[1].stop(hard=False)
    assert finish(handles[1]) == Ended(-15)
    handles[1].stop(hard=True)  # ended: nothing to do
    assert executor.free() == 2


def test_a_child_gets_its_cores_and_cache_and_no_storage_url(bench, monkeypatch):
    monkeypatch.setenv("STORAGE", "postgresql://me:sesame@host/name")
    monkeypatch.setenv("PGPASSWORD", "sesame")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    bench.behave({"ar": "environment", "dlm": "environment"})
    plan = bench.plan()
    assert bench.drive(plan, workers=1).done == 4
    seen = json.loads((plan.logdir(plan.cells[0]) / "environment.json").read_text())
    environment = seen["environment"]
    assert environment["JAX_COMPILATION_CACHE_DIR"] == str(bench.folder / "cache" / "jax")
    assert environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] == "0"
    assert environment["TF_NUM_INTRAOP_THREADS"] == str(len(available_cpus()))
    assert environment["OMP_NUM_THREADS"] == "7"
    assert "sesame" not in json.dumps(environment)
    if hasattr(os, "sched_setaffinity"):
        assert seen["cpus"] == available_cpus()


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(available_cpus()) < 2, reason="needs two cores to tell apart"
)
def test_two_slots_have_cores_of_their_own(bench):
    bench.behave({"ar": "environment", "dlm": "environment"})
    plan = bench.plan()
    bench.drive(plan, workers=2)
    cpus = [json.loads((plan.logdir(cell) / "environment.json").read_text())["cpus"] for cell in plan.cells]
    halves = {tuple(available_cpus()[0::2]), tuple(available_cpus()[1::2])}
    assert {tuple(own) for own in cpus} == halves


def test_output_of_every_try_is_kept(attempt):
    for text in ("one", "two"):
        handle = LocalExecutor(1, (sys.executable, "-c", f"print({text!r})")).start(attempt)
        assert finish(handle) == Ended(0)
    assert (attempt.logdir / "log.txt").read_text() == "one\ntwo\n"


def test_the_processes_of_an_attempt_know_their_ranks(attempt):
    code = (
        "import os; print(sorted(v for n, v in os.environ.items() if n.endswith(('_NUM_PROCESSES', '_ID'))))"
    )
    executor = LocalExecutor(1, (sys.executable, "-c", code), ranks=2)
    assert executor.free() == 1
    assert finish(executor.start(replace(attempt, ranks=2))) == Ended(0)
    assert "'2'" in (attempt.logdir / "log.txt").read_text()
    assert "'1', '2'" in (attempt.logdir / "log-1.txt").read_text()


def test_an_attempt_of_more_processes_than_slots_is_refused(attempt):
    with pytest.raises(ValueError, match="`ranks` must be at most 1 in this executor, but got ranks=2"):
        LocalExecutor(1, SLEEP).start(replace(attempt, ranks=2))


def test_the_time_without_progress_must_be_positive():
    for seconds in (0, float("nan")):
        message = f"`stall_seconds` must be > 0, but got stall_seconds={seconds}"
        with pytest.raises(ValueError, match=message):
            LocalExecutor(1, stall_seconds=seconds)


# Waits like `python -m lab standby`, and prints what a cold start would not.
WAIT = """
import os, pathlib, sys
from lab.scheduling.executors import child
child.enter()
from lab.scheduling.executors.standby import wait_for_order
order = wait_for_order()
if order:
    logdir = pathlib.Path(order[order.index("--logdir") + 1])
    print("warm", os.getpid(), logdir.name, sys.argv[1:] != [], flush=True)
"""
WARM = (sys.executable, "-c", WAIT)
COLD = (sys.executable, "-c", "import time; print('cold', flush=True); time.sleep(120)")


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(local, "SPARE_AFTER", 0.0)


def waiting(executor):
    """The processes in stand-by."""
    return [spare._process for spare in executor._spares.values()]


def test_the_next_attempt_in_a_place_finds_a_process_that_waits(attempt, at_once):
    executor = LocalExecutor(1, COLD, WARM)
    first = executor.start(attempt)
    assert executor.free() == 0
    (spare,) = waiting(executor)
    executor.free()
    assert waiting(executor) == [spare]
    wait_for(lambda: (attempt.logdir / "log.txt").read_text() == "cold\n")
    first.stop(hard=True)
    finish(first)
    second = executor.start(attempt)
    assert waiting(executor) == []
    assert finish(second) == Ended(0)
    log = (attempt.logdir / "log.txt").read_text()
    assert log == f"cold\nwarm {spare.pid} {attempt.logdir.name} True\n"


def other_pins(spare, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--other")


def died(spare, monkeypatch):
    spare.kill()
    spare.wait()


@pytest.mark.parametrize("spoil", [other_pins, died])
def test_a_process_that_waits_with_other_pins_or_died_is_not_used(attempt, at_once, monkeypatch, spoil):
    executor = LocalExecutor(1, COLD, WARM)
    first = executor.start(attempt)
    executor.free()
    (spare,) = waiting(executor)
    spoil(spare, monkeypatch)
    first.stop(hard=True)
    finish(first)
    (attempt.logdir / "log.txt").unlink()
    second = executor.start(attempt)
    assert spare.wait() == -9
    wait_for(lambda: (attempt.logdir / "log.txt").read_text() == "cold\n")
    second.stop(hard=True)
    finish(second)


def test_processes_that_wait_end_with_the_executor(attempt, at_once):
    executor = LocalExecutor(1, COLD, WARM)
    handle = executor.start(attempt)
    executor.free()
    (spare,) = waiting(executor)
    executor.close()
    assert spare.returncode == -9
    assert handle.poll() is None  # the attempt is the driver's
    handle.stop(hard=True)
    finish(handle)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_processes_that_wait_end_with_a_killed_driver(tmp_path):
    code = f"""
import pathlib, sys, time
from lab.scheduling.executors import local
from lab.scheduling.executors.executor import Attempt
local.SPARE_AFTER = 0.0
folder = pathlib.Path({str(tmp_path)!r})
executor = local.LocalExecutor(1, {COLD!r}, {WARM!r})
executor.start(Attempt(folder / "config.yaml", folder, folder))
executor.free()
print(*(spare._process.pid for spare in executor._spares.values()), flush=True)
time.sleep(120)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as driver:
        spare = int(driver.stdout.readline())
        assert alive(spare)
        driver.kill()
    wait_for(lambda: not alive(spare))


@pytest.mark.parametrize(("platforms", "rehearses"), [("cpu", True), ("cuda", False)])
def test_only_a_process_that_waits_on_the_cpu_rehearses(attempt, at_once, monkeypatch, platforms, rehearses):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr("lab.scheduling.executors.slots._usable", lambda kind: True)
    seen = []
    monkeypatch.setattr(local, "Spare", lambda command, environment: seen.append(command))
    executor = LocalExecutor(1, COLD, WARM)
    handle = executor.start(attempt)
    executor.free()
    handle.stop(hard=True)
    finish(handle)
    assert ("--rehearse" in seen[0]) == rehearses
    assert "--cache" in seen[0]

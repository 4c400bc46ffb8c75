import json
import os
import sys

import pytest
from scheduling_bench import wait_for

from lab.scheduling import local
from lab.scheduling.executors import Attempt
from lab.scheduling.local import LocalExecutor, available_cpus

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
    assert finish(handles[0]) == -9
    assert executor.free() == 1
    handles[1].stop(hard=False)
    assert finish(handles[1]) == -15
    handles[1].stop(hard=True)  # ended: nothing to do
    assert executor.free() == 2


@pytest.mark.parametrize(
    ("workers", "slots"),
    [
        (0, [[0], [1], [2], [3]]),
        (1, [[0, 1, 2, 3]]),
        (2, [[0, 2], [1, 3]]),
        (3, [[0, 3], [1], [2]]),
        (5, [[0], [1], [2], [3], [0]]),
    ],
)
def test_cores_are_dealt_out_evenly(attempt, monkeypatch, workers, slots):
    monkeypatch.setattr(local, "available_cpus", lambda: [0, 1, 2, 3])
    executor = LocalExecutor(workers, SLEEP)
    handles = [executor.start(attempt) for _ in slots]
    try:
        assert [handle.cpus for handle in handles] == slots
        assert executor.free() == 0
    finally:
        for handle in handles:
            handle.stop(hard=True)
            finish(handle)


def test_workers_must_not_be_negative():
    with pytest.raises(ValueError, match=r"`workers` must be >= 0 \(0: one per core\), but got workers=-1"):
        LocalExecutor(-1)


def test_a_child_gets_its_cores_and_cache_and_no_storage_url(bench, monkeypatch):
    monkeypatch.setenv("STORAGE", "postgresql://me:sesame@host/name")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    bench.behave({"ar": "environment", "dlm": "environment"})
    plan = bench.plan()
    assert bench.drive(plan, workers=1).done == 4
    seen = json.loads((plan.logdir(plan.cells[0]) / "environment.json").read_text())
    environment = seen["environment"]
    assert environment["JAX_COMPILATION_CACHE_DIR"] == str(bench.folder / "cache" / "jax")
    assert environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] == "0.5"
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
        assert finish(handle) == 0
    assert (attempt.logdir / "log.txt").read_text() == "one\ntwo\n"

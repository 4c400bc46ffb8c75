"""A run from a process that waited and rehearsed is the run of a fresh one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scheduling_bench import wait_for

from lab.arms import arm_values
from lab.config import make_config, read_preset
from lab.scheduling.executors import local
from lab.scheduling.executors.executor import Attempt, Ended
from lab.scheduling.executors.local import COMMAND, STANDBY, LocalExecutor
from lab.scheduling.executors.process import arguments


def attempt(folder, name, seed):
    changes = {"seed": seed, "training": {"total_tokens": 2048}, "evaluation": {"stops": 1}}
    changes["data"] = {"corpus": "text", "paths": [str(Path(__file__).parents[1])]}  # smaller than packages
    config = make_config(read_preset("smoke"), arm_values("dlm"), changes)
    (folder / name).mkdir()
    (folder / name / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    return Attempt(folder / name / "config.yaml", folder / name, folder / "cache")


def numbers(run):
    """What must not depend on how the process started."""
    result = json.loads((run.logdir / "result.json").read_text())
    rows = [json.loads(line) for line in (run.logdir / "metrics.jsonl").read_text().splitlines()]
    losses = [
        (row["step"], row["train_loss"], row["gradient_norm"]) for row in rows if row["kind"] == "train"
    ]
    stops = [(stop["reading"], stop["step"], stop["measured"]) for stop in result["stops"]]
    return result["version"], stops, losses


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND", "jax") != "jax", reason="one backend shows it")
def test_a_run_in_a_process_that_waited_ends_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "SPARE_AFTER", 0.0)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    executor = LocalExecutor(1, COMMAND, STANDBY)
    try:
        runs = [attempt(tmp_path, "cold", seed=1), attempt(tmp_path, "waited", seed=1)]
        for run in runs:
            waited = bool(executor._spares)
            handle = executor.start(run)
            wait_for(lambda: executor.free() == 1, seconds=1200)
            assert handle.poll() == Ended(0), (run.logdir / "log.txt").read_text()
        assert waited
    finally:
        executor.close()
    assert numbers(runs[0]) == numbers(runs[1])


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND", "jax") != "jax", reason="asks JAX")
def test_a_process_that_waits_without_a_rehearsal_leaves_the_device_alone():
    code = (
        "from pathlib import Path; from lab.scheduling.executors.standby import get_ready;"
        "get_ready(None, Path('x'));"
        "from jax._src import xla_bridge; print(xla_bridge.backends_are_initialized())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "False\n"


@pytest.mark.parametrize("command", ["run", "measure"])
def test_a_process_that_starts_afresh_is_a_run_of_its_own_with_the_order(tmp_path, command):
    code = "import sys\nfrom lab.scheduling.executors.standby import start_afresh\nstart_afresh(sys.argv[1:])"
    attempt = Attempt(tmp_path / "gone.yaml", tmp_path / "run", tmp_path / "cache", command=command)
    order = [sys.executable, "-c", code, *arguments(attempt)]
    said = subprocess.run(order, capture_output=True, text=True, check=False)
    assert said.returncode == 2, said.stderr
    assert f"expected a YAML file at {attempt.config}, but there is none" in said.stderr

"""A run on several devices and in several processes has the numbers of one device, and ends as a whole."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from distribution_runs import LAYOUTS, STEPS, config_of
from training_bench import rows_of

from lab.results import read_result
from lab.scheduling.executors.ranks import free_address, rank_environment
from lab.scheduling.outcomes import Outcome, outcome_of
from lab.version import Version, claim_version

pytestmark = pytest.mark.skipif(
    os.environ.get("KERAS_BACKEND", "jax") != "jax", reason="keras.distribution is complete under JAX alone"
)

TOLERANCE = 1e-5
ON_CPU = {"JAX_PLATFORMS": "cpu"}
# Ranks check that they agree to the last bit; so compiled as in other tests, two of them once did not.
RANK = {**ON_CPU, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": ""}
FOUR_DEVICES = {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"}
GROUP_SECONDS = 600  # for a group to finish, or to end because a rank is lost, on a busy machine


@pytest.fixture(scope="module")
def runs(tmp_path_factory, corpus, cache):
    """The logdirs of the run under each layout of four devices, and of one that changed its layout."""
    folder = tmp_path_factory.mktemp("layouts")
    script = Path(__file__).with_name("distribution_runs.py")
    command = [sys.executable, str(script), *map(str, (folder, corpus, cache))]
    # A script's own folder comes first on its path, not the one that holds this checkout's `lab`.
    environment = os.environ | ON_CPU | FOUR_DEVICES | {"PYTHONPATH": str(Path.cwd())}
    subprocess.run(command, env=environment, check=True, timeout=1800)
    return folder


# `python -m lab`, whose rank 1 does not go on after step 6.
HELD = """
import time
from lab.__main__ import app
from lab.training.run import Run
log = Run._log
def log_and_stay(self, step, *values, **others):
    log(self, step, *values, **others)
    if step == 6 and self.ranks.number == 1:
        time.sleep(3600)
Run._log = log_and_stay
app()
"""


def is_held(logdir):
    return [row["step"] for row in rows_of(logdir)] == [2, 4, 6]


class Group:
    """The ranks of one run on loopback; each has a logdir of its own, so that it shows who writes."""

    def __init__(self, folder, config, cache, lab=("-m", "lab")):
        self.logdirs = [folder / f"rank_{rank}" for rank in range(2)]
        path = folder / "config.yaml"
        path.write_text(config.to_yaml(), encoding="utf-8")
        command = [sys.executable, *lab, "run", "--config", str(path), "--cache", str(cache)]
        address = free_address()
        self.outputs = [folder / f"rank_{rank}.txt" for rank in range(2)]
        self.processes = []
        for rank, (logdir, output) in enumerate(zip(self.logdirs, self.outputs, strict=True)):
            with output.open("wb") as file:
                self.processes.append(
                    subprocess.Popen(
                        [*command, "--logdir", str(logdir)],
                        env=os.environ | RANK | rank_environment(rank, 2, address),
                        stdout=file,
                        stderr=subprocess.STDOUT,
                    )
                )

    def wait(self, seconds=1800):
        """The exit codes."""
        return [process.wait(timeout=seconds) for process in self.processes]

    def said(self):
        return [output.read_text() for output in self.outputs]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.processes:
            process.kill()
            process.wait()


def measured(logdir):
    """Every number of a run that training and measuring made, by name."""
    numbers = {}
    for row in rows_of(logdir):
        if row["kind"] == "train":
            for name in ("train_loss", "gradient_norm", "auxiliary_loss", "dropped_share"):
                if name in row:
                    numbers[f"{name} {row['step']}"] = row[name]
    for stop in read_result(logdir).stops:
        for split in ("validation", "test"):
            for name, value in stop.metrics(split).items():
                numbers[f"{split} {name} {stop.reading} {stop.step}"] = value
    return numbers


def assert_equal_runs(found, expected, least=50):
    found, expected = measured(found), measured(expected)
    assert len(expected) > least
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=TOLERANCE), name


@pytest.mark.parametrize(("layout", "data", "model"), [("data", 4, 1), ("model_2", 2, 2), ("model_4", 1, 4)])
def test_four_devices_give_the_numbers_of_one(layout, data, model, runs):
    """With dropout, too: JAX draws its masks for the whole batch, wherever the rows lie."""
    assert_equal_runs(runs / layout, runs / "one")
    assert read_result(runs / layout).process.devices == {
        "parallel": LAYOUTS[layout]["parallel"],
        "count": 4,
        "data": data,
        "model": model,
        "processes": 1,
    }


@pytest.mark.parametrize("layout", ["data", "model_2"])
def test_four_devices_route_tokens_as_one_does(layout, runs):
    """Each with some of the rows, and each with some of the experts, too."""
    assert_equal_runs(runs / f"mixed_{layout}", runs / "mixed_one", least=20)
    dropped = [row["dropped_share"] for row in rows_of(runs / "mixed_one") if row["kind"] == "train"]
    assert len(dropped) == 2
    assert all(0 < share < 1 for share in dropped)


def test_one_device_says_so(runs):
    devices = read_result(runs / "one").process.devices
    assert devices == {"parallel": "none", "count": 1, "data": 1, "model": 1, "processes": 1}


def test_a_run_goes_on_under_another_layout(runs):
    """Stopped with the weights in four parts, finished with the batch in four parts."""
    assert_equal_runs(runs / "moved", runs / "one")
    assert read_result(runs / "moved").process.devices["parallel"] == "data"


def test_the_weights_are_kept_whole(runs):
    from lab.training.checkpoint import load_arrays

    (name,) = {path.name for path in (runs / "one").rglob("annealed*16.npz")}
    expected = load_arrays(runs / "one" / "checkpoints" / "stops" / name)
    for layout in ("data", "model_2", "model_4"):
        found = load_arrays(runs / layout / "checkpoints" / "stops" / name)
        assert {key: array.shape for key, array in found.items()} == {
            key: array.shape for key, array in expected.items()
        }
        for key, array in expected.items():
            np.testing.assert_allclose(found[key], array, atol=1e-3, err_msg=key)


def test_a_lost_rank_ends_the_group_and_the_next_attempt_finishes(runs, tmp_path, corpus, cache):
    """Two processes, each with half of every batch, then each with half of the weights.

    Rank 1 is killed two steps after the first checkpoint, and what was logged until then is compared too.
    """
    with Group(tmp_path, config_of("data", corpus), cache, ("-c", HELD)) as group:
        first, second = group.processes
        while first.poll() is None and second.poll() is None and not is_held(group.logdirs[0]):
            time.sleep(0.01)
        assert (first.poll(), second.poll()) == (None, None), group.said()
        second.send_signal(signal.SIGKILL)
        assert first.wait(timeout=GROUP_SECONDS) == -signal.SIGABRT, group.said()[0]
        assert "LostRankError: another rank of the run has ended" in group.said()[0]
    checkpoints = group.logdirs[0] / "checkpoints"
    assert [path.name for path in checkpoints.glob("step-*")] == ["step-000000000004"]
    assert not (group.logdirs[0] / "result.json").exists()
    with Group(tmp_path, config_of("model_2", corpus), cache) as group:
        assert group.wait() == [0, 0], group.said()
    assert_equal_runs(group.logdirs[0], runs / "one")
    assert [row["step"] for row in rows_of(group.logdirs[0]) if row["kind"] == "train"] == list(
        range(2, STEPS + 1, 2)
    )
    devices = read_result(group.logdirs[0]).process.devices
    assert (devices["processes"], devices["model"]) == (2, 2)
    assert not group.logdirs[1].exists(), "rank 1 must leave the files to rank 0"


@pytest.fixture
def nodes(monkeypatch):
    """Two nodes of a Ray cluster, each with room for one process; ends them and adds another."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    size = {"object_store_memory": 80 * 2**20}
    head = {"num_cpus": 0, "include_dashboard": False, **size}
    cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
    cluster.two = [cluster.add_node(num_cpus=1, wait=False, **size) for _ in range(2)]
    cluster.wait_for_nodes(timeout=300)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.extra(ray="ray")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_two_nodes_train_one_run_and_a_lost_node_costs_one_attempt(
    nodes, tmp_path, corpus, cache, monkeypatch
):
    from lab.scheduling.executors.executor import Attempt, Ended
    from lab.scheduling.executors.ray_executor import RayExecutor
    from lab.training.run import train_run

    train_run(config_of("one", corpus), tmp_path / "one", cache)
    for name, value in RANK.items():
        monkeypatch.setenv(name, value)
    logdir = tmp_path / "run"
    logdir.mkdir()
    (logdir / "config.yaml").write_text(config_of("data", corpus).to_yaml(), encoding="utf-8")
    attempt = Attempt(logdir / "config.yaml", logdir, cache, ranks=2)
    held = RayExecutor(0, ("-c", HELD), ranks=2)
    assert held.free() == 1

    def finish(handle):
        deadline = time.monotonic() + GROUP_SECONDS
        while (ended := handle.poll()) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return ended

    handle = held.start(attempt)
    while handle.poll() is None and not is_held(logdir):
        time.sleep(0.01)
    nodes.remove_node(nodes.two[1], allow_graceful=False)
    ended = finish(handle)
    assert outcome_of(ended) == Outcome.LOST, (logdir / "log.txt").read_text()
    assert not (logdir / "result.json").exists()
    nodes.add_node(num_cpus=1, wait=True, object_store_memory=80 * 2**20)
    assert finish(RayExecutor(ranks=2).start(attempt)) == Ended(0), (logdir / "log.txt").read_text()
    held.close()
    assert_equal_runs(logdir, tmp_path / "one")
    assert read_result(logdir).process.devices["processes"] == 2


def test_what_rank_0_refuses_ends_the_group(tmp_path, corpus, cache):
    config = config_of("data", corpus)
    logdir = tmp_path / "rank_0"
    logdir.mkdir()
    other = Version.of(config.model_copy(update={"seed": 1}), "data", "jax", "code")
    claim_version(logdir, other)
    with Group(tmp_path, config, cache) as group:
        codes = group.wait(GROUP_SECONDS)
    assert codes == [2, -signal.SIGABRT]
    said = group.said()
    assert "must be gone on with as it began" in said[0]
    assert "another rank of the run has ended" in said[1]

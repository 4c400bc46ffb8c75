"""Which ranks are found, which layouts are refused, and what ranks pass on to one another."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from training_bench import MODEL, tiny_config

from lab.config import TrainingConfig
from lab.scheduling.executors.executor import Ended
from lab.scheduling.executors.ranks import free_address, rank_environment
from lab.scheduling.outcomes import Outcome, outcome_of

pytestmark = pytest.mark.skipif(
    os.environ.get("KERAS_BACKEND", "jax") != "jax", reason="keras.distribution is complete under JAX alone"
)

NAMES = ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")


def variables(*values):
    return {
        f"KERAS_DISTRIBUTION_{name}": value
        for name, value in zip(NAMES, values, strict=True)
        if value is not None
    }


@pytest.fixture
def connected(monkeypatch):
    """The calls that would connect to other ranks."""
    from lab.training import distribution_jax

    calls = []
    monkeypatch.setattr(distribution_jax, "connect", lambda *ranks, **seconds: calls.append((ranks, seconds)))
    return calls


@pytest.mark.parametrize(
    ("environment", "ranks"),
    [
        (variables("10.0.0.1:1234", "4", "3"), ("10.0.0.1:1234", 4, 3)),
        (variables("a:1,b:2", "2", "0"), ("a:1", 2, 0)),
        ({"SLURM_STEP_NUM_TASKS": "2"}, (None, None, None)),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, (None, None, None)),
        ({"TPU_WORKER_HOSTNAMES": "a,b,c,d"}, (None, None, None)),
        ({"SLURM_STEP_NUM_TASKS": "8"} | variables("a:1", "2", "1"), ("a:1", 2, 1)),
    ],
    ids=["keras", "keras, all addresses", "slurm", "open mpi", "tpu", "keras before slurm"],
)
def test_ranks_are_those_of_the_launcher(environment, ranks, connected):
    from lab.training.distribution import start_ranks

    start_ranks("data", environment)
    ((found, seconds),) = connected
    assert found == ranks
    # A silent rank must end its group within 120 s.
    assert seconds == {"start_seconds": 120, "heartbeat_seconds": 30, "shutdown_seconds": 60}


@pytest.mark.parametrize(
    ("parallel", "environment"),
    [
        ("data", {}),
        ("model", variables(None, "1", None)),
        ("data", {"SLURM_STEP_NUM_TASKS": "8"} | variables(None, "1", None)),
        ("data", {"SLURM_STEP_NUM_TASKS": "1", "TPU_WORKER_HOSTNAMES": "localhost"}),
        ("none", {"SLURM_STEP_NUM_TASKS": "8"}),
        ("none", variables("a:1", "1", "0")),
    ],
    ids=[
        "no launcher",
        "one",
        "one in an allocation",
        "one task",
        "a run beside others",
        "one, not parallel",
    ],
)
def test_one_process_connects_to_none(parallel, environment, connected):
    from lab.training.distribution import start_ranks

    start_ranks(parallel, environment)
    assert connected == []


@pytest.mark.parametrize(
    ("parallel", "values", "message"),
    [
        ("data", (None, "2", "0"), "must be given together, but KERAS_DISTRIBUTION_JOB_ADDRESSES is missing"),
        ("data", ("a:1", "2", None), "but KERAS_DISTRIBUTION_PROCESS_ID is missing"),
        ("data", ("a:1", None, "0"), "but KERAS_DISTRIBUTION_NUM_PROCESSES is missing"),
        ("data", ("a:1", "two", "0"), "must be whole numbers, but got 'two' and '0'"),
        ("data", ("a", "2", "0"), "must hold host:port of rank 0 or of all 2 ranks, but got 'a'"),
        ("data", ("a:1,b:1,c:1", "2", "0"), "of all 2 ranks, but got 'a:1,b:1,c:1'"),
        ("data", ("a:1", "2", "2"), "must be below KERAS_DISTRIBUTION_NUM_PROCESSES=2, but got 2"),
        (
            "none",
            ("a:1", "2", "0"),
            "must be data or model for several processes, but got .*=2 and parallel=none",
        ),
    ],
)
def test_contradictions_are_refused(parallel, values, message, connected):
    from lab.training.distribution import start_ranks

    with pytest.raises(ValueError, match=message):
        start_ranks(parallel, variables(*values))
    assert connected == []


def test_another_backend_is_refused(monkeypatch):
    import keras

    from lab.training.distribution import find_ranks, start_ranks

    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    for call in (lambda: find_ranks("data"), lambda: start_ranks("data", variables("a:1", "2", "0"))):
        with pytest.raises(ValueError, match="parallel=data needs KERAS_BACKEND=jax, but got torch"):
            call()


def test_a_port_that_is_taken_is_named():
    import socket

    from lab.training.distribution_jax import connect

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(RuntimeError, match=f"rank 0 needs port {port} for the other ranks: .*in use"):
            connect(f"127.0.0.1:{port}", 2, 0, start_seconds=1, heartbeat_seconds=10, shutdown_seconds=1)


IMPATIENT_RUN = """
import sys
from lab.__main__ import app
from lab.training import distribution
distribution.START_SECONDS = 1
app(["run", "--preset", "smoke", "--set", "training.parallel=data", "--logdir", sys.argv[1]])
"""


def test_a_rank_that_never_starts_ends_the_others_as_lost(tmp_path):
    """JAX adds 5 s to the limit."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **rank_environment(0, 2, free_address())}
    command = [sys.executable, "-c", IMPATIENT_RUN, str(tmp_path / "run")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == -signal.SIGABRT, ended.stderr
    assert "another task died" in ended.stderr
    assert outcome_of(Ended(ended.returncode)) == Outcome.LOST
    assert not (tmp_path / "run").exists()


@pytest.fixture
def machine(monkeypatch):
    """Lends a number of devices and processes that are not there."""
    import keras

    from lab.training import distribution_jax

    def lend(devices, processes=1):
        monkeypatch.setattr(distribution_jax, "devices", lambda: [f"cpu:{i}" for i in range(devices)])
        monkeypatch.setattr(distribution_jax, "processes", lambda: (0, processes))

    yield lend
    keras.distribution.set_distribution(None)


@pytest.mark.parametrize(
    ("devices", "processes", "values", "message"),
    [
        (
            4,
            1,
            {"parallel": "data", "batch_size": 6},
            "multiple of the 4 parts of the data axis .* but got 6",
        ),
        (
            4,
            1,
            {"parallel": "data", "batch_size": 8, "accumulation": 4},
            "batch_size / accumulation must be a multiple of the 4 parts .* but got 2",
        ),
        (
            4,
            1,
            {"parallel": "model", "model_parallel": 2, "batch_size": 3},
            r"2 parts of the data axis \(4 devices, model_parallel=2\), but got 3",
        ),
        (
            4,
            1,
            {"parallel": "model", "model_parallel": 3},
            "divide a process's 4 devices, .* model_parallel=3",
        ),
        (4, 2, {"parallel": "model", "model_parallel": 3}, "divide a process's 2 devices"),
        (6, 3, {"parallel": "model", "model_parallel": 4}, "divide all 6, but got model_parallel=4"),
    ],
)
def test_a_layout_that_does_not_come_out_even_is_refused(devices, processes, values, message, machine):
    import keras

    from lab.training.distribution import set_layout

    machine(devices, processes)
    with pytest.raises(ValueError, match=message):
        set_layout(TrainingConfig(total_steps=1, **values))
    assert keras.distribution.distribution() is None


def test_rows_that_are_dealt_out_together_stay_in_one_part(machine):
    from lab.training.distribution import set_layout

    machine(4)
    training = TrainingConfig(total_steps=1, parallel="data", batch_size=8)
    assert set_layout(training, together=2).data == 4
    with pytest.raises(ValueError, match=r"`ar_share` must be n / 2, .* 4 parts, but got one of n / 4"):
        set_layout(training, together=4)


def test_a_run_on_one_device_takes_an_older_layout_away(machine):
    import keras

    from lab.training.distribution import Ranks, set_layout

    machine(4)
    layout = set_layout(TrainingConfig(total_steps=1, parallel="model", model_parallel=2))
    assert (layout.data, layout.model) == (2, 2)
    assert isinstance(keras.distribution.distribution(), keras.distribution.ModelParallel)
    assert set_layout(TrainingConfig(total_steps=1)).ranks == Ranks(0, 1)
    assert keras.distribution.distribution() is None


@pytest.mark.parametrize(
    ("data", "count", "expected"),
    [
        (1, 1, [(0, 12)]),
        (4, 1, [(0, 12)]),
        (4, 2, [(0, 6), (6, 6)]),
        (2, 2, [(0, 6), (6, 6)]),
        (1, 2, [(0, 12), (0, 12)]),  # the weights' parts lie in both processes
        (2, 4, [(0, 6), (0, 6), (6, 6), (6, 6)]),
    ],
)
def test_each_rank_feeds_the_rows_of_its_devices(data, count, expected):
    from lab.training.distribution import Layout, Ranks

    layouts = [Layout("model", data, 4, Ranks(number, count)) for number in range(count)]
    assert [layout.own_rows(12) for layout in layouts] == expected


def test_every_matrix_has_one_place_in_the_layout():
    from lab.models.layout import WEIGHT_AXES
    from lab.training.build import build_transformer

    transformer = build_transformer(tiny_config("dlm", {"model": {"tie_embeddings": False}}), 257)
    parts = 4
    for variable in transformer.trainable_variables:
        (axes,) = (axes for path, axes in WEIGHT_AXES.items() if re.fullmatch(path, variable.path))
        assert len(axes) == len(variable.shape)
        assert variable.shape[axes.index("model")] % parts == 0


@pytest.mark.parametrize(("name", "parts"), [("heads", 4), ("width", 32), ("ffn_width", 64)])
def test_parts_of_a_model_must_be_even(name, parts):
    sizes = {"width": 64, "heads": 32, "ffn_width": 64} | {name: MODEL[name]}
    if name == "width":
        sizes["heads"] = 8
    layer = {"model": sizes, "training": {"parallel": "model", "model_parallel": parts}}
    with pytest.raises(
        ValueError, match=f"must divide heads, kv_heads, width and ffn_width, but got model_parallel={parts}"
    ):
        tiny_config("ar", layer)


def test_parts_of_a_model_need_their_layout():
    with pytest.raises(
        ValueError, match="must be 1 unless parallel=model, but got model_parallel=2, parallel=data"
    ):
        tiny_config("ar", {"training": {"parallel": "data", "model_parallel": 2}})


def test_the_layout_is_no_part_of_the_key():
    plain = tiny_config("ar")
    parallel = tiny_config("ar", {"training": {"parallel": "model", "model_parallel": 2}})
    assert plain != parallel
    assert plain.keyed_values() == parallel.keyed_values()
    assert plain.keyed_values() != tiny_config("ar", {"training": {"batch_size": 8}}).keyed_values()


def test_the_same_rank_alone_passes_on_what_it_made():
    from lab.training.distribution import Ranks

    made = {"a": np.arange(3)}
    assert Ranks().share_arrays(lambda: made) is made
    assert Ranks().share(lambda: None) is None
    assert (Ranks().any(True), Ranks().any(False)) == (True, False)
    Ranks().require_equal("data", "x")


@pytest.fixture
def sent(monkeypatch):
    """What rank 0 sent, to be received by the ranks that ask afterwards."""
    from lab.training import distribution_jax

    queue = []

    def broadcast(data):
        queue.append(data)
        return data

    monkeypatch.setattr(distribution_jax, "broadcast", broadcast)

    def receive():
        messages = iter(queue.copy())
        monkeypatch.setattr(distribution_jax, "broadcast", lambda data: next(messages))

    return receive


def test_every_rank_has_the_bits_of_rank_0(sent):
    from lab.training.distribution import Ranks

    arrays = {
        "signed zero": np.array([-0.0, np.nan], np.float32),
        "key": np.array([[1, 2**32 - 1]], np.uint32),
        "step": np.array(7, np.int32),
    }
    Ranks(0, 2).share_arrays(lambda: arrays)
    sent()
    found = Ranks(1, 2).share_arrays(lambda: pytest.fail("rank 1 must not read"))
    assert {name: (array.dtype, array.shape, array.tobytes()) for name, array in found.items()} == {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()
    }


def test_a_rank_with_other_data_is_refused(sent):
    from lab.training.distribution import Ranks

    Ranks(0, 2).require_equal("data", "abc")
    sent()
    with pytest.raises(ValueError, match="the data of rank 0, abc, but rank 1 has xyz"):
        Ranks(1, 2).require_equal("data", "xyz")


@pytest.mark.parametrize("kind", [ValueError, RuntimeError])
def test_a_broken_connection_is_no_error_of_the_user(kind):
    from lab.training.distribution import LostRankError, naming_lost_ranks

    with (
        pytest.raises(LostRankError, match="another rank of the run has ended: UNKNOWN: Gloo"),
        naming_lost_ranks(),
    ):
        raise kind("UNKNOWN: Gloo all-reduce failed: Connection reset by peer")
    with pytest.raises(kind, match="must be"), naming_lost_ranks():
        raise kind("`seeds` must be >= 1")


def test_a_process_in_a_group_ends_with_its_own_exit_code(monkeypatch):
    import typer

    from lab.training import distribution, distribution_jax
    from lab.training.distribution import LostRankError, ending_together

    ends = []
    monkeypatch.setattr(distribution.os, "_exit", ends.append)
    monkeypatch.setattr(distribution.os, "kill", lambda process, number: ends.append(-number))
    errors = [typer.Exit(2), SystemExit(75), KeyError("x")]
    for error in errors:  # alone: as ever
        with pytest.raises(type(error)), ending_together():
            raise error
    assert ends == []
    monkeypatch.setattr(distribution_jax, "connected", lambda: True)
    for error in [*errors, LostRankError("gone")]:
        with pytest.raises(type(error)), ending_together():
            raise error
    assert ends == [2, 75, 1, -signal.SIGABRT, 1]


def test_a_muted_writer_takes_every_call():
    from lab.training.distribution import Muted

    with Muted() as writer:
        assert writer.update(force=True, phase="train") is None

"""What runs are computed on: how many are trained together, and what cannot be."""

import re

import pytest
from ablation_bench import tiny_ablation

import lab
from lab.ablation import cells
from lab.scheduling.executors import resources
from lab.scheduling.executors.local import LocalExecutor
from lab.scheduling.executors.population_executor import PopulationExecutor
from lab.scheduling.executors.slots import Devices
from lab.scheduling.places import Places
from lab.training.packing import population_that_pays


@pytest.fixture
def planned(bench):
    """Cells of two arms at two levels, 20 seeds: 40 runs of each of two kinds."""

    def planned(**overrides):
        return cells(tiny_ablation(), "tiny", 20, overrides)

    return planned


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("KERAS_BACKEND", "jax")


@pytest.fixture
def gpus(monkeypatch):
    """Two pretended GPUs, whose memory can be set."""
    memory = [80e9]
    places = lambda workers=0, ranks=1, per_device=1, devices=1: [()] * (workers or 2 * per_device)  # noqa: E731
    monkeypatch.setattr(resources, "find_devices", lambda: Devices("cuda", ("a", "b")))
    monkeypatch.setattr(resources, "make_places", places)
    monkeypatch.setattr(resources, "memory_of", lambda kind: memory[0])
    return memory


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": -1}, "must be from 0 (as many as pay) to 1,000, but got population=-1."),
        ({"population": 1001}, "must be from 0 (as many as pay) to 1,000, but got population=1001."),
        ({"population": 2, "engine": "ray"}, "must be 1 with engine=ray, but got population=2."),
        ({"population": 2, "ranks": 2}, "must be 1 with ranks=2, but got population=2."),
        ({"population": 2, "devices": 4}, "must be 1 with devices=4, but got population=2."),
    ],
)
def test_what_cannot_be_trained_together_is_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(f"`population` {message}")):
        lab.Resources(**options)
    assert lab.Resources(**{**options, "population": 1}).population == 1


def test_other_backends_train_each_run_alone(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(
        ValueError, match="`population` must be 1 with KERAS_BACKEND=torch, but got populatio"
    ):
        lab.Resources(population=2)


def test_parallel_runs_are_trained_alone(planned):
    made = planned()[:1] + planned(training={"parallel": "data"})[:2]
    message = "`population` must be 1 unless training.parallel is none, but got population=3 and 2 parallel r"
    with pytest.raises(ValueError, match=message):
        lab.Resources(population=3).check(made)
    lab.Resources(population=3).check(made[:1])
    lab.Resources(population=1).check(made)


def test_on_a_cpu_a_run_is_alone_unless_it_is_asked_for(planned):
    assert lab.Resources().fitted(planned()).population == 1
    assert lab.Resources(population=5).fitted(planned()).population == 5


def test_on_gpus_as_many_runs_are_together_as_pay(planned, gpus, monkeypatch):
    made = planned()
    configs = [cell.config for cell in made]
    assert lab.Resources(workers=3).fitted(made) == lab.Resources(workers=3, population=14)  # of 40 a kind
    assert lab.Resources().fitted(made).population == 20
    for memory, per_device in ((4e8, 1), (4e8, 2), (None, 2)):
        gpus[0] = memory
        share = memory and memory / per_device
        fitted = lab.Resources(per_device=per_device).fitted(made).population
        assert fitted == population_that_pays(configs, 2 * per_device, share)
    assert lab.Resources(population=3).fitted(made).population == 3
    for options in ({"engine": "ray"}, {"ranks": 2}, {"devices": 2}):
        assert lab.Resources(**options).fitted(made).population == 1
    assert lab.Resources().fitted(planned(training={"parallel": "data"})).population == 1
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert lab.Resources().fitted(made).population == 1


def test_runs_at_a_time_are_those_of_all_processes():
    assert lab.Resources(workers=3, population=4).at_once() == 12
    assert lab.Resources(workers=3).at_once() == 3
    assert lab.Resources(engine="ray", workers=3).at_once() == 3


def test_the_executor_is_that_of_populations_where_runs_are_together(tmp_path):
    places = Places(results=tmp_path)
    made = lab.Resources(workers=2, population=4, stall_seconds=7).executor(places)
    assert isinstance(made, PopulationExecutor)
    assert (made.population, made.free(), made.free("measure")) == (4, 8, 2)
    for population in (0, 1):
        assert isinstance(lab.Resources(workers=2, population=population).executor(places), LocalExecutor)
    for stall_seconds in (0, float("nan")):
        with pytest.raises(ValueError, match="`stall_seconds` must be > 0"):
            lab.Resources(population=4, stall_seconds=stall_seconds).executor(places)
    with pytest.raises(ValueError, match="`shared` needs engine=ray"):
        lab.Resources(population=4).executor(Places(results=tmp_path, shared="s3://x"))

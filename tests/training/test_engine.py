"""The state of training: what a stop keeps of it, and going on from it."""

import os

import numpy as np
import pytest
from training_bench import DROPOUT, differences, numbers_of, tiny_config

VOCAB = 5


def make(**training):
    from lab.training.engine import Engine

    tokens = np.random.default_rng(0).integers(0, VOCAB, 1000).astype(np.int32)
    return Engine(tiny_config("dlm", {"training": training}), tokens, VOCAB)


def trained(engine):
    from lab.training.variables import read_variables

    return read_variables(engine.learner.trainable_variables)


@pytest.mark.backend
def test_with_averaging_a_stop_has_the_average_and_training_goes_on_as_it_was():
    engine, plain = make(ema=0.5, accumulation=2), make(accumulation=2)
    path = []
    for step in range(3):
        engine.fit(step, step + 1)  # whose end leaves the weights alone
        path.append(trained(engine))
    plain.fit(0, 3)
    kept = engine.weights()
    for name, array in path[-1].items():
        expected = (path[0][name] + 2 * path[1][name] + 4 * array) / 7
        np.testing.assert_allclose(kept[name], expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(trained(plain)[name], array, rtol=0, atol=1e-6)
    with engine.averaged():
        assert differences(trained(engine), kept) == []
    assert differences(trained(engine), path[-1]) == []
    assert differences(plain.weights(), trained(plain)) == []
    with plain.averaged():
        assert differences(plain.weights(), trained(plain)) == []


@pytest.mark.backend
def test_a_branch_leaves_no_trace_in_the_average():
    engine = make(ema=0.9)
    engine.fit(0, 3)
    main = engine.state()
    engine.fit(3, 6)
    straight = engine.state()
    engine.assign_state(main)
    before = engine.weights()
    engine.follow_branch(5)
    engine.fit(3, 5)
    assert differences(engine.weights(), before)
    engine.assign_state(main)
    assert differences(engine.weights(), before) == []
    engine.fit(3, 6)
    assert differences(engine.state(), straight) == []


def test_a_run_measures_the_average_that_it_keeps(corpus, cache, tmp_path):
    from lab.training.checkpoint import load_arrays, stop_weights_path
    from lab.training.run import train_run

    layers = {"training": {"ema": 0.9, "total_steps": 20}, "evaluation": {"stops": 1, "sample_tokens": 0}}
    config = tiny_config("ar", layers, corpus=corpus)
    result = train_run(config, tmp_path, cache)
    kept = load_arrays(stop_weights_path(tmp_path, "along_run", 20))
    state = load_arrays(tmp_path / "checkpoints" / "step-000000000020" / "arrays.npz")
    for name, array in kept.items():
        assert array.tobytes() != state[name].tobytes()
        assert array.tobytes() == state[f"optimizer/{name.replace('/', '_')}_average"].tobytes()
    for name in ("result.json", "metrics.jsonl"):
        (tmp_path / name).unlink()
    assert numbers_of(train_run(config, tmp_path, cache)) == numbers_of(result)  # of the weights as kept


def built(**layer):
    """A learner with the weights that it begins with."""
    from lab.training.build import build_learner

    return build_learner(tiny_config("dlm", {"model": DROPOUT}, layer), VOCAB)


def weights_of(learner):
    from lab.training.variables import read_variables

    return read_variables(learner.trainable_variables)


def test_members_share_their_text_and_not_weights_order_or_draws(monkeypatch):
    """Of a budget of 16 windows, an epoch in one batch: the same windows in another order."""
    from lab.training import engine as module

    tokens = np.random.default_rng(0).integers(0, VOCAB, 4000).astype(np.int32)
    monkeypatch.setattr(module, "build_learner", build := Recorder(module.build_learner))

    def begun(**layer):
        data = {"unique_tokens": 256, "windows": "fixed"}
        config = tiny_config("dlm", {"data": data, "training": {"batch_size": 16}, "model": DROPOUT}, layer)
        rows = module.Engine(config, tokens, VOCAB).windows.batch(0).tokens.tolist()
        return rows, build.made[-1]

    (first, learner), (member, other), (replicate, _) = begun(), begun(member=1), begun(seed=1)
    assert sorted(first) == sorted(member) != sorted(replicate)
    assert first != member
    assert differences(weights_of(learner), weights_of(other))
    assert learner.seed != other.seed
    assert learner.transformer.seed == learner.seed  # of dropout
    assert begun(member=1)[0] == member


class Recorder:
    """A function that keeps what it made."""

    def __init__(self, function):
        self.function, self.made = function, []

    def __call__(self, *arguments):
        self.made.append(self.function(*arguments))
        return self.made[-1]


@pytest.mark.backend
def test_a_perturbation_is_a_relative_normal_noise_on_the_same_weights():
    plain, again = (weights_of(built(training={"perturbation": 0.0})) for _ in range(2))
    assert differences(plain, again) == []
    noise, other = (
        np.concatenate(
            [
                ((array - plain[name]) / plain[name])[plain[name] != 0]
                for name, array in weights_of(built(training={"perturbation": 1e-3}, **layer)).items()
            ],
            axis=None,
        )
        for layer in ({}, {"data": {"windows": "jittered"}})
    )
    np.testing.assert_array_equal(noise, other)
    count = len(noise)
    assert count > 2000
    assert noise.mean() == pytest.approx(0, abs=4e-3 / np.sqrt(count))
    assert noise.std() == pytest.approx(1e-3, rel=4 / np.sqrt(2 * count))
    assert (np.abs(noise) < 1e-3).mean() == pytest.approx(0.6827, abs=4 * 0.47 / np.sqrt(count))
    assert len(np.unique(np.round(noise, 6))) > 500  # no two variables have the same


def test_another_seed_has_another_perturbation():
    layers = [{"training": {"perturbation": 0.1}, "seed": seed} for seed in (1, 2)]
    noise = []
    for layer in layers:
        perturbed, plain = weights_of(built(**layer)), weights_of(built(seed=layer["seed"]))
        noise.append(np.concatenate([(perturbed[name] / plain[name]).ravel() for name in plain]))
    assert abs(np.corrcoef(*noise)[0, 1]) < 4 / np.sqrt(len(noise[0]))


class Reads:
    """At which updates, as it is called with them, values were brought from the device to the host."""

    def __init__(self, monkeypatch):
        from jax._src.array import ArrayImpl
        from keras.src import backend

        self.steps, self.step = [], 0
        get, convert = ArrayImpl._single_device_array_to_np_array_did_copy, backend.convert_to_numpy
        monkeypatch.setattr(ArrayImpl, "_value", property(lambda array: self.counted(get, array)[0]))
        # On a CPU NumPy looks into an array without asking it.
        monkeypatch.setattr(backend, "convert_to_numpy", lambda array: self.counted(convert, array))

    def counted(self, function, array):
        self.steps.append(self.step)
        return function(array)

    def __call__(self, step):
        self.step = step


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND", "jax") != "jax", reason="counts the reads of JAX arrays")
def test_the_host_reads_nothing_back_between_two_records(monkeypatch):
    """On an accelerator it would wait there for all updates made so far, and the device for the next one."""
    from lab.training.progress import StepLog

    engine, records = make(accumulation=2), []
    engine.fit(0, 1)  # compiled
    reads = Reads(monkeypatch)
    engine.fit(0, 10, [StepLog(0, 2, 4, 64, lambda *row: records.append(row), reads)])
    assert [row[0] for row in records] == [4, 8]
    assert set(reads.steps) == {4, 8, 10}


@pytest.mark.backend
def test_callbacks_get_the_logs_of_a_step_as_they_are_on_the_device():
    import keras

    found = []

    class Keeper(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            found.append(logs)

    make().fit(0, 3, [Keeper()])
    assert [keras.ops.is_tensor(logs["loss"]) for logs in found] == [True] * 3
    assert all(float(value) > 0 for logs in found for value in logs.values())

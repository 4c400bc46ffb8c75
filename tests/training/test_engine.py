"""The state of training: what a stop keeps of it, and going on from it."""

import numpy as np
import pytest
from training_bench import differences, numbers_of, tiny_config

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

"""Several learners in one program: each gets what it would get alone, whoever is with it."""

import os

import numpy as np
import pytest
from training_bench import DROPOUT, differences, tiny_config

from lab.objectives.objective import Objective
from lab.threefry import member_seed

pytestmark = pytest.mark.skipif(
    os.environ.get("KERAS_BACKEND", "jax") != "jax", reason="runs are trained together under JAX alone"
)

HOWS = ("vmap", "map")
VOCAB, PLACES, STEPS = 5, 4, 20
TOKENS = np.random.default_rng(0).integers(0, VOCAB, 4000).astype(np.int32)
# What runs of a kind may differ in: seeds, budgets, all numbers of the optimizer and of dropout. Adam's steps
# are as long for a small gradient as for a large one, and so is what its rounding does: of the learning rate.
MEMBERS = (
    {"seed": 1, "data": {"unique_tokens": 640}, "model": DROPOUT, "training": {"learning_rate": 0.003}},
    {
        **{"seed": 2, "data": {"unique_tokens": 160}},
        "model": {"attention_dropout": 0.3, "mlp_dropout": 0.05},
        "training": {"learning_rate": 0.001, "warmup_steps": 0, "weight_decay": 0.0, "clip_norm": 0.1},
    },
    {
        **{"seed": 2, "member": 1},
        "model": {"attention_dropout": 0.01, "mlp_dropout": 0.5},
        "training": {"learning_rate": 0.005, "beta_1": 0.8, "beta_2": 0.99, "weight_decay_warmup_steps": 7},
    },
)
CASES = {
    "ar": ("ar", {"training": {"accumulation": 2}}, {}),
    "dlm": ("dlm", {"factors": {"passes": 2}}, {"training": {"ema": 0.9}}),
}


def engine_of(arm, *layers):
    from lab.training.engine import Engine

    return Engine(tiny_config(arm, *layers), TOKENS, VOCAB)


def batches_of(engine):
    return [inputs for (inputs,) in engine._micro_batches(0, STEPS)]


def joined(engines, batches, how):
    """The states that the engines have after micro-batches of theirs, made together."""
    step = engines[0].learner.joint_step(PLACES, how)
    step.begin([engine.learner for engine in engines])
    logs = [step(inputs) for inputs in zip(*batches, strict=True)]
    step.end()
    return [engine.state() for engine in engines], logs


@pytest.fixture(scope="module")
def alone():
    """`alone(case)`: engines, the states that they begin with, their batches, and how each ends."""
    made = {}

    def make(case):
        if case not in made:
            arm, *layers = CASES[case]
            engines = [engine_of(arm, *layers, member) for member in MEMBERS]
            start = [engine.state() for engine in engines]
            for engine in engines:
                engine.fit(0, STEPS)
            ends = [engine.state() for engine in engines]
            made[case] = engines, start, [batches_of(engine) for engine in engines], ends
        return made[case]

    return make


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("case", CASES)
def test_each_learner_is_trained_as_by_itself(alone, case, how):
    """With seeds, budgets, rates and decays of their own: but for the rounding of another program."""
    engines, start, batches, expected = alone(case)
    for engine, state in zip(engines, start, strict=True):
        engine.assign_state(state)
    found, logs = joined(engines, batches, how)
    assert {values.shape for values in logs[-1].values()} == {(PLACES,)}
    for engine, state, end, begin in zip(engines, found, expected, start, strict=True):
        if how == "map" and "optimization_level=0" not in os.environ.get("XLA_FLAGS", ""):
            assert differences(state, end) == []  # as a user's runs are compiled
        weights = {variable.path for variable in engine.learner.trainable_variables}
        for name, array in end.items():
            if array.dtype.kind in "iu":  # updates, and the generators of dropout
                np.testing.assert_array_equal(state[name], array, err_msg=name)
                continue
            close = 1e-5 if name in weights else 1e-4 * np.abs(array).max()
            np.testing.assert_allclose(state[name], array, rtol=0, atol=close, err_msg=name)
            assert name not in weights or np.abs(array - begin[name]).max() > 1e-3


@pytest.mark.parametrize("how", HOWS)
def test_the_numbers_of_a_learner_do_not_depend_on_who_is_with_it_or_where(alone, how):
    """Bit for bit, at any place, with any others, one of which diverges, and by itself."""
    engines, start, batches, _ = alone("ar")
    lost = engine_of("ar", CASES["ar"][1], MEMBERS[0], {"training": {"learning_rate": 1e15}})
    ends = []
    for others in ([0], [1, 0], [1, 2, 0], [0, lost, 1, 2]):
        group = [engines[one] if one in (0, 1, 2) else one for one in others]
        for engine, state in zip(engines, start, strict=True):
            engine.assign_state(state)
        mine = [batches[one] if one in (0, 1, 2) else batches[0] for one in others]
        states, logs = joined(group, mine, how)
        ends.append(states[others.index(0)])
    assert not np.isfinite(logs[-1]["loss"][1])
    for state in ends[1:]:
        assert differences(state, ends[0]) == []


FACTORS = {
    "any_order_ar": {"order": "any", "attention_mask_dropout": 0.2},
    "ar_replaced": {"input_noise": "replace:0-0.5", "loss_on": "hidden", "stratified": True},
    "dlm": {"order": "any", "compute": "dense", "complementary": True},
    "blocks": {"order": "any", "compute": "dense", "block": 4, "stratified": True},
    "dual": {"order": "any", "compute": "dense", "ar_share": 0.5},
    "bernoulli": {"order": "any", "compute": "dense", "estimator": "bernoulli"},
}


@pytest.mark.parametrize("windows", ["jittered", "fixed"])
@pytest.mark.parametrize("factors", FACTORS.values(), ids=FACTORS.keys())
def test_what_is_drawn_in_a_joint_program_is_what_each_seed_draws(factors, windows):
    import jax
    from keras import ops

    from lab.config import FactorsConfig
    from lab.training.joint_jax import join

    length, rows = 16, 4
    objective = Objective(FactorsConfig(**factors), length, VOCAB, windows, rows)
    numbers = np.random.default_rng(1)
    seeds = np.array([member_seed(seed, member) for seed, member in ((0, 0), (7, 0), (7, 3))], np.int32)
    starts = numbers.integers(0, 60, (3, rows, 1)) * (length if windows == "fixed" else 1)
    inputs = (
        numbers.integers(0, VOCAB, (3, rows, length)).astype(np.int32),
        (starts + np.arange(length)).astype(np.int32),
        numbers.integers(0, 9, (3, rows)).astype(np.int32),
        np.arange(rows, dtype=np.int32) + rows * np.arange(3, dtype=np.int32)[:, None],
    )

    def drawn(inputs, seed, xp=ops):
        return [part.example for part in objective.parts(*inputs, seed, xp)]

    for how in HOWS:
        together = jax.jit(join(drawn, how))(np.ones(3, bool), inputs, seeds)
        for place, seed in enumerate(seeds):
            expected = jax.tree.leaves(drawn(tuple(each[place] for each in inputs), seed, np))
            found = [leaf[place] for leaf in jax.tree.leaves(together)]
            assert len(expected) >= 4
            for array, reference in zip(found, expected, strict=True):
                if np.asarray(reference).dtype.kind == "f":  # weights of losses
                    np.testing.assert_allclose(array, reference, rtol=1e-6)
                else:
                    np.testing.assert_array_equal(array, np.broadcast_to(reference, array.shape))


@pytest.mark.parametrize("how", HOWS)
def test_a_joined_function_gives_each_what_it_gives_alone(how):
    import jax.numpy as jnp

    from lab.training.joint_jax import join

    def function(state, factor):
        return {"sorted": jnp.sort(state["a"] * factor), "total": state["a"].sum()}, state["b"] + 1

    state = {"a": np.float32([[3, 1, 2], [6, 5, 4], [9, 9, 0]]), "b": np.int32([1, 2, 3])}
    factors = np.float32([1, -1, np.nan])
    found, after = join(function, how)(np.array([True, True, False]), state, factors)
    for place in range(2):
        one, b = function({name: values[place] for name, values in state.items()}, factors[place])
        np.testing.assert_array_equal(found["sorted"][place], one["sorted"])
        assert found["total"][place] == one["total"]
        assert after[place] == b
    assert found["sorted"].shape == (3, 3)


def test_one_after_the_other_nothing_is_computed_for_who_does_not_count():
    import jax

    from lab.training.joint_jax import join

    seen = []

    def function(value):
        jax.debug.callback(lambda value: seen.append(float(value)), value)
        return value + 1

    made = jax.jit(join(function, "map"))(np.array([True, False, True]), np.float32([1, 2, 3]))
    jax.effects_barrier()
    assert sorted(seen) == [1, 3]
    assert [float(made[place]) for place in (0, 2)] == [2, 4]


@pytest.mark.parametrize("how", HOWS)
def test_each_scorer_says_of_its_batch_what_it_says_by_itself(how):
    from lab.evaluation.arm import make_scorer
    from lab.training.build import build_transformer
    from lab.training.joint_jax import JointScorer

    configs = [tiny_config("dlm", {"seed": seed, "model": DROPOUT}) for seed in range(3)]
    scorers = [make_scorer(build_transformer(config, VOCAB), config) for config in configs]
    numbers = np.random.default_rng(0)
    batches = [
        {
            name: numbers.integers(0, VOCAB, (6, 16 if name != "targets" else 2)).astype(np.int32)
            for name in ("tokens", "positions", "target_positions", "targets")
        }
        | {"slots": numbers.integers(0, 16, (6, 2)).astype(np.int32)}
        for _ in scorers
    ]
    together = JointScorer(scorers[0], PLACES, how)
    said = together(scorers, batches)
    assert len(said) == 3
    for scorer, batch, values in zip(scorers, batches, said, strict=True):
        np.testing.assert_allclose(values, scorer.predict_on_batch(batch), rtol=0, atol=2e-6)
    (again,) = together(scorers[1:2], batches[1:2])  # alone, at another place
    np.testing.assert_array_equal(again, said[1])


@pytest.mark.parametrize(("platform", "how"), [("cpu", "map"), ("gpu", "vmap"), ("tpu", "vmap")])
def test_how_runs_are_joined_follows_from_the_device(monkeypatch, platform, how):
    from types import SimpleNamespace

    from lab.training import joint_jax

    monkeypatch.setattr(joint_jax.jax, "devices", lambda: [SimpleNamespace(platform=platform)])
    assert joint_jax.joining() == how

import math

import factors_bench
import numpy as np
import pytest
from factors_bench import examples, same
from keras import ops
from namespaces import NAMESPACES, arrays, host

LENGTH, VOCAB = 6, 5
CORNERS = {
    "ar": {"order": "left_to_right", "compute": "causal"},
    "any_order_ar": {"order": "any", "compute": "causal"},
    "suffix_denoiser": {"order": "left_to_right", "compute": "dense"},
    "dlm": {"order": "any", "compute": "dense"},
    "dlm_fixed": {"order": "fixed:2", "compute": "dense"},
    "dlm_linear": {"order": "any", "compute": "dense", "estimator": "bernoulli"},
    "dlm_cosine": {
        "order": "any",
        "compute": "dense",
        "estimator": "bernoulli",
        "noise_schedule": "cosine",
    },
}


def objective_of(corner, **changes):
    return factors_bench.objective_of(**{**CORNERS[corner], **changes})


@pytest.mark.backend
@pytest.mark.parametrize("windows", ["fixed", "jittered"])
@pytest.mark.parametrize("corner", CORNERS)
def test_numpy_and_keras_make_the_same_examples(corner, windows):
    objective = objective_of(corner, windows=windows)
    expected, found = (examples(objective, 30, view=2, xp=case.values[0]) for case in NAMESPACES)
    for name, value in expected._asdict().items():
        if value is None:
            assert getattr(found, name) is None
            continue
        device = host(getattr(found, name))
        assert device.dtype == value.dtype, name
        # A backend may divide by multiplying, so the weights may differ in their last bit.
        assert np.allclose(device, value, rtol=2e-7 if name == "weights" else 0, atol=0), name


@pytest.mark.parametrize("corner", CORNERS)
def test_only_causal_corners_are_causal(corner):
    assert objective_of(corner).causal == (CORNERS[corner]["compute"] == "causal")


@pytest.mark.parametrize("corner", ["ar", "any_order_ar", "suffix_denoiser", "dlm", "dlm_fixed"])
def test_a_uniform_predictor_scores_log_v_on_every_counted_draw(corner):
    loss = examples(objective_of(corner), 500).weights.sum(axis=1) * math.log(VOCAB)
    assert np.allclose(loss, math.log(VOCAB), rtol=1e-6)


@pytest.mark.parametrize("corner", ["dlm_linear", "dlm_cosine"])
def test_a_uniform_predictor_averages_to_log_v_over_bernoulli_draws(corner):
    count = 50_000
    loss = examples(objective_of(corner), count).weights.astype(float).sum(axis=1) * math.log(VOCAB)
    assert loss.std() > 0.1  # a single draw is not exact
    assert abs(loss.mean() - math.log(VOCAB)) < 4 * loss.std() / math.sqrt(count)


@pytest.mark.parametrize("corner", ["suffix_denoiser", "dlm", "dlm_fixed", "dlm_linear", "dlm_cosine"])
def test_dense_examples_hide_exactly_what_they_score(corner):
    example = examples(objective_of(corner), 300)
    hidden = example.weights > 0
    assert np.array_equal(example.tokens == VOCAB, hidden)
    assert np.array_equal(example.tokens[~hidden], example.targets[~hidden])
    assert example.targets.max() < VOCAB


def test_the_causal_stream_carries_each_token_with_its_own_position():
    example = examples(objective_of("any_order_ar"), 200)
    original = np.random.default_rng(1).integers(0, VOCAB, (200, LENGTH))
    assert (example.tokens[:, 0] == VOCAB).all()
    assert (example.positions[:, 0] == 0).all()
    read = np.take_along_axis(original, example.positions[:, 1:] - 1, axis=1)
    assert np.array_equal(example.tokens[:, 1:], read)
    assert np.array_equal(np.take_along_axis(original, example.target_positions - 1, axis=1), example.targets)
    # What a slot predicts is what the next one reads, and no position comes twice.
    assert np.array_equal(example.positions[:, 1:], example.target_positions[:, :-1])
    assert np.array_equal(np.sort(example.target_positions), np.tile(np.arange(1, LENGTH + 1), (200, 1)))


@pytest.mark.parametrize("xp", NAMESPACES)
def test_visits_go_round_the_draws(xp):
    (visits,) = arrays(xp, np.arange(9, dtype=np.int32))
    for draws, expected in ((1, [0] * 9), (4, [0, 1, 2, 3, 0, 1, 2, 3, 0]), ("inf", list(range(9)))):
        assert host(objective_of("dlm", draws=draws).draw_numbers(visits)).tolist() == expected


@pytest.mark.parametrize("corner", ["any_order_ar", "suffix_denoiser", "dlm", "dlm_linear", "dlm_cosine"])
def test_k_draws_are_frozen_and_infinitely_many_are_fresh(corner):
    for draws in (1, 3):
        objective = objective_of(corner, draws=draws)
        by_visit = [examples(objective, 40, visit) for visit in range(7)]
        for visit, example in enumerate(by_visit):
            assert same(example, by_visit[visit % draws])
        assert not any(same(by_visit[0], by_visit[visit]) for visit in range(1, draws))
    fresh = [examples(objective_of(corner), 40, visit) for visit in range(4)]
    assert not any(same(fresh[i], fresh[j]) for i in range(4) for j in range(i))
    # The first draw is the same draw under every K.
    assert same(fresh[0], examples(objective_of(corner, draws=1), 40, view=3))


def test_ar_has_one_example_a_sequence_under_every_seed():
    base = examples(objective_of("ar"), 20)
    assert same(base, examples(objective_of("ar"), 20, view=5, seed=9))


@pytest.mark.backend
def test_an_example_follows_its_seed():
    for corner in ("any_order_ar", "dlm", "dlm_linear"):
        one, other = (examples(objective_of(corner), 20, seed=seed, xp=ops) for seed in (0, 1))
        assert not np.array_equal(host(one.tokens), host(other.tokens))

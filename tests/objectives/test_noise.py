import math

import numpy as np
import pytest
from namespaces import NAMESPACES, arrays, host

from lab import threefry
from lab.objectives.draws import noise_words
from lab.objectives.noise import LEVELS, bernoulli_hidden, noise_table
from lab.threefry import Stream

SCHEDULES = ("linear", "cosine")
T = (np.arange(LEVELS) + 0.5) / LEVELS


def noise_draws(count, length, schedule):
    ids = np.arange(count, dtype=np.int32)
    level, words = noise_words(0, Stream.TRAINING_DRAWS, ids, np.zeros_like(ids), length, np)
    hidden, weight = bernoulli_hidden(level[:, None], threefry.fraction(words, np), schedule, np)
    return hidden, weight[:, 0]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_slope_of_alpha_integrates_to_one(schedule):
    """-d alpha/dt = weight * mask probability; its integral is alpha(0) - alpha(1)."""
    probability, weight = noise_table(schedule)
    assert probability.dtype == weight.dtype == np.float32
    assert abs((weight.astype(float) * probability.astype(float)).mean() - 1) < 1e-6


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_mask_probability_rises_from_zero_to_one(schedule):
    probability, weight = noise_table(schedule)
    assert 0 < probability[0] < 1 / LEVELS
    assert 1 - 1 / LEVELS < probability[-1] <= 1  # 1 - 7e-9, the cosine's last, is 1 in float32
    assert (np.diff(probability) >= 0).all()
    assert (weight > 0).all()
    assert np.isfinite(weight).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_weight_is_the_slope_over_the_mask_probability(schedule):
    """The slope by differences of the probability, not by the formula that the weight comes from."""
    probability, weight = (values.astype(float) for values in noise_table(schedule))
    slope = (probability[2:] - probability[:-2]) * LEVELS / 2
    # Differences of float32 probabilities are good to 2**-24 * LEVELS.
    assert np.abs(weight[1:-1] * probability[1:-1] - slope).max() < 1e-3


def test_linear_weight_is_one_over_t():
    probability, weight = noise_table("linear")
    assert np.array_equal(probability, T.astype("float32"))
    assert np.allclose(weight, 1 / T, rtol=1e-6, atol=0)


def test_cosine_is_the_published_formula():
    probability, weight = noise_table("cosine")
    # Shi et al. 2024, table 4: alpha = 1 - cos(pi/2 (1 - t)), weight = pi/2 tan(pi/2 (1 - t)).
    assert np.allclose(probability, np.cos(np.pi / 2 * (1 - T)), rtol=1e-5, atol=0)
    assert np.allclose(weight, np.pi / 2 * np.tan(np.pi / 2 * (1 - T)), rtol=1e-5, atol=0)


@pytest.mark.parametrize(("schedule", "mean"), [("linear", 1 / 2), ("cosine", 2 / math.pi)])
def test_mean_share_of_hidden_tokens(schedule, mean):
    hidden, _ = noise_draws(20_000, 8, schedule)
    share = hidden.mean(axis=1)
    assert abs(share.mean() - mean) < 4 * share.std() / math.sqrt(20_000)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_token_is_hidden_as_often_as_its_level_says(schedule):
    hidden, weight = noise_draws(40_000, 8, schedule)
    probabilities, weights = noise_table(schedule)
    # The weight falls as t rises, so it tells the level.
    level = LEVELS - 1 - np.searchsorted(weights[::-1], weight)
    assert np.array_equal(weights[level], weight)
    assert len(np.unique(level)) > LEVELS * 0.99
    for low in range(0, LEVELS, LEVELS // 8):
        inside = (level >= low) & (level < low + LEVELS // 8)
        probability = probabilities[level[inside]].astype(float)
        error = math.sqrt(8 * (probability * (1 - probability)).sum())
        assert abs(hidden[inside].sum() - 8 * probability.sum()) < 4 * error


@pytest.mark.backend
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_numpy_and_keras_hide_the_same(schedule):
    ids = np.arange(300, dtype=np.int32)
    expected = None
    for case in NAMESPACES:
        xp = case.values[0]
        level, words = noise_words(4, Stream.TRAINING_DRAWS, *arrays(xp, ids, ids % 3), 5, xp)
        fractions = threefry.fraction(words, xp)
        found = [host(each) for each in bernoulli_hidden(xp.expand_dims(level, -1), fractions, schedule, xp)]
        expected = expected or found
        assert found[0].dtype == bool
        assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_an_unknown_noise_schedule_is_refused():
    message = r"`noise_schedule` must be one of \['cosine', 'linear'\], but got 'square'"
    with pytest.raises(ValueError, match=message):
        noise_table("square")

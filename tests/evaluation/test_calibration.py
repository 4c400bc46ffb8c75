import numpy as np
import pytest

from lab.evaluation.calibration import fit_temperature, tempered_nll

NUMBERS = np.random.default_rng(0)
LOGITS = NUMBERS.normal(size=(200, 5)) * 3
# Targets drawn from these very logits: they are calibrated but for the noise of the draw.
TARGETS = np.array([NUMBERS.choice(5, p=np.exp(own) / np.exp(own).sum()) for own in LOGITS])
WEIGHTS = np.full(200, 1 / 200)


def nll(logits, temperature=1.0):
    return float(WEIGHTS @ tempered_nll(logits, TARGETS, temperature))


def test_the_nll_is_that_of_the_softmax():
    chances = np.exp(LOGITS / 2) / np.exp(LOGITS / 2).sum(axis=1, keepdims=True)
    expected = -np.log(chances[np.arange(200), TARGETS])
    assert tempered_nll(LOGITS + 900.0, TARGETS, 2.0) == pytest.approx(expected)


def test_the_fitted_nll_is_the_lowest_and_its_derivative_in_1_over_t_is_none():
    fitted = fit_temperature(3 * LOGITS, TARGETS, WEIGHTS)
    assert nll(3 * LOGITS, fitted) < nll(3 * LOGITS)
    assert all(nll(3 * LOGITS, fitted) < nll(3 * LOGITS, fitted * factor) for factor in (0.99, 1.01))
    chances = np.exp(3 * LOGITS / fitted) / np.exp(3 * LOGITS / fitted).sum(axis=1, keepdims=True)
    # The mean logit is that of the targets, as at any optimum of an exponential family.
    mean = (chances * LOGITS).sum(axis=1) @ WEIGHTS
    assert mean == pytest.approx(LOGITS[np.arange(200), TARGETS] @ WEIGHTS, abs=1e-5)


def test_logits_c_times_as_large_have_c_times_the_temperature_and_the_same_nll():
    fitted = fit_temperature(LOGITS, TARGETS, WEIGHTS)
    for factor in (0.1, 7.0):
        other = fit_temperature(factor * LOGITS, TARGETS, WEIGHTS)
        assert other == pytest.approx(factor * fitted, rel=1e-5)
        assert nll(factor * LOGITS, other) == pytest.approx(nll(LOGITS, fitted), abs=1e-10)


def test_where_1_is_the_best_temperature_nothing_changes():
    best = LOGITS / fit_temperature(LOGITS, TARGETS, WEIGHTS)
    assert fit_temperature(best, TARGETS, WEIGHTS) == pytest.approx(1.0, rel=1e-5)
    assert nll(best, fit_temperature(best, TARGETS, WEIGHTS)) == pytest.approx(nll(best), abs=1e-12)
    uniform = np.zeros((200, 5))
    assert fit_temperature(uniform, TARGETS, WEIGHTS) == 1.0  # no temperature is better than another


def test_what_is_always_right_has_a_finite_temperature_at_which_nothing_is_lost():
    right = np.eye(5)[TARGETS]
    fitted = fit_temperature(right, TARGETS, WEIGHTS)
    assert 1 / 1000 <= fitted < 0.05  # below, all of 64 bits are as right
    assert nll(right, fitted) == pytest.approx(0)


def test_a_token_of_weight_0_counts_as_absent():
    some = WEIGHTS * (np.arange(200) < 90)
    assert fit_temperature(LOGITS, TARGETS, some) == pytest.approx(
        fit_temperature(LOGITS[:90], TARGETS[:90], some[:90]), rel=1e-6
    )

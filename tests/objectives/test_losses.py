import numpy as np
import pytest
from keras import ops
from namespaces import host
from scipy.special import log_softmax

from lab.objectives.losses import token_nll, weighted_nll

pytestmark = pytest.mark.backend


def random_case(*shape, vocab=7, scale=3.0):
    rng = np.random.default_rng(0)
    logits = (scale * rng.normal(size=(*shape, vocab))).astype("float32")
    return logits, rng.integers(0, vocab, shape).astype(np.int32)


def test_token_nll_is_minus_the_log_softmax():
    logits, targets = random_case(4, 5)
    expected = -np.take_along_axis(log_softmax(logits.astype(float), axis=-1), targets[..., None], -1)[..., 0]
    found = host(token_nll(ops.convert_to_tensor(logits), ops.convert_to_tensor(targets)))
    assert found.dtype == np.float32
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_token_nll_survives_large_logits():
    logits, targets = random_case(3, 2, scale=1e4)
    found = host(token_nll(ops.convert_to_tensor(logits), ops.convert_to_tensor(targets)))
    expected = -np.take_along_axis(log_softmax(logits.astype(float), axis=-1), targets[..., None], -1)[..., 0]
    assert np.allclose(found, expected, rtol=1e-6, atol=1e-2)  # atol: float32's step at 1e5


def test_weighted_nll_sums_over_slots_with_their_weights():
    logits, targets = random_case(4, 5)
    weights = np.random.default_rng(1).random((4, 5)).astype("float32")
    nll = host(token_nll(ops.convert_to_tensor(logits), ops.convert_to_tensor(targets)))
    found = host(weighted_nll(*map(ops.convert_to_tensor, (logits, targets, weights))))
    assert np.allclose(found, (weights * nll).sum(axis=1), rtol=1e-6)


def test_a_slot_of_weight_zero_counts_as_absent():
    logits, targets = random_case(4, 5)
    weights = np.full((4, 5), 0.5, "float32")
    weights[:, 3] = 0
    changed = logits.copy()
    changed[:, 3] *= -2
    without = [np.delete(values, 3, axis=1) for values in (logits, targets, weights)]
    found, other, absent = (
        host(weighted_nll(*map(ops.convert_to_tensor, case)))
        for case in ((logits, targets, weights), (changed, targets, weights), without)
    )
    assert np.array_equal(found, other)
    assert np.allclose(found, absent, rtol=1e-6)

"""Dropout: where it acts, when, and what it leaves alone."""

import math

import keras
import numpy as np
import pytest
from namespaces import host
from tiny import BATCH, HEADS, LENGTH, WIDTH, random_tokens, tiny_transformer

from lab.models.attention import SelfAttention
from lab.models.feed_forward import FeedForward
from lab.models.rotary import rotary_angles

pytestmark = pytest.mark.backend

ANGLES = rotary_angles(LENGTH, WIDTH // HEADS)[None, :LENGTH, None]
COSINE, SINE = np.cos(ANGLES), np.sin(ANGLES)
MANY = 3000


def features(copies=None):
    """(BATCH, LENGTH, WIDTH) features, or `copies` of one sequence."""
    values = np.random.default_rng(0).normal(size=(BATCH, LENGTH, WIDTH)).astype("float32")
    return values if copies is None else np.repeat(values[:1], copies, axis=0)


def attention(dropout, causal=False):
    layer = SelfAttention(HEADS, dropout, output_scale=0.5, seed=3)
    layer.build((None, LENGTH, WIDTH))
    layer.query_key_value.kernel.assign(25 * np.array(layer.query_key_value.kernel))
    return lambda inputs, training: host(layer(inputs, COSINE, SINE, causal=causal, training=training))


def feed_forward(dropout, causal=False):
    layer = FeedForward(12, dropout, output_scale=0.5, seed=3)
    layer.build((None, LENGTH, WIDTH))
    layer.gate_and_up.kernel.assign(25 * np.array(layer.gate_and_up.kernel))
    return lambda inputs, training: host(layer(inputs, training=training))


@pytest.mark.parametrize("make", [attention, feed_forward])
def test_dropout_acts_in_training_only(make):
    plain, dropped = make(0.0), make(0.5)
    expected = plain(features(), training=False)
    assert np.array_equal(dropped(features(), training=False), expected)
    assert np.array_equal(plain(features(), training=True), expected)
    first, second = dropped(features(), training=True), dropped(features(), training=True)
    assert np.abs(first - expected).max() > 0.1
    assert np.abs(first - second).max() > 0.1  # each call drops anew


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("make", [attention, feed_forward])
def test_dropout_keeps_the_mean(make, causal):
    """Both outputs are linear in what is dropped, so their mean is the output without dropout."""
    layer = make(0.4, causal)
    expected = layer(features(), training=False)[0]
    found = layer(features(MANY), training=True)
    error = found.std(axis=0) / math.sqrt(MANY)
    assert (np.abs(found.mean(axis=0) - expected) < 5 * error + 1e-6).all()
    assert error.max() > 1e-3  # rows of a batch drop for themselves


@pytest.mark.parametrize("causal", [False, True])
def test_attention_weights_are_dropped_each_with_its_chance(causal):
    """With equal weights and values of 1, the attended value counts the weights that were kept."""
    rate, copies = 0.25, 500
    layer = SelfAttention(1, rate, seed=1)
    layer.build((None, LENGTH, 2))
    kernel = np.zeros((2, 6), "float32")
    kernel[:, 4:] = 0.5  # queries and keys are 0; values are 1 where the inputs are 1
    layer.query_key_value.kernel.assign(kernel)
    layer.output_projection.kernel.assign(np.eye(2, dtype="float32"))
    angles = rotary_angles(LENGTH, 2)[None, :LENGTH, None]
    found = host(
        layer(
            np.ones((copies, LENGTH, 2), "float32"),
            np.cos(angles),
            np.sin(angles),
            causal=causal,
            training=True,
        )
    )[..., 0]
    seen = np.arange(1, LENGTH + 1) if causal else np.full(LENGTH, LENGTH)
    kept = found * seen * (1 - rate)
    assert np.allclose(kept, kept.round(), atol=1e-4)
    total = copies * seen.sum()
    assert abs(kept.sum() / total - (1 - rate)) < 4 * math.sqrt(rate * (1 - rate) / total)


@pytest.mark.parametrize("causal", [False, True])
def test_the_dropout_path_at_a_vanishing_rate_is_the_fused_path(causal):
    fused = attention(0.0, causal)(features(), training=True)
    found = attention(1e-9, causal)(features(), training=True)
    assert np.abs(fused).max() > 0.1
    assert np.allclose(found, fused, atol=1e-6)


@pytest.mark.parametrize("switch", ["attention", "mlp"])
def test_the_two_switches_are_separate(switch):
    """With the one part's output cut off, its dropout must not show; with the other's, it must."""
    inputs = {
        "tokens": random_tokens(),
        "positions": np.arange(LENGTH, dtype=np.int32)[None],
        "target_positions": np.arange(1, LENGTH + 1, dtype=np.int32)[None],
    }
    parts = {"attention": "/attention/output/", "mlp": "/feed_forward/output/"}
    for cut, path in parts.items():
        model = tiny_transformer(**{f"{switch}_dropout": 0.5})
        for weight in model.trainable_weights:
            if path in weight.path:
                weight.assign(np.zeros(weight.shape, "float32"))
        kept, dropped = (host(model(inputs, causal=True, training=training)) for training in (False, True))
        # The two ways to attend differ in their last bits.
        assert np.allclose(kept, dropped, atol=1e-5) == (cut == switch)


def test_every_dropout_has_a_seed_of_its_own():
    model = tiny_transformer(random_weights=False, attention_dropout=0.1, mlp_dropout=0.1)
    dropouts = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)]
    assert len(dropouts) == 4
    assert len({layer.seed for layer in dropouts}) == 4


def test_without_dropout_a_model_holds_no_random_state():
    assert tiny_transformer(random_weights=False).non_trainable_variables == []

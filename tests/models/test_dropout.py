"""Dropout: where it acts, when, and what it leaves alone."""

import math

import keras
import numpy as np
import pytest
from namespaces import host
from tiny import BATCH, HEADS, LENGTH, WIDTH, example_of, random_tokens, tiny_architecture, tiny_transformer

from lab.models.attention import SelfAttention
from lab.models.dropout import Dropout
from lab.models.rotary import rotary_angles
from lab.models.swiglu import SwiGLU

pytestmark = pytest.mark.backend

ANGLES = rotary_angles(LENGTH, WIDTH // HEADS)[None, :LENGTH, None]
COSINE, SINE = np.cos(ANGLES), np.sin(ANGLES)
MANY = 3000


def features(copies=None):
    """(BATCH, LENGTH, WIDTH) features, or `copies` of one sequence."""
    values = np.random.default_rng(0).normal(size=(BATCH, LENGTH, WIDTH)).astype("float32")
    return values if copies is None else np.repeat(values[:1], copies, axis=0)


def enlarge(layer):
    """Weights of order 0.5, so that dropout shows."""
    for weight in layer.trainable_weights:
        array = np.array(weight)
        weight.assign(0.5 * array / array.std())


def attention(dropout, causal=False):
    layer = SelfAttention(tiny_architecture(), dropout, seed=3)
    layer.build((None, LENGTH, WIDTH))
    enlarge(layer)
    return lambda inputs, training: host(layer(inputs, COSINE, SINE, causal=causal, training=training))


def feed_forward(dropout, causal=False):
    layer = SwiGLU(tiny_architecture(), dropout, seed=3)
    layer.build((None, LENGTH, WIDTH))
    enlarge(layer)
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
    layer = SelfAttention(tiny_architecture(width=2, heads=1), rate, seed=1)
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
    slots = np.arange(LENGTH, dtype=np.int32)[None]
    inputs = example_of(random_tokens(), slots, slots + np.int32(1))
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
    dropouts = [layer for layer in model._flatten_layers() if isinstance(layer, Dropout)]
    assert len(dropouts) == 4
    assert len({layer.seed for layer in dropouts}) == 4


def test_without_dropout_a_model_holds_no_random_state():
    assert tiny_transformer(random_weights=False).non_trainable_variables == []


def dropped(rate, seed=0, calls=1):
    layer = Dropout(rate, seed)
    ones = np.ones((50, 40), "float32")
    return [host(layer(ones, training=True)) for _ in range(calls)]


def test_a_layer_keeps_its_share_and_scales_what_it_keeps():
    for rate in (0.1, 0.5, 0.9):
        (found,) = dropped(rate)
        assert np.allclose(found[found != 0], 1 / (1 - rate), rtol=1e-6)
        error = math.sqrt(rate * (1 - rate) / found.size)
        assert abs((found == 0).mean() - rate) < 4 * error


def test_masks_follow_the_seed_and_the_call():
    first, second = dropped(0.3, calls=2)
    assert not np.array_equal(first, second)
    assert all(map(np.array_equal, dropped(0.3, calls=2), (first, second)))
    assert not np.array_equal(dropped(0.3, seed=1)[0], first)


def test_a_lower_rate_drops_a_part_of_what_a_higher_one_does():
    (few,), (many,) = dropped(0.1), dropped(0.4)
    assert ((few == 0) <= (many == 0)).all()
    assert (few == 0).sum() < (many == 0).sum()


def test_the_rate_is_a_variable():
    layer = Dropout(0.5)
    layer.build()
    layer.current_rate.assign(0.0)
    assert np.array_equal(host(layer(features(), training=True)), features())
    assert layer.trainable_variables == []
    assert [variable.path.split("/")[-1] for variable in layer.non_trainable_variables] == [
        "rate",
        "seed_generator_state",
    ]


def test_a_mixed_layer_keeps_its_rate_in_float32():
    layer = Dropout(0.3, dtype="mixed_bfloat16")
    found = layer(features(), training=True)
    assert keras.backend.standardize_dtype(found.dtype) == "bfloat16"
    assert layer.current_rate.dtype == "float32"


@pytest.mark.parametrize("rate", [-0.1, 0, 1])
def test_a_rate_is_a_chance(rate):
    with pytest.raises(ValueError, match=rf"`rate` must be in \(0, 1\), but got rate={rate}\."):
        Dropout(rate)


@pytest.mark.skipif(keras.config.backend() != "jax", reason="reads a program as JAX lowers it")
def test_models_that_differ_in_their_rates_share_one_program():
    import jax

    slots = np.arange(LENGTH, dtype=np.int32)[None]
    inputs = example_of(random_tokens(), slots, slots + np.int32(1))
    programs, outputs = [], []
    for rate in (0.1, 0.3):
        model = tiny_transformer(attention_dropout=rate, mlp_dropout=rate / 2)
        state = [
            [v.value for v in part] for part in (model.trainable_variables, model.non_trainable_variables)
        ]
        step = jax.jit(lambda *state, model=model: model.stateless_call(*state, inputs, training=True)[0])
        programs.append(step.lower(*state).as_text())
        outputs.append(np.asarray(step(*state)))
    assert programs[0] == programs[1]
    assert not np.allclose(*outputs, atol=1e-3)

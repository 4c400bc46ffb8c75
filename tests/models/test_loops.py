"""The block stack applied several times with shared weights."""

import numpy as np
import pytest
from keras import ops
from namespaces import host
from tiny import (
    BATCH,
    LAYERS,
    LENGTH,
    VOCAB,
    numpy_decoder,
    random_tokens,
    tiny_transformer,
)

from lab.models.dropout import Dropout
from lab.objectives.corruption import causal_example, dense_example

pytestmark = pytest.mark.backend


def inputs(causal):
    rng = np.random.default_rng(4)
    if causal:
        order = np.stack([rng.permutation(LENGTH) for _ in range(BATCH)]).astype(np.int32)
        return causal_example(random_tokens(), order, VOCAB, np)
    hidden = rng.random((BATCH, LENGTH)) < 0.5
    return dense_example(random_tokens(), hidden, VOCAB, np.ones(BATCH, "float32"), np)


def unrolled(model, loops):
    """A model of `loops` times the layers, each group with a copy of the weights."""
    deep = tiny_transformer(layers=LAYERS * loops)
    values = {weight.path: np.array(weight) for weight in model.trainable_weights}
    for weight in deep.trainable_weights:
        path = weight.path
        for layer in range(LAYERS * loops):
            path = path.replace(f"/block_{layer}/", f"/block_#{layer % LAYERS}/")
        weight.assign(values[path.replace("#", "")])
    return deep


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("loops", [2, 3])
def test_loops_are_the_hand_unrolled_model(loops, causal):
    looped = tiny_transformer(loops=loops)
    found, expected = (
        host(model(inputs(causal), causal=causal)) for model in (looped, unrolled(looped, loops))
    )
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)
    once = host(tiny_transformer()(inputs(causal), causal=causal))
    assert (np.abs(found - once).max(axis=(1, 2)) > 0.1).all()  # the weights are equal, the outputs are not


def test_loops_are_those_of_the_decoder_in_numpy():
    model = tiny_transformer(loops=2)
    identity = np.tile(np.arange(LENGTH, dtype=np.int32), (BATCH, 1))
    found = host(model(causal_example(random_tokens(), identity, VOCAB, np), causal=True))
    assert np.allclose(found, numpy_decoder(model, random_tokens(), loops=2), rtol=1e-5, atol=1e-5)


def test_one_loop_is_the_plain_stack_bit_for_bit():
    model = tiny_transformer(loops=1)
    case = inputs(causal=True)
    stream = model.token_embedding(case.tokens) + model.target_embedding(case.target_positions - 1)
    cosine, sine = (
        ops.expand_dims(ops.take(ops.convert_to_tensor(table), case.positions, axis=0), 2)
        for table in (model._cosines, model._sines)
    )
    for block in model.blocks:
        stream = block(stream, cosine, sine, causal=True)
    expected = host(model.logits(ops.rms_normalization(stream)))
    assert np.array_equal(host(model(case, causal=True)), expected)
    assert np.array_equal(host(tiny_transformer()(case, causal=True)), expected)  # and the default


@pytest.mark.parametrize("loops", [1, 2, 4])
def test_parameters_and_initial_weights_are_those_of_one_loop(loops):
    one, many = (tiny_transformer(random_weights=False, loops=number) for number in (1, loops))
    assert many.count_params() == one.count_params()
    assert [weight.path for weight in many.weights] == [weight.path for weight in one.weights]
    for weight, other in zip(many.weights, one.weights, strict=True):
        assert np.array_equal(np.array(weight), np.array(other)), weight.path


@pytest.mark.parametrize("kind", ["mlp", "attention"])
def test_each_loop_has_a_dropout_of_its_own(kind):
    """The second pass through the stack drops other features than the first."""
    model = tiny_transformer(loops=2, **{f"{kind}_dropout": 0.5})
    calls = []
    for layer in model._flatten_layers():
        if isinstance(layer, Dropout):
            original = layer.call

            def call(values, training=False, original=original, layer=layer):
                ones = original(ops.ones_like(values), training=training)
                calls.append((layer, host(ones)))
                return values * ones

            layer.call = call
    model(inputs(causal=True), causal=True, training=True)
    by_layer = {}
    for layer, mask in calls:
        by_layer.setdefault(id(layer), []).append(mask)
    assert len(by_layer) == LAYERS
    for masks in by_layer.values():
        assert len(masks) == 2
        assert not np.array_equal(*masks)


@pytest.mark.parametrize("causal", [True, False])
def test_looped_passes_see_what_plain_ones_see(causal):
    """The last of the order changes nothing before it; a hidden token changes nothing."""
    model = tiny_transformer(loops=3)
    case = inputs(causal)
    base = host(model(case, causal=causal))
    changed = case._replace(tokens=case.tokens.copy())
    changed.tokens[:, -1] = (changed.tokens[:, -1] + 1) % VOCAB
    found = host(model(changed, causal=causal))
    if causal:
        assert np.array_equal(found[:, :-1], base[:, :-1])
    assert (np.abs(found - base)[:, -1].max(axis=-1) > 1e-4).all()

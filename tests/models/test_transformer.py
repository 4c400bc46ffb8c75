import itertools

import numpy as np
import pytest
from namespaces import host
from tiny import (
    BATCH,
    FFN_WIDTH,
    LAYERS,
    LENGTH,
    VOCAB,
    WIDTH,
    drawn_example,
    example_of,
    numpy_decoder,
    random_tokens,
    tiny_transformer,
)

from lab.objectives.corruption import causal_example, dense_example

pytestmark = pytest.mark.backend

IDENTITY = np.arange(LENGTH, dtype=np.int32)


def plain_inputs(tokens):
    """What any decoder reads: the tokens shifted by one, at positions 0 .. L - 1."""
    start = np.full((len(tokens), 1), VOCAB, np.int32)
    stream = np.concatenate([start, tokens[:, :-1]], axis=1)
    return example_of(stream, IDENTITY[None], IDENTITY[None] + np.int32(1))


def dense_inputs(tokens, hidden):
    return dense_example(tokens, hidden, VOCAB, np.ones(len(tokens), "float32"), np)


def some_hidden():
    return np.random.default_rng(3).random((BATCH, LENGTH)) < 0.5


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_identity_order_is_the_plain_decoder(tie_embeddings):
    model = tiny_transformer(tie_embeddings=tie_embeddings)
    tokens = random_tokens()
    expected = numpy_decoder(model, tokens)
    found = host(model(plain_inputs(tokens), causal=True))
    assert expected.std() > 1
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_permuted_path_in_identity_order_is_the_plain_path_bit_for_bit():
    model = tiny_transformer()
    tokens = random_tokens()
    permuted = causal_example(tokens, np.tile(IDENTITY, (BATCH, 1)), VOCAB, np)
    found = host(model(permuted, causal=True))
    assert np.array_equal(found, host(model(plain_inputs(tokens), causal=True)))


@pytest.mark.parametrize("order", ["left_to_right", "right_to_left:0"])
def test_the_objectives_identity_order_is_the_plain_decoder_bit_for_bit(order):
    model = tiny_transformer()
    tokens = random_tokens()
    found = host(model(drawn_example(tokens, seed=3, order=order), causal=True))
    assert np.array_equal(found, host(model(plain_inputs(tokens), causal=True)))


def test_a_dense_pass_has_no_order_of_slots():
    """Slots are a set of (token, position, target position): shuffling them shuffles the logits."""
    model = tiny_transformer()
    inputs = dense_inputs(random_tokens(), some_hidden())
    shuffle = np.array([4, 2, 0, 5, 1, 3])
    shuffled = example_of(*(values[:, shuffle] for values in inputs[:3]))
    found, expected = host(model(shuffled)), host(model(inputs))[:, shuffle]
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_positions_and_target_positions_matter():
    model = tiny_transformer()
    inputs = plain_inputs(random_tokens())
    base = host(model(inputs, causal=True))
    for name in ("positions", "target_positions"):
        other = inputs._replace(**{name: getattr(inputs, name)[:, ::-1]})
        assert np.abs(host(model(other, causal=True)) - base).max() > 0.1


def test_only_differences_of_positions_matter_to_attention():
    model = tiny_transformer()
    inputs = plain_inputs(random_tokens())
    moved = inputs._replace(positions=inputs.positions + np.int32(1))
    found, expected = (host(model(case, causal=True)) for case in (moved, inputs))
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_causal_and_dense_passes_differ():
    model = tiny_transformer()
    inputs = plain_inputs(random_tokens())
    dense, causal = host(model(inputs)), host(model(inputs, causal=True))
    assert (np.abs(dense - causal).max(axis=(0, 2)) > 0.01).all()


def test_rows_of_a_batch_do_not_mix():
    model = tiny_transformer()
    inputs = dense_inputs(random_tokens(), some_hidden())
    other = inputs._replace(tokens=inputs.tokens.copy())
    other.tokens[0] = 1
    found, expected = host(model(other)), host(model(inputs))
    assert np.array_equal(found[1:], expected[1:])
    assert not np.array_equal(found[0], expected[0])


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_the_mask_is_never_predicted(tie_embeddings):
    model = tiny_transformer(tie_embeddings=tie_embeddings)
    assert model.mask_id == VOCAB
    inputs = dense_inputs(random_tokens(), np.zeros((BATCH, LENGTH), bool))  # the mask is no input either
    base = host(model(inputs))
    assert base.shape == (BATCH, LENGTH, VOCAB)
    assert base.dtype == np.float32
    table = model.token_embedding.embeddings
    changed = np.array(table)
    changed[VOCAB] += 100
    table.assign(changed)
    if not tie_embeddings:
        head = model.token_embedding.reverse_embeddings
        changed = np.array(head)
        changed[:, VOCAB] += 100
        head.assign(changed)
    assert np.array_equal(host(model(inputs)), base)


def test_an_untied_output_projection_begins_with_numbers_of_its_own():
    """The token embedding begins as it does when tied."""
    tied, untied = (
        tiny_transformer(random_weights=False, tie_embeddings=tie, width=64).token_embedding
        for tie in (True, False)
    )
    embeddings, output = (
        host(weight.value).astype(float) for weight in (untied.embeddings, untied.reverse_embeddings)
    )
    assert np.array_equal(embeddings, host(tied.embeddings.value))
    for other in (output.T, output.reshape(embeddings.shape)):
        assert abs(np.corrcoef(embeddings.ravel(), other.ravel())[0, 1]) < 0.2
    assert output.std() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_parameter_count_is_the_hand_count(tie_embeddings):
    model = tiny_transformer(tie_embeddings=tie_embeddings)
    embeddings = (VOCAB + 1) * WIDTH * (1 if tie_embeddings else 2) + LENGTH * WIDTH
    a_block = 4 * WIDTH**2 + 3 * WIDTH * FFN_WIDTH
    assert model.count_params() == embeddings + LAYERS * a_block
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == model.count_params()


def initial_weights(**changes):
    model = tiny_transformer(random_weights=False, **changes)
    return {weight.path: np.array(weight) for weight in model.trainable_weights}


def test_initial_weights_follow_the_seed():
    first, again, other = initial_weights(seed=3), initial_weights(seed=3), initial_weights(seed=4)
    for path, values in first.items():
        assert np.array_equal(values, again[path]), path
        assert not np.isclose(values, other[path]).any(), path


def test_no_two_weights_begin_alike():
    """Neither across layers, nor across neighbouring seeds, not even in part."""
    weights = [
        np.sort(values.reshape(-1) / values.std())
        for seed in (0, 1)
        for values in initial_weights(seed=seed).values()
    ]
    for one, other in itertools.combinations(weights, 2):
        size = min(len(one), len(other))
        assert not np.allclose(one[:size], other[:size], atol=1e-4)


def test_dropout_changes_no_initial_weight():
    plain, dropped = initial_weights(), initial_weights(attention_dropout=0.3, mlp_dropout=0.3)
    assert plain.keys() == dropped.keys()
    for path, values in plain.items():
        assert np.array_equal(values, dropped[path]), path


def test_initial_weights_have_their_scale():
    weights = initial_weights(width=64, ffn_width=96, vocab_size=100)
    for path, values in weights.items():
        into_the_stream = "/output/" in path
        scale = 0.02 / (2 * LAYERS) ** 0.5 if into_the_stream else 0.02
        # The standard error of a standard deviation is scale / sqrt(2 n).
        assert abs(values.std() - scale) < 4 * scale / (2 * values.size) ** 0.5, path
        assert abs(values.mean()) < 4 * scale / values.size**0.5, path


def test_mixed_bfloat16_is_close_to_float32():
    exact, mixed = tiny_transformer(), tiny_transformer(dtype="mixed_bfloat16")
    for causal, inputs in (
        (True, plain_inputs(random_tokens())),
        (False, dense_inputs(random_tokens(), some_hidden())),
    ):
        expected, found = host(exact(inputs, causal=causal)), host(mixed(inputs, causal=causal))
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        # bfloat16 keeps 8 bits: 0.4 % an operation.
        assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()
        assert not np.array_equal(found, expected)
    assert all(weight.dtype == "float32" for weight in mixed.trainable_weights)

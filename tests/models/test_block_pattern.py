"""What a pass in blocks may know: the clean blocks before, and the revealed tokens of the same block."""

import doctest

import numpy as np
import pytest
from namespaces import host
from tiny import BATCH, LENGTH, VOCAB, random_tokens, tiny_transformer

from lab.models import attention
from lab.models.attention import SelfAttention, block_pattern
from lab.objectives.corruption import block_example, dense_example

pytestmark = pytest.mark.backend

HIDDEN = np.array([False, True, True, False, True, False])
SIZES = [size for size in range(1, LENGTH) if LENGTH % size == 0]


def logits(model, tokens, size, hidden=HIDDEN, **arguments):
    hidden = np.broadcast_to(hidden, tokens.shape)
    example = block_example(tokens, hidden, VOCAB, np.ones(len(tokens), "float32"), np)
    return host(model(example, block_size=size, **arguments))


@pytest.mark.parametrize("size", SIZES)
def test_a_slot_knows_the_blocks_before_and_what_is_revealed_of_its_own(size):
    model = tiny_transformer(loops=2)
    base = logits(model, random_tokens(), size)
    assert base.shape == (BATCH, LENGTH, VOCAB)
    for place in range(LENGTH):
        tokens = random_tokens()
        tokens[:, place] = (tokens[:, place] + 1) % VOCAB
        found = logits(model, tokens, size)
        for slot in range(LENGTH):
            known = place // size < slot // size or (place // size == slot // size and not HIDDEN[place])
            if known:
                assert (np.abs(found - base)[:, slot].max(axis=-1) > 1e-5).all(), (place, slot)
            else:
                assert np.array_equal(found[:, slot], base[:, slot]), (place, slot)


def test_the_first_block_is_a_dense_pass_over_it_alone():
    """And so its positions, target positions and weights are those of any other pass."""
    model, tokens, size = tiny_transformer(), random_tokens(), 3
    part = dense_example(tokens[:, :size], np.tile(HIDDEN[:size], (BATCH, 1)), VOCAB, np.ones(BATCH), np)
    expected = host(model(part._replace(weights=None)))
    np.testing.assert_allclose(logits(model, tokens, size)[:, :size], expected, rtol=1e-5, atol=1e-5)


def test_a_block_is_a_dense_pass_over_it_and_clean_context_of_one_layer():
    """With one layer, what clean slots know of one another does not reach a logit: then the last block of
    blocks of half a window is what a dense pass over the whole window gives, the first half revealed."""
    model, tokens, size = tiny_transformer(layers=1), random_tokens(), LENGTH // 2
    hidden = np.where(np.arange(LENGTH) < size, False, HIDDEN)
    whole = dense_example(tokens, np.tile(hidden, (BATCH, 1)), VOCAB, np.ones(BATCH), np)
    expected = host(model(whole._replace(weights=None)))
    np.testing.assert_allclose(
        logits(model, tokens, size)[:, size:], expected[:, size:], rtol=1e-5, atol=1e-5
    )


def test_dropout_of_attention_weights_does_not_leak():
    def first_step(tokens):  # a new model each time, so that both draw the same dropout
        return logits(tiny_transformer(attention_dropout=0.3, seed=5), tokens, 2, training=True)

    tokens = random_tokens()
    base = first_step(tokens)
    tokens[:, 3] = (tokens[:, 3] + 1) % VOCAB  # in the second block of three, and revealed
    found = first_step(tokens)
    assert np.array_equal(found[:, :2], base[:, :2])
    assert np.abs(found - base)[:, 4:].max() > 1e-3


def test_a_pattern_counts_the_pairs_that_flops_are_counted_by():
    for size in (1, 2, 3, 6):
        assert block_pattern(2 * LENGTH, size).sum() == LENGTH * (LENGTH + size)


def test_slots_hidden_from_attention_are_refused():
    model = tiny_transformer()
    layer = next(layer for layer in model.blocks[0]._flatten_layers() if isinstance(layer, SelfAttention))
    inputs, angles = np.zeros((1, 4, 8), "float32"), np.zeros((1, 4, 1, 2), "float32")
    with pytest.raises(ValueError, match="`visible` must be None with block_size=2"):
        layer(inputs, angles, angles, np.ones((1, 4), bool), block_size=2)


def test_the_docstring_prints_the_pattern():
    (test,) = doctest.DocTestFinder().find(block_pattern, globs=vars(attention))
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0

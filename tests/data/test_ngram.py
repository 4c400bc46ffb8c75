import math
from collections import Counter

import numpy as np
import pytest

from lab.data.ngram import FALLBACK, fit, modified_discounts


def textbook_discounts(counts):
    """Of counts 1, 2 and more, one formula after the other."""
    n = Counter(counts)
    if not (n[1] and n[2] and n[3]):
        return FALLBACK
    y = n[1] / (n[1] + 2 * n[2])
    made = [r - (r + 1) * y * n[r + 1] / n[r] for r in (1, 2, 3)]
    return made if all(0 < d <= r for r, d in zip((1, 2, 3), made, strict=True)) else FALLBACK


def textbook_probability(text, vocab_size, context, token, highest=True):
    """p(token | context) by the recursion, with dictionaries of tuples."""
    order = len(context) + 1

    def grams(n):
        return Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))

    seen = grams(order)
    counts = seen if highest else Counter(gram[1:] for gram in grams(order + 1))
    discounts = textbook_discounts([counts[gram] for gram in seen])
    lower = textbook_probability(text, vocab_size, context[1:], token, False) if context else 1 / vocab_size
    behind = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == context}
    if not behind:
        return lower
    taken = {w: discounts[min(count, 3) - 1] for w, count in behind.items()}
    left = behind.get(token, 0) - taken.get(token, 0)
    return (left + sum(taken.values()) * lower) / sum(behind.values())


def random_text(length, vocab_size, seed):
    """Repetitive tokens, the last ids never among them."""
    draw = np.random.default_rng(seed)
    weights = 0.5 ** np.arange(1, vocab_size - 1)
    return draw.choice(vocab_size - 2, length, p=weights / weights.sum())


@pytest.mark.parametrize(
    ("length", "vocab_size", "max_order"), [(1, 4, 1), (7, 4, 9), (60, 5, 4), (400, 8, 5), (300, 6, 3)]
)
def test_every_order_is_the_textbook_recursion(length, vocab_size, max_order):
    text = random_text(length, vocab_size, seed=length)
    windows = np.random.default_rng(1).integers(0, vocab_size, (3, 6))
    windows[0] = text[np.arange(6) % length]
    model = fit(text, vocab_size, max_order)
    assert model.max_order == min(max_order, length)
    nll = model.nll_by_order(windows)
    text = text.tolist()
    for order in range(1, model.max_order + 1):
        for row, window in enumerate(windows.tolist()):
            for place, token in enumerate(window):
                context = tuple(window[max(0, place - order + 1) : place])
                expected = -math.log(textbook_probability(text, vocab_size, context, token))
                assert nll[order - 1, row, place] == pytest.approx(expected, abs=1e-10)


def test_a_large_vocabulary_is_counted_exactly():
    """Of 30,000 different bigrams of ids below 130,000: what names a trigram exceeds 32 bits."""
    vocab_size = 130_000
    text = (vocab_size - 300 + np.random.default_rng(3).integers(0, 300, 40_000)).astype(np.int32)
    window = text[None, 30_000:30_004]
    nll = fit(text, vocab_size, 3).nll_by_order(window)
    for place in range(4):
        context = tuple(window[0, max(0, place - 2) : place].tolist())
        expected = textbook_probability(text.tolist(), vocab_size, context, int(window[0, place]))
        assert nll[2, 0, place] == pytest.approx(-math.log(expected), abs=1e-10)


@pytest.mark.parametrize("length", [1, 5, 3000])
def test_probabilities_add_up_to_1_over_the_whole_vocabulary(length):
    vocab_size = 7
    text = random_text(length, vocab_size, seed=5)
    model = fit(text, vocab_size, 4)
    contexts = np.random.default_rng(2).integers(0, vocab_size, (20, 5))
    for context in (*contexts, text[np.arange(5) % length]):
        windows = np.column_stack([np.tile(context, (vocab_size, 1)), np.arange(vocab_size)])
        for place in range(6):  # the token at `place` behind what is before it
            ends = np.column_stack([windows[:, :place], np.arange(vocab_size)])
            probabilities = np.exp(-model.nll_by_order(ends))[:, :, place]
            assert (probabilities > 0).all()
            assert probabilities.sum(axis=1) == pytest.approx(np.ones(model.max_order), abs=1e-12)


def test_what_stands_before_a_window_decides_nothing():
    text = random_text(500, 6, seed=7)
    model = fit(text, 6, 5)
    window = text[None, 100:110]
    nll = model.nll_by_order(window)
    assert np.ptp(nll[:, 0, 0]) == 0  # the first token has no context under any order
    assert (nll[3:, 0, :4] == nll[3, 0, :4]).all()
    assert model.nll_by_order(window[:, :6]) == pytest.approx(nll[:, :, :6])
    assert model.nll_by_order(window[:, 2:])[4, 0, 0] != nll[4, 0, 2]


def test_longer_contexts_help_where_text_repeats():
    text = np.tile(np.arange(10), 30)
    nll = fit(text, 11, 3).nll_by_order(np.arange(10)[None])[:, 0, 1:].mean(axis=1)
    assert nll[0] == pytest.approx(math.log(10), abs=0.1)
    assert nll[1] < 0.2


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # n(1) = 4, n(2) = 2, n(3) = 2, n(4) = 1: Y = 1/2.
        ([1] * 4 + [2] * 2 + [3] * 2 + [4], (0.5, 0.5, 2.0)),
        ([1] * 4 + [2] * 2 + [3], (0.5, 1.25, 3.0)),  # none of count 4
        ([5, 9, 100], FALLBACK),
        ([1, 1, 2], FALLBACK),
        ([1, 2, 3, 3, 3, 3, 3], FALLBACK),  # D(2) would be negative
    ],
)
def test_discounts_follow_from_counts_of_counts(counts, expected):
    assert modified_discounts(np.array(counts)) == pytest.approx((0.0, *expected))


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match=r"`max_order` and the number of tokens must be >= 1.*max_order=0"):
        fit(np.array([1]), 3, 0)
    with pytest.raises(ValueError, match=r"but got max_order=2 and 0 tokens"):
        fit(np.array([], np.int64), 3, 2)
    with pytest.raises(ValueError, match=r"`tokens` must be ids in \[0, 3\), but got ids from 0 to 3"):
        fit(np.array([0, 3]), 3, 2)
    with pytest.raises(ValueError, match=r"ids from -1 to 2"):
        fit(np.array([0, 1]), 3, 2).nll_by_order(np.array([[-1, 2]]))


@pytest.mark.parametrize(("length", "vocab_size", "max_order"), [(60, 5, 1), (60, 5, 4), (400, 8, 5)])
def test_the_distribution_behind_a_context_is_that_of_its_tokens_one_by_one(length, vocab_size, max_order):
    model = fit(random_text(length, vocab_size, seed=length), vocab_size, max_order)
    draw = np.random.default_rng(2)
    for size in range(9):
        context = draw.integers(0, vocab_size, size)  # some of them, and the last ids, were never seen
        windows = np.column_stack([np.tile(context, (vocab_size, 1)), np.arange(vocab_size)])
        behind = model.distribution(context)
        assert behind.sum() == pytest.approx(1, abs=1e-12)
        expected = np.exp(-model.nll_by_order(windows)[-1, :, -1])
        np.testing.assert_allclose(behind, expected, rtol=1e-10)


def test_the_end_of_a_text_was_seen_with_nothing_behind_it():
    model = fit(np.array([0, 1, 0, 2]), 4, 3)
    windows = np.column_stack([np.tile([0, 2], (4, 1)), np.arange(4)])
    expected = np.exp(-model.nll_by_order(windows)[-1, :, -1])
    np.testing.assert_allclose(model.distribution(np.array([0, 2])), expected, rtol=1e-12)


def test_a_context_of_other_ids_is_refused():
    model = fit(np.array([0, 1, 2]), 3, 2)
    with pytest.raises(ValueError, match=r"`tokens` must be ids in \[0, 3\), but got ids from 3 to 3"):
        model.distribution(np.array([3]))

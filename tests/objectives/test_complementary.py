"""Pairs of draws that hide each other's complement."""

import itertools
import math

import numpy as np
import pytest
from factors_bench import DENSE, LENGTH, MASK_ID, ONE_IN_10000, examples, objective_of, same
from scipy import stats

PAIRS = {**DENSE, "complementary": True}


def hidden_of(view, count=400, seed=0, **factors):
    example = examples(objective_of(**{**PAIRS, **factors}), count, view, seed=seed)
    hidden = example.weights > 0
    assert np.array_equal(example.tokens == MASK_ID, hidden)
    return hidden


@pytest.mark.parametrize("draws", ["inf", 2, 6])
@pytest.mark.parametrize("pair", [0, 2])
def test_the_partner_hides_the_complement(pair, draws):
    first, partner = (hidden_of(2 * pair + place, draws=draws) for place in (0, 1))
    whole = first.all(axis=1)
    assert 0 < whole.sum() < len(whole)
    assert np.array_equal(partner[~whole], ~first[~whole])  # each token is supervised once
    assert partner[whole].all()


def test_the_first_of_a_pair_is_the_draw_without_pairs():
    """It hides what its own order and count say."""
    plain = {view: examples(objective_of(**DENSE), 50, view) for view in range(5)}
    for pair in range(2):
        first = examples(objective_of(**PAIRS), 50, 2 * pair)
        assert any(same(first, example) for example in plain.values())


def test_each_hidden_token_counts_one_over_the_number_hidden():
    for view in range(4):
        example = examples(objective_of(**PAIRS), 300, view)
        counts = (example.weights > 0).sum(axis=1, keepdims=True)
        assert np.allclose(example.weights, np.where(example.weights > 0, 1 / counts, 0), rtol=1e-6)


@pytest.mark.parametrize("place", [0, 1])
def test_each_of_a_pair_alone_hides_each_set_as_often_as_a_plain_draw(place):
    """P(set) = 1 / L / binomial(L, k), so that either's mean loss is the any-order NLL (test_exact.py)."""
    count = 40_000
    hidden = hidden_of(2 + place, count)
    sets = hidden @ (1 << np.arange(LENGTH))
    found = np.bincount(sets, minlength=2**LENGTH)
    sizes = np.array([sum(bits) for bits in itertools.product((0, 1), repeat=LENGTH)])[1:]
    expected = count / LENGTH / np.array([math.comb(LENGTH, size) for size in sizes.tolist()])
    assert found[0] == 0
    order = np.array(
        [int("".join(map(str, bits[::-1])), 2) for bits in itertools.product((0, 1), repeat=LENGTH)]
    )
    assert stats.chisquare(found[order[1:]], expected).pvalue > ONE_IN_10000


def test_pairs_are_independent_of_one_another():
    first, second = hidden_of(0, 4000), hidden_of(2, 4000)
    # Two tokens' fates agree with probability 1/2 + the chance of both whole; chi-square on the counts.
    table = np.zeros((LENGTH, LENGTH))
    np.add.at(table, (first.sum(axis=1) - 1, second.sum(axis=1) - 1), 1)
    assert stats.chi2_contingency(table).pvalue > ONE_IN_10000


def test_two_frozen_draws_are_one_pair_for_ever():
    objective = objective_of(**PAIRS, draws=2)
    by_view = [examples(objective, 50, view) for view in range(6)]
    for view, example in enumerate(by_view):
        assert same(example, by_view[view % 2])
    assert not same(by_view[0], by_view[1])

"""Blocks of tokens: left to right over them, any order within."""

import itertools

import numpy as np
import pytest
from factors_bench import DENSE, MASK_ID, ONE_IN_10000, examples, objective_of, random_tokens, same
from namespaces import NAMESPACES, host
from scipy import stats

from lab.objectives import window_draws
from lab.objectives.draws import Draw

LENGTH = 8
BOTH_WINDOWS = pytest.mark.parametrize("windows", ["fixed", "jittered"])


def objective(block, windows="jittered", batch_size=6, **factors):
    return objective_of(LENGTH, windows=windows, batch_size=batch_size, block=block, **{**DENSE, **factors})


def hidden_of(example):
    """(rows, LENGTH) bool, by the noisy half."""
    return example.tokens[:, LENGTH:] == MASK_ID


def at_places(one, first, view=0, seed=0):
    """The example of windows that begin at these places."""
    places = np.asarray(first, np.int32)[:, None] + np.arange(LENGTH, dtype=np.int32)
    rows = np.arange(len(places), dtype=np.int32)
    return one.example(places % np.int32(5), places, np.full_like(rows, view), rows, seed, np)


@BOTH_WINDOWS
@pytest.mark.parametrize("factors", [{}, {"stratified": True}, {"draws": 2, "redraw": "epoch"}], ids=str)
def test_a_block_of_the_whole_window_is_the_dlm_bit_for_bit(windows, factors):
    whole, dlm = (objective(block, windows, **factors) for block in (LENGTH, "window"))
    for view in range(3):
        assert same(examples(whole, 6, view), examples(dlm, 6, view))
    assert (whole.block_size, objective(2).block_size) == (0, 2)


@BOTH_WINDOWS
def test_a_pass_reads_the_clean_tokens_and_then_the_noisy_ones_at_the_same_positions(windows):
    tokens, example = random_tokens(6, LENGTH), examples(objective(2, windows), 6)
    hidden = hidden_of(example)
    assert np.array_equal(example.tokens[:, :LENGTH], tokens)
    assert np.array_equal(example.tokens[:, LENGTH:], np.where(hidden, MASK_ID, tokens))
    assert np.array_equal(example.targets, tokens)
    assert np.array_equal(example.weights > 0, hidden)
    expected = np.tile(np.arange(1, LENGTH + 1), 2)[None]
    assert np.array_equal(example.positions, expected)
    assert np.array_equal(example.target_positions, expected)


@BOTH_WINDOWS
@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_block_hides_k_uniform_and_counts_the_same(windows, size):
    example = examples(objective(size, windows), 2000)
    counts = hidden_of(example).reshape(2000, -1, size).sum(axis=2)
    weights = example.weights.reshape(2000, -1, size).sum(axis=2)
    np.testing.assert_allclose(weights, size / LENGTH, rtol=1e-6)  # a uniform predictor scores log V
    observed = np.bincount(counts.ravel(), minlength=size + 1)
    assert observed[0] == 0
    if size > 1:
        assert stats.chisquare(observed[1:]).pvalue > ONE_IN_10000
        places = hidden_of(example).reshape(-1, size).sum(axis=0)  # each place of a block alike
        assert stats.chisquare(places).pvalue > ONE_IN_10000
        pairs = stats.contingency.crosstab(counts[:, 0], counts[:, 1]).count
        assert stats.chi2_contingency(pairs).pvalue > ONE_IN_10000  # blocks are independent


@BOTH_WINDOWS
def test_a_frozen_draw_stays_the_same_and_another_visit_has_another(windows):
    frozen, fresh = objective(4, windows, draws=1), objective(4, windows)
    first, again = (examples(frozen, 20, view) for view in (0, 7))
    assert same(first, again)
    assert same(first, examples(fresh, 20, 0))
    assert not same(first, examples(fresh, 20, 7))
    assert not same(first, examples(frozen, 20, seed=1))


def test_a_frozen_draw_is_that_of_the_text_where_blocks_are_cut_alike():
    """Windows that begin a whole block later have the same blocks; any others the same order of tokens."""
    one = objective(4, draws=1)
    hidden = hidden_of(at_places(one, np.arange(200)))
    assert np.array_equal(hidden[4:, :4], hidden[:-4, 4:])
    # Of two tokens that are in one block in both windows, the same one comes later: hidden sets are nested.
    left, right = hidden[:-1, 1:4], hidden[1:, :3]
    fewer, more = np.minimum(left.sum(1), right.sum(1)), left & right
    assert np.array_equal(more.sum(1), fewer)
    assert (left.sum(1) != right.sum(1)).any()


def test_levels_are_spread_over_all_blocks_of_an_update():
    example = examples(objective(4, batch_size=16, stratified=True), 16)
    counts = hidden_of(example).reshape(-1, 4).sum(axis=1)
    assert np.bincount(counts, minlength=5).tolist() == [0, 8, 8, 8, 8]


@pytest.mark.backend
@BOTH_WINDOWS
def test_numpy_and_keras_make_the_same_examples(windows):
    made = objective(2, windows, passes=2, redraw="epoch")
    expected, found = (examples(made, 6, view=3, xp=case.values[0]) for case in NAMESPACES)
    for name, value in expected._asdict().items():
        if value is not None:
            rtol = 2e-7 if name == "weights" else 0
            np.testing.assert_allclose(host(getattr(found, name)), value, rtol=rtol, err_msg=name)


def test_the_mean_over_all_draws_is_the_nll_over_orders_within_blocks(monkeypatch):
    """Any function of what a block may know: here a table of random log-probabilities."""
    size, length = 2, 4
    numbers, table = np.random.default_rng(0), {}
    tokens = np.array([1, 0, 2, 1], np.int32)

    def nll(place, known):
        return table.setdefault((place, known), numbers.exponential())

    def known_before(place, revealed):
        before = place // size * size
        return frozenset(range(before)) | frozenset(revealed)

    orders = list(itertools.permutations(range(size)))
    expected = 0.0  # over all orders that are left to right over blocks
    for blocks in itertools.product(orders, repeat=length // size):
        for number, order in enumerate(blocks):
            places = [number * size + each for each in order]
            for rank, place in enumerate(places):
                expected += nll(place, known_before(place, places[:rank]))
    expected /= len(orders) ** (length // size) * length
    draws = list(itertools.product(itertools.product(orders, (1, 2)), repeat=2))
    drawn = [each for pair in draws for each in pair]  # block by block
    given = Draw(np.array([o for o, _ in drawn], np.int32), np.array([k for _, k in drawn], np.int32))
    monkeypatch.setattr(window_draws, "draw", lambda *_: given)
    made = objective_of(length, windows="fixed", batch_size=len(draws), block=size, **DENSE)
    rows = np.arange(len(draws), dtype=np.int32)
    places = rows[:, None] * np.int32(length) + np.arange(length, dtype=np.int32)
    example = made.example(np.tile(tokens, (len(draws), 1)), places, np.zeros_like(rows), rows, 0, np)
    found = []
    for row in range(len(draws)):
        revealed = np.flatnonzero(example.tokens[row, length:] != MASK_ID).tolist()
        scores = [
            nll(place, known_before(place, [r for r in revealed if r // size == place // size]))
            for place in range(length)
        ]
        found.append((example.weights[row] * scores).sum())
    assert np.mean(found) == pytest.approx(expected, rel=1e-6)

"""Draws of the text: the same for a token, or for two, in every window that holds them."""

import itertools
import math

import numpy as np
import pytest
from factors_bench import CAUSAL, DENSE, MASK_ID, ONE_IN_10000, VOCAB, objective_of
from namespaces import NAMESPACES, arrays, host
from scipy import stats

from lab.data.windows import TrainingWindows
from lab.objectives.place_draws import BLOCK_WINDOWS, some_chance

LENGTH = 8
BLOCK = BLOCK_WINDOWS * LENGTH
SUFFIX = {"order": "left_to_right", "compute": "dense"}
AR = {"order": "left_to_right", "compute": "causal"}
BERNOULLI = {**DENSE, "estimator": "bernoulli"}


def examples_at(starts, views=0, seed=0, xp=np, length=LENGTH, **factors):
    """The examples of windows that begin at these places of an endless text, and their places.

    The token at a place is the place modulo VOCAB.
    """
    starts = np.asarray(starts, np.int64)
    places = (starts[:, None] + np.arange(length)).astype(np.int32)
    tokens = (places % VOCAB).astype(np.int32)
    views = np.broadcast_to(np.int32(views), len(starts))
    inputs = arrays(xp, tokens, places, views, np.arange(len(starts), dtype=np.int32))
    objective = objective_of(length, windows="jittered", **factors)
    return objective.example(*inputs, seed, xp), places


def by_position(values, example):
    """Values by slot as values by position in the window."""
    targets = np.broadcast_to(example.target_positions, values.shape)
    return np.take_along_axis(values, np.argsort(targets, axis=1), axis=1)


def fates(marks, places):
    """What each place is, over all windows that hold it: place -> set of marks."""
    found = {}
    for place, mark in zip(places.reshape(-1).tolist(), marks.reshape(-1).tolist(), strict=True):
        found.setdefault(place, set()).add(mark)
    return found


# What marks a token in an example, by place of the window: hidden, masked, replaced by what, blocked.
FROZEN = {
    "dense": (DENSE, lambda example: example.tokens == MASK_ID),
    "low": ({**DENSE, "noise_window": "low"}, lambda example: example.tokens == MASK_ID),
    "fixed share": ({**DENSE, "noise_window": "fixed:0.5"}, lambda example: example.tokens == MASK_ID),
    "complementary": ({**DENSE, "complementary": True}, lambda example: example.tokens == MASK_ID),
    "bernoulli": (BERNOULLI, lambda example: example.tokens == MASK_ID),
    "masks": ({**AR, "input_noise": "mask:0-1", "loss_on": "hidden"}, lambda example: example.weights > 0),
    "masks of one ratio": (
        {**CAUSAL, "input_noise": "mask:0.5", "loss_on": "hidden"},
        lambda example: by_position(example.weights > 0, example),
    ),
    "blocked": ({**AR, "attention_mask_dropout": 0.5}, lambda example: example.visible),
}


@pytest.mark.parametrize(("factors", "marks"), FROZEN.values(), ids=FROZEN.keys())
@pytest.mark.parametrize("draws", [2, 4])
def test_a_token_has_at_most_k_fates_however_the_window_is_cut(draws, factors, marks):
    """Every offset of every window of three blocks, at 3 K views: each token's history is of K states."""
    starts = np.arange(3 * BLOCK - LENGTH)
    histories = {}
    for view in range(3 * draws):
        example, places = examples_at(starts, view, draws=draws, **factors)
        found = fates(marks(example), places)
        assert all(len(each) == 1 for each in found.values())  # one in all windows of a view
        for place, (mark,) in found.items():
            histories.setdefault(place, []).append(mark)
    assert all(each[:draws] * 3 == each for each in histories.values())
    assert any(len(set(each)) == 2 for each in histories.values())


@pytest.mark.parametrize("draws", [1, 3])
def test_two_tokens_have_at_most_k_orders_however_the_window_is_cut(draws):
    starts = np.arange(2 * BLOCK)
    for lag in (1, 3, LENGTH - 1):
        found = {}
        for view in range(2 * draws):
            example, places = examples_at(starts, view, draws=draws, **CAUSAL)
            ranks = np.argsort(example.target_positions, axis=1)
            first = ranks[:, :-lag] < ranks[:, lag:]
            by_pair = fates(first, places[:, :-lag])
            assert all(len(each) == 1 for each in by_pair.values())
            for place, (mark,) in by_pair.items():
                found.setdefault(place, []).append(mark)
        assert all(each[:draws] * 2 == each for each in found.values())
        shares = np.mean([each[0] for each in found.values()])
        # Pairs that share a token are not independent.
        assert abs(shares - 1 / 2) < 4 * math.sqrt(1 / 4 / len(found) * LENGTH)


def test_replacements_are_those_of_the_places():
    example, places = examples_at(np.arange(BLOCK), **AR, input_noise="replace:1")
    found = fates(example.tokens[:, 1:], places[:, :-1])
    assert all(len(each) == 1 for each in found.values())
    assert {token for (token,) in found.values()} == set(range(VOCAB))


@pytest.mark.parametrize("noise", ["mask:0-1", "replace:0.5"])
def test_input_noise_is_of_the_places_whatever_the_order(noise):
    """The fate of a token is the same left to right and under any order; so is what stands for it."""
    read = []
    for factors in (AR, CAUSAL, {**CAUSAL, "order": "fixed:3"}):
        example, places = examples_at(np.arange(200), **factors, input_noise=noise)
        found = {}
        for row in range(200):  # slot i + 1 reads the token at the place that slot i predicts
            at = places[row][example.target_positions[min(row, len(example.target_positions) - 1)][:-1] - 1]
            for place, token in zip(at.tolist(), example.tokens[row, 1:].tolist(), strict=True):
                found.setdefault(place, set()).add(token)
        assert all(len(each) == 1 for each in found.values())
        read.append(found)
    shared = set(read[0]) & set(read[1]) & set(read[2])
    assert len(shared) > 190
    assert all(read[0][place] == read[1][place] == read[2][place] for place in shared)


def test_training_windows_leave_a_frozen_draw_to_each_token():
    """From the loader on: 40 epochs at other boundaries, and one state a token; a window's draw gives two."""
    tokens = np.arange(50 * LENGTH) % VOCAB
    for windows, states in (("jittered", 1), ("fixed", 2)):
        objective = objective_of(LENGTH, windows=windows, draws=1, **DENSE)
        training = TrainingWindows(tokens, LENGTH, 50, 0, "jittered")
        found = {}
        for step in range(40):
            batch = training.batch(step)
            if windows == "fixed":  # as if the window's number, and not its text, were the key
                batch = batch._replace(places=batch.places - batch.places[:, :1] % LENGTH)
            example = objective.example(*batch, 0, np)
            for place, marks in fates(example.tokens == MASK_ID, training.batch(step).places).items():
                found.setdefault(place, set()).update(marks)
        assert max(map(len, found.values())) == states


def counts_of(starts, **factors):
    example, _ = examples_at(starts, **factors)
    return (example.tokens == MASK_ID).sum(axis=1)


def one_a_block(count, first=0):
    """Windows in blocks of their own, so that their draws are independent."""
    return np.arange(count) * BLOCK + first


@pytest.mark.parametrize("first", [0, 5, BLOCK - LENGTH])
def test_k_is_uniform_from_none_to_all_inside_a_block(first):
    found = np.bincount(counts_of(one_a_block(20_000, first), **DENSE), minlength=LENGTH + 1)
    assert stats.chisquare(found).pvalue > ONE_IN_10000


def test_k_is_the_sum_of_two_across_an_edge():
    """Half the window on each side: two independent counts, uniform on 0 .. L / 2 each."""
    starts = one_a_block(40_000)[::2] + BLOCK - LENGTH // 2
    found = np.bincount(counts_of(starts, **DENSE), minlength=LENGTH + 1)
    half = np.full(LENGTH // 2 + 1, 1 / (LENGTH // 2 + 1))
    assert stats.chisquare(found, len(starts) * np.convolve(half, half)).pvalue > ONE_IN_10000


def test_every_set_of_a_size_is_equally_likely():
    example, _ = examples_at(one_a_block(60_000), length=4, **DENSE)
    sets = np.bincount((example.tokens == MASK_ID) @ (1 << np.arange(4)), minlength=16)
    sizes = np.array([bin(number).count("1") for number in range(16)])
    expected = 60_000 / 5 / np.array([math.comb(4, size) for size in sizes])
    assert stats.chisquare(sets, expected).pvalue > ONE_IN_10000


@pytest.mark.parametrize("window", ["all", "low", "mid", "high", "fixed:0.15", "fixed:0.5", "fixed:1"])
def test_a_noise_window_hides_its_share_and_weighs_it_to_one(window):
    """The hidden share is the mean level; what a window counts in all has the mean 1, with k = 0 or not."""
    count = 40_000
    example, _ = examples_at(one_a_block(count), **DENSE, noise_window=window)
    hidden = example.tokens == MASK_ID
    low, high = {"all": (0, 1), "low": (0, 1 / 3), "mid": (1 / 3, 2 / 3), "high": (2 / 3, 1)}.get(
        window, (float(window.partition(":")[2] or 0),) * 2
    )
    share = hidden.mean(axis=1)
    assert abs(share.mean() - (low + high) / 2) <= 4 * share.std() / math.sqrt(count) + 1e-6
    total = example.weights.sum(axis=1).astype(float)
    assert abs(total.mean() - 1) <= 4 * total.std() / math.sqrt(count) + 1 / count
    some = hidden.any(axis=1)
    assert np.array_equal(total > 0, some)
    assert np.allclose(total[some], 1 / some_chance((low, high), LENGTH), rtol=1e-6)
    each = np.where(hidden, 1 / np.maximum(hidden.sum(axis=1, keepdims=True), 1), 0)
    assert np.allclose(example.weights, each / some_chance((low, high), LENGTH), rtol=1e-6)


@pytest.mark.parametrize("levels", [(0, 1), (0, 1 / 3), (2 / 3, 1), (0, 0.01), (0.15, 0.15), (1, 1)])
def test_the_chance_of_some_hidden_token_is_the_integral(levels):
    t = levels[0] + (levels[1] - levels[0]) * (np.arange(100_000) + 0.5) / 100_000
    for length in (1, 6, 64):
        assert some_chance(levels, length) == pytest.approx((1 - (1 - t) ** length).mean(), rel=1e-6)
    assert some_chance((0, 1), 64) == pytest.approx(64 / 65)


def test_what_is_hidden_is_the_last_of_the_order_of_the_same_draw():
    starts = np.arange(3 * BLOCK)
    dense, _ = examples_at(starts, **DENSE)
    causal, _ = examples_at(starts, **CAUSAL)
    hidden = dense.tokens == MASK_ID
    in_order = np.take_along_axis(hidden, causal.target_positions - 1, axis=1)
    inside = starts % BLOCK <= BLOCK - LENGTH  # one level for the whole window
    assert np.array_equal(in_order[inside], np.sort(hidden[inside], axis=1))
    assert 0 < hidden.mean() < 1


def test_the_order_is_uniform():
    example, _ = examples_at(np.arange(60_000) * 3, length=3, **CAUSAL)
    counts = np.unique(example.target_positions @ np.array([9, 3, 1]), return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > ONE_IN_10000


@pytest.mark.parametrize("draws", ["inf", 2, 6])
def test_the_partner_hides_the_complement_and_of_all_nothing(draws):
    starts = np.arange(6 * BLOCK)
    for pair in range(2):
        (first, _), (partner, _) = (
            examples_at(starts, 2 * pair + each, draws=draws, complementary=True, **DENSE) for each in (0, 1)
        )
        plain, _ = examples_at(starts, pair if draws == "inf" else pair % (draws // 2), **DENSE)
        hidden = first.tokens == MASK_ID
        assert np.array_equal(hidden, plain.tokens == MASK_ID)
        assert np.array_equal(hidden, partner.tokens != MASK_ID)
        assert hidden.all(axis=1).any()
        assert not partner.weights[hidden.all(axis=1)].any()


@pytest.mark.parametrize("window", ["all", "high"])
def test_a_suffix_is_cut_at_frozen_places(window):
    """Every offset: under one draw a block is cut at each n-th place, and k is uniform on its range."""
    counts = counts_of(np.arange(4 * BLOCK), draws=1, noise_window=window, **SUFFIX)
    low, number = {"all": (1, LENGTH), "high": (LENGTH * 2 // 3 + 1, LENGTH - LENGTH * 2 // 3)}[window]
    for block in range(4):
        starts = np.arange(block * BLOCK, (block + 1) * BLOCK)
        cuts = starts + LENGTH - counts[starts]
        assert len(np.unique(cuts % number)) == 1
        assert set(counts[starts].tolist()) == set(range(low, LENGTH + 1))
    drawn = counts_of(one_a_block(20_000, 3), noise_window=window, **SUFFIX)
    found = np.bincount(drawn, minlength=LENGTH + 1)
    assert found[low:].sum() == 20_000
    assert stats.chisquare(found[low:]).pvalue > ONE_IN_10000


@pytest.mark.parametrize("compute", ["causal", "dense"])
@pytest.mark.parametrize(("order", "number"), [("fixed:3", 3), ("right_to_left:0.5", 2)])
def test_orders_of_positions_are_chosen_by_the_block(order, number, compute):
    factors = {"order": order, "compute": compute, "draws": 1}
    starts = np.arange(60 * BLOCK)
    example, _ = examples_at(starts, **factors)
    signs = example.target_positions if compute == "causal" else example.tokens == MASK_ID
    by_block = signs.reshape(60, BLOCK, LENGTH)
    assert (by_block == by_block[:, :1]).all()
    assert len(np.unique(by_block[:, 0], axis=0)) >= number
    assert len(np.unique(by_block[:, 0], axis=0)) == number or compute == "dense"
    if compute == "dense":
        counts = counts_of(one_a_block(20_000), **factors)
        assert stats.chisquare(np.bincount(counts, minlength=LENGTH + 1)[1:]).pvalue > ONE_IN_10000


def test_bernoulli_weighs_a_token_by_the_level_of_its_block():
    starts = np.arange(6 * BLOCK)
    example, places = examples_at(starts, **BERNOULLI)
    hidden = example.tokens == MASK_ID
    assert np.array_equal(hidden, example.weights > 0)
    by_block = [np.unique(example.weights[hidden & (places // BLOCK == block)]) for block in range(6)]
    assert [len(each) for each in by_block] == [1] * 6
    assert len(set(map(float, np.concatenate(by_block)))) == 6


@pytest.mark.parametrize("factors", [DENSE, SUFFIX, CAUSAL, {**AR, "input_noise": "mask:0-1"}], ids=str)
def test_an_epochs_draw_is_one_for_all_windows_wherever_they_begin(factors):
    marks = []
    for view in range(4):
        example, _ = examples_at(np.arange(40) * 3, view, redraw="epoch", **factors)
        seen = example.target_positions if factors is CAUSAL else example.tokens == MASK_ID
        assert (seen == seen[0]).all()
        marks.append(seen[0].tobytes())
    assert len(set(marks)) > 1


def test_places_beyond_two_to_the_31_have_draws_too():
    starts = 2**31 - 20 + np.arange(40)
    example, places = examples_at(starts, **DENSE)
    assert places.min() < 0 < places.max()
    assert all(len(each) == 1 for each in fates(example.tokens == MASK_ID, places).values())
    assert set(counts_of(2**31 - 20 + np.arange(64), **SUFFIX).tolist()) <= set(range(1, LENGTH + 1))


def test_every_part_of_the_key_changes_the_draw():
    starts = one_a_block(4000)
    base = (examples_at(starts, **DENSE)[0].tokens == MASK_ID).sum(axis=1)
    for change in ({"seed": 1}, {"views": 1}):
        other = (examples_at(starts, **change, **DENSE)[0].tokens == MASK_ID).sum(axis=1)
        assert abs((base == other).mean() - 1 / 9) < 4 * math.sqrt(1 / 9 * 8 / 9 / 4000)
    noise = examples_at(starts, **AR, input_noise="mask:1", attention_mask_dropout=0.5)[0]
    masks = examples_at(starts, **AR, input_noise="mask:0.5", loss_on="hidden")[0].weights > 0
    hidden = examples_at(starts, **DENSE, noise_window="fixed:0.5")[0].tokens == MASK_ID
    for one, other in itertools.combinations((noise.visible, masks, hidden), 2):
        assert abs((one == other).mean() - 1 / 2) < 4 * math.sqrt(1 / 4 / one.size)


# Golden values: windows at places 0, 123 and 70,000 at views 0, 1 and 5 under seed 7, L = 8. The second
# crosses the edge of a block. They may change only if draws are meant to change; see test_draws.py.
GOLDEN_FACTORS = {
    "any causal": CAUSAL,
    "any dense": DENSE,
    "complementary": {**DENSE, "complementary": True},
    "low": {**DENSE, "noise_window": "low"},
    "bernoulli": {**BERNOULLI, "noise_schedule": "cosine"},
    "stratified": {**DENSE, "stratified": True, "passes": 2},
    "suffix": SUFFIX,
    "fixed": {"order": "fixed:3", "compute": "dense"},
    "right to left": {"order": "right_to_left:0.5", "compute": "causal"},
    "masked": {**AR, "input_noise": "mask:0-1"},
    "replaced": {**CAUSAL, "input_noise": "replace:0.5"},
}
GOLDEN = {
    "any causal": [[5, 0, 2, 0, 1, 2, 3, 4], [5, 3, 1, 3, 0, 4, 0, 2], [5, 2, 0, 2, 1, 0, 1, 3]],
    "any dense": [[0, 5, 2, 5, 5, 0, 5, 5], [5, 5, 5, 1, 5, 3, 4, 5], [0, 5, 2, 5, 5, 5, 1, 2]],
    "complementary": [[0, 5, 2, 5, 5, 0, 5, 5], [3, 4, 5, 5, 2, 5, 5, 5], [5, 5, 5, 5, 5, 5, 5, 5]],
    "low": [[0, 1, 2, 3, 4, 0, 5, 2], [3, 5, 0, 1, 5, 3, 4, 5], [0, 1, 2, 3, 4, 0, 1, 2]],
    "bernoulli": [[5, 5, 2, 5, 5, 0, 5, 5], [5, 5, 5, 5, 5, 3, 5, 5], [0, 5, 2, 5, 5, 5, 1, 2]],
    "stratified": [[0, 5, 2, 5, 5, 0, 5, 5], [3, 5, 0, 1, 5, 3, 4, 5], [0, 5, 2, 5, 5, 5, 1, 2]],
    "suffix": [[0, 1, 2, 3, 5, 5, 5, 5], [3, 4, 0, 5, 5, 5, 5, 5], [0, 1, 5, 5, 5, 5, 5, 5]],
    "fixed": [[5, 5, 5, 5, 4, 0, 5, 2], [5, 5, 5, 5, 5, 5, 5, 0], [5, 5, 2, 3, 5, 0, 1, 2]],
    "right to left": [[5, 0, 1, 2, 3, 4, 0, 1], [5, 3, 4, 0, 1, 2, 3, 4], [5, 2, 1, 0, 4, 3, 2, 1]],
    "masked": [[5, 5, 5, 2, 5, 5, 5, 1], [5, 5, 5, 5, 5, 5, 3, 4], [5, 0, 1, 2, 5, 4, 0, 1]],
    "replaced": [[5, 3, 2, 0, 1, 2, 3, 2], [5, 3, 3, 2, 0, 4, 0, 2], [5, 2, 0, 1, 1, 2, 4, 0]],
}
GOLDEN_VISIBLE = [[1, 0, 1, 0, 1, 0, 1, 1], [1, 0, 0, 1, 0, 1, 0, 0], [0, 1, 0, 0, 0, 1, 0, 1]]


def golden_example(xp, **factors):
    return examples_at([0, 123, 70_000], [0, 1, 5], seed=7, xp=xp, **factors)[0]


@pytest.mark.parametrize("xp", NAMESPACES)
@pytest.mark.parametrize("name", GOLDEN_FACTORS)
def test_golden_tokens(name, xp):
    assert host(golden_example(xp, **GOLDEN_FACTORS[name]).tokens).tolist() == GOLDEN[name]


@pytest.mark.parametrize("xp", NAMESPACES)
def test_golden_attention_mask(xp):
    visible = golden_example(xp, attention_mask_dropout=0.5).visible
    assert host(visible).astype(int).tolist() == GOLDEN_VISIBLE

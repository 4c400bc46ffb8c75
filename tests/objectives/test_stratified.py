"""Noise levels spread evenly over the rows of an update."""

import numpy as np
import pytest
from factors_bench import DENSE, MASK_ID, ONE_IN_10000, objective_of
from scipy import stats

from lab import threefry
from lab.data.windows import TrainingWindows

LENGTH, ROWS = 64, 48
SUFFIX = {"order": "left_to_right", "compute": "dense"}
AR = {"input_noise": "mask:0-1", "loss_on": "hidden"}
ARMS = {"any": DENSE, "suffix": SUFFIX, "masks": AR, "fixed": {"order": "fixed:2", "compute": "dense"}}
BOTH_WINDOWS = pytest.mark.parametrize("windows", ["fixed", "jittered"])
TOKENS = np.zeros(200 * LENGTH, np.uint16)


def objective(windows="jittered", **factors):
    return objective_of(LENGTH, windows=windows, batch_size=ROWS, **{**DENSE, **factors}, stratified=True)


def level_words(batch, number=0, seed=0, **factors):
    one = objective(**factors)
    views = batch.visits * np.int32(one.factors.passes) + np.int32(number)
    return one.level_words(views, batch.rows, seed, np)


def levels(*arguments, **factors):
    """t of each row, in [0, 1)."""
    return threefry.fraction(level_words(*arguments, **factors), np) / 2**23


def training(windows="jittered"):
    return TrainingWindows(TOKENS, LENGTH, ROWS, 0, windows)


def assert_spread(t):
    """Each of as many equal parts of the circle, from the first level on, holds one."""
    strata = np.floor((np.sort((t - t[0]) % 1) + 1e-4) * len(t)).astype(int)
    assert strata.tolist() == list(range(len(t)))


@pytest.mark.parametrize("passes", [1, 3])
def test_an_update_meets_every_stratum_once(passes):
    firsts = []
    for step in range(20):
        for number in range(passes):
            t = levels(training().batch(step), number, passes=passes)
            assert_spread(t)
            np.testing.assert_allclose((t - t[0]) % 1, np.arange(ROWS) / ROWS, atol=1e-4)
            firsts.append(t[0])
    assert len(set(firsts)) == 20 * passes  # anew for each pass of each update
    assert set(firsts).isdisjoint(levels(training().batch(0), seed=1, passes=passes)[:1])


def test_the_first_level_is_uniform():
    rows = np.arange(0, 5000 * ROWS, ROWS, dtype=np.int32)
    words = objective().level_words(np.zeros_like(rows), rows, 0, np)
    assert stats.kstest(threefry.fraction(words, np) / 2**23, "uniform").pvalue > ONE_IN_10000


def test_accumulation_ranks_and_resuming_leave_the_levels_alone():
    whole = level_words(training().batch(7))
    for accumulation, ranks in ((4, 1), (1, 3), (2, 4)):
        own = ROWS // accumulation // ranks
        fresh = training()  # a run that begins at this step
        parts = [level_words(fresh.batch(7, first, own)) for first in range(0, ROWS, own)]
        assert np.array_equal(np.concatenate(parts), whole)


def counts_of(factors, windows, step, number=0):
    """k of each row: the tokens hidden from it, or altered in it."""
    batch = training(windows).batch(step)
    one = objective_of(LENGTH, windows=windows, batch_size=ROWS, **factors, stratified=True)
    views = batch.visits * np.int32(one.factors.passes) + np.int32(number)
    example = one.example(batch.tokens, batch.places, views, batch.rows, 0, np)
    if one.factors.compute == "dense":
        assert np.array_equal(example.tokens == MASK_ID, example.weights > 0)
    return (example.weights > 0).sum(axis=1), levels(batch, number, passes=one.factors.passes)


@BOTH_WINDOWS
@pytest.mark.parametrize("factors", ARMS.values(), ids=ARMS.keys())
def test_a_row_hides_what_its_level_says(factors, windows):
    for step in range(10):
        counts, t = counts_of(factors, windows, step)
        if windows == "fixed" or factors not in (DENSE, AR):
            assert np.array_equal(counts, np.floor(t * LENGTH).astype(int) + 1)
        else:  # each token on its own
            assert (np.abs(counts - t * LENGTH) <= 5 * np.sqrt(LENGTH * t * (1 - t)) + 1).all()


def test_levels_of_a_noise_window_are_spread_over_it():
    counts, t = counts_of({**DENSE, "noise_window": "high"}, "fixed", 3)
    assert np.array_equal(counts, np.floor(t * 22).astype(int) + 43)


@BOTH_WINDOWS
@pytest.mark.parametrize("factors", ARMS.values(), ids=ARMS.keys())
def test_a_levels_law_is_what_it_is_without_strata(factors, windows):
    """Of one row over many updates: k is uniform, from 0 where each token is hidden on its own."""
    rows = np.arange(5, 20_000 * ROWS, ROWS, dtype=np.int32)
    places = (rows[:, None] // ROWS * 16 * LENGTH + np.arange(LENGTH)).astype(np.int32)
    one = objective_of(LENGTH, windows=windows, batch_size=ROWS, **factors, stratified=True)
    example = one.example(np.zeros_like(places), places, np.zeros_like(rows), rows, 0, np)
    found = np.bincount((example.weights > 0).sum(axis=1), minlength=LENGTH + 1)
    found = found if found[0] else found[1:]
    assert stats.chisquare(found).pvalue > ONE_IN_10000
    total = example.weights.sum(axis=1).astype(float)
    assert abs(total.mean() - 1) < 4 * total.std() / np.sqrt(len(rows)) + 1e-6


@BOTH_WINDOWS
def test_the_mean_hidden_share_of_an_update_hardly_varies(windows):
    """What it is for. Without strata the mean of 48 levels has standard deviation 1 / sqrt(12 x 48)."""
    shares = {}
    for stratified in (True, False):
        one = objective_of(LENGTH, windows=windows, batch_size=ROWS, **DENSE, stratified=stratified)
        shares[stratified] = np.std(
            [
                (one.example(*training(windows).batch(step), 0, np).tokens == MASK_ID).mean()
                for step in range(60)
            ]
        )
    assert shares[False] > 0.7 / np.sqrt(12 * ROWS)
    assert shares[True] < shares[False] / 3

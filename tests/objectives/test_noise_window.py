"""Windows on the number of hidden tokens."""

import numpy as np
import pytest
from factors_bench import DENSE, ONE_IN_10000, examples, objective_of
from scipy import stats

SUFFIX = {"order": "left_to_right", "compute": "dense"}


def counts_of(length, window, count=20_000, factors=DENSE):
    example = examples(objective_of(length=length, **factors, noise_window=window), count)
    counts = (example.weights > 0).sum(axis=1)
    assert np.allclose(example.weights.max(axis=1), 1 / counts, rtol=1e-6)
    return counts


@pytest.mark.parametrize("factors", [DENSE, SUFFIX], ids=["any", "suffix"])
@pytest.mark.parametrize("length", [6, 7, 8, 9])
def test_the_windows_are_the_thirds_of_all_counts(length, factors):
    ranges = []
    for window in ("low", "mid", "high"):
        counts = np.bincount(counts_of(length, window, factors=factors), minlength=length + 1)
        seen = np.flatnonzero(counts)
        assert np.array_equal(seen, np.arange(seen[0], seen[-1] + 1))
        assert stats.chisquare(counts[seen]).pvalue > ONE_IN_10000  # uniform within
        ranges.append(seen)
    assert np.concatenate(ranges).tolist() == list(range(1, length + 1))  # in order, none twice, none missing
    sizes = [len(seen) for seen in ranges]
    assert max(sizes) - min(sizes) <= 1


def test_all_counts_by_default():
    assert np.array_equal(
        counts_of(7, "all", 500), (examples(objective_of(length=7, **DENSE), 500).weights > 0).sum(1)
    )
    assert set(counts_of(7, "all").tolist()) == set(range(1, 8))


@pytest.mark.parametrize(
    ("length", "share", "count"),
    [(20, "0.15", 3), (64, "0.15", 10), (8, "0.01", 1), (8, "1", 8), (6, "0.5", 3)],
)
def test_a_fixed_share_hides_as_many_each_time(length, share, count):
    assert set(counts_of(length, f"fixed:{share}", 200).tolist()) == {count}


def test_a_window_leaves_the_orders_alone():
    """The hidden sets of a fixed count are uniform over all sets of that size."""
    example = examples(objective_of(length=5, **DENSE, noise_window="fixed:0.4"), 10_000)
    sets = (example.weights > 0) @ (1 << np.arange(5))
    counts = np.unique(sets, return_counts=True)[1]
    assert len(counts) == 10
    assert stats.chisquare(counts).pvalue > ONE_IN_10000


def test_a_window_too_short_for_thirds_is_refused():
    with pytest.raises(
        ValueError, match=r"`length` must be at least 3 for noise_window=low, but got length=2\."
    ):
        counts_of(2, "low", 5)

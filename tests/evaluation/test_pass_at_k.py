from itertools import combinations
from math import comb

import numpy as np
import pytest

from lab.evaluation.pass_at_k import pass_at_k


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_it_is_the_share_of_all_subsets_that_hold_one_that_passed(n):
    for c in range(n + 1):
        programs = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            share = np.mean([any(subset) for subset in combinations(programs, k)])
            assert pass_at_k(n, c, k) == pytest.approx(share, abs=1e-12)


def test_it_has_no_bias():
    """Programs that pass with chance p: over many draws of n, the mean is 1 - (1 - p)^k, also where k < n."""
    n, k, p = 10, 3, 0.2
    passed = np.random.default_rng(0).binomial(n, p, 200_000)
    estimates = pass_at_k(n, passed, k)
    error = estimates.std() / np.sqrt(len(estimates))
    assert estimates.mean() == pytest.approx(1 - (1 - p) ** k, abs=4 * error)
    assert (
        abs(np.mean(1 - (1 - passed / n) ** k) - (1 - (1 - p) ** k)) > 20 * error
    )  # what one would write first


@pytest.mark.parametrize(
    ("n", "c", "k"), [(10_000, 1, 1), (10_000, 3, 100), (10**6, 1, 1), (2000, 1999, 1000)]
)
def test_large_numbers_lose_no_digits(n, c, k):
    none, all_draws = comb(n - c, k), comb(n, k)
    assert pass_at_k(n, c, k) == pytest.approx((all_draws - none) / all_draws, rel=1e-12)


def test_arrays_are_taken_problem_by_problem():
    values = pass_at_k(np.array([[4], [5]]), np.array([0, 1, 4]), 2)
    assert values.shape == (2, 3)
    assert values.dtype == np.float64
    np.testing.assert_allclose(values[0], [0, 1 / 2, 1])
    assert not np.signbit(values).any()
    np.testing.assert_allclose(values[1], [0, 2 / 5, 1])
    assert pass_at_k(np.zeros(0, int), np.zeros(0, int), 1).shape == (0,)


@pytest.mark.parametrize(
    ("n", "c", "k", "message"),
    [
        (4, 2, 5, r"`samples` must be >= k, but got samples=4 and k=5\."),
        ([9, 4], [2, 2], 5, r"`samples` must be >= k, but got samples=4 and k=5\."),
        (4, 5, 1, r"`passed` must be in \[0, samples\], but got passed=5 of samples=4\."),
        (4, [1, -1], 1, r"`passed` must be in \[0, samples\], but got passed=-1 of samples=4\."),
        (4, 2, 0, r"`k` must be a whole number >= 1, but got k=0\."),
        (4, 2, -1, r"`k` must be a whole number >= 1, but got k=-1\."),
        (4, 2, 1.5, r"`k` must be a whole number >= 1, but got k=1\.5\."),
        (4.0, 2, 1, r"`samples` must be whole numbers, but got dtype float64\."),
        (4, np.nan, 1, r"`passed` must be whole numbers, but got dtype float64\."),
        (4, True, 1, r"`passed` must be whole numbers, but got dtype bool\."),
    ],
)
def test_numbers_that_cannot_be_are_refused(n, c, k, message):
    with pytest.raises(ValueError, match=message):
        pass_at_k(n, c, k)

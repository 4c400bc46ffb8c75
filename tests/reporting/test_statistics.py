import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lab.metrics import find_metric
from lab.reporting.statistics import (
    Estimate,
    Verdict,
    corrected,
    estimate,
    holm,
    paired_gain,
    provisional_rate,
)

NLL = find_metric("nll")


def measured(values, error=None) -> dict[int, dict[str, float]]:
    """Seed -> NLL, with its standard error if there is one."""
    known = {} if error is None else {"nll_standard_error": error}
    return {seed: {"nll": value, **known} for seed, value in dict(values).items()}


def gain_of(first, second, error=0.05) -> Estimate:
    return paired_gain(NLL, measured(enumerate(first), error), measured(enumerate(second), error))


def of(values) -> Estimate:
    return gain_of(values, [0.0] * len(values))


def test_interval_of_two_seeds_equals_the_cauchy_formula():
    # With one degree of freedom t is Cauchy: its 97.5 % quantile is tan(0.475 pi), and the standard error of
    # two values is half their distance.
    found = of([0.10, 0.16])
    half = math.tan(0.475 * math.pi) * 0.03
    assert found.mean == pytest.approx(0.13)
    assert found.interval == pytest.approx((0.13 - half, 0.13 + half))
    assert found.p_value == pytest.approx(1 - 2 / math.pi * math.atan(0.13 / 0.03))
    assert (found.low, found.high) == pytest.approx((0.10, 0.16))


def test_interval_and_p_value_equal_scipys_paired_test():
    rng = np.random.default_rng(0)
    first, second = rng.normal(2.0, 0.1, 7), rng.normal(1.9, 0.1, 7)
    found = gain_of(first, second)
    expected = stats.ttest_rel(first, second)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.standard_deviation == pytest.approx(np.std(first - second, ddof=1))


def test_pairing_is_by_seed_and_not_by_position():
    found = paired_gain(NLL, measured({1: 5.0, 0: 1.0}), measured({0: 0.5, 1: 4.0}))
    assert dict(found.by_seed) == {0: 0.5, 1: 1.0}


def test_a_gain_is_positive_where_the_arm_is_better():
    accuracy = find_metric("choice_accuracy")
    low, high = ({seed: {"choice_accuracy": value + 0.01 * seed} for seed in (0, 1)} for value in (0.3, 0.5))
    assert dict(paired_gain(accuracy, low, high).by_seed) == pytest.approx({0: 0.2, 1: 0.2})
    assert dict(paired_gain(accuracy, high, low).by_seed) == pytest.approx({0: -0.2, 1: -0.2})
    assert gain_of([0.3], [0.5]).mean == pytest.approx(-0.2)


def test_held_out_errors_of_both_arms_add_and_seeds_do_not_shrink_them():
    two, five = of([0.1, 0.2]), of([0.1, 0.2, 0.1, 0.2, 0.1])
    assert two.held_out_error == pytest.approx(0.05 * math.sqrt(2))
    assert five.held_out_error == pytest.approx(two.held_out_error)
    uneven = paired_gain(NLL, measured({0: 1.0}, 0.03), measured({0: 0.5}, 0.04))
    assert uneven.held_out_error == pytest.approx(0.05)
    assert paired_gain(NLL, measured({0: 1.0}, 0.03), measured({0: 0.5})).held_out_error is None


def test_one_seed_has_no_interval():
    one = of([0.3])
    assert (one.standard_deviation, one.interval, one.p_value) == (None, None, None)
    assert one.verdict == Verdict(0, "too few seeds")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0.25, 0.25], [0.0, 0.0]),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([2.1, 2.2, 2.3], [2.0, 2.1, 2.2]),  # 0.1 but for the last bit, which once gave p = 4e-31
        ([3.3, 2.2, 1.1], [3.3 * (1 + 2e-16), 2.2, 1.1]),  # 0 but for the last bit
    ],
)
def test_seeds_without_spread_have_no_interval_and_decide_nothing(first, second):
    same = gain_of(first, second)
    assert (same.standard_deviation, same.interval, same.p_value) == (0.0, None, None)
    assert same.verdict == Verdict(0, "no spread")


def test_rounding_is_judged_by_the_size_of_the_numbers_that_differences_came_from():
    shift = 1e-8 * np.array([1, 2, 3])
    assert estimate(dict(enumerate(0.1 + shift)), scale=1.0).standard_deviation == pytest.approx(1e-8)
    assert estimate(dict(enumerate(0.1 + shift)), scale=1000.0).standard_deviation == 0


def test_a_small_spread_is_a_spread():
    assert of([0.1, 0.1 + 1e-6, 0.1 - 1e-6]).p_value < 1e-6


def test_only_seeds_of_which_both_have_the_metric_are_compared():
    some = measured({0: 1.0, 1: 2.0}) | {3: {"option_gap": 1.0}}
    assert dict(paired_gain(NLL, some, measured({1: 0.5, 2: 1.0, 3: 1.0})).by_seed) == {1: 1.5}
    assert paired_gain(NLL, some, measured({2: 1.0, 3: 1.0})) is None


def test_coverage_of_the_interval_is_nominal():
    rng = np.random.default_rng(1)
    draws = rng.normal(0.2, 0.05, (2000, 3))
    intervals = [of(list(values)).interval for values in draws]
    covered = np.mean([low <= 0.2 <= high for low, high in intervals])
    assert covered == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 2000))


def test_holm_multiplies_the_smallest_by_all_and_never_decreases():
    # Worked by hand: sorted .01, .02, .03, .04 times 4, 3, 2, 1, then the running maximum.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_holm_counts_only_the_tests_that_exist():
    assert holm([None, 0.01, None, 0.04]) == [None, pytest.approx(0.02), None, pytest.approx(0.04)]
    assert holm([None, None]) == [None, None]
    assert holm([]) == []


def test_a_family_is_corrected_and_what_is_absent_stays_absent():
    family = [of([0.1, 0.2, 0.4]), None, of([0.3]), of([0.2, 0.2, 0.2]), of([0.5, 0.6, 0.5])]
    first, none, one, same, last = corrected(family)
    assert none is None
    assert (one.adjusted_p, same.adjusted_p) == (None, None)
    assert last.adjusted_p == pytest.approx(2 * family[4].p_value)
    assert first.adjusted_p == pytest.approx(family[0].p_value)
    assert (first.by_seed, first.interval, first.p_value) == (
        family[0].by_seed,
        family[0].interval,
        family[0].p_value,
    )


def test_the_corrected_p_value_decides_and_alone_the_plain_one():
    values = [0.20, 0.21, 0.35]  # p = 0.034, and the mean exceeds the range
    alone = of(values)
    assert (alone.decisive_p, alone.verdict) == (alone.p_value, Verdict(1, "test"))
    beside = corrected([alone, of([0.0, 0.1, -0.1])])[0]
    assert beside.decisive_p == beside.adjusted_p == pytest.approx(2 * alone.p_value)
    assert beside.verdict == Verdict(1, "seed spread")


@pytest.mark.parametrize(
    ("values", "adjusted_p", "expected"),
    [
        ([0.20, 0.21, 0.22], 0.001, Verdict(1, "test")),
        ([-0.20, -0.21, -0.22], 0.001, Verdict(-1, "test")),
        ([0.10, 0.16], 0.3, Verdict(1, "seed spread")),
        ([-0.10, -0.16], 0.3, Verdict(-1, "seed spread")),
        ([0.05, 0.16], 0.3, Verdict(0, "none")),  # one sign, but the mean is within the spread
        ([-0.01, 0.20], 0.3, Verdict(0, "none")),  # the seeds disagree
        ([0.5], None, Verdict(0, "too few seeds")),
    ],
)
def test_verdicts(values, adjusted_p, expected):
    assert replace(of(values), adjusted_p=adjusted_p).verdict == expected


@pytest.mark.parametrize(("seeds", "expected"), [(2, 0.2952), (3, 0.0808), (4, 0.0213), (5, 0.0055)])
def test_the_rate_at_which_chance_makes_a_provisional_winner(seeds, expected):
    """Two seeds: P(|t| > 2) with one degree of freedom. The others: 100,000 made-up comparisons."""
    rate = provisional_rate(seeds)
    assert rate == pytest.approx(expected, abs=5e-5)
    values = np.random.default_rng(seeds).normal(size=(100_000, seeds))
    made = np.mean(np.abs(values.mean(axis=1)) > np.ptp(values, axis=1))
    assert made == pytest.approx(rate, abs=3 * math.sqrt(rate * (1 - rate) / 100_000))
    judged = [replace(of(list(row)), adjusted_p=1.0).verdict.winner != 0 for row in values[:300]]
    assert judged == (np.abs(values[:300].mean(axis=1)) > np.ptp(values[:300], axis=1)).tolist()
    if seeds == 2:
        assert rate == pytest.approx(2 * stats.t.sf(2, 1))

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from lab.metrics import METRICS, TRAINING, find_metric
from lab.reporting.moderated import moderate
from lab.reporting.statistics import (
    Estimate,
    Verdict,
    corrected,
    estimate,
    holm,
    judge_together,
    judged_apart,
    moderated,
    paired_gain,
)

NLL = find_metric("nll")
NO_SPREAD = Verdict("undecided", reason="no spread")


def measured(values) -> dict[int, dict[str, float]]:
    """Seed -> NLL."""
    return {seed: {"nll": value} for seed, value in dict(values).items()}


def gain_of(first, second, **more) -> Estimate:
    return paired_gain(NLL, measured(enumerate(first)), measured(enumerate(second)), **more)


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
    # Beyond the margin of 0.05 by 0.08, to the wrong side.
    assert found.equivalence_p == pytest.approx(0.5 + math.atan(0.08 / 0.03) / math.pi)
    assert (found.low, found.high) == pytest.approx((0.10, 0.16))


def test_interval_and_p_value_equal_scipys_paired_test():
    rng = np.random.default_rng(0)
    first, second = rng.normal(2.0, 0.1, 7), rng.normal(1.9, 0.1, 7)
    found = gain_of(first, second)
    expected = stats.ttest_rel(first, second)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.standard_deviation == pytest.approx(np.std(first - second, ddof=1))


@pytest.mark.parametrize("shift", [-0.08, -0.02, 0.0, 0.03, 0.2])
@pytest.mark.parametrize("seeds", [2, 3, 8])
def test_equivalence_is_statsmodels_two_one_sided_tests(shift, seeds):
    rng = np.random.default_rng(seeds)
    first = rng.normal(2.0, 0.1, seeds)
    second = first + shift + rng.normal(0.0, 0.02, seeds)
    found = gain_of(first, second)
    p, *_ = ttost_paired(first, second, -0.05, 0.05)
    assert found.equivalence_p == pytest.approx(p)
    low, high = found.equivalence_interval
    assert (p < 0.05) == (-0.05 < low < high < 0.05)
    assert (low, high) == pytest.approx(tuple(stats.ttest_rel(first, second).confidence_interval(0.9)))


def test_a_caller_may_set_the_levels_and_the_margin():
    values = [0.01, 0.02, 0.03]  # t = 3.46, p = 0.074; against the margin t = 5.2, p = 0.018
    first, second = [2 + value for value in values], [2.0, 2.0, 2.0]
    assert gain_of(first, second).verdict == Verdict("equivalent", within_margin=True)
    looser = gain_of(first, second, alpha=0.1, equivalence_alpha=0.01)
    assert looser.verdict == Verdict("differs", 1)
    assert looser.interval == pytest.approx(
        tuple(stats.ttest_1samp(np.subtract(first, second), 0).confidence_interval(0.9))
    )
    assert replace(looser, alpha=0.05).verdict == Verdict("undecided", reason="tests")
    assert replace(looser, equivalence_alpha=0.02).verdict == Verdict("differs", 1, within_margin=True)
    assert replace(looser, margin=None).equivalence_p is None
    assert replace(looser, margin=None, alpha=0.05).verdict == Verdict("undecided", reason="tests")


def test_margins_are_declared_of_what_is_compared_and_of_nothing_else():
    declared = {key: metric.margin for key, metric in METRICS.items() if metric.margin is not None}
    assert declared == {
        **dict.fromkeys(("nll", "nll_exact", "nll_by_token", "nelbo", "option_gap", "judge_nll"), 0.05),
        **dict.fromkeys(("choice_true_nll", "choice_wrong_nll", "nll_calibrated", "train_nll"), 0.05),
        **dict.fromkeys(("infilling_nll", "infilling_left_nll"), 0.05),
        **dict.fromkeys(("choice_accuracy", "parse_rate", "infilling_accuracy"), 0.02),
        **dict.fromkeys(("pass_at_1", "pass_at_k", "infilling_pass_at_1", "code_parses"), 0.02),
        **dict.fromkeys(
            (
                "retrieval_pass_at_1",
                "ngram_pass_at_1",
                "reference_pass_at_1",
                "task_accuracy",
                "task_accuracy_norm",
            ),
            0.02,
        ),
        "bits_per_byte": 0.072,  # 0.05 / ln 2
    }
    assert not declared.keys() & set(TRAINING)
    same = {seed: {"distinct": 0.5 + 1e-4 * seed} for seed in range(5)}
    other = {seed: {"distinct": 0.5 + 1e-4 * (seed % 2)} for seed in range(5)}
    assert paired_gain(find_metric("distinct"), same, other).verdict.kind == "undecided"


def test_pairing_is_by_seed_and_not_by_position():
    found = paired_gain(NLL, measured({1: 5.0, 0: 1.0}), measured({0: 0.5, 1: 4.0}))
    assert dict(found.by_seed) == {0: 0.5, 1: 1.0}


def test_a_gain_is_positive_where_the_arm_is_better():
    accuracy = find_metric("choice_accuracy")
    low, high = ({seed: {"choice_accuracy": value + 0.01 * seed} for seed in (0, 1)} for value in (0.3, 0.5))
    assert dict(paired_gain(accuracy, low, high).by_seed) == pytest.approx({0: 0.2, 1: 0.2})
    assert dict(paired_gain(accuracy, high, low).by_seed) == pytest.approx({0: -0.2, 1: -0.2})
    assert gain_of([0.3], [0.5]).mean == pytest.approx(-0.2)


def test_one_seed_has_no_interval():
    one = of([0.3])
    assert (one.standard_deviation, one.interval, one.p_value, one.equivalence_p) == (None,) * 4
    assert one.verdict == Verdict("undecided", reason="too few seeds")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0.25, 0.25], [0.0, 0.0]),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),  # equal arms are not shown to be equivalent
        ([2.1, 2.2, 2.3], [2.0, 2.1, 2.2]),  # 0.1 but for the last bit, which once gave p = 4e-31
        ([3.3, 2.2, 1.1], [3.3 * (1 + 2e-16), 2.2, 1.1]),  # 0 but for the last bit
    ],
)
def test_seeds_without_spread_have_no_interval_and_decide_nothing(first, second):
    same = gain_of(first, second)
    assert (same.standard_deviation, same.interval, same.p_value, same.equivalence_p) == (0.0, *(None,) * 3)
    assert same.verdict == NO_SPREAD


@pytest.mark.parametrize("by_seed", [{}, {0: 1.0, 1: math.nan}, {0: math.inf}])
def test_what_is_no_number_is_refused(by_seed):
    with pytest.raises(
        ValueError, match=r"`by_seed` must hold finite numbers, at least one, but got by_seed=\{"
    ):
        estimate(by_seed)


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
    family = [of([0.1, 0.2, 0.4]), None, of([0.3]), of([0.2, 0.2, 0.2]), of([0.01, 0.0, 0.02])]
    first, none, one, same, last = corrected(family)
    assert none is None
    assert (one.adjusted_p, same.adjusted_p, same.adjusted_equivalence_p) == (None, None, None)
    assert last.adjusted_p == pytest.approx(2 * min(family[4].p_value, family[0].p_value))
    assert first.adjusted_p == last.adjusted_p  # the running maximum
    # The tests against the margin are a family of their own.
    assert last.adjusted_equivalence_p == pytest.approx(2 * family[4].equivalence_p)
    assert first.adjusted_equivalence_p == pytest.approx(family[0].equivalence_p)
    assert (first.by_seed, first.interval, first.p_value) == (
        family[0].by_seed,
        family[0].interval,
        family[0].p_value,
    )


def test_the_corrected_p_values_decide_and_alone_the_plain_ones():
    values = [0.20, 0.21, 0.35]  # p = 0.034
    alone = of(values)
    assert (alone.decisive_p, alone.verdict) == (alone.p_value, Verdict("differs", 1))
    beside = corrected([alone, of([0.0, 0.1, -0.1])])[0]
    assert beside.decisive_p == beside.adjusted_p == pytest.approx(2 * alone.p_value)
    assert beside.verdict == Verdict("undecided", reason="tests")
    level = of([0.014, 0.0, -0.0315])  # p = 0.041 of equivalence
    assert level.verdict == Verdict("equivalent", within_margin=True)
    assert corrected([level, level])[0].verdict == Verdict("undecided", reason="tests")


@pytest.mark.parametrize(
    ("values", "ps", "expected"),
    [
        ([0.20, 0.21, 0.22], (0.001, 0.9), Verdict("differs", 1)),
        ([-0.20, -0.21, -0.22], (0.001, 0.9), Verdict("differs", -1)),
        ([0.010, 0.011, 0.012], (0.001, 0.001), Verdict("differs", 1, within_margin=True)),
        ([0.000, 0.011, 0.001], (0.3, 0.001), Verdict("equivalent", within_margin=True)),
        ([0.10, 0.16], (0.3, 0.7), Verdict("undecided", reason="tests")),  # all agree, and it is undecided
        ([0.5], (None, None), Verdict("undecided", reason="too few seeds")),
    ],
)
def test_verdicts(values, ps, expected):
    p, q = ps
    assert replace(of(values), adjusted_p=p, adjusted_equivalence_p=q).verdict == expected


def table(contrasts, seeds=3):
    rng = np.random.default_rng(contrasts)
    return [of(list(row)) for row in rng.normal(0.1, 0.05, (contrasts, seeds))]


def test_six_contrasts_share_their_variance_and_five_do_not():
    five, six = table(5), table(6)
    assert moderated(five) == five
    shared = moderated(six)
    variances, degrees = moderate(np.array([made.standard_deviation**2 for made in six]), 2)
    for made, plain, variance, freedom in zip(shared, six, variances, degrees, strict=True):
        assert made.moderated
        assert (made.mean, made.standard_deviation) == (plain.mean, plain.standard_deviation)
        error = math.sqrt(variance / 3)
        assert made.p_value == pytest.approx(2 * stats.t.sf(made.mean / error, freedom))
        assert made.interval == pytest.approx(tuple(stats.t.interval(0.95, freedom, made.mean, error)))
        assert made.equivalence_p == pytest.approx(stats.t.cdf((made.mean - 0.05) / error, freedom))
    assert [made.adjusted_p for made in judge_together(six)] == pytest.approx(
        holm([made.p_value for made in shared])
    )


def test_judged_apart_each_has_its_own_spread_again():
    family = [*table(6), None, of([0.1, 0.1, 0.1]), of([0.3])]
    assert judged_apart(judge_together(family)) == corrected(family)
    assert judged_apart(family) == corrected(family)


def test_what_has_no_spread_neither_counts_nor_is_moderated():
    family = [*table(5), of([0.1, 0.1, 0.1]), None, of([0.3])]
    assert moderated(family) == family
    *six, same, none, one = moderated([*table(6), *family[5:]])
    assert all(made.moderated for made in six)
    assert (same.verdict, none, one.verdict.reason) == (NO_SPREAD, None, "too few seeds")


def test_contrasts_of_fewer_seeds_take_more_from_the_others():
    family = [*table(6, seeds=5), of([0.1, 0.2])]
    *five, two = moderated(family)
    prior = {made.degrees - 4 for made in five}
    assert len(prior) == 1
    assert two.degrees == pytest.approx(prior.pop() + 1)

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lab.registration import Registration
from lab.reporting.sequential import (
    decide,
    equivalence_p,
    levels_for,
    look_by_look,
    nominal_levels,
    paired_p,
    spent,
)
from lab.sections import pairs

LOOKS = (3, 5, 8, 12, 16)
RULE = Registration(contrasts=pairs({"dlm": "ar"}))
SIMULATED = Path(__file__).parents[2] / "benchmarks" / "sequential_looks.json"


@pytest.mark.parametrize(
    ("looks", "alpha", "sides", "bounds"),
    [
        # Lan-DeMets bounds of Pocock type at equally spaced looks: Reboussin et al. 2000 (ld98), two-sided;
        # rpact's `asP`, one-sided.
        ((1, 2, 3, 4, 5), 0.05, 2, (2.438, 2.427, 2.410, 2.397, 2.386)),
        ((1, 2, 3), 0.025, 1, (2.279, 2.295, 2.296)),
        ((16,), 0.05, 2, (1.960,)),
    ],
)
def test_bounds_of_a_known_spread_are_the_published_ones(looks, alpha, sides, bounds):
    levels = nominal_levels(looks, alpha, sides, unknown=0)
    assert [stats.norm.isf(level / sides) for level in levels] == pytest.approx(bounds, abs=6e-4)


def test_all_is_spent_at_the_last_look_and_the_first_is_tested_exactly():
    assert spent(1.0, 0.05) == pytest.approx(0.05)
    assert nominal_levels(LOOKS, 0.05)[0] == pytest.approx(spent(3 / 16, 0.05))
    assert all(
        small < large
        for small, large in zip(nominal_levels(LOOKS, 0.05 / 3), nominal_levels(LOOKS, 0.05), strict=True)
    )


@pytest.mark.parametrize("sides", [1, 2])
def test_t_tests_at_these_levels_spend_what_they_may(sides):
    """As Monte Carlo finds; with the levels of a known spread they spend over a tenth more."""
    draws = np.random.default_rng(0).standard_normal((16, 200_000))
    p = np.stack([paired_p(draws[:look]) for look in LOOKS])
    if sides == 1:
        signs = np.stack([draws[:look].sum(axis=0) for look in LOOKS])
        p = np.where(signs > 0, p / 2, 1 - p / 2)
    crossed = {
        unknown: np.mean((p <= np.array(nominal_levels(LOOKS, 0.05, sides, unknown))[:, None]).any(axis=0))
        for unknown in (0, 2)
    }
    error = math.sqrt(0.05 * 0.95 / 200_000)
    assert abs(crossed[2] - 0.05) < 0.001 + 3 * error
    assert crossed[0] > 0.054


def test_p_values_are_those_of_scipy():
    gains = np.random.default_rng(1).normal(0.02, 0.05, (5, 4))
    assert paired_p(gains) == pytest.approx(stats.ttest_1samp(gains, 0).pvalue)
    upper = stats.ttest_1samp(gains, 0.05, alternative="less").pvalue
    lower = stats.ttest_1samp(gains, -0.05, alternative="greater").pvalue
    assert equivalence_p(gains, 0.05) == pytest.approx(np.maximum(upper, lower))


def test_seeds_without_spread_decide_nothing():
    gains = np.array([[0.2], [0.2 + 1e-12], [0.2]])
    assert (paired_p(gains), equivalence_p(gains, 0.05)) == (1, 1)
    (made,) = decide([gains[:, 0]], RULE)
    assert (made.verdict, made.interval, made.p_value, made.mean) == (
        "undecided",
        None,
        None,
        pytest.approx(0.2),
    )


def test_a_spread_that_is_rounding_of_what_was_compared_decides_nothing():
    gains = [4.4e-16, 0.0, -4.4e-16]
    (made,) = decide([gains], RULE, [[2.3, 2.3, 2.3]])
    assert (made.verdict, made.interval, made.equivalence_interval, made.p_value, made.equivalence_p) == (
        "undecided",
        *[None] * 4,
    )
    # A later seed's size says nothing of an earlier look.
    assert decide([[0.2, 0.21, 0.19, 0.2]], RULE, [[2.3] * 3 + [1e12]])[0].verdict == "differs"
    assert decide([[0.2, 0.21, 0.19]], RULE, [[1e12] * 3])[0].verdict == "undecided"


def look(p_values, levels):
    """What comes of p-values (looks x contrasts) for a difference, where nothing is equivalent."""
    difference = np.array(p_values)
    levels = np.array(levels)
    return look_by_look(difference, np.ones_like(difference), levels, levels)


def test_a_contrast_that_is_rejected_leaves_its_share_to_the_others():
    levels = np.repeat([[0.06], [0.03], [0.02]], 2, axis=1)  # for three contrasts at two looks
    found = look([[0.02, 0.03, 0.07], [0.5, 0.5, 0.06]], levels)
    assert found.differs.tolist() == [True, True, True]
    assert found.stopped.tolist() == [0, 0, 1]
    found = look([[0.021, 0.021, 0.021], [0.02, 0.031, 0.9]], levels)
    assert found.differs.tolist() == [True, False, False]
    assert found.stopped.tolist() == [1, 2, 2]
    assert found.difference_levels.tolist() == [0.02, 0.03, 0.03]


def test_what_is_equivalent_is_tested_no_more_and_keeps_its_share():
    levels = np.repeat([[0.05], [0.025]], 2, axis=1)
    difference, equivalence = np.array([[0.9, 0.9], [0.001, 0.04]]), np.array([[0.01, 0.9], [0.9, 0.9]])
    found = look_by_look(difference, equivalence, levels, levels)
    assert found.equivalent.tolist() == [True, False]
    assert found.differs.tolist() == [False, False]  # 0.04 > 0.025: nothing of the first's was passed on
    assert found.stopped.tolist() == [0, 2]


def test_a_decision_is_a_function_of_the_seeds_up_to_its_look_and_stays():
    generator = np.random.default_rng(2)
    for truth in (0.0, 0.06, 0.2):
        gains = generator.normal(truth, 0.05, (2, 16))
        made = {n: decide(gains[:, :n].tolist(), RULE) for n in range(17)}
        for index in range(2):
            decided = [n for n in made if made[n][index].verdict != "undecided"]
            assert all(made[n][index] == made[decided[0]][index] for n in decided)
            assert decided == list(range(decided[0], 17)) if decided else True
        assert made[2] == [made[0][0]] * 2
        assert [one.seeds for one in made[4]] == [3, 3]
        assert made[4] == made[3]


def test_a_look_waits_for_the_seeds_of_every_contrast():
    whole, short = [0.2, 0.21, 0.19], [0.2, 0.21]
    assert [one.seeds for one in decide([whole, short], RULE)] == [0, 0]
    assert [one.verdict for one in decide([whole, [*short, 0.19]], RULE)] == ["differs", "differs"]


def test_the_interval_leaves_out_zero_exactly_if_the_contrast_differs():
    generator = np.random.default_rng(3)
    seen = set()
    for truth in np.linspace(0, 0.2, 40):
        for made in decide(generator.normal(truth, 0.05, (3, 16)).tolist(), RULE):
            low, high = made.interval
            assert (low > 0 or high < 0) == (made.verdict == "differs")
            low, high = made.equivalence_interval
            assert (-RULE.margin < low and high < RULE.margin) == made.within_margin
            assert stats.t.interval(1 - made.level, made.seeds - 1)[1] > stats.t.interval(0.95, 15)[1]
            seen.add(made.verdict)
    assert seen >= {"differs", "equivalent"}


def test_a_small_difference_may_lie_within_the_margin():
    (made,) = decide([[0.020, 0.0201, 0.0199]], RULE)
    assert (made.verdict, made.within_margin) == ("differs", True)


def test_the_simulation_holds_its_errors_and_peeking_does_not():
    rows = json.loads(SIMULATED.read_text(encoding="utf-8"))["rows"]
    errors = {
        rule: [
            max(row["any_false_difference"], row["any_false_equivalence"])
            for row in rows
            if row["rule"] == rule
        ]
        for rule in ("spending", "peeking")
    }
    assert max(errors["spending"]) <= 0.05
    assert max(errors["peeking"]) > 0.15


def test_levels_are_for_shares_of_alpha():
    difference, equivalence = levels_for(RULE, 3)
    assert difference.shape == equivalence.shape == (3, 5)
    assert difference[2] == pytest.approx(nominal_levels(LOOKS, 0.05 / 3, 2))
    assert equivalence[0] == pytest.approx(nominal_levels(LOOKS, 0.05, 1))

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import special, stats

from lab.reporting.moderated import CAP, fit_prior, moderate, trigamma_inverse


@pytest.mark.parametrize("x", [1e-3, 0.5, 3.0, 40.0, 1e4])
def test_the_inverse_of_trigamma(x):
    assert trigamma_inverse(special.polygamma(1, np.array([x]))) == pytest.approx([x], rel=1e-6)


def test_the_moments_are_smyths_worked_by_hand():
    """Two variances with 2 degrees of freedom: digamma(1) = -0.5772, trigamma(1) = pi^2 / 6."""
    variances, degrees = np.array([1e-3, 1e3]), np.array([2.0, 2.0])
    prior, variance = fit_prior(variances, degrees)
    excess = 2 * np.log(1e3) ** 2 - np.pi**2 / 6
    assert special.polygamma(1, prior / 2) == pytest.approx(excess)
    expected = np.exp(np.euler_gamma + special.digamma(prior / 2) - np.log(prior / 2))
    assert variance == pytest.approx(expected)


def test_the_parameters_are_recovered_from_many_independent_variances():
    """Smyth's model: s^2 ~ sigma^2 chi2(d) / d, and sigma^2 = d0 s0^2 / chi2(d0)."""
    generator = np.random.default_rng(0)
    true = 5.0 * 0.04 / generator.chisquare(5.0, 200_000)
    prior, variance = fit_prior(true * generator.chisquare(3, true.shape) / 3, np.full_like(true, 3))
    assert (prior, variance) == pytest.approx((5.0, 0.04), rel=0.05)


def test_variances_that_are_too_alike_have_an_infinite_prior_which_is_capped():
    variances = np.array([1.0, 1.1, 0.9, 1.0, 1.2, 0.8])
    prior, variance = fit_prior(variances, np.full(6, 2.0))
    assert prior == np.inf
    shared, degrees = moderate(variances, 2)
    assert degrees == pytest.approx(np.full(6, 2 + CAP))
    assert shared == pytest.approx((CAP * variance + 2 * variances) / (CAP + 2))
    pooled, degrees = moderate(variances, 2, cap=np.inf)
    assert pooled == pytest.approx(np.full(6, variance))
    assert np.isinf(degrees).all()


def test_variances_far_apart_are_hardly_moderated():
    variances = 10.0 ** np.arange(-6, 6)
    shared, degrees = moderate(variances, 4)
    assert degrees.max() < 4.5
    assert shared[6:] == pytest.approx(4 / degrees[6:] * variances[6:], rel=0.2)


def test_tables_are_moderated_each_by_itself():
    variances = np.random.default_rng(1).chisquare(2, (4, 7))
    together, degrees = moderate(variances, 2)
    for row, own in enumerate(variances):
        alone = moderate(own, 2)
        assert (together[row], degrees[row]) == (pytest.approx(alone[0]), pytest.approx(alone[1]))


def test_the_cap_keeps_the_family_error_that_a_shared_reference_breaks():
    """Three seeds, six gains over one reference, no true difference, half with four times the variance."""
    generator = np.random.default_rng(2)
    own = np.sqrt(np.array([1, 4, 1, 4, 1, 4]) - 0.5)[:, None]
    gains = own * generator.normal(size=(4000, 6, 3)) - np.sqrt(0.5) * generator.normal(size=(4000, 1, 3))
    wrong = {}
    for cap in (CAP, np.inf):
        variances, degrees = moderate(gains.var(axis=-1, ddof=1), 2, cap)
        p = 2 * stats.t.sf(np.abs(gains.mean(axis=-1)) / np.sqrt(variances / 3), degrees)
        wrong[cap] = np.mean(p.min(axis=-1) < 0.05 / 6)
    assert wrong[CAP] < 0.09  # 7 %, as docs/statistics.md says
    assert wrong[np.inf] > 0.11  # 12 %


def test_the_docs_show_what_the_committed_simulation_found():
    root = Path(__file__).parents[2]
    found = json.loads((root / "benchmarks" / "statistics_simulation.json").read_text(encoding="utf-8"))
    text = (root / "docs" / "statistics.md").read_text(encoding="utf-8")
    percent = "{:.1f}, {:.1f}; {:.1f}"
    for row in found["tables"] + found["wider"]:
        if row["test"] in ("plain", "moderated", "not capped"):
            keys = ("coverage", "worst coverage", "family error")
            assert percent.format(*(100 * row[key] for key in keys)) in text, row
    held = [row for row in found["tables"] if row["test"] == "moderated"]
    assert max(row["family error"] for row in held) < 0.075
    assert min(row["coverage"] for row in held) > 0.935
    assert min(row["worst coverage"] for row in held) > 0.84
    assert max(row["false equivalence"] for row in held) < 0.06
    wider = [row for row in found["wider"] if row["test"] == "moderated"]
    assert max(row["family error"] for row in wider) < 0.12
    assert min(row["worst coverage"] for row in wider) > 0.74

"""What the tests of a page promise, in made-up tables where the truth is known.

    python benchmarks/statistics_simulation.py      about a minute on one core; writes the .json beside it

A table has 6 or 18 arms and a reference, which all gains share, at 3, 5 or 8 seeds; errors are normal. The
variances of its gains are equal; or half of them, or a single one, have four times that of the others
(`wider`: sixteen times).
Three tests: the plain paired t, the moderated t as the lab makes it (`lab.reporting.moderated`) and the same
without its cap; and two with a test of equal variances before the moderated one, which the lab does not have.

Of each: coverage of the 95 % intervals, averaged over the gains and of the worst; the share of tables without
a difference in which Holm's correction finds one; and, where every gain lies at the margin, the share of
gains and of tables that are called equivalent. A table errs where its smallest p-value is below
0.05 / (number of gains): that is Holm's first step. docs/statistics.md shows the result.
"""

import json
from pathlib import Path

import numpy as np
from scipy import stats

from lab.metrics import MARGIN
from lab.reporting.effects import CUBE, EFFECTS
from lab.reporting.moderated import fit_prior, moderate
from lab.reporting.power import smallest_decidable
from lab.reporting.statistics import ALPHA

TABLES = 20_000
SEEDS, CONTRASTS = (3, 5, 8), (6, 18)
VARIANCES, WIDER = ("equal", "half 4", "one 4"), ("half 16", "one 16")
# Where the gains lie at the margin: a spread that lets 3 to 8 seeds show a gain of 0 to be within it.
MARGIN_SD = 0.2 * MARGIN
SHARED = 0.5  # of the smallest variance of a gain, the part that is its reference's


def spreads(variances, contrasts):
    """(contrasts,) standard deviation of each gain over seeds."""
    place = np.arange(contrasts)
    which, _, times = variances.partition(" ")
    large = {"equal": place < 0, "half": place % 2 == 1, "one": place == 0}[which]
    return np.where(large, np.sqrt(float(times or 1)), 1.0)


def gains(generator, seeds, deviations):
    """(tables, contrasts, seeds) gains without a true difference, which share their reference's error."""
    shared = np.sqrt(SHARED) * generator.normal(size=(TABLES, 1, seeds))
    own = np.sqrt(deviations**2 - SHARED)[:, None] * generator.normal(size=(TABLES, len(deviations), seeds))
    return own - shared


def tests(values):
    """Name -> (variance of each gain, degrees of freedom) by each test."""
    variances = values.var(axis=-1, ddof=1)
    degrees = np.full_like(variances, values.shape[-1] - 1)
    moderated = moderate(variances, degrees)
    made = {
        "plain": (variances, degrees),
        "moderated": moderated,
        "not capped": moderate(variances, degrees, cap=np.inf),
    }
    equal = {
        "after Bartlett": bartlett(variances, degrees) > ALPHA,
        "after Smyth's d0 >= 6": fit_prior(variances, degrees)[0] >= 6,
    }
    for name, passes in equal.items():
        made[name] = tuple(
            np.where(passes[:, None], new, old) for new, old in zip(moderated, made["plain"], strict=True)
        )
    return made


def bartlett(variances, degrees):
    """(tables,) p-values of Bartlett's test, as `scipy.stats.bartlett` has them of values."""
    contrasts, freedom = variances.shape[-1], degrees[0, 0]
    total = contrasts * freedom
    statistic = total * np.log(variances.mean(axis=-1)) - freedom * np.log(variances).sum(axis=-1)
    statistic /= 1 + (contrasts / freedom - 1 / total) / (3 * (contrasts - 1))
    return stats.chi2.sf(statistic, contrasts - 1)


def judged(values, scale):
    """Test -> what it does where all gains are 0, and, times `scale`, where all lie at the margin."""
    mean, found = values.mean(axis=-1), {}
    for name, (variances, degrees) in tests(values).items():
        error = np.sqrt(variances / values.shape[-1])
        p = 2 * stats.t.sf(np.abs(mean) / error, degrees)
        covered = np.mean(p >= ALPHA, axis=0)
        equivalent = stats.t.sf((MARGIN - np.abs(MARGIN + scale * mean)) / (scale * error), degrees)
        found[name] = {
            "coverage": covered.mean(),
            "worst coverage": covered.min(),
            "family error": np.mean(p.min(axis=-1) < ALPHA / p.shape[-1]),
            "false equivalence": np.mean(equivalent < ALPHA),
            "family false equivalence": np.mean(equivalent.min(axis=-1) < ALPHA / p.shape[-1]),
        }
    return found


def tables(generator, patterns):
    """A row for each number of seeds and gains, pattern of variances and test."""
    rows = []
    for seeds in SEEDS:
        for contrasts in CONTRASTS:
            for variances in patterns:
                values = gains(generator, seeds, spreads(variances, contrasts))
                for test, found in judged(values, MARGIN_SD).items():
                    place = {"seeds": seeds, "contrasts": contrasts, "variances": variances, "test": test}
                    rows.append(place | {key: round(float(value), 4) for key, value in found.items()})
    return rows


def factorial(generator):
    """The same of the ten effects of the cube, where seeds move the effect of one factor or none."""
    weights, rows = np.array([effect.weights for effect in EFFECTS[1:]]), []
    signs = np.array([2 * levels[1] - 1 for levels in CUBE])[:, None]
    for moved in (0, 1):
        for seeds in SEEDS:
            corners = generator.normal(size=(TABLES, len(CUBE), seeds))
            corners += moved * signs * generator.normal(size=(TABLES, 1, seeds))
            for test, found in judged(weights @ corners, MARGIN_SD).items():
                if test in ("plain", "moderated"):
                    kept = {key: round(float(found[key]), 4) for key in list(found)[:3]}
                    rows.append({"seeds": seeds, "factor moved by seeds": bool(moved), "test": test} | kept)
    return rows


def main():
    """Simulate, and write what came out."""
    generator = np.random.default_rng(0)
    result = {
        "tables": tables(generator, VARIANCES),
        "factorial": factorial(generator),
        "wider": tables(np.random.default_rng(1), WIDER),
        "smallest decidable, in standard deviations": [
            {
                "seeds": seeds,
                "contrasts": contrasts,
                "multiple": round(smallest_decidable(1.0, seeds, contrasts), 3),
            }
            for seeds in (2, *SEEDS, 12, 16)
            for contrasts in (1, 3, *CONTRASTS)
        ],
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

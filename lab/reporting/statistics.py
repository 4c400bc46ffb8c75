"""Paired comparisons over seeds: intervals, tests corrected for their number, and verdicts.

What varies between repeats of one arm is its seed (initial weights, data order, draws). Both arms share each
seed and the held-out windows, so differences are taken seed by seed and the unit of repetition is the seed.
"""

import gc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import stats
from scipy.integrate import quad
from statsmodels.stats.multitest import multipletests

from lab.metrics import Metric

CONFIDENCE = 0.95
Measured = Mapping[str, float]  # metric -> value
# A spread over seeds below this share of the values is rounding, and nothing to judge by.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Verdict:
    """Which way a difference goes, and on what evidence.

    Attributes:
        winner: 1 if it is positive, -1 if negative, 0 if undecided.
        evidence: `test`, `seed spread`, `too few seeds`, `no spread` or `none`.
    """

    winner: int
    evidence: str

    @property
    def decided(self) -> bool:
        """Whether the test decides."""
        return self.evidence == "test"

    @property
    def provisional(self) -> bool:
        """Whether the spread of the seeds alone decides."""
        return self.evidence == "seed spread"


@dataclass(frozen=True)
class Estimate:
    """A number that each seed gives, such as a difference of two arms, and what is known of its mean.

    Attributes:
        by_seed: seed -> value, in the unit of what was compared; of a difference positive is better.
        mean: over the seeds.
        standard_deviation: over the seeds (n - 1), None with one seed.
        interval: two-sided 95 % t interval of the mean, None with one seed or without spread.
        p_value: of the t test that the mean is 0, None with one seed or without spread.
        held_out_error: standard error from the finite number of held-out examples, None where it is not
            known. Every seed is judged on the same examples, so more seeds do not shrink it.
        adjusted_p: corrected for the number of tests in its family; None where it is a family of its own.
        bootstrap_interval: from the residuals of a whole design (`effects.residual_bootstrap`), if there is.
    """

    by_seed: Mapping[int, float]
    mean: float
    standard_deviation: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    held_out_error: float | None = None
    adjusted_p: float | None = None
    bootstrap_interval: tuple[float, float] | None = None

    @property
    def low(self) -> float:
        """The lowest value of any seed."""
        return min(self.by_seed.values())

    @property
    def high(self) -> float:
        """The highest value of any seed."""
        return max(self.by_seed.values())

    @property
    def decisive_p(self) -> float | None:
        """The p-value that decides: corrected, where it is one of a family."""
        return self.p_value if self.adjusted_p is None else self.adjusted_p

    @property
    def verdict(self) -> Verdict:
        """Whether the seeds show that the mean is not 0.

        - `test`: the t test, corrected for the number of tests in its family, has p < 0.05;
        - `seed spread`: else, every seed has the same sign and the mean exceeds the spread (highest minus
          lowest seed), so that the range of the seeds, moved to start at 0, would not reach it.

        The second is weaker and not corrected: reports call it provisional and give its rate
        (`provisional_rate`). It exists because the t interval of two seeds reaches 12.7 standard errors to
        either side and hides gaps of many times the spread. One seed has no spread and decides nothing, and
        neither do seeds that all give the same. The held-out error is no part of the verdict, which is about
        these held-out examples; it is shown beside it.
        """
        if self.decisive_p is None:
            return Verdict(0, "too few seeds" if len(self.by_seed) == 1 else "no spread")
        winner = int(np.sign(self.mean))
        if self.decisive_p < 1 - CONFIDENCE:
            return Verdict(winner, "test")
        one_sign = self.low > 0 or self.high < 0
        if one_sign and abs(self.mean) > self.high - self.low:
            return Verdict(winner, "seed spread")
        return Verdict(0, "none")


def estimate(
    by_seed: Mapping[int, float], scale: float = 0.0, held_out_error: float | None = None
) -> Estimate:
    """The mean of one value per seed, with its t interval and its t test against 0.

    mean +- t(0.975, n - 1) s / sqrt(n). With n = 2 the quantile is 12.7 (against 4.3 for three seeds and 2.8
    for five): two seeds tell almost nothing about their own spread, so the interval is honestly wide.
    Without spread, but for rounding, there is neither interval nor p-value: equal values are coarse or
    copied rather than certain, and t would be infinite.

    Args:
        by_seed: seed -> value, at least one.
        scale: size of the numbers that the values were computed from, where it is larger than theirs.
        held_out_error: as in `Estimate`.
    """
    values = list(by_seed.values())
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Estimate(by_seed, mean, None, None, None, held_out_error)
    deviation = float(np.std(values, ddof=1))
    if deviation <= ROUNDING * max(scale, float(np.max(np.abs(values)))):
        return Estimate(by_seed, mean, 0.0, None, None, held_out_error)
    error = deviation / math.sqrt(n)
    low, high = stats.t.interval(CONFIDENCE, n - 1, loc=mean, scale=error)
    p_value = 2 * float(stats.t.sf(abs(mean) / error, n - 1))
    return Estimate(by_seed, mean, deviation, (float(low), float(high)), p_value, held_out_error)


def paired_gain(
    metric: Metric, reference: Mapping[int, Measured], arm: Mapping[int, Measured]
) -> Estimate | None:
    """How much better an arm is than its reference by a metric, over the seeds of which both have it.

    The held-out error adds the two arms' errors as if each read examples of its own. Both read the same, and
    what is hard is hard for both, which makes it too large. It treats examples as independent, but several
    come from one document, which makes it too small.

    Args:
        metric: what is compared.
        reference: seed -> what was measured, by metric.
        arm: the same of the arm.

    Returns:
        Positive where the arm is better; None if no seed has both.
    """
    key = metric.key
    seeds = [
        seed for seed in sorted(reference.keys() & arm.keys()) if key in reference[seed] and key in arm[seed]
    ]
    if not seeds:
        return None
    sides = [{seed: side[seed] for seed in seeds} for side in (reference, arm)]
    first, second = sides if metric.lower_is_better else reversed(sides)
    squares = [np.square(list(errors.values())) for side in sides if (errors := sample_errors(metric, side))]
    return estimate(
        {seed: first[seed][key] - second[seed][key] for seed in seeds},
        max(abs(measured[key]) for side in sides for measured in side.values()),
        math.sqrt(sum(float(np.mean(square)) for square in squares)) if len(squares) == 2 else None,
    )


def corrected(family: Sequence[Estimate | None]) -> list[Estimate | None]:
    """Estimates whose tests are made together, with Holm's correction; None stays None."""
    adjusted = holm([made.p_value if made else None for made in family])
    return [made and replace(made, adjusted_p=p) for made, p in zip(family, adjusted, strict=True)]


def sample_errors(metric: Metric, measured: Mapping[int, Measured]) -> dict[int, float] | None:
    """Seed -> a metric's standard error over held-out examples; None where it was not measured."""
    for key in metric.errors[:1]:
        if all(key in values for values in measured.values()):
            return {seed: values[key] for seed, values in measured.items()}
    return None


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over the p-values that exist; the others stay None.

    Reference: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    known = [p for p in p_values if p is not None]
    if not known:
        return [None] * len(p_values)
    gc.freeze()  # statsmodels collects garbage at every call: 0.1 s and more, if it looks at all there is
    adjusted = iter(multipletests(known, alpha=1 - CONFIDENCE, method="holm")[1])
    gc.unfreeze()
    return [None if p is None else float(next(adjusted)) for p in p_values]


@cache
def provisional_rate(seeds: int) -> float:
    """How often seeds without a true difference meet the rule `seed spread` of a verdict, for one comparison.

    P(|mean| > range) of n normal values. Their mean is N(0, 1/n) and independent of their range R (Basu), so
    it is E[2 Phi(-sqrt(n) R)], by parts the integral of P(R <= r) 2 sqrt(n) phi(sqrt(n) r) over r > 0.
    """
    root = math.sqrt(seeds)

    def density(r: float) -> float:
        return float(stats.studentized_range.cdf(r, seeds, np.inf) * 2 * root * stats.norm.pdf(root * r))

    return float(quad(density, 0, np.inf)[0])

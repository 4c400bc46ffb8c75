"""Paired comparisons over seeds: intervals, tests corrected for their number, and verdicts.

What varies between repeats of one arm is its seed (initial weights, data order, draws). Both arms share each
seed and the held-out windows, so differences are taken seed by seed and the unit of repetition is the seed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.integrate import quad
from statsmodels.stats.multitest import multipletests

from lab.metrics import Metric

CONFIDENCE = 0.95
Measured = Mapping[str, float]  # metric -> value
# A spread over seeds below this share of the values is rounding, and nothing to judge by.
ROUNDING = 1e-9


@dataclass(frozen=True)
class PairedDifference:
    """A difference between two arms, paired by seed (units of the metric; positive: the second is lower).

    Attributes:
        by_seed: seed -> difference.
        mean: over the seeds.
        standard_deviation: over the seeds (n - 1), None with one seed.
        interval: two-sided 95 % paired t interval of the mean, None with one seed or without spread.
        p_value: of the paired t test that the mean is 0, None with one seed or without spread.
        window_standard_error: standard error from the finite number of held-out windows, None where it is
            not known. Every seed is judged on the same windows, so more seeds do not shrink it.
    """

    by_seed: Mapping[int, float]
    mean: float
    standard_deviation: float | None
    interval: tuple[float, float] | None
    p_value: float | None
    window_standard_error: float | None

    @property
    def low(self) -> float:
        """The lowest difference of any seed."""
        return min(self.by_seed.values())

    @property
    def high(self) -> float:
        """The highest difference of any seed."""
        return max(self.by_seed.values())


def paired_difference(
    first: Mapping[int, float],
    second: Mapping[int, float],
    first_window_errors: Mapping[int, float] | None,
    second_window_errors: Mapping[int, float] | None,
) -> PairedDifference:
    """`first - second`, seed by seed, with its uncertainty over seeds and over windows.

    mean +- t(0.975, n - 1) s / sqrt(n). With n = 2 the quantile is 12.7 (against 4.3 for three seeds and 2.8
    for five): two seeds tell almost nothing about their own spread, so the interval is honestly wide.

    The window error adds the two arms' errors as if each read windows of its own. Both read the same, and
    hard windows are hard for both, which makes it too large. It treats windows as independent, but several
    come from one document, which makes it too small.

    Args:
        first: seed -> value of the first arm.
        second: the same seeds -> value of the second arm.
        first_window_errors: seed -> standard error of the first arm's value over windows; None if not known.
        second_window_errors: the same for the second arm.

    Raises:
        ValueError: if the two arms have other seeds, or none.
    """
    if not first or set(first) != set(second):
        raise ValueError(f"both arms must have the same seeds, but got {sorted(first)} and {sorted(second)}.")
    by_seed = {seed: first[seed] - second[seed] for seed in sorted(first)}
    scale = max(abs(value) for arm in (first, second) for value in arm.values())
    mean, deviation, interval, p_value = over_seeds(list(by_seed.values()), scale)
    window_error = None
    if first_window_errors is not None and second_window_errors is not None:
        window_error = math.sqrt(
            float(np.mean(np.square(list(first_window_errors.values()))))
            + float(np.mean(np.square(list(second_window_errors.values()))))
        )
    return PairedDifference(by_seed, mean, deviation, interval, p_value, window_error)


def paired_gain(
    metric: Metric, reference: Mapping[int, Measured], arm: Mapping[int, Measured]
) -> PairedDifference:
    """How much better an arm is than its reference by a metric, seed by seed; positive if it is.

    Args:
        metric: what is compared.
        reference: seed -> what was measured, by metric.
        arm: the same seeds.
    """
    first, second = (reference, arm) if metric.lower_is_better else (arm, reference)
    return paired_difference(
        {seed: found[metric.key] for seed, found in first.items()},
        {seed: found[metric.key] for seed, found in second.items()},
        sample_errors(metric, first),
        sample_errors(metric, second),
    )


def sample_errors(metric: Metric, measured: Mapping[int, Measured]) -> dict[int, float] | None:
    """Seed -> a metric's standard error over held-out examples; None where it was not measured."""
    for key in metric.errors[:1]:
        if all(key in found for found in measured.values()):
            return {seed: found[key] for seed, found in measured.items()}
    return None


def over_seeds(
    values: Sequence[float] | NDArray[np.float64], scale: float = 0.0
) -> tuple[float, float | None, tuple[float, float] | None, float | None]:
    """Mean, standard deviation, t interval and p-value (against 0) of one value per seed.

    All but the mean are None with one seed. Without spread, but for rounding, there is neither interval nor
    p-value: equal values are coarse or copied rather than certain, and t would be infinite.

    Args:
        values: one per seed.
        scale: size of the numbers that the values were computed from, where it is larger than theirs.
    """
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return mean, None, None, None
    deviation = float(np.std(values, ddof=1))
    if deviation <= ROUNDING * max(scale, float(np.max(np.abs(values)))):
        return mean, 0.0, None, None
    error = deviation / math.sqrt(n)
    low, high = stats.t.interval(CONFIDENCE, n - 1, loc=mean, scale=error)
    p_value = 2 * float(stats.t.sf(abs(mean) / error, n - 1))
    return mean, deviation, (float(low), float(high)), p_value


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over the p-values that exist; the others stay None.

    Reference: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    known = [p for p in p_values if p is not None]
    if not known:
        return [None] * len(p_values)
    adjusted = iter(multipletests(known, alpha=1 - CONFIDENCE, method="holm")[1])
    return [None if p is None else float(next(adjusted)) for p in p_values]


@dataclass(frozen=True)
class Verdict:
    """Which arm is better at one budget, and on what evidence.

    Attributes:
        winner: 1 if the second arm is lower, -1 if the first is, 0 if undecided.
        evidence: `test`, `seed spread`, `too few seeds`, `no spread` or `none`.
    """

    winner: int
    evidence: str


def judge(difference: PairedDifference, adjusted_p: float | None) -> Verdict:
    """Decide whether a paired difference over seeds shows a winner.

    - `test`: the paired t test, Holm-corrected for the number of comparisons, has p < 0.05;
    - `seed spread`: else, every seed has the same sign and the mean exceeds the spread (highest minus lowest
      seed), so that the range of the seeds, moved to start at 0, would not reach it.

    The second is weaker, and not corrected for the number of comparisons: reports call such a winner
    provisional and give its rate (`provisional_rate`). It exists because the t interval of two seeds reaches
    12.7 standard errors to either side and hides gaps of many times the spread. One seed has no spread and
    decides nothing, and neither do seeds that all have the same difference. The window error is not part of
    the verdict, which is about these held-out windows; it is shown beside it.
    """
    if adjusted_p is None:
        return Verdict(0, "too few seeds" if len(difference.by_seed) == 1 else "no spread")
    winner = int(np.sign(difference.mean))
    if adjusted_p < 1 - CONFIDENCE:
        return Verdict(winner, "test")
    one_sign = difference.low > 0 or difference.high < 0
    if one_sign and abs(difference.mean) > difference.high - difference.low:
        return Verdict(winner, "seed spread")
    return Verdict(0, "none")


@cache
def provisional_rate(seeds: int) -> float:
    """How often seeds without a true difference meet the rule `seed spread` of `judge`, for one comparison.

    P(|mean| > range) of n normal values. Their mean is N(0, 1/n) and independent of their range R (Basu), so
    it is E[2 Phi(-sqrt(n) R)], by parts the integral of P(R <= r) 2 sqrt(n) phi(sqrt(n) r) over r > 0.
    """
    root = math.sqrt(seeds)

    def density(r: float) -> float:
        return float(stats.studentized_range.cdf(r, seeds, np.inf) * 2 * root * stats.norm.pdf(root * r))

    return float(quad(density, 0, np.inf)[0])

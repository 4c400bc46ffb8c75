"""The smallest gain that a table of comparisons can be expected to decide."""

import math
from functools import cache

import numpy as np
from scipy import stats

from lab.reporting.moderated import LEAST, moderate
from lab.reporting.statistics import ALPHA

POWER = 0.8
TABLES = 20_000  # simulated; the result is good to 1 %


def smallest_decidable(sd: float, seeds: int, contrasts: int, alpha: float = ALPHA) -> float | None:
    """The gain that a table calls different from 0 in 4 of 5 cases, where its other gains are 0.

    Args:
        sd: standard deviation over seeds of a paired difference.
        seeds: number of them.
        contrasts: that are tested together, by a moderated t where there are enough, with Holm's correction.
        alpha: level of the table.

    Returns:
        In the unit of `sd`; None with less than two seeds.
    """
    return None if seeds < 2 or contrasts < 1 else sd * _multiple(seeds, contrasts, alpha)


@cache
def _multiple(seeds: int, contrasts: int, alpha: float) -> float:
    """The same for a standard deviation of 1, by simulation of tables whose arms share a reference.

    Of a table in which all else is 0 Holm's first step decides, p < alpha / contrasts, whatever the other
    p-values are but for false ones. A table decides each gain above (quantile x standard error - the error of
    its mean), so the 80 % quantile of that over tables is the gain sought; that a large gain is called
    negative does not happen.
    """
    generator = np.random.default_rng(0)
    runs = generator.normal(size=(TABLES, contrasts + 1, seeds)) / math.sqrt(2)
    gains = runs[:, 1:] - runs[:, :1]
    variances = gains.var(axis=-1, ddof=1)
    degrees = np.full_like(variances, seeds - 1)
    if contrasts >= LEAST:
        variances, degrees = moderate(variances, degrees)
    quantile = stats.t.isf(alpha / contrasts / 2, degrees[:, 0])
    needed = quantile * np.sqrt(variances[:, 0] / seeds) - gains[:, 0].mean(axis=-1)
    return float(np.quantile(needed, POWER))

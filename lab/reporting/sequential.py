"""Tests that are looked at more than once: how much may be spent at each look, and what is decided there.

Seeds are added look by look until every primary contrast is decided. Testing each time at 5 % would call a
difference that is none far more often than that (docs/statistics.md). So the 5 % are spent over the looks by
a function that is fixed beforehand, and each look has its nominal p-level.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from lab.registration import Registration
from lab.reporting.statistics import ROUNDING

Array = np.ndarray[Any, np.dtype[Any]]
DIFFERS, EQUIVALENT, UNDECIDED = "differs", "equivalent", "undecided"
NODES = 128  # of a Gauss-Legendre rule over a smooth density: bounds agree with 512 nodes in 10 digits
FAR = 9.0  # standard deviations below which a one-sided continuation region is cut: 1e-19 is beyond
# The t statistics of two looks are less alike than the means are, as each has a spread of its own. With the
# means' dependence, tests at these levels call 12 % more differences than may be spent; with that of n - 2 in
# place of n seeds at most 3 % more, at every set of looks tried (docs/statistics.md).
UNKNOWN = 2


def spent(share: float, alpha: float) -> float:
    """The part of alpha that is spent when this share of the information is there: alpha ln(1 + (e - 1) t).

    Reference: Lan and DeMets 1983, Biometrika 70: the function that is like Pocock's bounds.
    """
    return alpha * math.log1p((math.e - 1) * share)


@cache
def nominal_levels(
    looks: tuple[int, ...], alpha: float, sides: int = 2, unknown: int = UNKNOWN
) -> tuple[float, ...]:
    """The p-level of each look, so that the chance to cross any up to it is what may be spent by then.

    The sum of standardised differences up to look k has independent normal increments. Its density over the
    region in which no look has decided is carried on from look to look by numerical integration; the bound
    of each look is where what lies beyond it is what this look may spend.

    Args:
        looks: numbers of seeds; information is a look's share of the last.
        alpha: what is spent in all.
        sides: 2 for |Z| > c, with two-sided levels; 1 for Z > c.
        unknown: seeds that are left out of how alike two looks are; 0 where the spread is known beforehand.

    Reference: Armitage, McPherson and Rowe 1969, JRSS A 132, for the recursion.
    """
    levels: list[float] = []
    before, paid = 0.0, 0.0
    nodes, density = np.zeros(1), np.ones(1)  # all of the sum at 0, with its weight in the density
    for look in looks:
        time, due = (look - unknown) / (looks[-1] - unknown), spent(look / looks[-1], alpha)
        step, root = math.sqrt(time - before), math.sqrt(time)

        def unpaid(bound: float, due: float, step: float, nodes: Array, density: Array) -> float:
            over = stats.norm.sf((bound - nodes) / step)
            under = stats.norm.cdf((-bound - nodes) / step) if sides == 2 else 0.0
            return float(np.sum(density * (over + under))) - due

        bound = float(brentq(unpaid, 0.0, FAR * root, (due - paid, step, nodes, density), xtol=1e-13))
        levels.append(sides * float(stats.norm.sf(bound / root)))
        points, weights = np.polynomial.legendre.leggauss(NODES)
        low = -bound if sides == 2 else -FAR * root
        following = low + (points + 1) / 2 * (bound - low)
        carried = stats.norm.pdf((following[:, None] - nodes) / step) / step @ density
        nodes, density = following, carried * weights / 2 * (bound - low)
        before, paid = time, due
    return tuple(levels)


def paired_p(gains: Array, sizes: Array | float = 0.0) -> Array:
    """Two-sided p-values of the paired t test that the mean gain is 0; 1 where seeds have no spread.

    Args:
        gains: (n, ...), a gain a seed.
        sizes: of the numbers that each gain was computed from, where they are larger than the gains.
    """
    mean, error, spread = _moments(gains, sizes)
    p = 2 * stats.t.sf(np.abs(mean) / error, len(gains) - 1)
    return np.where(spread, p, 1.0)


def equivalence_p(gains: Array, margin: float, sizes: Array | float = 0.0) -> Array:
    """p-values of two one-sided t tests that the mean gain lies within the margin: the larger of the two.

    Reference: Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15.
    """
    mean, error, spread = _moments(gains, sizes)
    p = stats.t.sf((margin - np.abs(mean)) / error, len(gains) - 1)
    return np.where(spread, p, 1.0)


def _moments(gains: Array, sizes: Array | float) -> tuple[Array, Array, Array]:
    """Mean, standard error, and whether the seeds have a spread to judge by, which is more than rounding."""
    mean, deviation = gains.mean(axis=0), gains.std(axis=0, ddof=1)
    spread = deviation > ROUNDING * np.max(np.maximum(np.abs(gains), sizes), axis=0)
    return mean, np.where(spread, deviation, 1.0) / math.sqrt(len(gains)), spread


@dataclass(frozen=True)
class Looked:
    """What Holm's step-down tests over contrasts came to, look by look.

    Attributes:
        differs, equivalent: (m, ...) bool; both if a difference was seen and is within the margin.
        stopped: (m, ...) int, the look, counted from 0, at which a contrast was decided; the number of looks
            taken where it was not.
        difference_levels, equivalence_levels: (m, ...), the levels that it was last tested at.
    """

    differs: Array
    equivalent: Array
    stopped: Array
    difference_levels: Array
    equivalence_levels: Array


def look_by_look(
    difference: Array, equivalence: Array, difference_levels: Array, equivalence_levels: Array
) -> Looked:
    """Test contrasts at each look until they are decided; what is decided stays so and is tested no more.

    At a look each open contrast is tested at the level for alpha / (m - r), r being the number of contrasts
    that were rejected, now or before; and again, as long as one is. Differences and equivalences are two
    families, each with its own alpha.

    Args:
        difference, equivalence: (k, m, ...) p-values at k looks.
        difference_levels, equivalence_levels: (m, looks), row j the levels for alpha / (j + 1).

    Reference: Maurer and Bretz 2013, Statistics in Biopharmaceutical Research 5: graphical group-sequential
    tests, of which Holm's is one.
    """
    taken, shape = len(difference), difference.shape[1:]
    stopped = np.full(shape, taken)
    families = [
        (difference, difference_levels, np.zeros(shape, bool), np.zeros(shape)),
        (equivalence, equivalence_levels, np.zeros(shape, bool), np.zeros(shape)),
    ]
    for look in range(taken):
        open_ = stopped == taken
        for p_values, levels, rejected, last in families:
            for _ in range(len(open_)):
                others = rejected.sum(axis=0) - rejected  # of whom it is not one itself
                level = levels[len(open_) - 1 - others, look]
                rejected |= open_ & (p_values[look] <= level)
            last[open_] = levels[len(open_) - 1 - (rejected.sum(axis=0) - rejected), look][open_]
        stopped[open_ & (families[0][2] | families[1][2])] = look
    (_, _, differs, at), (_, _, equivalent, within) = families
    return Looked(differs, equivalent, stopped, at, within)


def levels_for(rule: Registration, contrasts: int) -> tuple[Array, Array]:
    """Of differences and equivalences: (m, looks), row j the nominal levels for alpha / (j + 1)."""
    return tuple(  # type: ignore[return-value]
        np.array([nominal_levels(rule.looks, rule.alpha / (j + 1), sides) for j in range(contrasts)])
        for sides in (2, 1)
    )


@dataclass(frozen=True)
class Decision:
    """A primary contrast at the look at which it was decided, or at the last one taken.

    Attributes:
        seeds: of that look; 0 if none was taken.
        verdict: `differs`, `equivalent` or `undecided`.
        within_margin: whether the tests of equivalence hold too; a difference may be within the margin.
        mean: gain over these seeds; None without a look.
        interval: at the level of the look, 1 - `level`; None without a look or a spread.
        equivalence_interval: at 1 - 2 `equivalence_level`: within the margin if `within_margin`.
        p_value, level: of the test for a difference, and what it had to be below.
        equivalence_p, equivalence_level: of the tests for equivalence.
    """

    seeds: int = 0
    verdict: str = UNDECIDED
    within_margin: bool = False
    mean: float | None = None
    interval: tuple[float, float] | None = None
    equivalence_interval: tuple[float, float] | None = None
    p_value: float | None = None
    level: float | None = None
    equivalence_p: float | None = None
    equivalence_level: float | None = None


def decide(
    gains: Sequence[Sequence[float]], rule: Registration, sizes: Sequence[Sequence[float]] = ()
) -> list[Decision]:
    """What the looks came to that all contrasts have the seeds for: a function of the gains up to each alone.

    Args:
        gains: of each contrast the gain of seeds 0, 1, ... without a gap, positive where the arm is better.
        rule: as registered.
        sizes: of the numbers that each gain was computed from; without them the gains' own.
    """
    finished = min(map(len, gains), default=0)
    looks = [look for look in rule.looks if look <= finished]
    if not looks:
        return [Decision() for _ in gains]
    values, compared = (np.array([own[: looks[-1]] for own in each]).T for each in (gains, sizes or gains))
    difference = np.stack([paired_p(values[:look], compared[:look]) for look in looks])
    equivalence = np.stack([equivalence_p(values[:look], rule.margin, compared[:look]) for look in looks])
    looked = look_by_look(difference, equivalence, *levels_for(rule, len(gains)))
    made = []
    for index in range(len(gains)):
        look = min(int(looked.stopped[index]), len(looks) - 1)
        own, level = values[: looks[look], index], float(looked.difference_levels[index])
        within = float(looked.equivalence_levels[index])
        differs, equivalent = bool(looked.differs[index]), bool(looked.equivalent[index])
        mean, error, spread = _moments(own, compared[: looks[look], index])
        ends = stats.t.interval(np.array([1 - level, 1 - 2 * within]), len(own) - 1, loc=mean, scale=error)
        interval, narrower = map(tuple, np.transpose(ends).tolist()) if spread else (None, None)
        made.append(
            Decision(
                seeds=looks[look],
                verdict=DIFFERS if differs else EQUIVALENT if equivalent else UNDECIDED,
                within_margin=equivalent,
                mean=float(mean),
                interval=interval,
                equivalence_interval=narrower,
                p_value=float(difference[look, index]) if spread else None,
                level=level,
                equivalence_p=float(equivalence[look, index]) if spread else None,
                equivalence_level=within,
            )
        )
    return made

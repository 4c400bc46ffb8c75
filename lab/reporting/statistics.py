"""Paired comparisons over seeds: intervals, tests corrected for their number, and verdicts.

Both arms share each seed, which is a whole replicate: subset of the training split, held-out sample, initial
weights, data order, draws. So differences are taken seed by seed and the unit of repetition is the seed.

Two questions are asked of a difference, each at its own level: is it not 0 (a t test), and is it smaller than
a margin that was stated beforehand (two one-sided t tests). See docs/statistics.md.
"""

import gc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lab.metrics import Metric
from lab.reporting.moderated import LEAST, moderate

ALPHA = 0.05
Measured = Mapping[str, float]  # metric -> value
# A spread over seeds below this share of the values is rounding, and nothing to judge by.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Verdict:
    """What the tests say of a difference.

    Attributes:
        kind: `differs`, `equivalent` or `undecided`.
        winner: of one that differs, 1 if it is positive and -1 if negative; else 0.
        within_margin: whether it is shown to be smaller than the margin: always if equivalent, and sometimes
            of one that differs, which is then real and does not matter.
        reason: why it is undecided: `tests`, `too few seeds` or `no spread`; else empty.
    """

    kind: Literal["differs", "equivalent", "undecided"]
    winner: int = 0
    within_margin: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Estimate:
    """A number that each seed gives, such as a difference of two arms, and what is known of its mean.

    `dataclasses.replace` judges it at another `alpha` or by another `margin`.

    Attributes:
        by_seed: seed -> value, in the unit of what was compared; of a difference positive is better.
        mean: over the seeds.
        standard_deviation: over the seeds (n - 1), None with one seed.
        standard_error: of the mean, moderated where that was done; None with one seed or without spread.
        degrees: of freedom of the standard error.
        moderated: whether the contrasts of a table shared what they know of the spread.
        margin: what an equivalent difference is smaller than; None if nobody has said.
        alpha: level of the interval and of the test against 0, over its family.
        equivalence_alpha: level of the tests against the margin, over their family.
        document_error: of a seed's value, the standard error from its number of held-out documents, None
            where it is not known. If each seed has a held-out sample of its own, the spread over seeds
            holds it already.
        adjusted_p: corrected for the number of tests in its family; None where it is a family of its own.
        adjusted_equivalence_p: the same of `equivalence_p`.
        bootstrap_interval: from the residuals of a whole design (`effects.residual_bootstrap`), if there is.
    """

    by_seed: Mapping[int, float]
    mean: float
    standard_deviation: float | None = None
    standard_error: float | None = None
    degrees: float = 0.0
    moderated: bool = False
    margin: float | None = None
    alpha: float = ALPHA
    equivalence_alpha: float = ALPHA
    document_error: float | None = None
    adjusted_p: float | None = None
    adjusted_equivalence_p: float | None = None
    bootstrap_interval: tuple[float, float] | None = None

    @property
    def low(self) -> float:
        """The lowest value of any seed."""
        return min(self.by_seed.values())

    @property
    def high(self) -> float:
        """The highest value of any seed."""
        return max(self.by_seed.values())

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """Two-sided t interval of the mean at 1 - alpha, not corrected; None as the standard error."""
        return self._interval(1 - self.alpha)

    @property
    def equivalence_interval(self) -> tuple[float, float] | None:
        """The same at 1 - 2 `equivalence_alpha`: within the margin if the two tests, uncorrected, pass."""
        return self._interval(1 - 2 * self.equivalence_alpha)

    def _interval(self, confidence: float) -> tuple[float, float] | None:
        if self.standard_error is None:
            return None
        low, high = stats.t.interval(confidence, self.degrees, loc=self.mean, scale=self.standard_error)
        return float(low), float(high)

    @cached_property
    def p_value(self) -> float | None:
        """Of the two-sided t test that the mean is 0."""
        if self.standard_error is None:
            return None
        return 2 * float(stats.t.sf(abs(self.mean) / self.standard_error, self.degrees))

    @cached_property
    def equivalence_p(self) -> float | None:
        """Of the two one-sided t tests that the mean is beyond the margin to either side: the larger.

        Reference: Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15.
        """
        if self.standard_error is None or self.margin is None:
            return None
        return float(stats.t.sf((self.margin - abs(self.mean)) / self.standard_error, self.degrees))

    @property
    def decisive_p(self) -> float | None:
        """The p-value that decides whether it differs: corrected, where it is one of a family."""
        return self.p_value if self.adjusted_p is None else self.adjusted_p

    @property
    def decisive_equivalence_p(self) -> float | None:
        """The same of equivalence."""
        return self.equivalence_p if self.adjusted_equivalence_p is None else self.adjusted_equivalence_p

    @property
    def verdict(self) -> Verdict:
        """`differs` if the test against 0 says so, else `equivalent` if those against the margin do.

        Both can hold of one difference: it is then not 0 and yet smaller than the margin. It is called
        `differs`, since a direction was found, with `within_margin` beside it. One seed has no spread and
        decides nothing, and neither do seeds that all give the same.
        """
        if self.decisive_p is None:
            return Verdict("undecided", reason="too few seeds" if len(self.by_seed) == 1 else "no spread")
        equivalence_p = self.decisive_equivalence_p
        within = equivalence_p is not None and equivalence_p < self.equivalence_alpha
        if self.decisive_p < self.alpha:
            return Verdict("differs", int(np.sign(self.mean)), within)
        return Verdict("equivalent", within_margin=True) if within else Verdict("undecided", reason="tests")


def estimate(
    by_seed: Mapping[int, float],
    scale: float = 0.0,
    *,
    margin: float | None = None,
    document_error: float | None = None,
    alpha: float = ALPHA,
    equivalence_alpha: float = ALPHA,
) -> Estimate:
    """The mean of one value per seed, with the standard error s / sqrt(n) and n - 1 degrees of freedom.

    With n = 2 the t quantile is 12.7 (against 4.3 for three seeds and 2.8 for five): two seeds tell almost
    nothing about their own spread, so the interval is honestly wide. Without spread, but for rounding, there
    is neither interval nor p-value: equal values are coarse or copied rather than certain, and t would be
    infinite.

    Args:
        by_seed: seed -> value, at least one.
        scale: size of the numbers that the values were computed from, where it is larger than theirs.
        margin: as in `Estimate`, and so are the others.
        document_error: see there.
        alpha: see there.
        equivalence_alpha: see there.

    Raises:
        ValueError: if there is no value, or one that is no number.
    """
    values = list(by_seed.values())
    if not values or not np.isfinite(values).all():
        raise ValueError(
            f"`by_seed` must hold finite numbers, at least one, but got by_seed={dict(by_seed)}."
        )
    n = len(values)
    made = Estimate(
        by_seed,
        float(np.mean(values)),
        margin=margin,
        document_error=document_error,
        alpha=alpha,
        equivalence_alpha=equivalence_alpha,
    )
    if n == 1:
        return made
    deviation = float(np.std(values, ddof=1))
    if deviation <= ROUNDING * max(scale, float(np.max(np.abs(values)))):
        return replace(made, standard_deviation=0.0)
    error = deviation / math.sqrt(n)
    return replace(made, standard_deviation=deviation, standard_error=error, degrees=n - 1)


def paired_gain(
    metric: Metric,
    reference: Mapping[int, Measured],
    arm: Mapping[int, Measured],
    *,
    document_error: float | None = None,
    alpha: float = ALPHA,
    equivalence_alpha: float = ALPHA,
) -> Estimate | None:
    """How much better an arm is than its reference by a metric, over the seeds of which both have it.

    Args:
        metric: what is compared, with the margin that it declares.
        reference: seed -> what was measured, by metric.
        arm: the same of the arm.
        document_error: as in `Estimate`.
        alpha: see there.
        equivalence_alpha: see there.

    Returns:
        Positive where the arm is better; None if no seed has both.
    """
    key = metric.key
    seeds = [
        seed for seed in sorted(reference.keys() & arm.keys()) if key in reference[seed] and key in arm[seed]
    ]
    if not seeds:
        return None
    return estimate(
        {seed: metric.improvement(reference[seed][key], arm[seed][key]) for seed in seeds},
        max(abs(side[seed][key]) for side in (reference, arm) for seed in seeds),
        margin=metric.margin,
        document_error=document_error,
        alpha=alpha,
        equivalence_alpha=equivalence_alpha,
    )


def judge_together(family: Sequence[Estimate | None]) -> list[Estimate | None]:
    """The contrasts of one metric at one place: moderated, where there are enough, and corrected."""
    return corrected(moderated(family))


def moderated(family: Sequence[Estimate | None]) -> list[Estimate | None]:
    """Estimates with moderated standard errors, if at least `LEAST` of them have one; else as they are."""
    spread = [made for made in family if made and made.standard_deviation]
    if len(spread) < LEAST:
        return list(family)
    deviations = np.array([made.standard_deviation for made in spread], dtype=float)
    variances, degrees = moderate(deviations**2, [len(made.by_seed) - 1 for made in spread])
    own = iter(zip(variances.tolist(), degrees.tolist(), strict=True))

    def shared(made: Estimate) -> Estimate:
        variance, freedom = next(own)
        error = math.sqrt(variance / len(made.by_seed))
        return replace(made, standard_error=error, degrees=freedom, moderated=True)

    return [shared(made) if made and made.standard_deviation else made for made in family]


def judged_apart(family: Sequence[Estimate | None]) -> list[Estimate | None]:
    """The same contrasts by plain t tests, each with its own spread alone, and corrected."""

    def own(made: Estimate) -> Estimate:
        if not made.standard_deviation:
            return made
        seeds = len(made.by_seed)
        error = made.standard_deviation / math.sqrt(seeds)
        return replace(made, standard_error=error, degrees=seeds - 1, moderated=False)

    return corrected([made and own(made) for made in family])


def corrected(family: Sequence[Estimate | None]) -> list[Estimate | None]:
    """Estimates whose tests are made together, with Holm's correction; None stays None.

    The tests against 0 are one family and those against the margin another, each at a level of its own.
    """
    differs = holm([made.p_value if made else None for made in family])
    equivalent = holm([made.equivalence_p if made else None for made in family])
    return [
        made and replace(made, adjusted_p=p, adjusted_equivalence_p=q)
        for made, p, q in zip(family, differs, equivalent, strict=True)
    ]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over the p-values that exist; the others stay None.

    Reference: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    known = [p for p in p_values if p is not None]
    if not known:
        return [None] * len(p_values)
    gc.freeze()  # statsmodels collects garbage at every call: 0.1 s and more, if it looks at all there is
    adjusted = iter(multipletests(known, alpha=ALPHA, method="holm")[1])
    gc.unfreeze()
    return [None if p is None else float(next(adjusted)) for p in p_values]

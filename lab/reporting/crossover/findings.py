"""Where a diffusion model overtakes an autoregressive one, and which is better at its best stop."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from lab.metrics import Metric
from lab.reporting.results import (
    UNIQUE_TOKENS,
    CellResult,
    Findings,
    ResultTree,
    by_level,
    check_comparable,
    level_name,
    readings_of,
    still_improving,
)
from lab.reporting.statistics import PairedDifference, Verdict, holm, judge, paired_gain
from lab.results import Reading, Stop

# The baseline and its challenger: a positive gain means that the challenger is better.
AR, DLM = "ar", "dlm"


@dataclass(frozen=True)
class Crossing:
    """The first point of one seed's run at which the DLM is better than the AR on the validation split.

    The names here are those of the NLL, by which the better one lies below.

    Attributes:
        tokens_seen: interpolated linearly in log tokens between two stops.
        epoch: the same point in epochs.
        train_flops: the DLM's training FLOPs up to there.
        from_first_stop: it lay below at the first stop already, so the crossing is there or earlier.
        holds: it stays below at every later stop.
    """

    tokens_seen: float
    epoch: float
    train_flops: float
    from_first_stop: bool
    holds: bool


@dataclass(frozen=True)
class CrossingSummary:
    """The crossings of all seeds; None for a seed with no crossover within the run.

    A run without a crossover would cross later or never, so it counts as beyond the run: the median is None
    if it falls there.
    """

    by_seed: dict[int, Crossing | None]

    @property
    def crossed(self) -> list[Crossing]:
        """The crossings that lie within the run, earliest first."""
        found = [crossing for crossing in self.by_seed.values() if crossing is not None]
        return sorted(found, key=lambda crossing: crossing.tokens_seen)

    @property
    def holds(self) -> bool:
        """Whether every seed that crosses stays below at every later stop."""
        return bool(self.crossed) and all(crossing.holds for crossing in self.crossed)

    @property
    def from_first_stop(self) -> bool:
        """Whether every seed lay below at its first stop already."""
        crossed = self.crossed
        return len(crossed) == len(self.by_seed) > 0 and all(crossing.from_first_stop for crossing in crossed)

    def median(self, field: str) -> float | None:
        """The median over seeds of `tokens_seen`, `epoch` or `train_flops`."""
        values = [math.inf if c is None else getattr(c, field) for c in self.by_seed.values()]
        middle = median(values) if values else math.inf
        return float(middle) if math.isfinite(middle) else None

    def range(self, field: str) -> tuple[float, float] | None:
        """The lowest and highest value among the seeds that cross."""
        values = [float(getattr(crossing, field)) for crossing in self.crossed]
        return (min(values), max(values)) if values else None


@dataclass(frozen=True)
class BudgetFinding:
    """One budget of unique tokens under one reading: who is better, and where the curves cross.

    Attributes:
        metric: what is compared; best stops are chosen by validation NLL whatever it is.
        seeds: those that both arms finished; only they are compared.
        left_out: planned seeds that at least one arm did not finish.
        gain: by how much the DLM's test metric is better than AR's, each at its best stop, in the metric's
            unit; positive if it is. None if no seed is left.
        adjusted_p: the paired test's p-value, Holm-corrected over the budgets of this reading.
        below_best: where the DLM falls below the AR at its best stop; rises above, where higher is better.
        below_current: where it falls below the AR at the same tokens seen.
    """

    level: dict[str, Any]
    unique_tokens: int | None
    metric: Metric
    reading: Reading
    cells: tuple[CellResult, ...]
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    gain: PairedDifference | None
    adjusted_p: float | None
    verdict: Verdict
    below_best: CrossingSummary
    below_current: CrossingSummary

    @property
    def name(self) -> str:
        """The budget in words."""
        if self.unique_tokens is None:
            return level_name(self.level) or "the whole corpus"
        return f"{self.unique_tokens:,} unique tokens"

    def runs(self, arm: str) -> list[CellResult]:
        """The compared runs of one arm, by seed; every finished one where none can be compared."""
        runs = [
            c
            for c in self.cells
            if c.arm == arm and c.status == "done" and c.seed in (self.seeds or [c.seed])
        ]
        return sorted(runs, key=lambda cell: cell.seed)

    def improving(self, arm: str) -> int:
        """How many of the arm's runs were best at their last stop."""
        return still_improving(self.runs(arm), self.reading)

    @property
    def within_run_length(self) -> bool:
        """Whether one of two compared arms was still improving when a run ended."""
        return bool(self.seeds) and self.improving(AR) + self.improving(DLM) > 0

    def best_stops(self, arm: str) -> list[Stop]:
        """The best stop, by validation NLL, of each run of `runs(arm)`."""
        return [cell.stop("best", self.reading) for cell in self.runs(arm)]


class Crossover(Findings[BudgetFinding]):
    """What a crossover tree shows; a level is a budget."""

    @property
    def budgets(self) -> tuple[BudgetFinding, ...]:
        """The findings of the headline reading, the smallest budget first."""
        return self.levels


def analyse(tree: ResultTree) -> Crossover:
    """Compare the DLM with the AR at each budget of a result tree.

    Raises:
        ValueError: if no run has finished, an arm is absent from the plan, or the arms may not be compared.
    """
    arms = {cell.arm for cell in tree.cells}
    if not {AR, DLM} <= arms:
        raise ValueError(f"a crossover needs the arms {AR} and {DLM}, but {tree.path} plans {sorted(arms)}.")
    check_comparable(tree.cells)
    readings = {
        reading: _correct([_find(cells, reading, tree.metric) for cells in by_level(tree.cells)])
        for reading in readings_of(tree)
    }
    return Crossover(tree, readings)


def first_below(stops: Sequence[Stop], difference: Sequence[float]) -> Crossing | None:
    """The first point at which a sampled difference falls below 0, linear in log tokens between stops.

    Args:
        stops: in order of tokens seen; they give the position in tokens, epochs and FLOPs.
        difference: one value per stop, in the metric's unit.

    Returns:
        The crossing, or None if no value is below 0.
    """
    below = [value < 0 for value in difference]
    if True not in below:
        return None
    after = below.index(True)
    holds = all(below[after:])
    if after == 0:
        first = stops[0]
        return Crossing(first.tokens_seen, first.epoch, first.train_flops, True, holds)
    left, right = stops[after - 1], stops[after]
    share = difference[after - 1] / (difference[after - 1] - difference[after])
    tokens = left.tokens_seen * (right.tokens_seen / left.tokens_seen) ** share
    # Epochs and FLOPs grow in proportion to tokens, so between two stops they are linear in them.
    at = (tokens - left.tokens_seen) / (right.tokens_seen - left.tokens_seen)
    epoch = left.epoch + at * (right.epoch - left.epoch)
    flops = left.train_flops + at * (right.train_flops - left.train_flops)
    return Crossing(tokens, epoch, flops, False, holds)


def _find(cells: tuple[CellResult, ...], reading: Reading, metric: Metric) -> BudgetFinding:
    """One budget's finding, not yet corrected for the number of budgets."""
    results = {(c.arm, c.seed): c.done for c in cells if c.status == "done"}
    planned = sorted({cell.seed for cell in cells})
    seeds = tuple(seed for seed in planned if (AR, seed) in results and (DLM, seed) in results)
    unique_tokens = next((result.data.unique_tokens for result in results.values()), None)
    gain = None
    if seeds:
        best = [{seed: results[arm, seed].best(reading).test for seed in seeds} for arm in (AR, DLM)]
        gain = paired_gain(metric, *best)
    below_best, below_current = {}, {}
    for seed in seeds:
        ar, dlm = (results[arm, seed].along(reading) for arm in (AR, DLM))
        values, current = ([stop.validation[metric.key] for stop in stops] for stops in (dlm, ar))
        best_of_ar = results[AR, seed].best(reading).validation[metric.key]
        below_best[seed] = first_below(dlm, [metric.improvement(value, best_of_ar) for value in values])
        below_current[seed] = first_below(dlm, list(map(metric.improvement, values, current)))
    return BudgetFinding(
        level=cells[0].level,
        unique_tokens=cells[0].level.get(UNIQUE_TOKENS, unique_tokens),
        metric=metric,
        reading=reading,
        cells=cells,
        seeds=seeds,
        left_out=tuple(seed for seed in planned if seed not in seeds),
        gain=gain,
        adjusted_p=None,
        verdict=Verdict(0, "too few seeds"),
        below_best=CrossingSummary(below_best),
        below_current=CrossingSummary(below_current),
    )


def _correct(budgets: list[BudgetFinding]) -> tuple[BudgetFinding, ...]:
    """The findings with Holm's correction over the budgets, and the verdicts that follow."""
    adjusted = holm([budget.gain.p_value if budget.gain else None for budget in budgets])
    return tuple(
        replace(budget, adjusted_p=p, verdict=judge(budget.gain, p) if budget.gain else budget.verdict)
        for budget, p in zip(budgets, adjusted, strict=True)
    )

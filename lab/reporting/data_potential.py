"""The data potential of an arm: how many times its unique tokens another arm needs to be as good.

Outside the budgets at which the other arm was trained a seed has a bound only. Nothing is extrapolated.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean, median
from typing import Any

import numpy as np
from scipy import stats
from scipy.optimize import isotonic_regression

from lab.files import Row
from lab.metrics import Metric, find_metric
from lab.reporting import table, words
from lab.reporting.content import Content
from lab.reporting.series import Runs, runs_of
from lab.reporting.table import Column, Table
from lab.reporting.tree import ResultTree, check_matched, level_name
from lab.results import Reading
from lab.sections import UNIQUE_TOKENS, Quantity

RESAMPLES = 9999  # of the bootstrap


@dataclass(frozen=True)
class Potential:
    """The data potential of an arm.

    Attributes:
        by_seed: seed -> between which multiples it lies: equal where it is known, from 0 where the other arm
            is as good at its smallest budget already, to infinity where it is not at its largest.
    """

    by_seed: Mapping[int, tuple[float, float]]

    @property
    def below(self) -> int:
        """How many seeds lie below the smallest budget."""
        return sum(low == 0 for low, _ in self.by_seed.values())

    @property
    def beyond(self) -> int:
        """How many seeds lie beyond the largest budget."""
        return sum(high == math.inf for _, high in self.by_seed.values())

    @property
    def logarithms(self) -> list[float]:
        """Of every seed, in order; empty where a seed has only a bound."""
        return [] if self.below or self.beyond else [math.log(low) for low, _ in self.by_seed.values()]

    @property
    def mean(self) -> float | None:
        """The geometric mean over seeds; None where a seed has only a bound."""
        return math.exp(fmean(self.logarithms)) if self.logarithms else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % bootstrap interval of the geometric mean, by percentiles over seeds.

        Of normal logarithms it covers 50, 76, 84, 89 and 92 % with 2, 3, 5, 8 and 16 seeds, in 2,000
        simulations each.

        Returns:
            None where a seed has only a bound, and without spread.
        """
        if len(set(self.logarithms)) < 2:
            return None
        low, high = stats.bootstrap(
            (self.logarithms,),
            np.mean,
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        return math.exp(low), math.exp(high)

    @property
    def median(self) -> tuple[float, float]:
        """Between which multiples the median of the logarithms lies; there must be a seed."""
        lows = [math.log(low) if low else -math.inf for low, _ in self.by_seed.values()]
        return math.exp(median(lows)), math.exp(median(math.log(high) for _, high in self.by_seed.values()))


@dataclass(frozen=True)
class Line:
    """An arm at a level.

    Attributes:
        runs: of the arm.
        budgets: the runs of the reference at each budget, all else of the level being the arm's; where it has
            none there, all its runs.
    """

    runs: Runs
    budgets: Sequence[Runs]
    potential: Potential


def write(section: Quantity, tree: ResultTree, name: str) -> Content:
    """Take the data potential of every arm but the reference at each of its levels.

    Raises:
        ValueError: if runs may not be compared.
    """
    metric = find_metric(section.metric or tree.plan.metric)
    by_reading = {reading: list(_lines(section, tree, metric, reading)) for reading in tree.readings}
    lines = by_reading[tree.readings[0]]
    sentences = tuple(_sentence(line, section, metric) for line in lines)
    tables = []
    for reading, own in by_reading.items():
        suffix = words.reading_suffix(tree, reading)
        tables += [_table(own, section, f"{name}{suffix.name}", suffix.heading)] if own else []
    return Content(
        title="Data potential",
        verdict=sentences if len(sentences) <= 3 else (),
        tables=tuple(tables),
        certain=tuple(_certain(lines, section)),
        terms=("potential",),
    )


def _lines(section: Quantity, tree: ResultTree, metric: Metric, reading: Reading) -> Iterator[Line]:
    for level, arm in product(tree.levels, section.arms or (*tree.plan.arms, *tree.plan.ensembles)):
        runs = runs_of(tree, arm, level, reading)
        if arm == section.reference or not runs.planned:
            continue
        every = [(other, runs_of(tree, section.reference, other, reading)) for other in tree.levels]
        alike = [own for other, own in every if own.planned and _rest(other) == _rest(level)]
        budgets = alike or [own for _, own in every if own.planned]
        same = [cell for own in budgets if own.level == level for cell in own.cells]
        check_matched([*same, *runs.cells], section.matched, words.level_words(level))
        held_out = [kind for kind in section.matched if kind == "held_out"]  # of a seed, at every budget
        everything = [*runs.cells, *(cell for own in budgets for cell in own.cells)]
        check_matched(everything, held_out, "all levels")
        yield Line(runs, budgets, _potential(runs, budgets, metric))


def _rest(level: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in level.items() if key != UNIQUE_TOKENS}


def _potential(runs: Runs, budgets: Sequence[Runs], metric: Metric) -> Potential:
    """By the test split at the best stops; of no seed where a budget has no finished run."""
    values = {_unique_tokens(own): point.values(metric.key) for own in budgets if (point := own.at("best"))}
    best = runs.at("best")
    if best is None or not values or len(values) < len(budgets):
        return Potential({})
    return data_potential(best.values(metric.key), _unique_tokens(runs), values, metric)


def _unique_tokens(runs: Runs) -> int:
    """What they were trained on: whole windows, so a little less than the level says."""
    return runs.cells[0].done.data.unique_tokens


# The arithmetic.


def data_potential(
    values: Mapping[int, float],
    unique_tokens: int,
    budgets: Mapping[int, Mapping[int, float]],
    metric: Metric,
) -> Potential:
    """The data potential of an arm, seed by seed.

    Args:
        values: seed -> the arm's metric.
        unique_tokens: that it was trained on.
        budgets: unique tokens -> seed -> the metric of the other arm, trained on so many; at least one.
        metric: what is compared.

    Returns:
        Of the seeds that the arm and every budget have.
    """
    sizes = sorted(budgets)
    ratios = [size / unique_tokens for size in sizes]
    seeds = [seed for seed in sorted(values) if all(seed in budgets[size] for size in sizes)]

    def place(seed: int) -> tuple[float, float]:
        curve = [metric.improvement(budgets[size][seed], 0.0) for size in sizes]
        return budget_to_reach(ratios, curve, metric.improvement(values[seed], 0.0))

    return Potential({seed: place(seed) for seed in seeds})


def budget_to_reach(budgets: Sequence[float], values: Sequence[float], target: float) -> tuple[float, float]:
    """Between which budgets a curve reaches a target: linear in the log budget between its points.

    More text does not hurt, so values that rise are noise: isotonic regression pools them by least squares
    to values that do not, and these are interpolated. Where they are level the smallest budget counts.

    Args:
        budgets: ascending.
        values: of each; lower is better.
        target: to be reached.

    Returns:
        The budget, twice; (0, the first) or (the last, infinity) where it is outside.
    """
    falling = isotonic_regression(values, increasing=False).x
    if falling[0] < target:
        return 0.0, budgets[0]
    if falling[-1] > target:
        return budgets[-1], math.inf
    place = int(np.argmax(falling <= target))
    if falling[place] == target:
        return budgets[place], budgets[place]
    left, right = falling[place - 1 : place + 1]
    share = float((left - target) / (left - right))
    budget = budgets[place - 1] * (budgets[place] / budgets[place - 1]) ** share
    return budget, budget


# Words.


def _sentence(line: Line, section: Quantity, metric: Metric) -> str:
    arm, reference, made = words.arm_name(line.runs.arm), words.arm_name(section.reference), line.potential
    at = words.at_level(line.runs.level)
    if not made.by_seed:
        return f"{arm}'s data potential{at} is not known: no seed has it and {reference} at every budget."
    size = _size(*made.median) if made.mean is None else words.plain(made.mean)
    ends = " to ".join(map(words.plain, made.interval or ()))
    parts = [size, f"[{ends}]" if ends else "", "times the unique tokens", _bounds(made)]
    return (
        f"To reach {arm}'s {metric.name}{at} {reference} at its best needs {' '.join(filter(None, parts))}."
    )


def _size(low: float, high: float) -> str:
    """What is known of a multiple."""
    if low == high:
        return words.plain(low)
    if low == 0 and high == math.inf:
        return "an unknown number of"
    return f"more than {words.plain(low)}" if low else f"less than {words.plain(high)}"


def _bounds(made: Potential) -> str:
    """In how many seeds there is only a bound, and that the number is a median then; empty if in none."""
    seeds = len(made.by_seed)
    outside = {"below the smallest budget": made.below, "beyond the largest budget": made.beyond}
    parts = [f"{where} in {number} of {seeds} seeds" for where, number in outside.items() if number]
    return f"({'median; ' * (seeds > 1)}{words.join(parts)})" if parts else ""


def _certain(lines: Sequence[Line], section: Quantity) -> Iterator[str]:
    if known := [len(line.potential.by_seed) for line in lines if line.potential.by_seed]:
        levels = {level_name(own.level): own.level for line in lines for own in line.budgets}
        trained = words.levels_words(list(levels.values()))
        yield f"Over {words.counts(known, 'seed')}, {words.arm_name(section.reference)} at {trained}."
    if any(line.potential.interval for line in lines):
        yield "The mean is geometric; its bootstrap interval is too narrow: with 3 seeds it covers 76 %."


# The table.


def _row(line: Line, section: Quantity) -> Row:
    made = line.potential
    low, high = made.interval or (None, None)
    median = made.median if made.by_seed else (None, None)
    return {
        "quantity": "data_potential",
        "reading": line.runs.reading,
        "level": level_name(line.runs.level),
        "arm": line.runs.arm,
        "reference": section.reference,
        "seeds": len(made.by_seed),
        "below": made.below,
        "beyond": made.beyond,
        "geometric_mean": made.mean,
        "interval_low": low,
        "interval_high": high,
        "median_low": median[0],
        "median_high": _finite(median[1]),
        "by_seed": {str(seed): [own[0], _finite(own[1])] for seed, own in made.by_seed.items()},
    }


def _finite(value: float | None) -> float | None:
    return None if value == math.inf else value


def _table(lines: Sequence[Line], section: Quantity, name: str, title: str) -> Table:
    rows = [_row(line, section) for line in lines]
    columns = [
        *table.levels(rows),
        table.text("Arm", "arm"),
        table.number("Seeds", "seeds"),
        Column(f"× unique tokens{table.LINE}95 %", _value),
        table.number("Below", "below"),
        table.number("Beyond", "beyond"),
    ]
    reference = words.arm_name(section.reference)
    caption = (
        f"Unique tokens that {reference} at its best needs to be as good, in multiples of the arm's. Below, "
        f"beyond: seeds of which only a bound is known, outside {reference}'s budgets; then it is the median."
    )
    return Table(name, rows, columns, caption, title=title)


def _value(row: Row) -> str:
    """`2.1` with its interval below it, `2.1` of a median, `< 0.5`, `> 8`."""
    if not row["seeds"]:
        return "not known"
    low, high = row["interval_low"], row["interval_high"]
    if row["geometric_mean"] is not None:
        ends = "" if low is None else f"{table.LINE}{words.plain(low)} to {words.plain(high)}"
        return words.plain(row["geometric_mean"]) + ends
    low, high = row["median_low"], row["median_high"]
    if low == high:
        return f"{words.plain(low)}{table.LINE}median"
    if low:
        return f"> {words.plain(low)}"
    return table.ABSENT if high is None else f"< {words.plain(high)}"

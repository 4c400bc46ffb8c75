"""How good text and choices are at each amount of inference compute, and what it takes to match AR's."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from lab.evaluation.inference_file import CHOICE, FILE, GENERATION, JUDGE, REAL
from lab.reporting.results import Cell, ResultTree, check_comparable, readings_of, still_improving
from lab.reporting.statistics import (
    PairedDifference,
    Verdict,
    holm,
    judge,
    over_seeds,
    paired_difference,
)
from lab.reporting.tables import Row
from lab.tracking.records import read_json

AR, DLM = "ar", "dlm"
# What is matched: the metric of each kind, and 1 where lower is better.
METRICS = {GENERATION: ("judge_nll", 1), CHOICE: ("accuracy", -1)}
NO_VERDICT = Verdict(0, "too few seeds")


@dataclass(frozen=True)
class Point:
    """One arm, with one sampler or kind of scoring, at one amount of compute.

    Attributes:
        rows: seed -> the row of inference.json.
    """

    rows: Mapping[int, Row]

    def values(self, metric: str) -> dict[int, float]:
        """The value of each seed that has one."""
        return {seed: row[metric] for seed, row in self.rows.items() if row[metric] is not None}

    def mean(self, metric: str) -> float | None:
        """The mean over seeds, None if no seed has it."""
        values = self.values(metric).values()
        return fmean(values) if values else None

    def deviation(self, metric: str) -> float | None:
        """The standard deviation over seeds, None below two."""
        values = self.values(metric).values()
        return stdev(values) if len(values) > 1 else None

    def number(self, name: str) -> float:
        """What is the same for all seeds, such as `flops` and `steps`."""
        return float(next(iter(self.rows.values()))[name])

    @property
    def num_draws(self) -> int | None:
        """Monte Carlo draws an option, None for the exact chain rule."""
        draws: int | None = next(iter(self.rows.values()))["num_draws"]
        return draws


@dataclass(frozen=True)
class Match:
    """How many times AR's FLOPs an arm needs to be as good as AR, there and at all larger amounts measured.

    Attributes:
        by_seed: seed -> multiple, interpolated in log FLOPs between two amounts of compute; None where the
            largest does not suffice.
        from_first: seeds at which all amounts suffice, so that the multiple is at most the smallest.
        in_passing: seeds at which some amount suffices, but the largest does not.
    """

    by_seed: dict[int, float | None]
    from_first: tuple[int, ...]
    in_passing: tuple[int, ...] = ()

    @property
    def reached(self) -> list[float]:
        """The multiples of the seeds that match AR, smallest first."""
        return sorted(ratio for ratio in self.by_seed.values() if ratio is not None)

    @property
    def every_seed(self) -> bool:
        """Whether all seeds match AR."""
        return len(self.reached) == len(self.by_seed)

    @property
    def mean(self) -> float | None:
        """The geometric mean over seeds; None unless every seed matches AR."""
        return math.exp(fmean(map(math.log, self.reached))) if self.every_seed else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % t interval of the mean, of the logarithms; None unless two or more seeds all match AR,
        and at multiples that differ.

        None too where all amounts suffice for a seed: its multiple is then only a bound.
        """
        if not self.every_seed or self.from_first:
            return None
        interval = over_seeds([math.log(ratio) for ratio in self.reached], scale=1.0)[2]
        return (math.exp(interval[0]), math.exp(interval[1])) if interval else None


@dataclass(frozen=True)
class Curve:
    """One arm with one sampler, or one way of scoring options, over amounts of compute.

    Attributes:
        kind: `generation` or `choice`.
        sampler: of a generation; of a choice `exact` or `draws`.
        points: ascending FLOPs.
        match: what it takes to be as good as AR; None if no seed of both was measured.
        gain: at the most compute, AR's metric minus the arm's, or the arm's minus AR's where higher is
            better: positive if the arm is better.
        adjusted_p: of the paired test of the gain, Holm-corrected over the curves of this kind.
    """

    arm: str
    kind: str
    sampler: str
    points: tuple[Point, ...]
    match: Match | None = None
    gain: PairedDifference | None = None
    adjusted_p: float | None = None
    verdict: Verdict = NO_VERDICT

    @property
    def most(self) -> Point:
        """The point with the most compute."""
        return self.points[-1]


@dataclass(frozen=True)
class Inference:
    """What an ablation of inference compute shows.

    Attributes:
        about: what is the same for all measured runs: `prompt_tokens`, `generated_tokens`, `ngram`.
        real: real text; None if nothing was measured.
        curves: AR's first within each kind; the others are compared with it.
        unmeasured: finished runs, judges aside, without a complete inference.json.
    """

    tree: ResultTree
    about: Row
    real: Point | None
    curves: tuple[Curve, ...]
    unmeasured: tuple[Cell, ...]

    def improving(self, arms: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Arm -> how many of its finished runs were best at their last stop, and of how many."""
        reading = readings_of(self.tree)[0]
        runs = {arm: [cell for cell in self.tree.finished if cell.arm == arm] for arm in arms}
        return {arm: (still_improving(cells, reading), len(cells)) for arm, cells in runs.items()}

    def within_run_length(self, arm: str) -> bool:
        """Whether an arm or AR was still improving when a run ended."""
        return any(count for count, _ in self.improving((AR, arm)).values())

    def of(self, kind: str) -> list[Curve]:
        """The curves of a kind."""
        return [curve for curve in self.curves if curve.kind == kind]

    def reference(self, kind: str) -> Curve | None:
        """AR's curve of a kind, if it was measured."""
        return next((curve for curve in self.of(kind) if curve.arm == AR), None)

    def against(self, kind: str, arm: str = "") -> list[Curve]:
        """The curves of a kind that are compared with AR: of one arm, or of all."""
        return [curve for curve in self.of(kind) if curve.arm != AR and arm in ("", curve.arm)]


def analyse(tree: ResultTree) -> Inference:
    """Read every run's inference.json and compare each arm with AR.

    Judges must have the code and data of the other arms, but may have more unique tokens.

    Raises:
        ValueError: if no run has finished, the arms may not be compared, the ablation has levels, or the
            measurements are of different code.
    """
    if levels := sorted({name for cell in tree.cells for name in cell.level}):
        raise ValueError(f"an inference ablation must have no levels, but {tree.path} varies {levels}.")
    check_comparable(tree.cells)
    finished = [cell for cell in tree.finished if cell.arm != JUDGE]
    _refuse_other_budgets(finished)
    files = {cell.key: _read(cell) for cell in finished}
    measured = [(cell, file) for cell in finished if (file := files[cell.key])]
    _refuse_other_code(measured)
    curves = _compare([curve for kind in METRICS for curve in _curves(tree, measured, kind)])
    real = {cell.seed: row for cell, file in measured for row in file["rows"] if row["kind"] == REAL}
    about = (
        {name: measured[0][1][name] for name in ("prompt_tokens", "generated_tokens", "ngram")}
        if measured
        else {}
    )
    unmeasured = tuple(cell for cell in finished if files[cell.key] is None)
    return Inference(tree, about, Point(real) if real else None, tuple(curves), unmeasured)


def _read(cell: Cell) -> Row | None:
    """A run's complete measurements, None if they are not there or of another configuration."""
    path = cell.logdir / FILE
    if not path.is_file():
        return None
    file: Row = read_json(path)
    complete = file.get("complete") and file["config_key"] == cell.done["config_key"]
    return file if complete else None


def _refuse_other_budgets(cells: list[Cell]) -> None:
    budgets = {cell.arm: cell.done["data"]["unique_tokens"] for cell in cells}
    if len(set(budgets.values())) > 1:
        raise ValueError(f"all arms but {JUDGE} must have the same unique tokens, but got {budgets}.")


def _refuse_other_code(measured: list[tuple[Cell, Row]]) -> None:
    codes = {f"{cell.arm} seed {cell.seed}": file["code_hash"] for cell, file in measured}
    if len(set(codes.values())) > 1:
        raise ValueError(f"all inference must be measured by the same code, but got {codes}: measure again.")


def _curves(tree: ResultTree, measured: list[tuple[Cell, Row]], kind: str) -> list[Curve]:
    """The curves of a kind, AR's first, then the arms in declared order."""
    found: dict[tuple[str, str], dict[tuple[int, int], dict[int, Row]]] = {}
    order = {arm: place for place, arm in enumerate(tree.plan["arms"])}
    for cell, file in sorted(measured, key=lambda pair: (pair[0].arm != AR, order[pair[0].arm])):
        for row in file["rows"]:
            if row["kind"] == kind:
                scoring = "exact" if row["num_draws"] is None else "draws"
                name = (cell.arm, row["sampler"] or scoring)
                amount = (row["steps"], row["num_draws"] or 0)
                found.setdefault(name, {}).setdefault(amount, {})[cell.seed] = row
    return [
        Curve(arm, kind, sampler, tuple(Point(rows) for _, rows in sorted(amounts.items())))
        for (arm, sampler), amounts in found.items()
    ]


def _compare(curves: list[Curve]) -> list[Curve]:
    """The curves with what they need to match AR's of their kind, and how they differ at the most compute."""
    compared = []
    for kind in METRICS:
        own = [curve for curve in curves if curve.kind == kind]
        reference = next((curve.most for curve in own if curve.arm == AR), None)
        if reference:
            own = [curve if curve.arm == AR else _against(curve, reference) for curve in own]
        adjusted = holm([curve.gain.p_value if curve.gain else None for curve in own])
        compared += [
            replace(curve, adjusted_p=p, verdict=judge(curve.gain, p)) if curve.gain else curve
            for curve, p in zip(own, adjusted, strict=True)
        ]
    return compared


def _against(curve: Curve, reference: Point) -> Curve:
    metric, sign = METRICS[curve.kind]
    targets = reference.values(metric)
    by_seed: dict[int, float | None] = {}
    from_first, in_passing = [], []
    for seed in sorted(targets):
        amounts = [
            (point.rows[seed]["flops"] / reference.number("flops"), sign * point.rows[seed][metric])
            for point in curve.points
            if seed in point.rows
        ]
        if amounts:
            target = sign * targets[seed]
            enough = [value <= target for _, value in amounts]
            by_seed[seed] = compute_to_reach(amounts, target)
            if all(enough):
                from_first.append(seed)
            elif any(enough) and not enough[-1]:
                in_passing.append(seed)
    return replace(
        curve,
        match=Match(by_seed, tuple(from_first), tuple(in_passing)) if by_seed else None,
        gain=gain_over(curve.most, reference, curve.kind),
    )


def gain_over(point: Point, reference: Point, kind: str) -> PairedDifference | None:
    """How much better a point is than AR's, seed by seed; None if no seed has both."""
    metric, sign = METRICS[kind]
    values = [point.values(metric), reference.values(metric)]
    seeds = sorted(values[0].keys() & values[1].keys())
    if not seeds:
        return None
    upper, lower = values if sign < 0 else values[::-1]
    first, second = ({seed: side[seed] for seed in seeds} for side in (upper, lower))
    errors = [
        {seed: side.rows[seed][f"{metric}_standard_error"] for seed in seeds} for side in (point, reference)
    ]
    return paired_difference(first, second, *errors)


def compute_to_reach(amounts: list[tuple[float, float]], target: float) -> float | None:
    """The compute from which on a curve is at or below a target, linear in log compute between points.

    A curve that falls below by chance and rises again has not reached it: it must stay at all larger amounts.

    Args:
        amounts: (compute, value), ascending compute; lower is better.
        target: to be reached.

    Returns:
        The compute; that of the first point if all suffice; None if the last does not.
    """
    above = [place for place, (_, value) in enumerate(amounts) if value > target]
    if not above:
        return amounts[0][0]
    if above[-1] == len(amounts) - 1:
        return None
    (left, high), (right, low) = amounts[above[-1] : above[-1] + 2]
    return float(left * (right / left) ** ((high - target) / (high - low)))

"""How good text and choices are at each amount of inference compute, and what it takes to match AR's."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev

from lab.evaluation.measurements import CHOICE, GENERATION, REAL_TEXT, inference, prompt_and_generated
from lab.evaluation.text_quality import NGRAM
from lab.files import Row
from lab.metrics import Metric, find_metric
from lab.reporting.results import CellResult, ResultTree, check_comparable, readings_of, still_improving
from lab.reporting.statistics import PairedDifference, Verdict, holm, judge, over_seeds, paired_gain
from lab.results import RESULT, DamagedError, Measured, MeasurementResult, measurement_folder, read_record

AR, DLM = "ar", "dlm"
MEASUREMENT = "inference"
# What is matched: the metric of each kind.
METRICS = {GENERATION: find_metric("judge_nll"), CHOICE: find_metric("choice_accuracy")}
NO_VERDICT = Verdict(0, "too few seeds")


@dataclass(frozen=True)
class Point:
    """One arm, with one sampler or kind of scoring, at one amount of compute.

    Attributes:
        rows: seed -> what was measured.
    """

    rows: Mapping[int, Measured]

    def values(self, metric: str) -> dict[int, float]:
        """The value of each seed that has one."""
        found = {seed: row.values.get(metric) for seed, row in self.rows.items()}
        return {seed: value for seed, value in found.items() if value is not None}

    def mean(self, metric: str) -> float | None:
        """The mean over seeds, None if no seed has it."""
        values = self.values(metric).values()
        return fmean(values) if values else None

    def deviation(self, metric: str) -> float | None:
        """The standard deviation over seeds, None below two."""
        values = self.values(metric).values()
        return stdev(values) if len(values) > 1 else None

    def cost(self, name: str) -> float:
        """The FLOPs that it takes, the same for all seeds: `flops` or `flops_computed`."""
        return next(iter(self.rows.values())).costs[name]

    @property
    def steps(self) -> int | None:
        """Passes of a generation."""
        return self._setting("steps")

    @property
    def num_draws(self) -> int | None:
        """Monte Carlo draws an option, None for the exact chain rule."""
        return self._setting("num_draws")

    def _setting(self, name: str) -> int | None:
        number: int | None = next(iter(self.rows.values())).task.settings.get(name)
        return number


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
        gain: at the most compute, by how much the arm's metric is better than AR's: positive if it is.
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
    def metric(self) -> Metric:
        """What is matched."""
        return METRICS[self.kind]

    @property
    def most(self) -> Point:
        """The point with the most compute."""
        return self.points[-1]


@dataclass(frozen=True)
class Inference:
    """What an ablation of inference compute shows.

    Attributes:
        about: what is the same for all measured runs: `prompt_tokens`, `generated_tokens`, `ngram`.
        judge: the arm that judges text and is not compared; empty if there is none.
        real: real text; None if nothing was measured.
        curves: AR's first within each kind; the others are compared with it.
        unmeasured: finished runs, judges aside, without all that is to be measured of them.
        damaged: why measurements that are there cannot be read, in sentences.
    """

    tree: ResultTree
    about: Row
    judge: str
    real: Point | None
    curves: tuple[Curve, ...]
    unmeasured: tuple[CellResult, ...]
    damaged: tuple[str, ...]

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
    """Read what was measured of every run's best stop and compare each arm with AR.

    Judges must have the code and data of the other arms, but may have more unique tokens.

    Raises:
        ValueError: if no run has finished, the arms may not be compared, the ablation has levels, or runs
            were measured on several backends or by several versions of the code.
    """
    if levels := sorted({name for cell in tree.cells for name in cell.level}):
        raise ValueError(f"an inference ablation must have no levels, but {tree.path} varies {levels}.")
    check_comparable(tree.cells)
    judging = tree.plan.measurements.get(MEASUREMENT, "")
    finished = [cell for cell in tree.finished if cell.arm != judging]
    _refuse_other_budgets(finished, judging)
    measured, unmeasured, damaged = [], [], []
    for cell in finished:
        try:
            found = _read(tree, cell)
        except DamagedError as error:
            found = None
            damaged.append(f"{error} The same command makes it again.")
        if found:
            measured.append((cell, found))
        else:
            unmeasured.append(cell)
    _refuse_mixed(measured)
    curves = _compare([curve for kind in METRICS for curve in _curves(tree, measured, kind)])
    real = {
        cell.seed: row for cell, found in measured for row in found.rows if row.task.measurement == REAL_TEXT
    }
    about: Row = {}
    if measured:
        prompt, generated = prompt_and_generated(measured[0][0].cell.config)
        about = {"prompt_tokens": prompt, "generated_tokens": generated, "ngram": NGRAM}
    return Inference(
        tree,
        about,
        judging,
        Point(real) if real else None,
        tuple(curves),
        tuple(unmeasured),
        tuple(damaged),
    )


def _read(tree: ResultTree, cell: CellResult) -> MeasurementResult | None:
    """What was measured of a run; None if it is not of its best stop, or lacks a task of its configuration.

    The tasks of all arms follow from one preset, and the key of each row names the code that measured it:
    where the code changed, the same command measures anew.

    Raises:
        DamagedError: if the file is not as the lab writes it.
    """
    path = tree.path / measurement_folder(cell.cell.logdir, MEASUREMENT) / RESULT
    found = read_record(MeasurementResult, path)
    if found is None or found.stops[0] != cell.done.reference(cell.done.best()):
        return None
    rows = {repr(row.task): row for row in found.rows}
    wanted = [repr(task) for task in inference(cell.cell.config)]
    if any(task not in rows for task in wanted):
        return None
    for row in rows.values():
        _require(row, path)
    return found.model_copy(update={"rows": tuple(rows[task] for task in wanted)})


def _require(row: Measured, path: Path) -> None:
    """Refuse a row without the numbers that are compared."""
    kind = row.task.measurement
    metric = METRICS[CHOICE if kind == CHOICE else GENERATION].key
    costs = () if kind == REAL_TEXT else ("flops", "flops_computed")
    missing = [metric] * (row.values.get(metric) is None) + [name for name in costs if name not in row.costs]
    if missing:
        raise DamagedError(f"{path}: a row of {kind!r} must have {', '.join(missing)}, but has not.")


def _refuse_other_budgets(cells: list[CellResult], judging: str) -> None:
    budgets = {cell.arm: cell.done.data.unique_tokens for cell in cells}
    if len(set(budgets.values())) > 1:
        but = f" but {judging}" * bool(judging)
        raise ValueError(f"all arms{but} must have the same unique tokens, but got {budgets}.")


def _refuse_mixed(measured: list[tuple[CellResult, MeasurementResult]]) -> None:
    """Refuse measurements by several backends, or by several versions of the code."""
    places = [f"{cell.arm} seed {cell.seed}" for cell, _ in measured]
    by = {
        "backend": [found.process.backend for _, found in measured],
        "code": [found.code for _, found in measured],
    }
    for name, values in by.items():
        if len(set(values)) > 1:
            raise ValueError(
                f"all inference must be measured with the same {name}, "
                f"but got {dict(zip(places, values, strict=True))}: measure again."
            )


def _curves(tree: ResultTree, measured: list[tuple[CellResult, MeasurementResult]], kind: str) -> list[Curve]:
    """The curves of a kind, AR's first, then the arms in declared order."""
    found: dict[tuple[str, str], dict[tuple[int, int], dict[int, Measured]]] = {}
    order = {arm: place for place, arm in enumerate(tree.plan.arms)}
    for cell, result in sorted(measured, key=lambda pair: (pair[0].arm != AR, order[pair[0].arm])):
        for row in result.rows:
            if row.task.measurement == kind:
                settings = row.task.settings
                draws = settings.get("num_draws")
                name = (cell.arm, settings.get("sampler") or ("exact" if draws is None else "draws"))
                amount = (settings.get("steps") or 0, draws or 0)
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
    metric = curve.metric
    targets = reference.values(metric.key)
    by_seed: dict[int, float | None] = {}
    from_first, in_passing = [], []
    for seed in sorted(targets):
        amounts = [
            (point.rows[seed].costs["flops"] / reference.cost("flops"), _lower(metric, values[seed]))
            for point in curve.points
            if seed in (values := point.values(metric.key))
        ]
        if amounts:
            target = _lower(metric, targets[seed])
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


def _lower(metric: Metric, value: float) -> float:
    """A value turned so that lower is better."""
    return metric.improvement(value, 0.0)


def gain_over(point: Point, reference: Point, kind: str) -> PairedDifference | None:
    """How much better a point is than AR's, seed by seed; None if no seed has both."""
    metric = METRICS[kind]
    seeds = sorted(point.values(metric.key).keys() & reference.values(metric.key).keys())
    if not seeds:
        return None
    sides = [
        {
            seed: {key: value for key, value in side.rows[seed].values.items() if value is not None}
            for seed in seeds
        }
        for side in (reference, point)
    ]
    return paired_gain(metric, *sides)


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

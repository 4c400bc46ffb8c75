"""Contrasts of metrics on the test split, paired by seed, each with an interval and a corrected test."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.files import Row
from lab.metrics import Metric
from lab.reporting import drawing, table, words
from lab.reporting.content import Content
from lab.reporting.drawing import Picture
from lab.reporting.rows import estimate_fields, ratio
from lab.reporting.series import Runs, gain, runs_of, shown_metrics
from lab.reporting.statistics import Estimate, corrected
from lab.reporting.table import Column, Table
from lab.reporting.tree import UNIQUE_TOKENS, ResultTree, check_matched, level_name
from lab.results import Reading
from lab.sections import Contrast, Differences, Place

# What a verdict is called where items are counted, in the order in which they are told.
_KINDS: dict[tuple[int, str], str] = {
    (1, "test"): "better",
    (1, "seed spread"): "provisionally better",
    (-1, "test"): "worse",
    (-1, "seed spread"): "provisionally worse",
}
_UNDECIDED, _NOT_COMPARED = "undecided", "not compared"
_ORDER = (*_KINDS.values(), _UNDECIDED, _NOT_COMPARED)
_NO_SEED = "no seed was finished by both"


@dataclass(frozen=True)
class Compared:
    """One contrast at one level, by one metric under one reading.

    Attributes:
        contrast: as declared.
        metric: what is compared.
        arm: its runs.
        reference: the runs that they are compared with.
        at: place -> by how much the arm is better; None if no seed was finished by both.
    """

    contrast: Contrast
    metric: Metric
    arm: Runs
    reference: Runs
    at: Mapping[Place, Estimate | None]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that both finished; only they are compared."""
        return tuple(seed for seed in self.arm.seeds if seed in self.reference.seeds)

    @property
    def sides(self) -> tuple[Runs, Runs]:
        """The runs that are compared: the reference's, then the arm's."""
        return self.reference.among(self.seeds), self.arm.among(self.seeds)

    @property
    def within_run_length(self) -> bool:
        """Whether one of the two was still improving when a compared run ended."""
        return any(runs.improving for runs in self.sides)

    def kind(self, place: Place) -> str:
        """Its verdict at a place, or that there is none."""
        made = self.at[place]
        if made is None:
            return _NOT_COMPARED
        return _KINDS.get((made.verdict.winner, made.verdict.evidence), _UNDECIDED)


def write(section: Differences, tree: ResultTree, name: str) -> Content:
    """Compare arms seed by seed, each metric at each place a family of tests.

    Raises:
        ValueError: if runs may not be compared.
    """
    metrics = shown_metrics(section.metrics, tree.plan.metric)
    found = {
        (reading, metric.key): _compare(section, tree, metric, reading)
        for reading in tree.readings
        for metric in metrics
    }
    main = found[tree.readings[0], metrics[0].key]
    place = section.at[0]
    made = [estimate for one in main if (estimate := one.at[place])]
    improving = words.improving(_improving(main)) if "best" in section.at else ""
    pictures = [
        _picture([*found[tree.readings[0], metric.key]], metric, tree, section.at, name) for metric in metrics
    ]
    return Content(
        title=section.title or "Differences",
        headline=headline(main, place),
        verdict=detail(main, place),
        pictures=tuple(pictures[:1]),
        tables=tuple(
            _table(compared, section.at, reading if reading != tree.readings[0] else None, name)
            for (reading, _), compared in found.items()
        ),
        certain=tuple(
            filter(
                None, [words.paired(made), words.scope(made, metrics[0]), improving] if made else [improving]
            )
        ),
        folded=tuple(pictures[1:]),
        terms=(
            "gain",
            "interval",
            "holm",
            "held-out error",
            "end",
            *["provisional"] * _provisional(found.values()),
        ),
    )


def _compare(section: Differences, tree: ResultTree, metric: Metric, reading: Reading) -> list[Compared]:
    """Every contrast at every level, its tests corrected for their number at each place."""
    pairs = list(_pairs(section, tree, reading))
    families = {
        place: corrected([gain(metric, reference.at(place), arm.at(place)) for _, arm, reference in pairs])
        for place in section.at
    }
    return [
        Compared(contrast, metric, arm, reference, {place: families[place][index] for place in section.at})
        for index, (contrast, arm, reference) in enumerate(pairs)
    ]


def _pairs(section: Differences, tree: ResultTree, reading: Reading) -> Iterator[tuple[Contrast, Runs, Runs]]:
    """The runs of both sides of each contrast, level by level; never an arm with itself."""
    for level in tree.levels:
        for contrast in section.contrasts:
            other = level | contrast.reference_level
            itself = (contrast.arm, level) == (contrast.reference, other)
            if itself or any(level.get(key) != value for key, value in contrast.level.items()):
                continue
            arm = runs_of(tree, contrast.arm, level, reading)
            reference = runs_of(tree, contrast.reference, other, reading)
            check_matched([*reference.cells, *arm.cells], section.matched, words.level_words(level))
            yield contrast, arm, reference


def _provisional(found: Iterable[Sequence[Compared]]) -> bool:
    estimates = (made for one in found for c in one for made in c.at.values() if made)
    return any(made.verdict.evidence == "seed spread" for made in estimates)


def _improving(compared: Sequence[Compared]) -> dict[str, tuple[int, int]]:
    """Arm -> how many of the compared runs were best at their last stop, and of how many.

    An arm stands at each of its levels, unless all its runs at all of them were.
    """
    found: dict[str, dict[str, Runs]] = {}
    for one in compared:
        for whole, runs in zip((one.reference, one.arm), one.sides, strict=True):
            levels = found.setdefault(_name(runs), {})
            before = levels.get(where := words.at_level(runs.level), runs.among(()))
            levels[where] = whole.among([*before.seeds, *runs.seeds])
    told = {}
    for name, levels in found.items():
        numbers = {where: (runs.improving, len(runs.cells)) for where, runs in levels.items()}
        if len(levels) == 1 or all(number == runs for number, runs in numbers.values()):
            told[name] = (sum(number for number, _ in numbers.values()), sum(n for _, n in numbers.values()))
        else:
            told |= {f"{name}{where}": number for where, number in numbers.items()}
    return told


# Words.


def headline(compared: Sequence[Compared], place: Place) -> str:
    """What came out, counted or at which levels: at most two sentences.

    Where there are many references, the first pair is told and the rest is counted together.
    """
    if not compared:
        return "Nothing is compared: no such contrast is planned."
    groups: dict[str, list[Compared]] = {}
    for one in compared:
        groups.setdefault(_name(one.reference, one), []).append(one)
    first, *rest = groups.values()
    if len(rest) < 2:
        return " ".join(_told(own, place) for own in (first, *rest))
    if len({_name(one.arm) for one in first}) > 1:
        return _told(compared, place)
    others = [one for own in rest for one in own]
    return f"{_told(first, place)} {_told(others, place, 'other ')}"


def _told(compared: Sequence[Compared], place: Place, other: str = "") -> str:
    """One sentence: of a pair, at which level it is what; of several, how many are what."""
    pairs = {(_name(one.arm), _name(one.reference, one)) for one in compared}
    if len(pairs) > 1:
        said = _counted(compared, place, other)
    else:
        said = _alone(compared[0], place) if len(compared) == 1 else _over_levels(compared, place)
    within = [one.within_run_length for one in compared if one.at[place]]
    if place == "best" and any(within):
        said += ", " if len(compared) == 1 else "; all " if all(within) else "; some "
        said += "within this run length"
    return f"{said}."


def _alone(one: Compared, place: Place) -> str:
    arm, reference, where = _subject(one), _name(one.reference, one), words.at_level(one.arm.level)
    if one.contrast.reference_level:
        where = ""
    made, kind, metric = one.at[place], one.kind(place), one.metric
    if made is None:
        return f"{arm} and {reference} are not compared{where}: {_NO_SEED}"
    if kind == _UNDECIDED:
        gained = _with_unit(words.difference(made.mean, metric) + words.interval(made, metric), metric)
        return f"{arm} against {reference} is undecided{where}: a gain of {gained} {_by(metric, place)}"
    amount = _with_unit(words.size_of(made, metric), metric)
    return f"{arm} is {kind} than {reference}{where}, by {amount} {_by(metric, place)}"


def _with_unit(size: str, metric: Metric) -> str:
    """A size with its interval, the unit between them."""
    mean, _, interval = size.partition(" ")
    return " ".join(filter(None, [mean, metric.difference_unit, interval]))


def _by(metric: Metric, place: Place) -> str:
    """By what it is so: the best stop is where arms are compared, the end is said."""
    return f"in {metric.name}" + f" {words.PLACE_WORDS[place]}" * (place == "end")


def _subject(one: Compared) -> str:
    """The arm, with its level where the reference has another."""
    name = _name(one.arm)
    return f"{name}{words.at_level(one.arm.level)}" if one.contrast.reference_level else name


def _over_levels(compared: Sequence[Compared], place: Place) -> str:
    """One pair at several levels: at which it is what."""
    arm, reference = _name(compared[0].arm), _name(compared[0].reference, compared[0])
    by, other = _by(compared[0].metric, place), bool(compared[0].contrast.reference_level)
    clauses: list[str] = []
    for kind, own in _grouped(compared, place).items():
        at = f" at {_levels([one.arm.level for one in own])}"
        who, where = (f"{arm}{at}", "") if other else (arm, at)
        said = {
            _UNDECIDED: f"{who} against {reference} is undecided {by}{where}",
            _NOT_COMPARED: f"{who} and {reference} are not compared{where}: {_NO_SEED}",
        }.get(kind, f"{who} is {kind} than {reference} {by}{where}")
        clauses.append(f"{kind}{at}" if clauses else said)
    return "; ".join(clauses)


def _levels(levels: Sequence[Mapping[str, Any]]) -> str:
    """`10,000 and 30,000 unique tokens`; other levels each in full."""
    if all(set(level) == {UNIQUE_TOKENS} and level[UNIQUE_TOKENS] is not None for level in levels):
        return words.join([f"{level[UNIQUE_TOKENS]:,}" for level in levels]) + " unique tokens"
    return words.some([words.level_words(level) for level in levels])


def _grouped(compared: Sequence[Compared], place: Place) -> dict[str, list[Compared]]:
    groups = {kind: [one for one in compared if one.kind(place) == kind] for kind in _ORDER}
    return {kind: own for kind, own in groups.items() if own}


def _counted(compared: Sequence[Compared], place: Place, other: str) -> str:
    """How many have which verdict, and the clearest: `2 are better (most: a, by 0.21), 1 is undecided`."""
    references = {_name(one.reference, one) for one in compared}
    levels = {words.at_level(one.arm.level) for one in compared}
    whole = f"Of {len(compared)} {other}comparisons"
    whole += f" with {next(iter(references))}" if len(references) == 1 else ""
    whole += f" {_by(compared[0].metric, place)}{next(iter(levels)) if len(levels) == 1 else ''}"
    if not any(one.at[place] for one in compared):
        return f"{whole} none was made: {_NO_SEED}"
    parts = []
    for kind, own in _grouped(compared, place).items():
        is_ = "is" if len(own) == 1 else "are"
        known = [(abs(made.mean), one) for one in own if (made := one.at[place])]
        clearest = ""
        if kind in _KINDS.values():
            size, one = max(known, key=lambda pair: pair[0])
            most = "most: " if len(own) > 1 else ""
            clearest = f" ({most}{_label(one, compared)}, by {words.amount(size, one.metric)})"
        parts.append(f"{len(own)} {is_} {kind}{clearest}")
    return f"{whole}, {words.join(parts)}"


def detail(compared: Sequence[Compared], place: Place) -> tuple[str, ...]:
    """Every comparison with its gain and interval, a sentence for better, worse and undecided."""
    if len(compared) < 2:
        return ()
    sides: dict[int, list[tuple[Compared, Estimate]]] = {1: [], -1: [], 0: []}
    for one in compared:
        if made := one.at[place]:
            sides[made.verdict.winner].append((one, made))
    return tuple(_side(winner, own, compared) for winner, own in sides.items() if own)


def _side(winner: int, own: Sequence[tuple[Compared, Estimate]], compared: Sequence[Compared]) -> str:
    """The comparisons that go one way; what is provisional is said once, or of those that are."""
    flags = [made.verdict.evidence == "seed spread" for _, made in own]
    told = []
    for (one, made), flag in zip(own, flags, strict=True):
        size = f"by {words.size_of(made, one.metric)}" + " (provisional)" * (flag and not all(flags))
        if not winner:
            size = f"({words.difference(made.mean, one.metric)}{words.interval(made, one.metric)})"
        told.append(f"{_label(one, compared)} {size}")
    heading = "provisionally " * all(flags) + {1: "better", -1: "worse", 0: "undecided"}[winner]
    return f"{words.capital(heading)}: {words.some(told)}."


def _label(one: Compared, compared: Sequence[Compared]) -> str:
    """What tells a comparison from the others: the arm, its level, what it is compared with."""
    levels = {level_name(other.arm.level) for other in compared}
    parts = []
    if len({_name(other.arm) for other in compared}) > 1 or len(levels) == 1:
        parts.append(_name(one.arm))
    if len(levels) > 1:
        parts.append(f"at {words.level_words(one.arm.level)}")
    if len({_name(other.reference, other) for other in compared}) > 1:
        parts.append(f"against {_name(one.reference, one)}")
    return " ".join(parts)


def _name(runs: Runs, compared: "Compared | None" = None) -> str:
    """An arm as the page calls it; a reference at another level with that."""
    name = words.arm_name(runs.arm)
    if compared and compared.contrast.reference_level:
        return f"{name}{words.at_level(compared.contrast.reference_level)}"
    return name


# The table.


def _row(one: Compared) -> Row:
    seeds, reference = one.seeds, one.reference
    planned = max(one.arm.planned, reference.planned)
    row: Row = {
        "metric": one.metric.key,
        "reading": one.arm.reading,
        "level": level_name(one.arm.level),
        "arm": one.arm.arm,
        "reference": reference.arm,
        "reference_level": level_name(reference.level),
        "seeds": len(seeds),
        "seeds_left_out": planned - len(seeds),
        "within_run_length": one.within_run_length,
        "train_flops_ratio": ratio(one.arm.run_flops, reference.run_flops),
        "train_time_ratio": ratio(reference.speed, one.arm.speed),
    }
    for place, made in one.at.items():
        row |= estimate_fields(f"{place}_", made)
        for side, runs in (("arm", one.arm), ("reference", reference)):
            point = runs.among(seeds).at(place)
            row[f"{place}_{side}"] = point.mean(one.metric.key) if point else None
    return row


def _table(compared: Sequence[Compared], at: Sequence[Place], other: Reading | None, name: str) -> Table:
    metric = compared[0].metric if compared else None
    if metric is None:
        return Table(name, [], [])
    rows = [_row(one) for one in compared]
    leveled = len({row["level"] for row in rows}) > 1
    columns = [
        table.text("Arm", "arm"),
        table.text(
            "Against", "reference" if not any(c.contrast.reference_level for c in compared) else "against"
        ),
        table.number("Seeds", "seeds", printed=False),
    ]
    for row, one in zip(rows, compared, strict=True):
        row["against"] = f"{one.reference.arm}{words.at_level(one.contrast.reference_level)}"
    for place in at:
        first = place == at[0]
        unit = metric.difference_unit
        if first:
            columns.append(_reached(place, metric))
        columns.append(
            table.estimate(
                f"Gain, {words.PLACE_NAMES[place]}{table.LINE}{', '.join(filter(None, [unit, '95 %']))}",
                f"{place}_",
                metric,
            )
        )
        mark = (lambda row: words.MARK * row["within_run_length"]) if place == "best" else (lambda row: "")
        columns.append(table.verdict("Verdict", f"{place}_", mark, printed=first))
    columns += [
        Column(
            f"{words.capital((metric.sample or 'windows')[:-1])} error",
            lambda row: table.shown(
                row[f"{at[0]}_held_out_error"], lambda v: f"{metric.scale * v:.{metric.decimals}f}"
            ),
            printed=False,
        ),
        table.number(f"FLOPs{table.LINE}× against", "train_flops_ratio", printed=False),
        table.number(f"Time{table.LINE}× against", "train_time_ratio", printed=False),
    ]
    suffix = f"_{other}" if other else ""
    told = f", {words.READING_WORDS[other]}" if other else ""
    return Table(
        name=f"{name}_{metric.key}{suffix}",
        rows=rows,
        columns=columns,
        group="level" if leveled else "",
        title=words.capital(f"{metric.name}{told}"),
        caption=f"Gain: how much better the arm's test {metric.name} is, with the 95 % interval."
        + f" {words.MARK} still improving when its run ended."
        * ("best" in at and any(row["within_run_length"] for row in rows)),
    )


def _reached(place: Place, metric: Metric) -> Column:
    def cell(row: Row) -> str:
        values = [table.shown(row[f"{place}_{side}"], metric.shown) for side in ("reference", "arm")]
        return " → ".join(values)

    return Column(f"Test {metric.name}{table.LINE}against → arm", cell, printed=False)


# The figure.


def _picture(
    compared: Sequence[Compared], metric: Metric, tree: ResultTree, at: Sequence[Place], name: str
) -> Picture:
    """The test metric of every arm that is compared: its seeds, their mean, the interval of its gain."""
    order = {arm: place for place, arm in enumerate(tree.plan.arms)}
    by_level: dict[str, dict[str, Runs]] = {level_name(level): {} for level in tree.levels}
    for one in compared:
        for runs in (one.reference, one.arm):
            by_level.setdefault(level_name(runs.level), {})[runs.arm] = runs
    drawn = [runs_by_arm for runs_by_arm in by_level.values() if runs_by_arm]
    lines: list[tuple[str, Runs | None]] = []
    for runs_by_arm in drawn:
        if len(drawn) > 1:
            lines.append((words.level_words(next(iter(runs_by_arm.values())).level), None))
        lines += [(arm, runs_by_arm[arm]) for arm in sorted(runs_by_arm, key=lambda arm: order[arm])]
    return Picture(
        name=f"{name}_{metric.key}",
        title=f"{words.topic(metric)}, each arm",
        caption=f"{words.direction(metric)} Dots are seeds, a bar their mean. A line is the 95 % interval "
        "of the difference to the arm compared with (dotted), drawn around the arm: one that is clear of the "
        "dotted line decides before correction. What leaves the figure is cut.",
        panels=tuple(_panel(compared, lines, place, metric) for place in at),
    )


def _panel(
    compared: Sequence[Compared], lines: Sequence[tuple[str, Runs | None]], place: Place, metric: Metric
) -> Figure:
    figure, ax = drawing.new_panel(
        words.capital(words.PLACE_WORDS[place]), width=5.4, height=1.1 + 0.27 * max(4, len(lines))
    )
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    colours = drawing.arm_colours(list(dict.fromkeys(name for name, runs in lines if runs)))
    rows = {(runs.arm, level_name(runs.level)): row for row, (_, runs) in enumerate(lines) if runs}
    for row, (name, runs) in enumerate(lines):
        if runs is None:
            continue
        point = runs.at(place)
        values = [metric.scale * value for value in point.values(metric.key).values()] if point else []
        if not values:
            told = "not measured" if point else "no finished run"
            ax.annotate(told, (0.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        else:
            ax.plot(values, [row] * len(values), "o", color=colours[name], alpha=0.5, markersize=5)
            ax.plot(
                fmean(values), row, "|", color=colours[name], markersize=12, markeredgewidth=2.5, zorder=4
            )
    ax.set_xlim(ax.get_xlim())
    for one in compared:
        _whisker(ax, one, place, rows, colours[one.arm.arm])
    ax.set_ylim(len(lines) - 0.4, -0.6)
    ax.set_yticks(range(len(lines)), [name for name, _ in lines])
    for label, (_, runs) in zip(ax.get_yticklabels(), lines, strict=True):
        label.set_fontweight("normal" if runs else "bold")
    ax.set_xlabel(drawing.axis_label(metric, "test"))
    return figure


def _whisker(ax: Axes, one: Compared, place: Place, rows: Mapping[tuple[str, str], int], colour: str) -> None:
    """The reference's mean beside the arm, and the interval of the arm's gain around the arm's mean."""
    row, metric = rows[one.arm.arm, level_name(one.arm.level)], one.metric
    made = one.at[place]
    points = [runs.among(one.seeds).at(place) for runs in (one.reference, one.arm)]
    if made is None or points[0] is None or points[1] is None:
        return
    base, centre = (metric.scale * (point.mean(metric.key) or 0.0) for point in points if point)
    ax.vlines(base, row - 0.45, row + 0.45, drawing.FAINT, ":", linewidth=1.2, zorder=1)
    if made.interval:
        ends = sorted(metric.scale * metric.improvement(made.mean, end) for end in made.interval)
        ax.plot([centre + ends[0], centre + ends[1]], [row, row], color=colour, linewidth=1.5, alpha=0.9)

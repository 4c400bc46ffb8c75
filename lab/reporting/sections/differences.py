"""Contrasts of metrics on the test split, paired by seed, each with an interval and a corrected test."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from lab.files import Row
from lab.metrics import Metric
from lab.reporting import drawing, table, words
from lab.reporting.content import Content
from lab.reporting.drawing import Picture
from lab.reporting.power import smallest_decidable
from lab.reporting.replicates import replicates_of
from lab.reporting.rows import estimate_fields, ratio
from lab.reporting.series import Runs, contrasted, gain, shown_metrics, unmeasured
from lab.reporting.statistics import ALPHA, Estimate, judge_together
from lab.reporting.table import Column, Table
from lab.reporting.tree import CellResult, ResultTree, check_matched, level_name, still_improving
from lab.results import Reading
from lab.sections import Contrast, Differences, Place

NOT_COMPARED = "not compared"
# In the order in which they are told.
KINDS = (words.BETTER, words.WORSE, words.EQUIVALENT, words.UNDECIDED, NOT_COMPARED)
NO_SEED = "no seed has it of both"


@dataclass(frozen=True)
class Compared:
    """One contrast at one level, by one metric under one reading.

    Attributes:
        contrast: as declared.
        metric: what is compared.
        arm: its runs.
        reference: the runs that they are compared with.
        gains: place -> by how much the arm is better; None if no seed has it of both.
    """

    contrast: Contrast
    metric: Metric
    arm: Runs
    reference: Runs
    gains: Mapping[Place, Estimate | None]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that both finished and of which both have it; only they are compared."""
        known = {seed for made in self.gains.values() if made for seed in made.by_seed}
        return tuple(seed for seed in self.arm.seeds if seed in known)

    @property
    def sides(self) -> dict[str, Runs]:
        """The runs of these seeds."""
        return {"reference": self.reference.among(self.seeds), "arm": self.arm.among(self.seeds)}

    @property
    def within_run_length(self) -> bool:
        """Whether one of the two was still improving when a compared run ended."""
        return any(runs.improving for runs in self.sides.values())

    @property
    def who(self) -> str:
        """The arm in words."""
        return words.arm_name(self.arm.arm)

    @property
    def whom(self) -> str:
        """The reference in words, with its level where that is another."""
        return words.reference_name(self.contrast)

    def kind(self, place: Place) -> str:
        """Its verdict at a place, or that there is none."""
        made = self.gains[place]
        return words.kind_words(made.verdict) if made else NOT_COMPARED


def write(section: Differences, tree: ResultTree, name: str) -> Content:
    """Compare arms seed by seed, each metric at each place a family of tests.

    Raises:
        ValueError: if runs may not be compared.
    """
    metrics = shown_metrics(section.metrics, tree.plan.metric)
    compared = {
        (reading, metric): _compare(section, tree, metric, reading)
        for reading in tree.readings
        for metric in metrics
    }
    place, main = section.at[0], compared[tree.readings[0], metrics[0]]
    family = [made for one in main if (made := one.gains[place])]
    certain = list(_certain(family, main, metrics[0])) if family else []
    if "best" in section.at and (improving := words.improving(_improving(main))):
        certain.append(improving)
    everything = [made for own in compared.values() for one in own for made in one.gains.values()]
    return Content(
        title="Differences",
        headline=headline(main, place),
        verdict=detail(main, place),
        pictures=tuple(_picture(compared[tree.readings[0], m], m, section.at, name) for m in metrics),
        tables=tuple(
            _table(own, metric, section.at, words.reading_suffix(tree, reading), name)
            for (reading, metric), own in compared.items()
        ),
        certain=tuple(certain),
        warnings=unmeasured([runs.along for one in main for runs in (one.arm, one.reference)], metrics),
        terms=("gain", "end", *words.terms_of(everything)),
    )


def _compare(section: Differences, tree: ResultTree, metric: Metric, reading: Reading) -> list[Compared]:
    """Every contrast at every level, its tests corrected for their number at each place."""
    pairs = list(_pairs(section, tree, reading))
    families = {
        place: judge_together(
            [
                gain(metric, reference.at(contrast.reference_at or place), arm.at(place))
                for contrast, arm, reference in pairs
            ]
        )
        for place in section.at
    }
    return [
        Compared(contrast, metric, arm, reference, {place: families[place][index] for place in section.at})
        for index, (contrast, arm, reference) in enumerate(pairs)
    ]


def _pairs(section: Differences, tree: ResultTree, reading: Reading) -> Iterator[tuple[Contrast, Runs, Runs]]:
    """The planned runs of both sides of each contrast, level by level; never an arm with itself."""
    for contrast, arm, reference in contrasted(tree, section.contrasts, reading):
        check_matched([*reference.cells, *arm.cells], section.matched, words.level_words(arm.level))
        if arm.planned and reference.planned:
            yield contrast, arm, reference


def _improving(compared: Sequence[Compared]) -> dict[str, tuple[int, int]]:
    """Arm -> how many of the compared runs were best at their last stop, and of how many.

    An arm stands at each of its levels, unless all its runs at all of them were.
    """
    arms: dict[str, dict[str, dict[int, CellResult]]] = {}
    for runs in (runs for one in compared for runs in one.sides.values()):
        at_levels = arms.setdefault(words.arm_name(runs.arm), {})
        cells = at_levels.setdefault(words.at_level(runs.level), {})
        cells.update(zip(runs.seeds, runs.cells, strict=True))
    counts: dict[str, tuple[int, int]] = {}
    for arm, at_levels in arms.items():
        own = {
            f"{arm}{where}": (still_improving(cells.values(), compared[0].arm.reading), len(cells))
            for where, cells in at_levels.items()
        }
        number, of = map(sum, zip(*own.values(), strict=True))
        counts |= {arm: (number, of)} if len(own) == 1 or number == of else own
    return counts


# Words.


def _certain(family: Sequence[Estimate], compared: Sequence[Compared], metric: Metric) -> Iterator[str]:
    """How the differences were judged, what could be decided, and what the intervals cover."""
    yield words.paired(family)
    if known := [made for made in family if made.standard_deviation]:
        sd = fmean(made.standard_deviation**2 for made in known if made.standard_deviation) ** 0.5
        gain = smallest_decidable(sd, min(len(made.by_seed) for made in known), len(known), family[0].alpha)
        yield from [words.decidable(gain, metric)] if gain else []
    cells = [cell for one in compared for runs in one.sides.values() for cell in runs.cells]
    yield words.scope(replicates_of(cells, metric.key), family, metric)


def headline(compared: Sequence[Compared], place: Place) -> str:
    """What came out, counted or at which levels: at most two sentences.

    Where there are many references, the first pair is told and the rest is counted together.
    """
    if not compared:
        return "Nothing is compared: no such contrast is planned."
    groups: dict[str, list[Compared]] = {}
    for one in compared:
        groups.setdefault(one.whom, []).append(one)
    first, *rest = groups.values()
    if len(rest) < 2:
        return " ".join(_sentence(own, place) for own in (first, *rest))
    if len({one.who for one in first}) > 1:
        return _sentence(compared, place)
    others = [one for own in rest for one in own]
    return f"{_sentence(first, place)} {_sentence(others, place, 'other ')}"


def _sentence(compared: Sequence[Compared], place: Place, other: str = "") -> str:
    """Of a pair, at which level it is what; of several, or at many levels, how many are what."""
    several = len({(one.who, one.whom) for one in compared}) > 1 or len(compared) > words.NAMED
    text = _counted(compared, place, other) if several else _pair(compared, place)
    within = [one.within_run_length for one in compared if one.gains[place]]
    if place == "best" and any(within):
        which = "," if len(compared) == 1 else "; all" if all(within) else "; some"
        text += f"{which} within this run length"
    return f"{text}."


def _pair(compared: Sequence[Compared], place: Place) -> str:
    """One pair at one level or several: at which it is what, and, of one, by how much."""
    one, metric = compared[0], compared[0].metric
    clauses: list[str] = []
    for kind, own in _by_kind(compared, place).items():
        at = f" at {words.levels_words([one.arm.level for one in own])}" if one.arm.level else ""
        who, where = one.who, f"in {_by(metric, place)}{at}"
        if one.contrast.reference_level:
            who, where = f"{one.who}{at}", f"in {_by(metric, place)}"
        if clauses:
            clauses.append(f"{kind}{at}")
        elif kind == NOT_COMPARED:
            clauses.append(f"{who} and {one.whom} are not compared {where}: {NO_SEED}")
        elif kind == words.UNDECIDED:
            clauses.append(f"{who} against {one.whom} is undecided {where}")
        elif kind == words.EQUIVALENT:
            clauses.append(f"{who} draws level with {one.whom} {where}")
        else:
            clauses.append(f"{who} is {kind} than {one.whom} {where}")
    made = one.gains[place]
    if len(compared) > 1 or not made:
        return "; ".join(clauses)
    differs = made.verdict.kind == "differs"
    size = words.sized(made, metric, unit=True, sign=not differs) + words.within_margin(made, metric)
    return clauses[0] + (f", by {size}" if differs else f": a gain of {size}")


def _by(metric: Metric, place: Place) -> str:
    """By what it is so: the best stop is where arms are compared, the end is told."""
    return metric.name + f" {words.PLACE_WORDS[place]}" * (place == "end")


def _by_kind(compared: Sequence[Compared], place: Place) -> dict[str, list[Compared]]:
    kinds = {kind: [one for one in compared if one.kind(place) == kind] for kind in KINDS}
    return {kind: own for kind, own in kinds.items() if own}


def _counted(compared: Sequence[Compared], place: Place, other: str) -> str:
    """How many have which verdict, and the clearest: `2 are better (most: a, by 0.21), 1 is undecided`."""
    references = {one.whom for one in compared}
    levels = {words.at_level(one.arm.level) for one in compared}
    whole = f"Of {len(compared)} {other}comparisons"
    whole += f" with {min(references)}" * (len(references) == 1)
    whole += f" in {_by(compared[0].metric, place)}" + min(levels) * (len(levels) == 1)
    if not any(one.gains[place] for one in compared):
        return f"{whole} none was made: {NO_SEED}"
    parts = []
    for kind, own in _by_kind(compared, place).items():
        clearest = ""
        if kind in (words.BETTER, words.WORSE):
            known = [(abs(made.mean), one) for one in own if (made := one.gains[place])]
            size, one = max(known, key=lambda pair: pair[0])
            label, most = _label(one, compared), "most: " * (len(own) > 1)
            clearest = f" ({most}{label}, by {words.amount(size, one.metric)})"
        parts.append(f"{len(own)} {'is' if len(own) == 1 else 'are'} {kind}{clearest}")
    return f"{whole}, {words.join(parts)}"


def detail(compared: Sequence[Compared], place: Place) -> tuple[str, ...]:
    """Every comparison with its gain and interval, a sentence for each verdict; of many the table tells.

    Of two with a reference each the headline has told all of it.
    """
    apart = len({one.whom for one in compared}) == len(compared) == 2
    if apart or not 2 <= len(compared) <= words.NAMED:
        return ()
    kinds = _by_kind([one for one in compared if one.gains[place]], place)
    return tuple(_side(kind, own, compared, place) for kind, own in kinds.items())


def _side(kind: str, own: Sequence[Compared], compared: Sequence[Compared], place: Place) -> str:
    """The comparisons of one verdict: by how much, of one that differs, and else the gain."""
    parts = []
    for one in own:
        made = one.gains[place]
        if made and made.verdict.kind == "differs":
            small = " (less than the margin)" * made.verdict.within_margin
            parts.append(f"{_label(one, compared)} by {words.sized(made, one.metric, sign=False)}{small}")
        elif made:
            parts.append(f"{_label(one, compared)} ({words.sized(made, one.metric)})")
    return f"{words.capital(kind)}: {words.some(parts)}."


def _label(one: Compared, compared: Sequence[Compared]) -> str:
    """What tells a comparison from the others: the arm, its level, what it is compared with."""
    leveled = len({level_name(other.arm.level) for other in compared}) > 1
    parts = [one.who] * (not leveled or len({other.who for other in compared}) > 1)
    parts += [f"at {words.level_words(one.arm.level)}"] * leveled
    parts += [f"against {one.whom}"] * (len({other.whom for other in compared}) > 1)
    return " ".join(parts)


# The table and the figure.


def _row(one: Compared) -> Row:
    sides = one.sides
    arm, reference = sides["arm"].costs("end"), sides["reference"].costs(one.contrast.reference_at or "end")
    row: Row = {
        "metric": one.metric.key,
        "reading": one.arm.reading,
        "level": level_name(one.arm.level),
        "arm": one.arm.arm,
        "reference": one.reference.arm,
        "reference_level": level_name(one.reference.level),
        "seeds": len(one.seeds),
        "seeds_left_out": max(one.arm.planned, one.reference.planned) - len(one.seeds),
        "within_run_length": one.within_run_length,
        "train_flops_ratio": ratio(arm.get("train_flops"), reference.get("train_flops")),
        "train_time_ratio": ratio(arm.get("seconds"), reference.get("seconds")),
        "against": f"{one.reference.arm}{words.reference_place(one.contrast)}",
    }
    for place, made in one.gains.items():
        row |= estimate_fields(f"{place}_", made)
        for side, runs in sides.items():
            taken = one.contrast.reference_at if side == "reference" else ""
            point = runs.at(taken or place)
            row[f"{place}_{side}"] = point and point.mean(one.metric.key)
    return row


def _goes_on(compared: Sequence[Compared]) -> bool:
    """Whether a run began with the weights of another."""
    cells = [cell for one in compared for runs in one.sides.values() for cell in runs.cells]
    return any(cell.done.config.training.start_from for cell in cells)


def _table(
    compared: Sequence[Compared], metric: Metric, at: Sequence[Place], suffix: words.Suffix, name: str
) -> Table:
    rows = [_row(one) for one in compared]
    first = at[0]

    def test(row: Row) -> str:
        sides = (row[f"{first}_{side}"] for side in ("reference", "arm"))
        return " → ".join(table.shown(value, metric.shown) for value in sides)

    def improving(row: Row) -> str:
        return words.MARK * row["within_run_length"]

    columns = [table.text("Arm", "arm"), table.text("Against", "against")]
    columns.append(table.number("Seeds", "seeds", printed=False))
    columns.append(
        Column(f"{words.capital(metric.on('test'))}{table.LINE}against → arm", test, printed=False)
    )
    levels = [made.alpha for one in compared for made in one.gains.values() if made]
    confidence = words.confidence(min(levels, default=ALPHA))
    small = ", ".join(filter(None, [metric.difference_unit, confidence]))
    for place in at:
        heading = f"Gain, {words.PLACE_NAMES[place]}{table.LINE}{small}"
        columns.append(table.estimate(heading, f"{place}_", words.in_metric(metric)))
        mark = {"mark": improving} if place == "best" else {}
        columns.append(table.verdict("Verdict", f"{place}_", **mark, printed=place == first))
    columns += [
        table.number(f"FLOPs{table.LINE}× against", "train_flops_ratio", printed=False),
        table.number(f"Time{table.LINE}× against", "train_time_ratio", printed=False),
    ]
    marked = "best" in at and any(row["within_run_length"] for row in rows)
    return Table(
        name=f"{name}_{metric.key}{suffix.name}",
        rows=rows,
        columns=columns,
        group="level" if len({row["level"] for row in rows}) > 1 else "",
        title=words.capital(f"{metric.name}{suffix.title}"),
        caption=f"Gain: how much better the arm's {metric.on('test')} is, with the {confidence} interval."
        + _margin(metric)
        + f" {words.bound_beside([metric])}".rstrip()
        + f" {words.MARK} still improving when its run ended." * marked
        + " FLOPs and time of a run that starts from another are without the other's." * _goes_on(compared),
    )


def _margin(metric: Metric) -> str:
    """The margin that gains of a metric are judged by, as a sentence of a caption."""
    if metric.margin is None:
        return " It has no margin, so no arm can be equivalent."
    return f" Margin: {words.amount(metric.margin, metric)}."


def _picture(compared: Sequence[Compared], metric: Metric, at: Sequence[Place], name: str) -> Picture:
    """The gain of every comparison: its seeds, their mean, its interval."""
    leveled = len({level_name(one.arm.level) for one in compared}) > 1
    several = len({one.whom for one in compared}) > 1
    levels: dict[str, list[tuple[str, Compared]]] = {}
    for one in compared:
        label = f"{one.who} against {one.whom}" if several else one.who
        levels.setdefault(words.level_words(one.arm.level), []).append((label, one))
    panels = []
    for place in at:
        lines: list[tuple[str, list[drawing.Mark] | str]] = []
        for level, own in levels.items():
            lines += [(level, [])] if leveled else []
            for label, one in own:
                made = one.gains[place]
                lines.append((label, [drawing.Mark(made, *drawing.PLACE_STYLES[place])] if made else NO_SEED))
        panels.append(drawing.estimates(words.capital(words.PLACE_WORDS[place]), lines, metric))
    against = "the arm named beside it" if several else compared[0].whom if compared else ""
    return Picture(
        name=f"{name}_{metric.key}",
        title=f"Gain in {metric.on('test')}",
        caption=f"Right of 0 an arm is better than {against}. {drawing.ESTIMATES}",
        panels=tuple(panels),
    )

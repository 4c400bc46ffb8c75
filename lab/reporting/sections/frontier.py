"""Judge NLL against the entropy within a text, over temperatures: text compared where it is equally varied.

How far an arm's text is from a judge's distribution, KL(arm || judge), is the judge's NLL of the text minus
the entropy of the text. A lower temperature lowers both, so judge NLLs compare at equal entropy alone: at one
temperature each, the arm whose texts are less varied seems better.

Reference: Pynadath et al. 2026, arXiv:2604.02718.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes

from lab.files import Row
from lab.metrics import find_metric
from lab.reporting import drawing, table, words
from lab.reporting.content import Content
from lab.reporting.drawing import Picture
from lab.reporting.replicates import replicates_of
from lab.reporting.rows import estimate_fields, metric_fields
from lab.reporting.sections.against import STYLES
from lab.reporting.series import Point, Series, after_runs, check_series
from lab.reporting.statistics import Estimate, judge_together, paired_gain
from lab.reporting.table import Column, Table
from lab.reporting.tree import ResultTree, level_name
from lab.sections import Frontier

ENTROPY, JUDGE_NLL = find_metric("entropy"), find_metric("judge_nll")
NOT_COMPARABLE = "not comparable"
SENTENCES = 3  # as many as a section may say


@dataclass(frozen=True)
class Compared:
    """An arm beside the reference at the reference's entropy.

    Attributes:
        arm: over temperatures.
        reference: what the reference wrote at temperature 1.
        at_equal: seed -> the arm's judge NLL at the reference's entropy, None where none of its temperatures
            reach it; of the seeds in which all was measured.
        gain: over the reference at equal entropy; None unless every seed reaches it.
    """

    arm: Series
    reference: Point
    at_equal: Mapping[int, float | None]
    gain: Estimate | None

    @property
    def who(self) -> str:
        """The arm and its way of sampling in words."""
        return f"{words.arm_name(self.arm.arm)} ({words.variant_name(self.arm.variant)})"

    @property
    def reached(self) -> list[float]:
        """The values of the seeds that reach the reference's entropy."""
        return [value for value in self.at_equal.values() if value is not None]


def write(section: Frontier, tree: ResultTree, name: str) -> Content:
    """Draw the frontier of each arm, and compare them with the reference at its entropy.

    Raises:
        ValueError: if runs may not be compared.
    """
    measured = after_runs(tree)
    check_series(measured.frontiers, section.matched)
    known = [(one, _known(one)) for one in measured.frontiers]
    series = [replace(one, points=points) for one, points in known if points]
    compared = _compare(series, section.reference)
    family = [one.gain for one in compared if one.gain]
    real = measured.real if measured.real and measured.real.values(ENTROPY.key) else None
    sentences = [_sentence(one, words.arm_name(section.reference)) for one in compared]
    whom = words.arm_name(section.reference)
    nothing = f"No text is compared with {whom}'s: no seed has the entropy of both."
    return Content(
        title="Text at equal entropy",
        headline=(sentences or [nothing])[0],
        verdict=tuple(sentences) if 0 < len(sentences) <= SENTENCES else (),
        pictures=(_picture(series, real, section.reference, name),) if series else (),
        tables=tuple(_tables(series, compared, real, section.reference, name)),
        certain=tuple(_certain(compared, family)) if family else (),
        warnings=measured.warnings,
        terms=("judge", "frontier", "gain", *words.terms_of(family)),
    )


def _known(series: Series) -> tuple[Point, ...]:
    """The points of which some seed has both numbers: text measured by an older lab has no entropy."""
    return tuple(point for point in series.points if _entropy_and_nll(point))


def _entropy_and_nll(point: Point) -> dict[int, tuple[float, float]]:
    """Seed -> entropy and judge NLL."""
    entropies, nlls = point.values(ENTROPY.key), point.values(JUDGE_NLL.key)
    return {seed: (entropies[seed], nlls[seed]) for seed in sorted(entropies.keys() & nlls.keys())}


def _compare(series: Sequence[Series], reference: str) -> list[Compared]:
    """Every other arm with the reference of its level, where some seed has both; the tests are one family."""
    pairs = []
    for one in series:
        own = (o for o in series if o.arm == reference and o.level == one.level)
        at_1 = (point for other in own for point in other.points if point.at["temperature"] == 1)
        base = next(at_1, None)
        if base and one.arm != reference and (at_equal := _at_equal_entropy(one, base)):
            pairs.append((one, base, at_equal))
    family = judge_together([_gain(base, at_equal) for _, base, at_equal in pairs])
    return [Compared(*pair, gain) for pair, gain in zip(pairs, family, strict=True)]


def _at_equal_entropy(arm: Series, reference: Point) -> dict[int, float | None]:
    """Seed -> the arm's judge NLL at the reference's entropy, of the seeds that have both arms."""
    by_seed: dict[int, list[tuple[float, float]]] = {}
    for point in arm.points:
        for seed, pair in _entropy_and_nll(point).items():
            by_seed.setdefault(seed, []).append(pair)
    bases = _entropy_and_nll(reference)
    return {seed: nll_at(pairs, bases[seed][0]) for seed, pairs in sorted(by_seed.items()) if seed in bases}


def nll_at(points: Sequence[tuple[float, float]], entropy: float) -> float | None:
    """The judge NLL at an entropy, linear between neighbours in entropy; None outside all of them.

    Args:
        points: (entropy, judge NLL), at least one, in any order.
        entropy: nats/token.
    """
    entropies, nlls = zip(*sorted(points), strict=True)
    if not entropies[0] <= entropy <= entropies[-1]:
        return None
    return float(np.interp(entropy, entropies, nlls))


def _gain(reference: Point, at_equal: Mapping[int, float | None]) -> Estimate | None:
    """Over all seeds, or none: those that reach the entropy are no fair choice of them."""
    known = {seed: {JUDGE_NLL.key: value} for seed, value in at_equal.items() if value is not None}
    return paired_gain(JUDGE_NLL, reference.by_seed, known) if len(known) == len(at_equal) else None


# Words.


def _sentence(one: Compared, whom: str) -> str:
    """What comes of one arm at the reference's entropy."""
    at = f"at {whom}'s entropy{words.at_level(one.arm.level)}"
    if not one.gain:
        outside = len(one.at_equal) - len(one.reached)
        return words.capital(
            f"{one.who} is {NOT_COMPARABLE} {at}: in {outside} of {words.count(len(one.at_equal), 'seed')} "
            "that lies outside what the temperatures tried give."
        )
    verdict = one.gain.verdict
    sized = words.sized(one.gain, JUDGE_NLL, unit=True, sign=verdict.kind != "differs")
    sized += words.within_margin(one.gain, JUDGE_NLL)
    who, judged = words.capital(one.who), f"in {JUDGE_NLL.name} {at}"
    match verdict.kind:
        case "differs":
            return f"{who} writes {words.kind_words(verdict)} than {whom} {judged}, by {sized}."
        case "equivalent":
            return f"{who} draws level with {whom} {judged}: a gain of {sized}."
        case _:
            return f"{who} against {whom} is undecided {judged}: a gain of {sized}."


def _certain(compared: Sequence[Compared], family: Sequence[Estimate]) -> Iterator[str]:
    yield words.paired(family)
    cells = (cell for one in compared for cell in one.arm.cells)
    yield words.scope(replicates_of(cells, JUDGE_NLL.key), family, JUDGE_NLL)


# The figure.


def _picture(series: Sequence[Series], real: Point | None, reference: str, name: str) -> Picture:
    figure, ax = drawing.new_panel("")
    colours = drawing.arm_colours(list(dict.fromkeys(one.arm for one in series)))
    lines: dict[str, int] = {}
    labels = []
    for one in series:
        place = lines[one.arm] = lines.get(one.arm, -1) + 1
        labels.append(_line(ax, one, colours[one.arm], STYLES[place % len(STYLES)]))
    for one in series:
        for point in one.points:
            if one.arm == reference and point.at["temperature"] == 1:
                drawing.upright_line(ax, point.mean(ENTROPY.key) or 0.0, colours[one.arm])
    if real:
        x, y = real.mean(ENTROPY.key) or 0.0, real.mean(JUDGE_NLL.key) or 0.0
        ax.plot(x, y, "*", color=drawing.INK, markersize=12, zorder=5)
        drawing.write_label(ax, drawing.Label(x, y, "real text", drawing.INK))
    ax.set_xlabel(drawing.axis_label(ENTROPY))
    ax.set_ylabel(drawing.axis_label(JUDGE_NLL))
    ax.set_ylim(*ax.get_ylim())
    drawing.place_labels(ax, labels)
    return Picture(
        name=name,
        title="Surprise of a judge at text, against how varied the text is",
        caption=(
            "Down and right is better. Lines: means over seeds, a mark at each temperature with its number, "
            f"the large one at 1; dots: seeds. Dotted: the entropy of {words.arm_name(reference)} at "
            "temperature 1, where arms are compared."
        ),
        panels=(figure,),
    )


def _line(ax: Axes, series: Series, colour: str, style: tuple[str, str]) -> drawing.Label:
    """One arm through its temperatures; returns its name at its end."""
    line, marker = style
    xs = [point.mean(ENTROPY.key) or 0.0 for point in series.points]
    ys = [point.mean(JUDGE_NLL.key) or 0.0 for point in series.points]
    ax.plot(xs, ys, color=colour, linewidth=1.8, linestyle=line)
    for x, y, point in zip(xs, ys, series.points, strict=True):
        for seed in _entropy_and_nll(point).values():
            ax.plot(*seed, ".", color=colour, alpha=0.35, markersize=5)
        temperature = point.at["temperature"]
        ax.plot(x, y, marker, color=colour, markersize=9 if temperature == 1 else 5, markeredgecolor="white")
        ax.annotate(
            f"{temperature:g}",
            (x, y),
            (0, 7),
            textcoords="offset points",
            fontsize=7,
            color=colour,
            ha="right",
        )
    name = ", ".join(filter(None, [words.arm_name(series.arm), words.level_words(series.level)]))
    return drawing.Label(xs[-1], ys[-1], name, colour)


# The tables.


def _tables(
    series: Sequence[Series], compared: Sequence[Compared], real: Point | None, reference: str, name: str
) -> Iterator[Table]:
    whom = words.arm_name(reference)
    if compared:
        rows = [_compared_row(one, reference) for one in compared]
        yield Table(name, rows, _compared_columns(rows, whom), f"Gain: in {JUDGE_NLL.name} over {whom}.")
    if series:
        points = [_point_row(one.arm, one.variant, point) for one in series for point in one.points]
        points = [*([_point_row("real text", "", real)] if real else []), *points]
        yield Table(f"{name}_points", points, _point_columns(points), title="At each temperature")


def _compared_row(one: Compared, reference: str) -> Row:
    at_1 = (point for point in one.arm.points if point.at["temperature"] == 1)
    alone = next((paired_gain(JUDGE_NLL, one.reference.by_seed, point.by_seed) for point in at_1), None)
    return {
        "level": level_name(one.arm.level),
        "arm": one.arm.arm,
        "variant": one.arm.variant,
        "reference": reference,
        "seeds": len(one.at_equal),
        "seeds_that_reach": len(one.reached),
        **metric_fields("reference_", one.reference, (ENTROPY.key, JUDGE_NLL.key)),
        "judge_nll_by_seed": {str(seed): value for seed, value in one.at_equal.items()},
        "temperature_1_gain": alone and alone.mean,
        **estimate_fields("gain_", one.gain),
    }


def _compared_columns(rows: Sequence[Row], whom: str) -> list[Column]:
    show = words.in_metric(JUDGE_NLL)

    def verdict(row: Row) -> str:
        return row["gain_verdict"] or NOT_COMPARABLE

    return [
        *table.levels(rows),
        Column("Arm", lambda row: words.arm_name(row["arm"]), left=True),
        Column("By", lambda row: words.variant_name(row["variant"]), left=True),
        Column("Seeds", lambda row: f"{row['seeds_that_reach']} of {row['seeds']}"),
        table.measured(f"{whom}'s entropy", "reference_entropy", ENTROPY, printed=False),
        table.number(f"Gain{table.LINE}both at temperature 1", "temperature_1_gain", show),
        table.estimate(f"Gain{table.LINE}at {whom}'s entropy, 95 %", "gain_", show),
        Column("Verdict", verdict, left=True),
    ]


def _point_row(arm: str, variant: str, point: Point) -> Row:
    return {
        "arm": arm,
        "variant": variant,
        "level": level_name(point.level),
        "seeds": len(_entropy_and_nll(point)),
        "temperature": point.at.get("temperature"),
        **metric_fields("", point, (ENTROPY.key, JUDGE_NLL.key, "distinct", "repetition")),
    }


def _point_columns(rows: Sequence[Row]) -> list[Column]:
    shown = [ENTROPY, JUDGE_NLL, find_metric("distinct"), find_metric("repetition")]
    return [
        *table.levels(rows),
        Column("Arm", lambda row: words.arm_name(row["arm"]), left=True),
        Column("By", lambda row: words.variant_name(row["variant"]) or table.ABSENT, left=True),
        table.number("Temperature", "temperature"),
        *(table.measured(table.in_heading(metric), metric.key, metric) for metric in shown),
    ]

"""A metric on the validation split while training goes on, a panel for each level, group of arms and axis."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.metrics import Metric, find_metric
from lab.reporting import baselines, drawing, quantities, words
from lab.reporting.content import Content
from lab.reporting.drawing import Picture
from lab.reporting.series import Runs, runs_of
from lab.reporting.tree import ResultTree
from lab.sections import Axis, Curves

# A panel stays legible with this many arms beside the one that they are drawn against.
ARMS_PER_PANEL = 6
FEW = 3  # arms, and levels, whose best stops are put in words
MARKS = {
    "best": "◆ is a best stop.",
    "crossing": "The upright line is where an arm first passes the best of the arm beside it (dotted).",
    "equal_tokens": "The dotted upright line is where an arm first passes the other at the same number of "
    "tokens seen.",
    "onset": "▼ is where overfitting begins.",
}


@dataclass(frozen=True)
class Group:
    """Arms that are drawn together at one level.

    Attributes:
        title: of the panel.
        runs: the arms, in declared order.
        reference: the arm that the others are drawn against; empty for none.
    """

    title: str
    runs: tuple[Runs, ...]
    reference: str

    @property
    def base(self) -> Runs | None:
        """The reference's runs."""
        return next((runs for runs in self.runs if runs.arm == self.reference), None)

    @property
    def other(self) -> Runs | None:
        """The only arm beside the reference; None if there are more: their crossings would be a tangle."""
        others = [runs for runs in self.runs if runs.arm != self.reference]
        return others[0] if self.reference and len(others) == 1 else None

    @property
    def roomy(self) -> bool:
        """Whether there is room for the other reading of each arm."""
        return len(self.runs) <= 2

    def ngram_lines(self, metric: Metric) -> list[tuple[str, float]]:
        """Names and heights of the n-gram's lines."""
        cells = [cell for runs in self.runs for cell in runs.cells]
        return baselines.ngram_lines(cells, metric, "validation")


def write(section: Curves, tree: ResultTree, name: str) -> Content:
    """Draw the curves of every group of arms at every level, against each axis."""
    metric = find_metric(section.metric or tree.plan.metric)
    groups = [group for level in tree.levels for group in _groups(section, tree, level)]
    return Content(
        title="While training goes on",
        verdict=tuple(_best_stops(groups)) if "best" in section.marks and len(groups) <= FEW else (),
        pictures=tuple(_picture(section, tree, groups, metric, x, name) for x in section.x),
        terms=("stop",),
    )


def _groups(section: Curves, tree: ResultTree, level: Mapping[str, Any]) -> Iterator[Group]:
    """The panels of a level: as declared, or each arm beside what it is drawn against, a few at a time.

    Of the arms that are planned there; what is to be drawn beside others is not drawn where it is alone.
    """
    where = words.level_words(level)

    def group(title: str, arms: Sequence[str], reference: str = "") -> Iterator[Group]:
        parts = [where, title] if len(tree.levels) > 1 else [title or where]
        drawn = [runs_of(tree, arm, level) for arm in arms if arm in tree.plan.arms]
        runs = tuple(one for one in drawn if one.planned)
        if any(one.arm != reference for one in runs):
            yield Group(words.capital(", ".join(filter(None, parts))), runs, reference)

    for title, drawn in section.panels.items():
        yield from group(title, drawn)
    if not section.panels and not section.against:
        yield from group("", tree.plan.arms)
    references = dict.fromkeys(() if section.panels else section.against.values())
    for reference in references:
        arms = [arm for arm, other in section.against.items() if other == reference]
        parts = math.ceil(len(arms) / ARMS_PER_PANEL)
        size = math.ceil(len(arms) / parts)
        title = f"beside {words.arm_name(reference)}" if len(references) > 1 or parts > 1 else ""
        for start in range(0, len(arms), size):
            yield from group(title, [reference, *arms[start : start + size]], reference)


def _best_stops(groups: Sequence[Group]) -> Iterator[str]:
    """Where each arm is best, a sentence for each level, where arms are few."""
    for group in groups:
        drawn = [runs for runs in group.runs if runs.cells]
        if 0 < len(drawn) <= FEW:
            where = words.level_words(drawn[0].level)
            first, *rest = [(words.arm_name(runs.arm), _best_epoch(runs)) for runs in drawn]
            arms = [f"{first[0]} is best after {first[1]}", *(f"{arm} after {at}" for arm, at in rest)]
            yield words.capital(f"{f'with {where} ' if where else ''}{words.join(arms)}.")


def _best_epoch(runs: Runs) -> str:
    best = runs.at("best", "validation")
    last = " (the last stop)" if runs.improving == len(runs.cells) else ""
    return f"{words.epochs(best.at['epoch']) if best else ''}{last}"


def _picture(
    section: Curves, tree: ResultTree, groups: Sequence[Group], metric: Metric, x: Axis, name: str
) -> Picture:
    drawn = {mark for mark in section.marks if any(_is_drawn(mark, group, metric, x) for group in groups)}
    dashed = [words.READING_WORDS[reading] for reading in tree.readings[1:]]
    parts = [
        f"On the validation split. {words.direction(metric)} Thick lines are means over seeds, bands from "
        "the lowest to the highest seed.",
        *[f"Dashed: {reading}." for reading in dashed if any(group.roomy for group in groups)],
        baselines.LINE_CAPTION * any(group.ngram_lines(metric) for group in groups),
        *(text for mark, text in MARKS.items() if mark in drawn),
        "An arrow says how high a curve ends that leaves the panel." * metric.lower_is_better,
        "Training time is tokens seen over the median speed of the run, without evaluation."
        * (x == "seconds"),
    ]
    return Picture(
        name=f"{name}_{metric.key}_{x}",
        title=f"{words.topic(metric)} against {words.axis_name(x)}",
        caption=" ".join(filter(None, parts)),
        panels=tuple(_panel(section, tree, group, metric, x) for group in groups),
    )


def _is_drawn(mark: str, group: Group, metric: Metric, x: Axis) -> bool:
    """Whether a mark is in a panel, so that the caption names what is there."""
    if mark == "best":
        return True
    if x == "seconds":
        return False
    if mark == "onset":
        return any(
            quantities.onset(runs.along, metric).median(x) is not None
            for runs in group.runs
            if not _why_not(runs, metric, x)
        )
    return _crossing_place(mark, group, metric, x) is not None


def _crossing_place(name: str, group: Group, metric: Metric, x: Axis) -> float | None:
    """Where the only other arm of a panel crosses its reference, half-way among seeds; None if nowhere."""
    if group.base is None or group.other is None or group.base.at("best", "validation") is None:
        return None
    return crossing_of(name, group.other, group.base, metric).median(x)


def _panel(section: Curves, tree: ResultTree, group: Group, metric: Metric, x: Axis) -> Figure:
    figure, ax = drawing.new_panel(group.title)
    shades = drawing.arm_colours([runs.arm for runs in group.runs], group.reference)
    levels = [(name, metric.scale * height) for name, height in group.ngram_lines(metric)]
    curves = [run for runs in group.runs for run in _by_seed(runs, metric)]
    ax.set_ylim(*drawing.curve_limits(metric, [*curves, *((height,) for _, height in levels)]))
    for name, height in levels:
        drawing.level_line(ax, height, drawing.GREY, name)
    labels = []
    absent: dict[str, list[str]] = {}
    for runs in group.runs:
        if why := _why_not(runs, metric, x):
            absent.setdefault(why, []).append(words.arm_name(runs.arm))
            continue
        labels.append(_curve(ax, section, runs, metric, x, shades[runs.arm]))
        for reading in tree.readings[1:] if group.roomy else ():
            points = runs_of(tree, runs.arm, runs.level, reading).along.common
            means = [metric.scale * (point.mean(metric.key) or 0.0) for point in points]
            ax.plot([point.at[x] for point in points], means, "--", color=shades[runs.arm], lw=1, alpha=0.8)
    x_label = words.capital(words.axis_name(x)) + " (s)" * (x == "seconds")
    if labels:
        drawing.log_axis(ax, x_label)
        drawing.place_labels(ax, labels)
        if x != "seconds":
            _mark_crossings(ax, section, group, metric, x, shades)
        if absent:
            note = "; ".join(f"{why}: {', '.join(arms)}" for why, arms in absent.items())
            ax.annotate(note, (0.02, 0.02), xycoords="axes fraction", fontsize=8)
    else:
        ax.set_xlabel(x_label)
        drawing.say(ax, ", ".join(absent))
    ax.set_ylabel(drawing.axis_label(metric, "validation"))
    return figure


def _by_seed(runs: Runs, metric: Metric) -> list[tuple[float, ...]]:
    """Of each seed the values along its run."""
    values = (point.values(metric.key).values() for point in runs.along.common)
    return list(zip(*([metric.scale * value for value in own] for own in values), strict=True))


def _why_not(runs: Runs, metric: Metric, x: Axis) -> str:
    """Why an arm has no curve; empty if it has."""
    if not runs.cells:
        return "no finished run"
    if not any(point.values(metric.key) for point in runs.along.common):
        return "not measured"
    return "" if all(x in point.at for point in runs.along.common) else "speed not known"


def _curve(ax: Axes, section: Curves, runs: Runs, metric: Metric, x: Axis, colour: str) -> drawing.Label:
    """An arm's curve with its marks; returns the name to be set at its end."""
    points = [point for point in runs.along.common if point.values(metric.key)]
    values = [[metric.scale * value for value in point.values(metric.key).values()] for point in points]
    places, means = [point.at[x] for point in points], list(map(fmean, values))
    ax.fill_between(places, list(map(min, values)), list(map(max, values)), color=colour, alpha=0.22, lw=0)
    ax.plot(places, means, color=colour, linewidth=2)
    best = runs.at("best", "validation")
    if best and "best" in section.marks:
        height = metric.scale * (best.mean(metric.key) or 0.0)
        ax.plot(best.at[x], height, "D", color=colour, markersize=7, markeredgecolor="white", zorder=4)
    if "onset" in section.marks and x != "seconds":
        place = quantities.onset(runs.along, metric).median(x)
        if place is not None:
            ax.plot(place, 0.98, "v", color=colour, transform=ax.get_xaxis_transform(), clip_on=False)
    return drawing.Label(places[-1], means[-1], words.arm_name(runs.arm), colour)


def _mark_crossings(
    ax: Axes, section: Curves, group: Group, metric: Metric, x: Axis, shades: Mapping[str, str]
) -> None:
    """The reference's best as a dotted line, and where the only other arm crosses it."""
    base = group.base
    best = base and base.at("best", "validation")
    if not base or not best or not group.other:
        return
    height = best.mean(metric.key)
    if "crossing" in section.marks and height is not None:
        left, right = ax.get_xlim()
        ax.plot([best.at[x], right], [metric.scale * height] * 2, ":", color=shades[base.arm], linewidth=1.2)
        ax.set_xlim(left, right)
    for name, style in (("crossing", "-"), ("equal_tokens", ":")):
        place = _crossing_place(name, group, metric, x) if name in section.marks else None
        if place is not None:
            ax.axvline(place, color=drawing.INK, linewidth=1.1, linestyle=style, zorder=1)


def crossing_of(name: str, arm: Runs, base: Runs, metric: Metric) -> quantities.SeedPlaces:
    """Where an arm passes another's best (`crossing`), or its value at the same tokens (`equal_tokens`).

    The reference's best is its validation metric at the stop of lowest NLL.
    """
    if name == "equal_tokens":
        return quantities.equal_tokens(arm.along, base.along, metric)
    best = base.at("best", "validation")
    return quantities.crossing(arm.along, best.values(metric.key) if best else {}, metric)

"""A sweep's figures, one function each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.reporting import drawing
from lab.reporting.results import STOPS, level_name
from lab.reporting.sweep.findings import ArmFinding, Contrast, LevelFinding, Sweep
from lab.reporting.sweep.words import STOP_WORDS
from lab.reporting.words import READING_WORDS

# A panel of curves stays legible with this many arms beside the one that they are compared with.
ARMS_PER_PANEL = 6
COLOUR_MAP, DARKEST, LIGHTEST = "viridis", 0.1, 0.82

X_LABELS = {"epoch": "Epochs", "train_flops": "Training FLOPs", "seconds": "Training time (s)"}


@dataclass(frozen=True)
class Panel:
    """Arms that are drawn together, in declared order, with the arm that they are compared with, if any."""

    reference: ArmFinding | None
    arms: tuple[ArmFinding, ...]


def draw_all(sweep: Sweep) -> dict[str, Figure]:
    """Every figure of the page, by file name without its ending."""
    with mpl.rc_context(drawing.STYLE):
        key = sweep.tree.metric.key
        return {f"test_{key}": test(sweep), f"validation_{key}": validation(sweep)}


def panels(level: LevelFinding) -> list[Panel]:
    """The groups of contrasts, large ones split evenly; then what is in no contrast."""
    groups = [
        (contrasts[0].reference, [contrast.arm for contrast in contrasts])
        for contrasts in level.groups.values()
    ]
    compared = {arm.arm for reference, arms in groups for arm in (reference, *arms)}
    alone = [arm for arm in level.arms.values() if arm.arm not in compared]
    split = [Panel(reference, part) for reference, arms in groups for part in _evenly(arms)]
    return split + [Panel(None, part) for part in _evenly(alone)]


def _evenly(arms: Sequence[ArmFinding]) -> list[tuple[ArmFinding, ...]]:
    count = math.ceil(len(arms) / ARMS_PER_PANEL)
    size = math.ceil(len(arms) / count) if count else 1
    return [tuple(arms[start : start + size]) for start in range(0, len(arms), size)]


def colours(level: LevelFinding) -> dict[str, str]:
    """Dark to light along each panel's arms, so that a dose shows as a shade; ink for mere references."""
    chosen = dict.fromkeys(level.arms, drawing.INK)
    for panel in panels(level):
        for place, arm in enumerate(panel.arms):
            share = place / (len(panel.arms) - 1) if len(panel.arms) > 1 else 0.5
            shade = mpl.colormaps[COLOUR_MAP](DARKEST + (LIGHTEST - DARKEST) * share)
            chosen[arm.arm] = mpl.colors.to_hex(shade)
    return chosen


def test(sweep: Sweep) -> Figure:
    """The test metric of every arm, in declared order: its seeds, their mean, the interval of its gain."""
    rows = sum(len(level.arms) for level in sweep.levels)
    figure = drawing.new_figure(9.6, 1.5 + 0.3 * rows + 0.6 * (len(sweep.levels) - 1))
    heights = [len(level.arms) + 1 for level in sweep.levels]
    grid = figure.subplots(
        len(sweep.levels), 2, sharey="row", squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for level, axes in zip(sweep.levels, grid, strict=True):
        chosen = colours(level)
        for which, ax in zip(STOPS, axes, strict=True):
            _dots(ax, level, which, chosen)
            ax.set_title(_title(level, STOP_WORDS[which]))
            ax.set_xlabel(drawing.axis_label(sweep.tree.metric, "test"))
        axes[0].set_ylim(len(level.arms) - 0.4, -0.6)
        axes[0].set_yticks(range(len(level.arms)), list(level.arms))
    drawing.legend(
        figure,
        [
            drawing.key("one seed", marker="o", linestyle="", alpha=0.5),
            drawing.key("mean", marker="|", markersize=11, markeredgewidth=2.5, linestyle=""),
            drawing.key("95 % paired t interval of the difference", linewidth=1.5),
            drawing.key("the arm compared with", linewidth=1, linestyle=":"),
        ],
    )
    return figure


def _dots(ax: Axes, level: LevelFinding, which: str, chosen: Mapping[str, str]) -> None:
    """One panel of `test`. Its width is set by the seeds: an interval that is wider is cut."""
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    rows = {name: row for row, name in enumerate(level.arms)}
    for name, arm in level.arms.items():
        values = [arm.metric.scale * value for value in arm.test(which)]
        if not values:
            ax.annotate(
                "no finished run",
                (0.02, rows[name]),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8,
                color=drawing.GREY,
            )
            continue
        ax.plot(values, [rows[name]] * len(values), "o", color=chosen[name], alpha=0.5, markersize=5)
        ax.plot(
            fmean(values), rows[name], "|", color=chosen[name], markersize=13, markeredgewidth=2.5, zorder=4
        )
    ax.set_xlim(ax.get_xlim())
    for name, contrasts in level.groups.items():
        _reference(ax, level.arms[name], contrasts, which, rows)
    for contrast in level.contrasts:
        _whisker(ax, contrast, which, rows[contrast.arm.arm], chosen[contrast.arm.arm])


def _reference(
    ax: Axes, reference: ArmFinding, contrasts: Sequence[Contrast], which: str, rows: Mapping[str, int]
) -> None:
    """The dotted line of an arm compared with; beside each arm the mean of the seeds that both finished."""
    if not reference.cells:
        return
    everything = reference.metric.scale * fmean(reference.test(which))
    paired = {rows[c.arm.arm]: _mean(reference, which, c.seeds) for c in contrasts if c.seeds}
    span = [rows[arm] for arm in (reference.arm, *(contrast.arm.arm for contrast in contrasts))]
    places = range(min(span), max(span) + 1)
    ax.vlines(
        [paired.get(row, everything) for row in places],
        [row - (0.4 if row == min(span) else 0.5) for row in places],
        [row + (0.4 if row == max(span) else 0.5) for row in places],
        drawing.FAINT,
        ":",
        linewidth=1,
        zorder=1,
    )


def _mean(arm: ArmFinding, which: str, seeds: Sequence[int]) -> float:
    """An arm's mean test metric, to its scale, over some seeds that it finished."""
    values = zip(arm.cells, arm.test(which), strict=True)
    return arm.metric.scale * fmean(value for cell, value in values if cell.seed in seeds)


def _whisker(ax: Axes, contrast: Contrast, which: str, row: int, colour: str) -> None:
    """The interval of an arm's gain around the arm's mean: where it is clear, it spares the reference's."""
    gain = contrast.at[which].gain
    if gain is None or gain.interval is None:
        return
    metric = contrast.arm.metric
    low, high = sorted(metric.scale * metric.improvement(gain.mean, bound) for bound in gain.interval)
    centre = _mean(contrast.arm, which, contrast.seeds)
    ax.plot([centre + low, centre + high], [row, row], color=colour, linewidth=1.5, alpha=0.9)


def validation(sweep: Sweep) -> Figure:
    """The validation metric against epochs, training FLOPs and training time: one row per panel of arms."""
    rows = [(level, panel) for level in sweep.levels for panel in panels(level)]
    figure = drawing.new_figure(11.5, 3.1 * len(rows) + 0.5)
    grid = figure.subplots(len(rows), len(X_LABELS), sharey="row", squeeze=False)
    for (level, panel), axes in zip(rows, grid, strict=True):
        chosen = colours(level)
        drawn = [arm for arm in (panel.reference, *panel.arms) if arm is not None and arm.cells]
        shades = {arm.arm: drawing.INK if arm is panel.reference else chosen[arm.arm] for arm in drawn}
        runs = [run for arm in drawn for run in zip(*arm.curve("epoch")[1], strict=True)]
        axes[0].set_ylim(*drawing.curve_limits(sweep.tree.metric, runs))
        for (x, label), ax in zip(X_LABELS.items(), axes, strict=True):
            for arm in drawn:
                _curve(ax, arm, x, shades[arm.arm])
            if ax.has_data():
                drawing.log_axis(ax, label, narrow=True)
            else:
                _say_unknown(ax, label)
        _name(axes[-1], drawn, shades)
        axes[0].set_ylabel(drawing.axis_label(sweep.tree.metric, "validation"))
        compared = f"compared with {panel.reference.arm}" if panel.reference else "in no comparison"
        axes[0].set_title(_title(level, compared), loc="left")
    drawing.legend(
        figure,
        [
            drawing.key(f"{READING_WORDS[sweep.headline]}, mean over seeds", linewidth=2),
            drawing.key("the arm compared with", linewidth=2, color=drawing.INK),
            drawing.band_key(),
            drawing.best_key(),
        ],
    )
    return figure


def _title(level: LevelFinding, text: str) -> str:
    """The title of a panel: its level, if there are any, and what it shows."""
    return f"{level_name(level.level)}, {text}" if level.level else text[0].upper() + text[1:]


def _curve(ax: Axes, arm: ArmFinding, x: str, colour: str) -> None:
    """An arm's curve and its best stop, median position and mean value over seeds."""
    positions, values = arm.curve(x)
    if not positions:
        return
    drawing.curve(ax, positions, values, colour)
    stops = arm.stops("best")
    if x == "seconds":
        at = median(stop.tokens_seen for stop in stops) / (arm.speed or 1.0)
    else:
        at = median(getattr(stop, x) for stop in stops)
    best = arm.metric.scale * fmean(stop.validation[arm.metric.key] for stop in stops)
    ax.plot(at, best, "D", color=colour, markersize=7, markeredgecolor="white", zorder=4)


def _say_unknown(ax: Axes, label: str) -> None:
    ax.set_xlabel(label)
    ax.annotate("not known", (0.5, 0.5), xycoords="axes fraction", ha="center", color=drawing.GREY)


def _name(ax: Axes, arms: Sequence[ArmFinding], shades: Mapping[str, str]) -> None:
    """The arms' names right of the last panel; the curves of a row end at the same heights in each."""
    right = ax.get_xlim()[1]
    ends = [(arm, fmean(arm.curve("epoch")[1][-1])) for arm in arms]
    drawing.place_labels(ax, [drawing.Label(right, y, arm.arm, shades[arm.arm]) for arm, y in ends])

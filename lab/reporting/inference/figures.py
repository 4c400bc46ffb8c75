"""The figures of an inference ablation: text and choices against compute."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lab.evaluation.measurements import CHOICE, GENERATION
from lab.metrics import Metric, find_metric
from lab.reporting import drawing
from lab.reporting.inference.findings import AR, Curve, Inference
from lab.reporting.inference.words import arm_name, sampler_name

# Okabe and Ito's vermilion, blue and green: told apart under every common colour blindness.
COLOURS = {AR: "#D55E00", "dlm": "#0072B2", "any_order_ar": "#009E73"}
OTHER = "#CC79A7"
# Samplers of one arm in the order in which they are declared.
LINES: tuple[Any, ...] = ("-", "--", ":", "-.")
MARKERS = ("o", "^", "s", "D")

TEXT_PANELS = tuple(map(find_metric, ("judge_nll", "distinct", "parse_rate")))
ACCURACY, GAP = map(find_metric, ("choice_accuracy", "option_gap"))


def draw_all(found: Inference) -> dict[str, Figure]:
    """Every figure of the page, by file name without its ending; none where nothing was measured."""
    with mpl.rc_context(drawing.STYLE):
        drawn = {}
        if found.of(GENERATION):
            drawn["generation"] = generation(found)
        if found.of(CHOICE):
            drawn["choice"] = choice(found)
        return drawn


def generation(found: Inference) -> Figure:
    """Judge NLL, diversity and parsing against inference FLOPs per generated token."""
    curves = found.of(GENERATION)
    panels = [
        metric for metric in TEXT_PANELS if any(curve.most.mean(metric.key) is not None for curve in curves)
    ]
    figure = drawing.new_figure(4.1 * len(panels), 4.4)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, metric in zip(axes, panels, strict=True):
        for curve in curves:
            _curve(ax, curve, _place(curves, curve), "flops", metric)
        real = found.real.mean(metric.key) if found.real else None
        if real is not None:
            _level(ax, metric.scale * real, drawing.GREY)
        reference = found.reference(GENERATION)
        if reference and (level := reference.most.mean(metric.key)) is not None:
            _level(ax, metric.scale * level, COLOURS[AR])
        drawing.log_axis(ax, "Inference FLOPs per generated token", narrow=True)
        ax.set_title(drawing.axis_label(metric).replace("n-grams", f"{found.about['ngram']}-grams"))
    _legend(figure, curves, [drawing.key("real text", linewidth=1.2, linestyle=":")])
    return figure


def choice(found: Inference) -> Figure:
    """Choice accuracy against draws and against inference FLOPs, and the option gap against draws."""
    curves = found.of(CHOICE)
    figure = drawing.new_figure(12.3, 4.4)
    axes = figure.subplots(1, 3)
    drawn = (("num_draws", ACCURACY), ("num_draws", GAP), ("flops", ACCURACY))
    for ax, (x, metric) in zip(axes, drawn, strict=True):
        for curve in curves:
            if x == "num_draws" and curve.sampler == "exact":
                _level(ax, metric.scale * (curve.most.mean(metric.key) or 0.0), _colour(curve))
            else:
                _curve(ax, curve, 0 if curve.sampler == "draws" else 1, x, metric)
        if x == "num_draws":
            _draws_axis(ax, curves)
        else:
            drawing.log_axis(ax, "Inference FLOPs per item", narrow=True)
        ax.set_title(drawing.axis_label(metric))
    options = found.tree.finished[0].done.config.evaluation.choice_options
    for ax in (axes[0], axes[2]):
        ax.axhline(100 / options, color=drawing.FAINT, linewidth=1, linestyle=(0, (1, 3)))
        ax.annotate(
            "chance", (0.01, 100 / options), xycoords=("axes fraction", "data"), va="bottom", fontsize=8
        )
    arms = dict.fromkeys(curve.arm for curve in curves)
    keys = [
        *(Line2D([], [], color=COLOURS.get(arm, OTHER), linewidth=2, label=arm_name(arm)) for arm in arms),
        drawing.key("Monte Carlo draws", linewidth=2, marker=MARKERS[0]),
        drawing.key("exact, left to right", linewidth=1.2, linestyle=":", marker=MARKERS[1]),
        drawing.key("one seed", marker=".", linestyle="", alpha=0.5),
    ]
    drawing.legend(figure, keys)
    return figure


def _curve(ax: Axes, curve: Curve, place: int, x: str, metric: Metric) -> None:
    """The mean over seeds as a line with a mark at each amount of compute, and each seed as a dot."""
    points = [point for point in curve.points if point.mean(metric.key) is not None]
    positions = [point.cost("flops") if x == "flops" else point.num_draws or 1 for point in points]
    values = [[metric.scale * value for value in point.values(metric.key).values()] for point in points]
    colour, style = _colour(curve), place % len(LINES)
    for position, seeds in zip(positions, values, strict=True):
        ax.plot([position] * len(seeds), seeds, ".", color=colour, alpha=0.35, markersize=5)
    means = [fmean(seeds) for seeds in values]
    large = len(points) == 1  # a point alone must not look like one seed
    ax.plot(
        positions,
        means,
        color=colour,
        linewidth=1.8,
        linestyle=LINES[style],
        marker=MARKERS[style],
        markersize=9 if large else 5,
        markeredgecolor="white",
        markeredgewidth=0.6,
    )


def _level(ax: Axes, height: float, colour: str) -> None:
    ax.axhline(height, color=colour, linewidth=1.2, linestyle=":", zorder=1)


def _draws_axis(ax: Axes, curves: Sequence[Curve]) -> None:
    """A logarithmic axis with a tick at each number of draws."""
    draws = sorted({point.num_draws for curve in curves for point in curve.points if point.num_draws})
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(draws))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("Monte Carlo draws an option")


def _colour(curve: Curve) -> str:
    return COLOURS.get(curve.arm, OTHER)


def _place(curves: Sequence[Curve], curve: Curve) -> int:
    """Which of its arm's samplers a curve is."""
    return [other.sampler for other in curves if other.arm == curve.arm].index(curve.sampler)


def _legend(figure: Figure, curves: Sequence[Curve], others: Sequence[Line2D]) -> None:
    keys = [
        Line2D(
            [],
            [],
            color=_colour(curve),
            linestyle=LINES[_place(curves, curve) % len(LINES)] if len(curve.points) > 1 else "",
            marker=MARKERS[_place(curves, curve) % len(MARKERS)],
            markersize=5 if len(curve.points) > 1 else 8,
            label=f"{arm_name(curve.arm)}, {sampler_name(curve.sampler)}",
        )
        for curve in curves
    ]
    drawing.legend(figure, [*keys, *others])

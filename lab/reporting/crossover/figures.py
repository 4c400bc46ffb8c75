"""The crossover's figures, one function each, drawn without global state and the same bytes every time."""

from collections.abc import Sequence
from statistics import fmean, median

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lab.metrics import Metric, find_metric
from lab.reporting import drawing
from lab.reporting.crossover.findings import AR, DLM, BudgetFinding, Crossover
from lab.reporting.crossover.words import crossing_short
from lab.reporting.statistics import sample_errors
from lab.reporting.words import READING_WORDS, scientific
from lab.results import Reading

# Okabe and Ito's vermilion and blue: told apart under every common colour blindness.
COLOURS = {AR: "#D55E00", DLM: "#0072B2"}
NAMES = {AR: "AR", DLM: "DLM"}
MARKERS = {AR: "o", DLM: "s"}


def draw_all(crossover: Crossover) -> dict[str, Figure]:
    """Every figure of the page, by file name without its ending."""
    with mpl.rc_context(drawing.STYLE):
        return {
            f"validation_{crossover.tree.metric.key}": validation(crossover),
            "choice": choice(crossover),
            "best_stops": best_stops(crossover),
            "training_flops": training_flops(crossover),
        }


def validation(crossover: Crossover) -> Figure:
    """The validation metric against epochs, one panel per budget, crossover and best stops marked."""
    metric = crossover.tree.metric
    figure, (axes,) = _panels(len(crossover.budgets), rows=1, height=3.9)
    limits = _limits(crossover.budgets)
    for budget, ax in zip(crossover.budgets, axes, strict=True):
        ax.set_title(budget.name)
        ax.set_ylim(*limits)
        for reading in reversed(crossover.readings):
            for arm in (AR, DLM):
                _curve(ax, budget, arm, reading, "epoch", metric, main=reading == crossover.headline)
        drawing.log_axis(ax, "Epochs")
        _mark_best(ax, budget, "epoch")
        _mark_crossover(ax, budget, "epoch")
        _label_arms(ax, budget, "epoch", metric)
    axes[0].set_ylabel(drawing.axis_label(metric, "validation"))
    drawing.legend(figure, [*_reading_keys(crossover), drawing.band_key(), drawing.best_key()])
    return figure


def choice(crossover: Crossover) -> Figure:
    """Choice accuracy (above) and option gap (below) against epochs, one column per budget."""
    figure, axes = _panels(len(crossover.budgets), rows=2, height=5.4)
    options = crossover.tree.finished[0].done.config.evaluation.choice_options
    for column, budget in enumerate(crossover.budgets):
        for row, metric in enumerate(map(find_metric, ("choice_accuracy", "option_gap"))):
            ax = axes[row][column]
            for arm in (AR, DLM):
                _curve(ax, budget, arm, crossover.headline, "epoch", metric, main=True)
            chance = 100 / options if row == 0 else 0.0
            ax.axhline(chance, color=drawing.FAINT, linewidth=1, linestyle=(0, (1, 2)))
            if column == 0:
                ax.set_ylabel(drawing.axis_label(metric))
                ax.annotate(
                    "chance", (1, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom"
                )
            _label_arms(ax, budget, "epoch", metric)
            drawing.log_axis(ax, "Epochs" if row == 1 else "")
        axes[0][column].set_title(budget.name)
    drawing.legend(figure, [_reading_keys(crossover)[0], drawing.band_key()])
    return figure


def best_stops(crossover: Crossover) -> Figure:
    """The test metric at each arm's best stop against the budget of unique tokens."""
    metric = crossover.tree.metric
    figure = drawing.new_figure(6.6, 4.0)
    ax = figure.add_subplot()
    places = []
    for arm in (AR, DLM):
        means = []
        for budget in crossover.budgets:
            stops = budget.best_stops(arm)
            if stops and budget.unique_tokens:
                values = [metric.scale * stop.test[metric.key] for stop in stops]
                errors = sample_errors(metric, {place: stop.test for place, stop in enumerate(stops)})
                error = metric.scale * fmean(errors.values()) if errors else 0.0
                means.append((budget.unique_tokens, fmean(values), error))
                ax.plot(
                    [budget.unique_tokens] * len(values), values, MARKERS[arm], color=COLOURS[arm], alpha=0.45
                )
        if means:
            tokens, heights, bars = zip(*means, strict=True)
            ax.errorbar(tokens, heights, yerr=bars, color=COLOURS[arm], linewidth=2, elinewidth=1, capsize=3)
            places.append(drawing.Label(tokens[-1], heights[-1], NAMES[arm], COLOURS[arm]))
    drawing.place_labels(ax, places)
    budgets = [budget.unique_tokens for budget in crossover.budgets if budget.unique_tokens]
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(budgets))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("Unique tokens")
    ax.set_ylabel(drawing.axis_label(metric, "test", "at the best stop"))
    ax.margins(x=0.14)
    drawing.legend(
        figure,
        [
            drawing.key("mean over seeds", linewidth=2),
            drawing.key("one seed", marker="o", linestyle="", alpha=0.5),
            *[
                drawing.key(
                    f"bar: standard error over {metric.sample}", linewidth=1, marker="|", linestyle=""
                )
                for _ in metric.errors[:1]
            ],
        ],
    )
    return figure


def training_flops(crossover: Crossover) -> Figure:
    """The validation metric against training FLOPs at the smallest budget."""
    metric = crossover.tree.metric
    figure = drawing.new_figure(6.6, 4.0)
    ax = figure.add_subplot()
    budget = crossover.budgets[0]
    ax.set_title(budget.name)
    ax.set_ylim(*_limits((budget,)))
    for arm in (AR, DLM):
        _curve(ax, budget, arm, crossover.headline, "train_flops", metric, main=True)
    drawing.log_axis(ax, "Training FLOPs")
    ax.set_ylabel(drawing.axis_label(metric, "validation"))
    _mark_best(ax, budget, "train_flops")
    _mark_crossover(ax, budget, "train_flops")
    _label_arms(ax, budget, "train_flops", metric)
    drawing.legend(figure, [_reading_keys(crossover)[0], drawing.band_key(), drawing.best_key()])
    return figure


def _panels(count: int, rows: int, height: float) -> tuple[Figure, list[list[Axes]]]:
    """`rows` rows of one panel per budget, the y axis shared along each row."""
    figure = drawing.new_figure(max((3.4 if count <= 3 else 2.9) * count, 6.6), height)
    grid = figure.subplots(rows, count, sharey="row", squeeze=False)
    return figure, [list(row) for row in grid]


def _samples(
    budget: BudgetFinding, arm: str, reading: Reading, x: str, metric: Metric
) -> tuple[list[float], list[list[float]]]:
    """Positions of the stops and, for each, the metric of every seed."""
    curves = [cell.done.along(reading) for cell in budget.runs(arm)]
    if not curves:
        return [], []
    columns = list(zip(*curves, strict=True))
    return [getattr(column[0], x) for column in columns], [
        [metric.scale * stop.validation[metric.key] for stop in column] for column in columns
    ]


def _curve(
    ax: Axes, budget: BudgetFinding, arm: str, reading: Reading, x: str, metric: Metric, *, main: bool
) -> None:
    """The mean over seeds; for the main reading a thick line with the band from lowest to highest seed."""
    positions, values = _samples(budget, arm, reading, x, metric)
    if not positions:
        return
    if main:
        drawing.curve(ax, positions, values, COLOURS[arm])
        return
    mean = [fmean(seeds) for seeds in values]
    ax.plot(positions, mean, color=COLOURS[arm], linewidth=1, linestyle="--", alpha=0.8)


def _mark_best(ax: Axes, budget: BudgetFinding, x: str) -> None:
    """Each arm's best stop, median position and mean value over seeds; a dotted line carries on the AR's."""
    metric = budget.metric
    left, right = ax.get_xlim()
    for arm in (AR, DLM):
        stops = budget.best_stops(arm)
        if stops:
            at = median(getattr(stop, x) for stop in stops)
            best = metric.scale * fmean(stop.validation[metric.key] for stop in stops)
            ax.plot(at, best, "D", color=COLOURS[arm], markersize=8, markeredgecolor="white", zorder=4)
            if arm == AR:
                ax.plot([at, right], [best, best], ":", color=COLOURS[AR], linewidth=1.2)
    ax.set_xlim(left, right)


def _mark_crossover(ax: Axes, budget: BudgetFinding, x: str) -> None:
    """A line at the median crossover below the AR's best, or a note that there is none."""
    summary = budget.below_best
    place = summary.median(x)
    if place is None or summary.from_first_stop:
        text = f"crossover: {crossing_short(summary)}"
        ax.annotate(text, (0.02, 0.02), xycoords="axes fraction", ha="left", va="bottom", fontsize=9)
        return
    ax.axvline(place, color=drawing.INK, linewidth=1.2, zorder=1)
    value = crossing_short(summary) if x == "epoch" else f"{scientific(place)} FLOPs"
    low, high = np.log(ax.get_xlim())
    right = (np.log(place) - low) / (high - low) > 0.5
    ax.annotate(
        f"crossover\n{value}",
        (place, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if right else 5, 0),
        textcoords="offset points",
        ha="right" if right else "left",
        va="bottom",
        fontsize=9,
    )


def _limits(budgets: Sequence[BudgetFinding]) -> tuple[float, float]:
    """The y axis: all that the AR does up to its best stop, and the DLM's whole run.

    An AR that overfits steeply would flatten everything else: what lies above is cut, and its label says so.
    Where higher is better nothing is cut.
    """
    kept: list[float] = []
    for budget in budgets:
        for arm in (AR, DLM):
            for cell, best in zip(budget.runs(arm), budget.best_stops(arm), strict=True):
                stops, metric = cell.done.along(budget.reading), budget.metric
                until = best.step if arm == AR and metric.lower_is_better else stops[-1].step
                values = [stop.validation[metric.key] for stop in stops if stop.step <= until]
                kept += [metric.scale * value for value in values]
    if not kept:
        return 0.0, 1.0
    margin = 0.06 * (max(kept) - min(kept)) + 0.02
    return min(kept) - 3 * margin, max(kept) + margin


def _label_arms(ax: Axes, budget: BudgetFinding, x: str, metric: Metric) -> None:
    """The arms' names beside the right ends of their curves."""
    places = []
    for arm in (AR, DLM):
        positions, values = _samples(budget, arm, budget.reading, x, metric)
        if positions:
            places.append(drawing.Label(positions[-1], fmean(values[-1]), NAMES[arm], COLOURS[arm]))
    drawing.place_labels(ax, places)


def _reading_keys(crossover: Crossover) -> list[Line2D]:
    headline, *others = crossover.readings
    keys = [drawing.key(f"{READING_WORDS[headline]}, mean over seeds", linewidth=2)]
    return keys + [drawing.key(READING_WORDS[other], linewidth=1, linestyle="--") for other in others]

"""An attribution's figures, one function each."""

import itertools
from collections.abc import Mapping, Sequence
from statistics import fmean, median

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.arms import CORNERS
from lab.reporting import drawing
from lab.reporting.attribution.effects import FACTORS, INTERACTION, Effect
from lab.reporting.attribution.findings import BESIDE, Attribution, Cube, unit_of
from lab.reporting.attribution.words import (
    AR,
    DLM,
    FACTOR_WORDS,
    KIND_WORDS,
    LEVEL_WORDS,
    STOP_WORDS,
    effect_name,
)
from lab.reporting.results import STOPS
from lab.reporting.words import capital, signed

# Okabe and Ito's blue, vermilion and green: told apart under every common colour blindness.
BETTER, WORSE, CONTROL = "#0072B2", "#D55E00", "#009E73"
OFF_ON = (WORSE, BETTER)

# Colour, marker and offset of the best stop and of the end.
_STOP_STYLES = ((BETTER, "o", -0.15), (WORSE, "s", 0.15))
_HALF = 0.28  # of a bar's width


def draw_all(cube: Cube) -> dict[str, Figure]:
    """Every figure of the page by its file name; only the curves if attribution is refused."""
    with mpl.rc_context(drawing.STYLE):
        drawn = {"curves": curves(cube)}
        if cube.headline is None:
            return drawn
        return {
            "waterfall": waterfall(cube, cube.headline),
            "interactions": interactions(cube, cube.headline),
            "effects": effects(cube),
            **drawn,
        }


def waterfall(cube: Cube, found: Attribution) -> Figure:
    """From the AR's test metric to the DLM's, one bar for each factor's Shapley value."""
    figure = drawing.new_figure(8.6, 4.6)
    ax = figure.add_subplot()
    metric = cube.metric
    tops = [cube.mean(AR, found.reading, found.stop)]
    for effect in found.shapley:
        tops.append(_moved(cube, tops[-1], effect.mean))
    bars = list(zip(itertools.count(1), tops, found.shapley, strict=False))
    for place, top, effect in bars:
        height = _moved(cube, top, effect.mean) - top
        ax.bar(place, height, bottom=top, width=2 * _HALF, color=_colour(effect), alpha=0.85, zorder=2)
        _whiskers(ax, cube, place, top, effect)
    for place, top in enumerate(tops):
        ax.plot([place, place + 1 + _HALF], [top, top], color=drawing.FAINT, linewidth=1, zorder=1)
    _set_height(ax, cube, found, tops)
    for place, top, effect in bars:
        _say_amount(ax, cube, place, top, effect)
    _end(ax, cube, AR, 0, "")
    undecided = "" if found.gain.evidence == "test" else "\n(undecided)"
    _end(ax, cube, DLM, len(tops), f"\n{_side(found.gain)} than AR{undecided}")
    ax.set_xlim(-0.55, len(tops) + 0.55)
    names = [f"{FACTOR_WORDS[factor]} ({factor})".replace(" ", "\n") for factor in FACTORS]
    ax.set_xticks(range(len(tops) + 1), ["AR", *names, "DLM"])
    ax.tick_params(axis="x", length=0)
    side = "lower" if metric.lower_is_better else "higher"
    ax.set_ylabel(f"{drawing.axis_label(metric, 'test')}, {side} is better")
    keys = [drawing.key("one seed", marker="o", linestyle="", alpha=0.5)]
    if found.gain.interval:
        keys += [
            drawing.key("95 % paired t interval", linewidth=1.2, color=drawing.INK),
            drawing.key("95 % bootstrap interval", linewidth=4, color=drawing.INK, alpha=0.55),
        ]
    drawing.legend(figure, keys)
    return figure


def _moved(cube: Cube, value: float, effect: float) -> float:
    """Where an effect leads from a value: effects are positive where they are better."""
    return value - effect if cube.metric.lower_is_better else value + effect


def _colour(effect: Effect) -> str:
    return BETTER if effect.mean > 0 else WORSE


def _side(effect: Effect) -> str:
    return f"{abs(effect.mean):.3f} {'better' if effect.mean > 0 else 'worse'}"


def _whiskers(ax: Axes, cube: Cube, place: float, top: float, effect: Effect) -> None:
    """Where the bar that hangs from `top` may end."""
    for interval, width, alpha in ((effect.interval, 1.2, 1.0), (effect.bootstrap_interval, 4, 0.55)):
        if interval:
            ends = [_moved(cube, top, end) for end in interval]
            ax.plot([place, place], ends, color=drawing.INK, linewidth=width, alpha=alpha, zorder=3)


def _set_height(ax: Axes, cube: Cube, found: Attribution, tops: Sequence[float]) -> None:
    """The y axis: all seeds of both ends and all bars; whiskers far beyond them are cut."""
    seeds = [value for arm in (AR, DLM) for value in _values(cube, arm)]
    low, high = min([*seeds, *tops]), max([*seeds, *tops])
    reach = 0.6 * max(high - low, 0.01)
    ends = [
        _moved(cube, top, end)
        for top, effect in zip(tops, found.shapley, strict=False)
        for end in effect.interval or (effect.mean,)
    ]
    low, high = max(min([low, *ends]), low - reach), min(max([high, *ends]), high + reach)
    ax.set_ylim(low - 0.1 * (high - low), high + 0.2 * (high - low))


def _say_amount(ax: Axes, cube: Cube, place: float, top: float, effect: Effect) -> None:
    """The size of a bar in words, above all of it."""
    low, high = ax.get_ylim()
    ends = [top, *(_moved(cube, top, end) for end in (effect.mean, *(effect.interval or ())))]
    ax.annotate(
        _side(effect),
        (place, min(max(ends), high - 0.08 * (high - low))),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontweight="bold",
        color=_colour(effect),
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8},
        zorder=4,
    )


def _end(ax: Axes, cube: Cube, arm: str, place: float, note: str) -> None:
    """An arm's mean as a line, with its seeds."""
    values = _values(cube, arm)
    ax.plot([place - _HALF, place + _HALF], [fmean(values)] * 2, color=drawing.INK, linewidth=3, zorder=2)
    spots = [place + 0.12 * (index - (len(values) - 1) / 2) for index in range(len(values))]
    ax.plot(spots, values, "o", color=drawing.GREY, alpha=0.6, markersize=5, zorder=3)
    ax.annotate(
        f"{fmean(values):.3f}{note}",
        (place, max(values)),
        xytext=(0, 6),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontweight="bold",
    )


def _values(cube: Cube, arm: str) -> list[float]:
    """The test metric of an arm's runs at their best stops, to its scale."""
    stops = cube.stops(arm, cube.readings[0], "best")
    return [cube.metric.scale * stop.test[cube.metric.key] for stop in stops]


def interactions(cube: Cube, found: Attribution) -> Figure:
    """The test metric against one factor, a line for each level of another: one panel for each pair.

    Thick lines are means over the third factor; the thin ones beside them are its two levels, so that all
    eight corners are there in each panel. Parallel lines mean no interaction.
    """
    figure = drawing.new_figure(10.4, 4.4)
    pairs = [effect for effect in found.of_kind(INTERACTION) if len(effect.contrast.factors) == 2]
    axes = figure.subplots(1, len(pairs), sharey=True)
    means: dict[tuple[int, ...], float] = {
        levels: cube.mean(arm, found.reading, found.stop) for arm, levels in CORNERS.items()
    }
    for effect, ax in zip(pairs, axes, strict=True):
        _pair(ax, effect, means)
    low, high = min(means.values()), max(means.values())
    margin = 0.06 * (high - low) or 0.01
    # Above the lines there is room for the key.
    axes[0].set_ylim(low - margin, high + 5 * margin)
    axes[0].set_ylabel(drawing.axis_label(cube.metric, "test"))
    drawing.legend(
        figure,
        [
            drawing.key("mean over the third factor", linewidth=2.4, marker="o"),
            drawing.key("third factor as in AR", linewidth=1.1, linestyle=":"),
            drawing.key("third factor as in the DLM", linewidth=1.1, linestyle="--"),
        ],
    )
    return figure


def _pair(ax: Axes, effect: Effect, means: Mapping[tuple[int, ...], float]) -> None:
    """One panel of `interactions`.

    Args:
        ax: where to draw.
        effect: the interaction of the two factors.
        means: (order, compute, draws) -> the test metric.
    """
    first, second = effect.contrast.factors
    (third,) = (factor for factor in FACTORS if factor not in (first, second))
    for level, colour in enumerate(OFF_ON):
        thin = []
        for side, style in enumerate((":", "--")):
            corners = [{first: x, second: level, third: side} for x in (0, 1)]
            thin.append([means[tuple(corner[factor] for factor in FACTORS)] for corner in corners])
            ax.plot((0, 1), thin[-1], style, color=colour, linewidth=1.1, alpha=0.8)
        middle = [fmean(values) for values in zip(*thin, strict=True)]
        ax.plot((0, 1), middle, color=colour, linewidth=2.4, marker="o", markersize=6)
    low_high = ""
    if effect.interval:
        low_high = f"\n95 %: {signed(effect.interval[0])} to {signed(effect.interval[1])}"
    ax.set_title(f"{effect.contrast.name}: {signed(effect.mean)}{low_high}", fontsize=10)
    ax.set_xticks((0, 1), LEVEL_WORDS[first])
    ax.set_xlim(-0.25, 1.25)
    ax.set_xlabel(first)
    ax.legend(
        handles=[
            drawing.key(f"{second}: {name}", color=colour, linewidth=2.4, marker="o")
            for name, colour in zip(LEVEL_WORDS[second], OFF_ON, strict=True)
        ],
        loc="upper center",
        fontsize=9,
        frameon=False,
    )


def effects(cube: Cube) -> Figure:
    """Every effect with its two intervals: a column for each metric, the best stop and the end in each."""
    figure = drawing.new_figure(11.0, 5.4)
    axes = figure.subplots(1, len(cube.metrics), sharey=True)
    for metric, ax in zip(cube.metrics, axes, strict=True):
        ax.set_xlim(_spread(cube, metric.key))
        for stop, style in zip(STOPS, _STOP_STYLES, strict=True):
            _column(ax, cube.attributions[cube.readings[0], stop, metric.key], *style)
        ax.axvline(0, color=drawing.INK, linewidth=0.9, zorder=1)
        ax.grid(visible=False, axis="y")
        ax.grid(visible=True, axis="x")
        ax.set_title(capital(cube.name(metric)))
        unit = unit_of(metric)
        ax.set_xlabel(f"Effect{f' ({unit})' if unit else ''},\npositive is better")
    found = cube.attributions[cube.readings[0], "best", cube.metric.key]
    places = _places(found)
    axes[0].set_yticks(list(places), [_row_name(effect) for effect in places.values()])
    axes[0].set_ylim(max(places) + 0.7, min(places) - 0.7)
    keys = [
        drawing.key(STOP_WORDS[stop], color=colour, marker=marker, linestyle="")
        for stop, (colour, marker, _) in zip(STOPS, _STOP_STYLES, strict=True)
    ]
    if found.gain.interval:
        keys += [
            drawing.key("95 % paired t interval", linewidth=1.1),
            drawing.key("95 % bootstrap interval", linewidth=4, alpha=0.4),
        ]
    drawing.legend(figure, keys)
    return figure


def _column(ax: Axes, found: Attribution, colour: str, marker: str, shift: float) -> None:
    """All effects of one metric at one stop."""
    for row, effect in _places(found).items():
        ax.plot(effect.mean, row + shift, marker, color=colour, markersize=4.5, zorder=3)
        for interval, width, alpha in ((effect.interval, 1.1, 1.0), (effect.bootstrap_interval, 4, 0.4)):
            if interval:
                ax.plot(interval, [row + shift] * 2, color=colour, linewidth=width, alpha=alpha)


def _places(found: Attribution) -> dict[float, Effect]:
    """Height of the row -> effect, with a gap between kinds."""
    rows = (found.gain, *found.effects)
    places = {0.0: rows[0]}
    for before, effect in itertools.pairwise(rows):
        places[max(places) + (1.0 if before.contrast.kind == effect.contrast.kind else 1.5)] = effect
    return places


def _row_name(effect: Effect) -> str:
    kind, name = KIND_WORDS[effect.contrast.kind], effect_name(effect.contrast)
    return {"gain": kind, "interaction": name}.get(effect.contrast.kind, f"{kind}: {name}")


def _spread(cube: Cube, key: str) -> tuple[float, float]:
    """The x axis of one metric: all means and bootstrap intervals; a wider t interval is cut."""
    ends = [0.0]
    for stop in STOPS:
        found = cube.attributions[cube.readings[0], stop, key]
        for effect in (found.gain, *found.effects):
            ends += [effect.mean, *(effect.bootstrap_interval or ())]
    margin = 0.08 * (max(ends) - min(ends)) or 0.01
    return min(ends) - margin, max(ends) + margin


def curves(cube: Cube) -> Figure:
    """The validation metric against epochs: a panel for each order and compute, with draws and control."""
    figure = drawing.new_figure(9.6, 6.6)
    grid = figure.subplots(2, 2, sharex=True, sharey=True)
    runs = [run for arm in cube.arms for run in zip(*_samples(cube, arm)[1], strict=True)]
    limits = drawing.curve_limits(cube.metric, runs)
    for compute, order in itertools.product((0, 1), repeat=2):
        ax = grid[compute][order]
        ax.set_ylim(*limits)
        arms = [arm for arm in cube.arms if CORNERS.get(BESIDE.get(arm, arm), ())[:2] == (order, compute)]
        names = []
        for arm in arms:
            colour = CONTROL if arm in BESIDE else OFF_ON[CORNERS[arm][2]]
            names += _curve(ax, cube, arm, colour)
        ax.set_title(f"{LEVEL_WORDS['order'][order]}, {LEVEL_WORDS['compute'][compute]}")
        if names:
            drawing.log_axis(ax, "Epochs" if compute else "")
        drawing.place_labels(ax, names)
        unfinished = [arm for arm in arms if not cube.runs(arm)]
        if unfinished:
            ax.annotate(
                "no finished run: " + ", ".join(unfinished),
                (0.03, 0.04),
                xycoords="axes fraction",
                fontsize=9,
                color=drawing.GREY,
            )
        if not order:
            ax.set_ylabel(drawing.axis_label(cube.metric, "validation"))
    drawing.legend(
        figure,
        [
            drawing.key(f"draws: {LEVEL_WORDS['draws'][0]}", linewidth=2, color=OFF_ON[0]),
            drawing.key(f"draws: {LEVEL_WORDS['draws'][1]}", linewidth=2, color=OFF_ON[1]),
            drawing.key("control", linewidth=2, color=CONTROL),
            drawing.band_key(),
            drawing.best_key(),
        ],
    )
    return figure


def _samples(cube: Cube, arm: str) -> tuple[list[float], list[list[float]]]:
    """Epochs of the stops and, for each, the validation metric of every seed, to its scale."""
    columns = list(zip(*(cell.done.along(cube.readings[0]) for cell in cube.runs(arm)), strict=True))
    key, scale = cube.metric.key, cube.metric.scale
    return [column[0].epoch for column in columns], [
        [scale * stop.validation[key] for stop in column] for column in columns
    ]


def _curve(ax: Axes, cube: Cube, arm: str, colour: str) -> list[drawing.Label]:
    """An arm's curve with its best stop; its name is to stand at its end."""
    epochs, values = _samples(cube, arm)
    if not epochs:
        return []
    drawing.curve(ax, epochs, values, colour)
    best = cube.stops(arm, cube.readings[0], "best")
    ax.plot(
        median(stop.epoch for stop in best),
        cube.metric.scale * fmean(stop.validation[cube.metric.key] for stop in best),
        "D",
        color=colour,
        markersize=7,
        markeredgecolor="white",
        zorder=4,
    )
    return [drawing.Label(epochs[-1], fmean(values[-1]), arm, colour)]

"""What every panel shares: style, axes, curves, labels. No global state, and the same bytes every time.

A figure is a row of panels, each a picture of its own with its own axes and names, so that a page can set
them side by side or one below the other. There are no legends: the caption says what a line or a mark means.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from lab.metrics import Metric
from lab.reporting.statistics import Estimate

INK, GREY, FAINT, BAND = "#1a1a1a", "#555555", "#8a8a8a", "#efefef"
# Okabe and Ito's vermilion, blue and green: told apart under every common colour blindness.
WORSE, BETTER, CONTROL = "#D55E00", "#0072B2", "#009E73"
# Arms that have a colour of their own on every page.
COLOURS = {"ar": WORSE, "dlm": BETTER, "any_order_ar": CONTROL}
COLOUR_MAP, DARKEST, LIGHTEST = "viridis", 0.05, 0.62  # legible on white, and inverted on black
WIDTH, HEIGHT = 4.6, 3.5  # of a panel, in inches

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "svg.hashsalt": "ablation-lab",
    "axes.titlelocation": "left",
}
DPI = 150
_DOTTED: Any = {"linewidth": 1.1, "linestyle": (0, (1, 2)), "zorder": 1}
_LONG = 1e6  # from here on a tick is written as a power of ten


class Label(NamedTuple):
    """A curve's name, to be written right of its end."""

    x: float
    y: float
    text: str
    colour: str


def render(figure: Figure, kind: str) -> bytes:
    """A figure as `png` or `svg`, with no date in it; it is laid out at the first call only."""
    buffer = BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
        figure.set_layout_engine("none")
    return buffer.getvalue()


@dataclass(frozen=True)
class Picture:
    """A figure of a page.

    Attributes:
        name: of its files, without ending; panels are numbered from 1 where there are several.
        title: what it shows.
        caption: how to read it.
        panels: side by side, or one below the other where there is no room.
    """

    name: str
    title: str
    caption: str
    panels: tuple[Figure, ...]

    def files(self) -> dict[str, Figure]:
        """Each panel by the name of its files."""
        if len(self.panels) == 1:
            return {self.name: self.panels[0]}
        return {f"{self.name}-{place}": panel for place, panel in enumerate(self.panels, start=1)}

    def texts(self) -> dict[str, str]:
        """For each panel, by the name of its files, what stands for it where it is not seen."""
        titled = {name: panel.axes[0] for name, panel in self.files().items()}
        heads = {name: ax.get_title(loc="left") or ax.get_title() for name, ax in titled.items()}
        return {name: ": ".join(filter(None, [self.title, head])) for name, head in heads.items()}


def new_panel(title: str, width: float = WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """An empty white panel of this size in inches, which belongs to no window; draw in it under `STYLE`."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    ax.set_title(title)
    return figure, ax


def arm_colours(arms: Sequence[str], reference: str = "") -> dict[str, str]:
    """A colour for each arm: its own, ink for a reference, else dark to light, so that a dose is a shade."""
    own = {arm: COLOURS[arm] for arm in arms if arm in COLOURS}
    shaded = [arm for arm in arms if arm not in own and arm != reference]
    shades = {}
    for place, arm in enumerate(shaded):
        share = place / (len(shaded) - 1) if len(shaded) > 1 else 0.5
        shade = mpl.colormaps[COLOUR_MAP](DARKEST + (LIGHTEST - DARKEST) * share)
        shades[arm] = mpl.colors.to_hex(shade)
    return {arm: own.get(arm) or shades.get(arm, INK) for arm in arms}


def level_line(ax: Axes, y: float, colour: str, text: str = "") -> None:
    """A dotted line over the whole width, with its name at the left."""
    ax.axhline(y, color=colour, **_DOTTED)
    if text:
        ax.annotate(
            text, (0.01, y), xycoords=("axes fraction", "data"), va="bottom", fontsize=8, color=colour
        )


def upright_line(ax: Axes, x: float, colour: str) -> None:
    """A dotted line over the whole height."""
    ax.axvline(x, color=colour, **_DOTTED)


def say(ax: Axes, text: str) -> None:
    """A note in the middle of a panel that has nothing to show."""
    ax.annotate(text, (0.5, 0.5), xycoords="axes fraction", ha="center", color=GREY)


class Mark(NamedTuple):
    """An estimate as it is drawn in a row."""

    made: Estimate
    colour: str
    marker: str
    shift: float = 0.0  # below the middle of the row


# Of an estimate at a place, colour and marker.
PLACE_STYLES = {"best": (BETTER, "o"), "end": (WORSE, "s")}
ESTIMATES = (
    "Faint dots are seeds, thin lines t intervals of the mean; what leaves the panel is cut. "
    "Shaded: within the margin."
)


NAME_WIDTH = 24  # characters of a line


def estimates(title: str, rows: Sequence[tuple[str, Sequence[Mark] | str]], metric: Metric) -> Figure:
    """A panel of differences, one below the other: seeds, mean and intervals beside 0.

    Args:
        title: of the panel.
        rows: name -> what is drawn there, or why nothing is; with neither, the name begins a group.
        metric: what the differences are in.
    """
    # Long names take lines of their own, lest they leave no room for what is drawn.
    names = [textwrap.fill(name, NAME_WIDTH, break_long_words=False) for name, _ in rows]
    lines = max((name.count("\n") + 1 for name in names), default=1)
    figure, ax = new_panel(title, height=1.1 + max(0.27, 0.12 * lines) * max(4, len(rows)))
    figure.set_layout_engine("constrained", w_pad=0.1)  # names are drawn wider than the layout reckons
    seeds, ends = [0.0], []
    for row, (_, content) in enumerate(rows):
        if isinstance(content, str):
            ax.annotate(content, (0.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=8)
            continue
        for made, colour, marker, shift in content:
            place, values = row + shift, [metric.scale * value for value in made.by_seed.values()]
            ax.plot(values, [place] * len(values), marker, color=colour, alpha=0.3, markersize=4)
            ax.plot(metric.scale * made.mean, place, marker, color=colour, markersize=5, zorder=4)
            for interval, width, alpha in ((made.interval, 1.3, 1.0), (made.bootstrap_interval, 4, 0.4)):
                scaled = [metric.scale * end for end in interval or ()]
                ax.plot(scaled, [place] * len(scaled), color=colour, linewidth=width, alpha=alpha)
                ends += scaled
            seeds += values
    ax.set_xlim(*limits(seeds, ends))
    ax.axvline(0, color=INK, linewidth=0.9, zorder=1)
    if metric.margin is not None:
        reach = metric.scale * metric.margin
        ax.axvspan(-reach, reach, color=BAND, linewidth=0, zorder=0)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks(range(len(rows)), names, fontsize=8 if lines == 1 else 7)
    for label, (_, content) in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if content else "bold")
    unit = metric.difference_unit
    ax.set_xlabel(f"Gain{f' ({unit})' if unit else ''}, right is better")
    ax.xaxis.set_major_locator(MaxNLocator(5))  # numbers of three decimals beside one another
    return figure


def limits(values: Sequence[float], ends: Sequence[float]) -> tuple[float, float]:
    """An axis that shows all values; intervals that end far beyond them are cut."""
    low, high = min(values), max(values)
    reach = 0.6 * max(high - low, 0.01)
    low, high = max(min([low, *ends]), low - reach), min(max([high, *ends]), high + reach)
    margin = 0.05 * max(high - low, 0.01)
    return low - margin, high + margin


def axis_label(metric: Metric, before: str = "") -> str:
    """A metric's name, what it is of, and the unit in which it is drawn: `Test NLL (nats/token)`.

    Args:
        metric: drawn to its `scale`.
        before: such as `test`.
    """
    name = metric.on(before) + ", a bound" * metric.bound
    unit = "%" if metric.percent else metric.unit
    return name[0].upper() + name[1:] + (f" ({unit})" if unit else "")


def curve_limits(metric: Metric, runs: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The y axis of curves: each run up to its lowest value, and at least the lowest quarter of all there is.

    An arm that overfits steeply would flatten everything else: what lies above is cut, and its label says so.
    Where higher is better nothing is cut.

    Args:
        metric: what is drawn.
        runs: the values of each.
    """
    values = [value for run in runs for value in run]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if metric.lower_is_better:
        kept = [value for run in runs for value in run[: run.index(min(run)) + 1]]
        high = max(max(kept), low + 0.25 * (high - low))
    margin = 0.06 * (high - low) + (2 if metric.percent else 0.02)
    return low - margin, high + margin


def place_labels(ax: Axes, labels: Sequence[Label], apart: float = 0.08) -> None:
    """Write each name right of all points, apart from the others; one that was cut says where it ends.

    Args:
        ax: where to write; its y limits must be final.
        labels: the names and the points.
        apart: least distance between two names, as a share of the axis.
    """
    low, high = ax.get_ylim()
    apart *= high - low
    labels = sorted(labels, key=lambda label: label.y)
    heights: list[float] = []
    for label in labels:
        heights.append(max(label.y, heights[-1] + apart if heights else low))
    ceiling = high - apart / 2
    for place in reversed(range(len(heights))):
        heights[place] = min(heights[place], ceiling)
        ceiling = heights[place] - apart
    right = max((label.x for label in labels), default=0.0)
    for label, height in zip(labels, heights, strict=True):
        text = f"{label.text} ↑{label.y:.1f}" if label.y > high else label.text
        write_label(ax, Label(right, height, text, label.colour))


def write_label(ax: Axes, label: Label) -> None:
    """Write a name right of its point."""
    style: Any = {"color": label.colour, "fontweight": "bold", "va": "center", "annotation_clip": False}
    ax.annotate(label.text, label[:2], xytext=(8, 0), textcoords="offset points", **style)


def log_axis(ax: Axes, label: str) -> None:
    """A logarithmic axis: 1, 2, 5, 10, ..., or fewer of them if it is long; from a million on as powers.

    Args:
        ax: whose x axis; its data must be drawn.
        label: its name.
    """
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    longest = (10, 100) if high >= _LONG else (100, 3000)
    steps = (1, 2, 5) if high / low < longest[0] else (1, 3) if high / low < longest[1] else (1,)
    ticks = [step * 10.0**power for power in range(-6, 27) for step in steps]
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(label)


def ticks_at(ax: Axes, places: Mapping[float, str], label: str, *, logarithmic: bool = False) -> None:
    """An axis with a tick at each place."""
    if logarithmic:
        ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(list(places)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: places.get(value, "")))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(label)


def _plain(value: float) -> str:
    """A tick's number: 0.5, 20, 1,000; 2 x 10^12."""
    if value < _LONG:
        return f"{value:,.10g}"
    digit, power = f"{value:.0e}".split("e")
    if digit == "1":
        return rf"$10^{{{int(power)}}}$"
    return rf"${digit} \times 10^{{{int(power)}}}$"

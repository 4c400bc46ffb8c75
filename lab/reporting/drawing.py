"""What every figure shares: style, axes, labels, keys. No global state, and the same bytes every time."""

from collections.abc import Sequence
from io import BytesIO
from statistics import fmean
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from lab.metrics import Metric

INK, GREY, FAINT = "#1a1a1a", "#555555", "#8a8a8a"

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
}
DPI = 150
_LONG = 1e6  # from here on a tick is written as a power of ten


class Label(NamedTuple):
    """A curve's name, to be written right of its end."""

    x: float
    y: float
    text: str
    colour: str


def render(figure: Figure, kind: str) -> bytes:
    """A figure as `png` or `svg`, with no date in it."""
    buffer = BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of this size in inches, which belongs to no window."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def curve(ax: Axes, positions: Sequence[float], values: Sequence[Sequence[float]], colour: str) -> None:
    """The mean over seeds as a thick line, with the band from the lowest to the highest seed.

    Args:
        ax: where to draw.
        positions: one per stop.
        values: for each stop, the value of every seed.
        colour: of line and band.
    """
    lows, highs = [min(seeds) for seeds in values], [max(seeds) for seeds in values]
    ax.fill_between(positions, lows, highs, color=colour, alpha=0.22, linewidth=0)
    ax.plot(positions, [fmean(seeds) for seeds in values], color=colour, linewidth=2)


def axis_label(metric: Metric, before: str = "", after: str = "") -> str:
    """A metric's name, what it is of, and the unit in which it is drawn: `Test NLL (nats/token)`.

    Args:
        metric: drawn to its `scale`.
        before: such as `test`.
        after: such as `at the best stop`.
    """
    name = " ".join(filter(None, [before, metric.name, after])) + ", a bound" * metric.bound
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
    everything = [value for run in runs for value in run]
    if not everything:
        return 0.0, 1.0
    low, high = min(everything), max(everything)
    if metric.lower_is_better:
        kept = [value for run in runs for value in run[: run.index(min(run)) + 1]]
        high = max(max(kept), low + 0.25 * (high - low))
    margin = 0.06 * (high - low) + 0.02
    return low - margin, high + margin


def place_labels(ax: Axes, labels: Sequence[Label], apart: float = 0.08) -> None:
    """Write each name right of its point, apart from the others; one that was cut says where it ends.

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
    for label, height in zip(labels, heights, strict=True):
        ax.annotate(
            f"{label.text} ↑{label.y:.1f}" if label.y > high else label.text,
            (label.x, height),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=label.colour,
            fontweight="bold",
            annotation_clip=False,
        )


def log_axis(ax: Axes, label: str, *, narrow: bool = False) -> None:
    """A logarithmic axis: 1, 2, 5, 10, ..., or fewer of them if it is long; from a million on as powers.

    Args:
        ax: whose x axis; its data must be drawn.
        label: its name.
        narrow: the panel has no room for long numbers.
    """
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    longest = (10, 100) if narrow and high >= _LONG else (100, 3000)
    steps = (1, 2, 5) if high / low < longest[0] else (1, 3) if high / low < longest[1] else (1,)
    ticks = [step * 10.0**power for power in range(-6, 27) for step in steps]
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel(label)


def key(label: str, **style: Any) -> Line2D:
    """A grey entry of the legend: it explains a shape, not an arm."""
    return Line2D([], [], label=label, **{"color": GREY, **style})


def band_key() -> Patch:
    """The legend's entry for the band of `curve`."""
    return Patch(color=GREY, alpha=0.22, linewidth=0, label="lowest to highest seed")


def best_key() -> Line2D:
    """The legend's entry for a best stop."""
    return key("best stop", marker="D", linestyle="")


def legend(figure: Figure, keys: Sequence[Artist]) -> None:
    """One row of keys below everything."""
    figure.legend(handles=list(keys), loc="outside lower center", ncols=len(keys), frameon=False, fontsize=9)


def _plain(value: float) -> str:
    """A tick's number: 0.5, 20, 1,000; 2 x 10^12."""
    if value < _LONG:
        return f"{value:,.10g}"
    digit, power = f"{value:.0e}".split("e")
    if digit == "1":
        return rf"$10^{{{int(power)}}}$"
    return rf"${digit} \times 10^{{{int(power)}}}$"

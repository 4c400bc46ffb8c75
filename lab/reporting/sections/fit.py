"""A power law in levels or costs, fitted for each arm and seed by least squares of logarithms."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lab.files import Row
from lab.metrics import NLL, Metric, find_metric
from lab.reporting import drawing, quantities, table, words
from lab.reporting.content import Content
from lab.reporting.drawing import Picture
from lab.reporting.series import Runs, runs_of
from lab.reporting.statistics import Estimate, estimate
from lab.reporting.table import Column, Table
from lab.reporting.tree import ResultTree
from lab.sections import COSTS, Fit

Fitted = tuple[Mapping[str, Any], tuple[float, ...], Mapping[int, float]]


@dataclass(frozen=True)
class Law:
    """One arm's fit.

    Attributes:
        exponents: of each x, over the seeds that the fit is possible for; empty if there is none.
        constant: the mean over these seeds of log c.
        cells: (level, place of each x, seed -> y), for all levels that are fitted.
        left_out: the same, for the level that is held out.
        predicted: level held out -> (predicted, measured), geometric means over seeds.
    """

    arm: str
    exponents: Mapping[str, Estimate]
    constant: float
    cells: Sequence[Fitted]
    left_out: Sequence[Fitted]
    predicted: Mapping[str, tuple[float, float]]


def write(section: Fit, tree: ResultTree, name: str) -> Content:
    """Fit y = c * product of x_i ** b_i for each arm, seed by seed: an exponent has an interval over seeds.

    Raises:
        ValueError: if an x is neither a level of the plan nor a cost.
    """
    for x in section.x:
        if x not in COSTS and any(x not in level for level in tree.levels):
            raise ValueError(
                f"`x` must be levels of {tree.path}, {sorted(tree.levels[0])}, or of {list(COSTS)}, but got "
                f"{x!r}."
            )
    laws = [_law(section, tree, arm) for arm in section.arms or tree.plan.arms]
    return Content(
        title=section.title or f"How {_y_name(section)} scales",
        verdict=tuple(_sentence(law, section) for law in laws)[:3],
        pictures=(_picture(section, laws, name),) if len(section.x) == 1 else (),
        tables=(_table(section, laws, name),),
        certain=("Exponents are fitted for each seed and averaged; with few levels a fit says little.",),
        terms=("interval",),
    )


def _law(section: Fit, tree: ResultTree, arm: str) -> Law:
    cells = []
    for level in tree.levels:
        runs = runs_of(tree, arm, level)
        place = _place(section, level, runs)
        values = _values(section, runs)
        if place and values:
            cells.append((level, place, values))
    fitted = [cell for cell in cells if not _held_out(section, cell[0])]
    left_out = [cell for cell in cells if _held_out(section, cell[0])]
    by_seed = {}
    for seed in sorted({seed for _, _, values in fitted for seed in values}):
        rows = [(place, values[seed]) for _, place, values in fitted if seed in values]
        solved = _solve([place for place, _ in rows], [y for _, y in rows])
        if solved is not None:
            by_seed[seed] = solved
    exponents = {
        x: estimate({seed: float(solved[index + 1]) for seed, solved in by_seed.items()}, 1.0)
        for index, x in enumerate(section.x)
        if by_seed
    }
    predicted = {}
    for level, place, values in left_out:
        if by_seed:
            logs = [1.0, *map(math.log, place)]
            said = math.exp(fmean(float(np.dot(solved, logs)) for solved in by_seed.values()))
            predicted[words.level_words(level)] = (said, math.exp(fmean(map(math.log, values.values()))))
    constant = fmean(float(solved[0]) for solved in by_seed.values()) if by_seed else 0.0
    return Law(arm, exponents, constant, fitted, left_out, predicted)


def _solve(places: Sequence[tuple[float, ...]], values: Sequence[float]) -> Any:
    """(1 + m,) logarithm of c and the m exponents; None if the places do not determine them."""
    design = np.array([[1.0, *map(math.log, place)] for place in places])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    return np.linalg.lstsq(design, np.log(values), rcond=None)[0]


def _held_out(section: Fit, level: Mapping[str, Any]) -> bool:
    return bool(section.held_out) and all(level.get(key) == value for key, value in section.held_out.items())


def _place(section: Fit, level: Mapping[str, Any], runs: Runs) -> tuple[float, ...] | None:
    """Where a level lies; None if that is not a positive number."""
    point = runs.at("best")
    found = [point.at.get(x) if point and x in COSTS else level.get(x) for x in section.x]
    known = [float(x) for x in found if isinstance(x, int | float) and not isinstance(x, bool) and x > 0]
    return tuple(known) if len(known) == len(section.x) else None


def _values(section: Fit, runs: Runs) -> dict[int, float]:
    if section.y == "onset":
        found = quantities.onset(runs.along, find_metric(NLL)).by_seed
        return {seed: one.at["epoch"] for seed, one in found.items() if one and one.at["epoch"] > 0}
    point = runs.at("best")
    values = point.values(section.y) if point else {}
    return {seed: value for seed, value in values.items() if value > 0}


def _y_name(section: Fit) -> str:
    return "the onset of overfitting" if section.y == "onset" else f"test {_metric(section).name}"


def _metric(section: Fit) -> Metric:
    return find_metric(NLL if section.y == "onset" else section.y)


def _sentence(law: Law, section: Fit) -> str:
    arm = words.arm_name(law.arm)
    if not law.exponents:
        return f"{arm}: its levels are too few, or too alike, to be fitted."
    parts = []
    for x, made in law.exponents.items():
        ends = f" [{' to '.join(words.signed(end) for end in made.interval)}]" if made.interval else ""
        parts.append(f"{words.axis_name(x)} to the power {words.signed(made.mean)}{ends}")
    return f"{arm}: {_y_name(section)} goes as {words.join(parts)}."


def _table(section: Fit, laws: Sequence[Law], name: str) -> Table:
    rows = []
    for law in laws:
        for x in section.x:
            made = law.exponents.get(x)
            low, high = (made.interval if made and made.interval else None) or (None, None)
            row: Row = {"arm": law.arm, "x": x, "seeds": len(made.by_seed) if made else 0}
            row |= {"levels": len(law.cells), "exponent": made.mean if made else None}
            row |= {"interval_low": low, "interval_high": high}
            row["by_seed"] = {str(seed): value for seed, value in made.by_seed.items()} if made else {}
            row["predicted"] = {level: list(pair) for level, pair in law.predicted.items()}
            rows.append(row)

    def exponent(row: Row) -> str:
        if row["exponent"] is None:
            return table.ABSENT
        low, high = row["interval_low"], row["interval_high"]
        ends = "" if low is None else f"{table.LINE}{words.signed(low)} to {words.signed(high)}"
        return words.signed(row["exponent"]) + ends

    show = words.plain if section.y == "onset" else _metric(section).shown

    def held_out(row: Row) -> str:
        return "; ".join(
            f"{level}: {show(said)}, measured {show(was)}" for level, (said, was) in row["predicted"].items()
        )

    columns = [
        table.text("Arm", "arm"),
        table.text("In", "x"),
        table.number("Levels", "levels"),
        table.number("Seeds", "seeds"),
        Column(f"Exponent{table.LINE}95 %", exponent),
    ]
    if section.held_out:
        columns.append(Column("Held out", held_out, left=True, printed=False))
    return Table(name, rows, columns)


def _picture(section: Fit, laws: Sequence[Law], name: str) -> Picture:
    return Picture(
        name=name,
        title=f"{words.capital(_y_name(section))} against {words.axis_name(section.x[0])}",
        caption="Dots are seeds, lines the fitted laws; both axes are logarithmic."
        + " Hollow: held out." * bool(section.held_out),
        panels=(_panel(section, laws),),
    )


def _panel(section: Fit, laws: Sequence[Law]) -> Figure:
    figure, ax = drawing.new_panel("")
    colours = drawing.arm_colours([law.arm for law in laws])
    scale = 1 if section.y == "onset" else _metric(section).scale
    ends = []
    for law in laws:
        colour: Any = {"color": colours[law.arm], "alpha": 0.5, "markersize": 5}
        for cells, fill in ((law.cells, "full"), (law.left_out, "none")):
            for _, (x,), values in cells:
                ax.plot(
                    [x] * len(values), [scale * y for y in values.values()], "o", fillstyle=fill, **colour
                )
        made = law.exponents.get(section.x[0])
        places = sorted(x for _, (x,), _ in (*law.cells, *law.left_out))
        if made and places:
            line = [scale * math.exp(law.constant + made.mean * math.log(x)) for x in places]
            ax.plot(places, line, color=colours[law.arm], linewidth=1.8)
            ends.append(drawing.Label(places[-1], line[-1], words.arm_name(law.arm), colours[law.arm]))
    if ends:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.plain(value)))
        ax.yaxis.set_minor_locator(NullLocator())
        drawing.log_axis(ax, words.capital(words.axis_name(section.x[0])))
        for label in ends:
            drawing.write_label(ax, label)
    else:
        drawing.say(ax, "too few levels")
    onset = words.capital(f"{_y_name(section)} (epochs)")
    ax.set_ylabel(onset if section.y == "onset" else drawing.axis_label(_metric(section), "test"))
    return figure

"""A power law in levels or costs, fitted for each arm and seed by least squares of logarithms."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, geometric_mean
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from statsmodels.regression.linear_model import OLS

from lab.files import Row
from lab.metrics import NLL, Metric, find_metric
from lab.reporting import drawing, quantities, table, words
from lab.reporting.content import Content
from lab.reporting.drawing import Picture
from lab.reporting.quantities import SeedPlaces
from lab.reporting.series import Runs, check_axis, runs_of
from lab.reporting.statistics import Estimate, estimate
from lab.reporting.table import Column, Table
from lab.reporting.tree import ResultTree
from lab.sections import COSTS, Fit

# A level, the place of each x, seed -> y.
Fitted = tuple[Mapping[str, Any], tuple[float, ...], Mapping[int, float]]


@dataclass(frozen=True)
class Law:
    """One arm's fit.

    Attributes:
        exponents: of each x, over the seeds that the fit is possible for; empty if there is none.
        constant: the mean over these seeds of log c.
        fitted: the levels that are fitted.
        left_out: the level that is held out.
        predicted: level held out -> (predicted, measured), geometric means over seeds, of an onset measured
            the median, in which a run that did not get there counts as later; None where that is not known.
        intervals: level held out -> the 95 % interval in which a run there is predicted, of all runs' scatter
            about one law; not there where too few runs were fitted.
        within: level held out -> how many of its runs lie in that interval, and of how many.
        later: level held out -> how many of its runs did not get to y before they ended.
        beyond: how many of the other runs did not, so that theirs is larger.
        before: how many of them were there at their first stop already, so that theirs is that or less.
    """

    arm: str
    exponents: Mapping[str, Estimate]
    constant: float
    fitted: Sequence[Fitted]
    left_out: Sequence[Fitted]
    predicted: Mapping[str, tuple[float, float | None]] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    within: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    later: Mapping[str, int] = field(default_factory=dict)
    beyond: int = 0
    before: int = 0


def write(section: Fit, tree: ResultTree, name: str) -> Content:
    """Fit y = c * product of x_i ** b_i for each arm, seed by seed: an exponent has an interval over seeds.

    Raises:
        ValueError: if an x is neither a level of the plan nor a cost.
    """
    for x in section.x:
        check_axis(tree, x)
    laws = [_law(section, tree, arm) for arm in section.arms or tree.plan.arms]
    return Content(
        title=f"How {_y_name(section)} scales",
        verdict=tuple(_sentence(law, section) for law in laws)[:3],
        pictures=(_picture(section, laws, name),) if len(section.x) == 1 else (),
        tables=(_table(section, laws, name),),
        certain=(
            "Exponents are fitted for each seed and averaged; with few levels a fit says little.",
            *_left_out(laws),
            *["A run held out is predicted from all runs' scatter about one law."]
            * any(law.intervals for law in laws),
        ),
        terms=("interval",),
    )


def _law(section: Fit, tree: ResultTree, arm: str) -> Law:
    fitted: list[Fitted] = []
    left_out: list[Fitted] = []
    beyond = before = 0
    planned = [level for level in tree.levels if tree.cells_of(arm, level)]
    held_out = section.held_out if section.held_out != "last" else planned[-1] if planned else {}
    onsets: dict[str, SeedPlaces] = {}
    for level in planned:
        runs = runs_of(tree, arm, level)
        aside = bool(held_out) and held_out.items() <= level.items()
        if section.y == "onset":
            places = quantities.onset(runs.along, find_metric(NLL))
            if aside:
                onsets[words.level_words(level)] = places
            else:
                beyond += len(places.by_seed) - len(places.reached)
                before += places.from_first
        place, values = _place(section, level, runs), _values(section, runs)
        if place and (values or aside):
            (left_out if aside else fitted).append((level, place, values))
    solved = {}
    for seed in sorted({seed for *_, values in fitted for seed in values}):
        own = [(place, values[seed]) for _, place, values in fitted if seed in values]
        design = np.array([[1.0, *map(math.log, place)] for place, _ in own])
        if np.linalg.matrix_rank(design) == design.shape[1]:
            solved[seed] = np.linalg.lstsq(design, np.log([y for _, y in own]), rcond=None)[0].tolist()
    if not solved:
        return Law(arm, {}, 0.0, fitted, left_out, beyond=beyond, before=before)
    exponents = {
        x: estimate({seed: values[index] for seed, values in solved.items()}, 1.0)
        for index, x in enumerate(section.x, start=1)
    }
    predicted, intervals, within, later = {}, {}, {}, {}
    for predicted_level, place, measured in left_out:
        name = words.level_words(predicted_level)
        logs = [1.0, *map(math.log, place)]
        law = math.exp(fmean(float(np.dot(own, logs)) for own in solved.values()))
        seen = onsets.get(name)
        was = seen.median("epoch") if seen else geometric_mean(measured.values()) if measured else None
        predicted[name] = (law, was)
        runs_there = len(seen.by_seed) if seen else len(measured)
        later[name] = runs_there - len(seen.reached) if seen else 0
        if ends := _prediction_interval(fitted, place):
            intervals[name] = ends
            within[name] = (sum(ends[0] <= y <= ends[1] for y in measured.values()), runs_there)
    constant = fmean(own[0] for own in solved.values())
    return Law(
        arm, exponents, constant, fitted, left_out, predicted, intervals, within, later, beyond, before
    )


def _prediction_interval(fitted: Sequence[Fitted], place: tuple[float, ...]) -> tuple[float, float] | None:
    """Where 95 % of runs at a place are predicted, by least squares over all runs; None with too few."""
    runs = [(own, y) for _, own, values in fitted for y in values.values()]
    design = np.array([[1.0, *map(math.log, own)] for own, _ in runs])
    if len(runs) <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    law = OLS(np.log([y for _, y in runs]), design).fit()
    low, high = law.get_prediction([[1.0, *map(math.log, place)]]).conf_int(obs=True, alpha=0.05)[0]
    return math.exp(low), math.exp(high)


def _place(section: Fit, level: Mapping[str, Any], runs: Runs) -> tuple[float, ...] | None:
    """Where a level lies; None if that is not a positive number."""
    point = runs.at("best")
    values: list[Any] = [point.at.get(x) if point and x in COSTS else level.get(x) for x in section.x]
    return tuple(map(float, values)) if all(map(words.is_positive, values)) else None


def _values(section: Fit, runs: Runs) -> dict[int, float]:
    if section.y == "onset":
        onsets = quantities.onset(runs.along, find_metric(NLL)).by_seed
        values = {seed: one.at["epoch"] for seed, one in onsets.items() if one and not one.from_first}
    else:
        point = runs.at("best")
        values = point.values(section.y) if point else {}
    return {seed: value for seed, value in values.items() if value > 0}


def _left_out(laws: Sequence[Law]) -> Iterator[str]:
    """Which runs are not in a fit of onsets, as theirs are only bounded."""
    parts = {
        "did not overfit before they ended, so that theirs is later": {law.arm: law.beyond for law in laws},
        "were best at their first stop, so that theirs is earlier": {law.arm: law.before for law in laws},
    }
    for why, counts in parts.items():
        if named := [f"{number} of {words.arm_name(arm)}" for arm, number in counts.items() if number]:
            yield f"Runs left out of the fit: {words.join(named)} {why}. The law is of the others."


def _y_name(section: Fit) -> str:
    return "the onset of overfitting" if section.y == "onset" else f"test {_metric(section).name}"


def _metric(section: Fit) -> Metric:
    return find_metric(NLL if section.y == "onset" else section.y)


def _sentence(law: Law, section: Fit) -> str:
    arm = words.arm_name(law.arm)
    if not law.exponents:
        missing = f", as {law.beyond} of its runs did not overfit" if law.beyond else ""
        return f"{arm}: its levels are too few, or too alike, to be fitted{missing}."
    parts = []
    for x, made in law.exponents.items():
        ends = " to ".join(map(words.signed, made.interval or ()))
        exponent = words.signed(made.mean) + (f" [{ends}]" if ends else "")
        if x in section.published:
            exponent += f" ({section.published_by} {words.signed(section.published[x])})"
        parts.append(f"{words.axis_name(x)} to the power {exponent}")
    return f"{arm}: {_y_name(section)} goes as {words.join(parts)}."


def _table(section: Fit, laws: Sequence[Law], name: str) -> Table:
    rows = []
    for law in laws:
        for x in section.x:
            made = law.exponents.get(x)
            low, high = (made.interval if made else None) or (None, None)
            row: Row = {"arm": law.arm, "x": x, "seeds": len(made.by_seed) if made else 0}
            row |= {"levels": len(law.fitted), "exponent": made and made.mean}
            row |= {"interval_low": low, "interval_high": high}
            row["by_seed"] = {str(seed): value for seed, value in made.by_seed.items()} if made else {}
            row["published"] = section.published.get(x)
            row["runs_beyond"], row["runs_before"] = law.beyond, law.before
            row["predicted"] = {level: list(pair) for level, pair in law.predicted.items()}
            row["prediction_interval"] = {level: list(ends) for level, ends in law.intervals.items()}
            row["runs_within"] = {level: list(counts) for level, counts in law.within.items()}
            row["runs_later"] = dict(law.later)
            rows.append(row)
    show = words.plain if section.y == "onset" else _metric(section).shown

    def held_out(row: Row) -> str:
        texts = []
        for level, (law, was) in row["predicted"].items():
            text = f"{level}: {show(law)}"
            if ends := row["prediction_interval"].get(level):
                text += f" [{show(ends[0])} to {show(ends[1])}]"
            later = row["runs_later"][level]
            nothing = "most later than their runs" if later else "not measured"
            text += f", {nothing}" if was is None else f", measured {show(was)}"
            counts = row["runs_within"].get(level)
            told = [f"{counts[0]} of {counts[1]} runs within"] if counts and counts[1] else []
            told += [f"{later} later than {'its run' if later == 1 else 'their runs'}"] * bool(later)
            text += f" ({', '.join(told)})" if told else ""
            texts.append(text)
        return "; ".join(texts)

    columns = [
        table.text("Arm", "arm"),
        table.text("In", "x"),
        table.number("Levels", "levels"),
        table.number("Seeds", "seeds"),
        table.estimate(f"Exponent{table.LINE}95 %", "", words.signed, mean="exponent"),
    ]
    if section.published:
        columns.append(table.number("Published", "published", words.signed))
    if section.y == "onset":
        columns.append(table.number("Later than run", "runs_beyond"))
        columns.append(table.number("Before first stop", "runs_before"))
    columns += [Column("Held out", held_out, left=True, printed=False)] * bool(section.held_out)
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
    labels = []
    for law in laws:
        colour = colours[law.arm]
        for levels, fill in ((law.fitted, "full"), (law.left_out, "none")):
            style: Any = {"color": colour, "fillstyle": fill, "alpha": 0.5, "markersize": 5}
            for _, (x,), values in levels:
                ax.plot([x] * len(values), [scale * y for y in values.values()], "o", **style)
        made = law.exponents.get(section.x[0])
        places = sorted(x for _, (x,), _ in (*law.fitted, *law.left_out))
        if made and places:
            heights = [scale * math.exp(law.constant + made.mean * math.log(x)) for x in places]
            ax.plot(places, heights, color=colour, linewidth=1.8)
            labels.append(drawing.Label(places[-1], heights[-1], words.arm_name(law.arm), colour))
    if labels:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words.plain(value)))
        ax.yaxis.set_minor_locator(NullLocator())
        drawing.log_axis(ax, words.capital(words.axis_name(section.x[0])))
        for label in labels:
            drawing.write_label(ax, label)
    else:
        drawing.say(ax, "too few levels")
    onset = words.capital(f"{_y_name(section)} (epochs)")
    ax.set_ylabel(onset if section.y == "onset" else drawing.axis_label(_metric(section), "test"))
    return figure

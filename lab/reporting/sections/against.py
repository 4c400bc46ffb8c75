"""Metrics against a level or a cost: of the runs' test split, or of what was measured after them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.evaluation.measurements import CHOICE
from lab.files import Row
from lab.metrics import Metric, find_metric
from lab.reporting import baselines, drawing, table, words
from lab.reporting.content import Content
from lab.reporting.drawing import Picture
from lab.reporting.rows import estimate_fields, metric_fields, ratio
from lab.reporting.series import (
    Point,
    Runs,
    Series,
    after_runs,
    check_axis,
    check_series,
    gain,
    runs_of,
    shown_metrics,
    throughout,
    unmeasured,
)
from lab.reporting.statistics import judge_together
from lab.reporting.table import Column, Table
from lab.reporting.tree import CellResult, ResultTree, by_level, level_name
from lab.sections import COSTS, Against

STYLES = (("-", "o"), ("--", "^"), (":", "s"), ("-.", "D"))  # of the lines of an arm


@dataclass(frozen=True)
class Shown:
    """What a section shows.

    Attributes:
        series: the arms, the reference first.
        metrics: a panel each.
        real: what real text measures, if it was and is to be shown.
        places: text of a level -> its place on the axis; empty where the axis is a cost.
    """

    section: Against
    tree: ResultTree
    series: Sequence[Series]
    metrics: Sequence[Metric]
    real: Point | None
    places: Mapping[str, float]

    @property
    def cells(self) -> list[CellResult]:
        """The finished runs that are shown."""
        return [cell for one in self.series for cell in one.cells]

    @property
    def axis_name(self) -> str:
        """The axis in words."""
        per = ""
        if self.section.x in ("flops", "flops_computed"):
            per = " per item" if self.section.measurement == CHOICE else " per generated token"
        return words.axis_name(self.section.x) + per

    @property
    def bases(self) -> dict[str, Point]:
        """Level -> what the others are compared with: the reference's last point, of its first variant."""
        bases: dict[str, Point] = {}
        for one in self.series:
            if one.arm == self.section.reference:
                bases = _last(one) | bases
        return bases

    def place(self, point: Point) -> float | None:
        """Where a point lies on the axis; None if that is not known."""
        x = self.section.x
        return self.places[_level_text(point.level[x])] if self.places else point.at.get(x)


def write(section: Against, tree: ResultTree, name: str) -> Content:
    """Draw metrics against a level or a cost, and list every point.

    Raises:
        ValueError: if the axis is neither a level of the plan nor a cost, or runs may not be compared.
    """
    check_axis(tree, section.x)
    metrics = shown_metrics(section.metrics, tree.plan.metric)
    measured = after_runs(tree) if section.measurement else None
    series = _of_runs(section, tree)
    if measured:
        own = measured.series.get(section.measurement, ())
        series = [one for one in own if not section.arms or one.arm in section.arms]
        series.sort(key=lambda one: one.arm != section.reference)
    if section.levels == "first":
        first = next(
            (level for level in tree.levels if any(one.cells[0].level == level for one in series)), {}
        )
        series = [one for one in series if one.cells[0].level == first]
    check_series(series, section.matched)
    real = measured.real if measured else None
    if real and not any(real.values(metric.key) for metric in metrics):
        real = None
    shown = Shown(section, tree, series, metrics, real, _places(section, tree))
    tables = (_table(shown, name),) if series else ()
    moderated = any(row.get("gain_moderated") for one in tables for row in one.rows)
    return Content(
        title=f"Against {shown.axis_name}",
        pictures=(_picture(shown, name),) if series else (),
        tables=tables,
        warnings=measured.warnings if measured else unmeasured(series, metrics),
        terms=(
            *(("gain", "verdict", "interval") if section.reference else ()),
            *["moderated"] * moderated,
            *["held-out error"] * (not measured),
        ),
    )


def _of_runs(section: Against, tree: ResultTree) -> list[Series]:
    """Each arm's test split over the levels; where they vary more than the axis, a series of each rest."""
    if section.at == "every":
        over = [
            runs.over("test")
            for arm in section.arms or tree.plan.arms
            for level in tree.levels
            if (runs := runs_of(tree, arm, level)).cells
        ]
        metrics = shown_metrics(section.metrics, tree.plan.metric)
        return [
            replace(throughout(one, metrics), level={}, variant=words.level_words(one.level)) for one in over
        ]
    groups: dict[tuple[str, str], list[Runs]] = {}
    for arm in section.arms or tree.plan.arms:
        own = [runs for level in tree.levels if (runs := runs_of(tree, arm, level)).cells]
        along = _keys_along(section.x, [point for runs in own if (point := runs.at(section.at))])
        for runs in own:
            rest = {key: value for key, value in runs.level.items() if key not in along}
            groups.setdefault((arm, words.level_words(rest)), []).append(runs)
    # An arm alone at one point, such as another budget of AR, is no line to compare with.
    variants = Counter(variant for _, variant in groups)
    if lines := {key: own for key, own in groups.items() if len(own) > 1 or variants[key[1]] > 1}:
        groups = lines
    series = []
    for (arm, variant), own in groups.items():
        points = tuple(point for runs in own if (point := runs.at(section.at)))
        series.append(Series(arm, {}, points, tuple(cell for runs in own for cell in runs.cells), variant))
    return series


def _keys_along(x: str, points: Sequence[Point]) -> set[str]:
    """The keys of levels by which an arm's points move along the axis: of a cost, those that change it."""
    if x not in COSTS:
        return {x}
    pairs = (pair for pair in combinations(points, 2) if pair[0].at.get(x) != pair[1].at.get(x))
    differing = ([key for key in one.level if one.level[key] != other.level[key]] for one, other in pairs)
    return {keys[0] for keys in differing if len(keys) == 1}


def _places(section: Against, tree: ResultTree) -> dict[str, float]:
    """Text of a level -> its place, at its value if all can lie on a logarithmic axis; empty for a cost.

    Numbers come before words, such as the `window` beside sizes of blocks.
    """
    if section.x in COSTS:
        return {}
    values = list(dict.fromkeys(level[section.x] for level in tree.levels))
    values.sort(key=lambda value: not isinstance(value, int | float))
    places = values if all(map(words.is_positive, values)) else range(1, len(values) + 1)
    return {_level_text(value): float(place) for value, place in zip(values, places, strict=True)}


def _level_text(value: Any) -> str:
    if value is None:
        return "all"
    return f"{value:,}" if words.is_positive(value) else str(value)


def _last(series: Series) -> dict[str, Point]:
    """Level -> the last point there, at the most compute."""
    return {level_name(point.level): point for point in series.points}


# The figure.


def _picture(shown: Shown, name: str) -> Picture:
    section, points = shown.section, [point for one in shown.series for point in one.points]
    metrics = [metric for metric in shown.metrics if any(point.values(metric.key) for point in points)]
    chance = any(metric.key == "choice_accuracy" for metric in metrics)
    dotted = [f"{words.arm_name(section.reference)} at its most compute"] * bool(
        section.reference and section.measurement
    )
    dotted += ["real text"] * (shown.real is not None) + ["chance"] * chance
    caption = ["Dots are seeds, lines their mean."]
    if section.levels == "first" and shown.series and (level := words.level_words(shown.series[0].level)):
        caption.append(f"At {level}.")
    if not section.measurement:
        where = words.PLACE_WORDS.get(section.at, "at every stop")
        caption.append(f"On the test split, {where}.")
    if barred := [one for one in metrics if one.errors and (not section.measurement or one.of_best)]:
        examples = words.join(list(dict.fromkeys(metric.examples for metric in barred)))
        caption.append(f"Bars: ± the standard error over {examples}.")
    caption += [f"Dotted lines: {words.join(dotted)}."] * bool(dotted)
    caption += filter(None, [words.bound_beside(metrics)])
    caption += [baselines.LINE_CAPTION] * any(_ngrams(shown, metric, shown.cells) for metric in metrics)
    return Picture(
        name=name,
        title=f"{words.capital(words.join([metric.name for metric in metrics]))} against {shown.axis_name}",
        caption=" ".join(caption),
        panels=tuple(_panel(shown, metric) for metric in metrics),
    )


def _panel(shown: Shown, metric: Metric) -> Figure:
    figure, ax = drawing.new_panel(words.capital(metric.name))
    colours = drawing.arm_colours(list(dict.fromkeys(one.arm for one in shown.series)))
    lines: dict[str, int] = {}
    labels = []
    for one in shown.series:
        style = lines[one.arm] = lines.get(one.arm, -1) + 1
        points = [
            point for point in one.points if shown.place(point) is not None and point.values(metric.key)
        ]
        points.sort(key=lambda point: shown.place(point) or 0.0)
        if points:
            end = _line(ax, shown, points, metric, colours[one.arm], style)
            level = "" if shown.section.levels == "first" else words.level_words(one.level)
            where = (words.variant_name(one.variant), level)
            name = ", ".join(filter(None, [words.arm_name(one.arm), *where]))
            labels.append(drawing.Label(*end, name, colours[one.arm]))
    _dotted_lines(ax, shown, metric, colours)
    labels += _ngram_lines(ax, shown, metric)
    x_label = words.capital(shown.axis_name)
    if shown.places:
        ticks = {place: text for text, place in shown.places.items()}
        values = [level[shown.section.x] for level in shown.tree.levels]
        drawing.ticks_at(ax, ticks, x_label, logarithmic=all(map(words.is_positive, values)))
        ax.margins(x=0.12)
    elif labels:
        drawing.log_axis(ax, x_label)
    else:
        ax.set_xlabel(x_label)
        drawing.say(ax, f"{shown.axis_name} not known")
    if metric.percent and labels:  # an error bar may end below, where no share lies
        low, high = ax.get_ylim()
        ax.set_ylim(max(low, -0.04 * high), high)
    drawing.place_labels(ax, labels)
    ax.set_ylabel(drawing.axis_label(metric, "" if shown.section.measurement else "test"))
    return figure


def _line(
    ax: Axes, shown: Shown, points: Sequence[Point], metric: Metric, colour: str, style: int
) -> tuple[float, float]:
    """The points of one series, each with its seeds; returns where it ends."""
    xs = [shown.place(point) or 0.0 for point in points]
    means = [metric.scale * (point.mean(metric.key) or 0.0) for point in points]
    for x, point in zip(xs, points, strict=True):
        values = [metric.scale * value for value in point.values(metric.key).values()]
        ax.plot([x] * len(values), values, ".", color=colour, alpha=0.35, markersize=5)
    line, marker = STYLES[style % len(STYLES)]
    size = 9 if len(points) == 1 else 5  # a point alone must not look like one seed
    (drawn,) = ax.plot(xs, means, color=colour, linewidth=1.8, linestyle=line, marker=marker, markersize=size)
    drawn.set(markeredgecolor="white", markeredgewidth=0.6)
    if metric.errors and (not shown.section.measurement or metric.of_best):
        errors = [metric.scale * (point.mean(metric.errors[0]) or 0.0) for point in points]
        ax.errorbar(xs, means, yerr=errors, color=colour, linewidth=0, elinewidth=1)
    return xs[-1], means[-1]


def _dotted_lines(ax: Axes, shown: Shown, metric: Metric, colours: Mapping[str, str]) -> None:
    """Dotted lines: real text, the reference at its most compute, chance."""
    reference = colours.get(shown.section.reference, "")
    bases = shown.bases.values() if shown.section.measurement else ()
    lines = [(shown.real, drawing.GREY, "real text"), *((base, reference, "") for base in bases)]
    for point, colour, text in lines:
        if point and (mean := point.mean(metric.key)) is not None:
            drawing.level_line(ax, metric.scale * mean, colour, text)
    if metric.key == "choice_accuracy":
        options = shown.tree.finished[0].done.config.evaluation.choice_options
        drawing.level_line(ax, 100 / options, drawing.FAINT, "chance")


def _ngram_lines(ax: Axes, shown: Shown, metric: Metric) -> list[drawing.Label]:
    """The n-gram over the levels, a line for each of the other factors that it depends on.

    Against a cost it is as high at every amount: a level line for each level of the plan.

    Returns:
        The names of the lines that have an end.
    """
    if not shown.places:
        for name, height in _ngrams(shown, metric, shown.cells):
            drawing.level_line(ax, metric.scale * height, drawing.GREY, name)
        return []
    lines: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for group in by_level(shown.cells):
        level = group[0].level
        rest = words.level_words({key: value for key, value in level.items() if key != shown.section.x})
        place = shown.places[_level_text(level[shown.section.x])]
        for name, height in _ngrams(shown, metric, group):
            lines.setdefault((name, rest), []).append((place, metric.scale * height))
    drawn = {tuple(sorted(points)): name for name, points in reversed(lines.items())}
    labels = []
    for points, (name, rest) in drawn.items():
        ax.plot(*zip(*points, strict=True), color=drawing.GREY, linewidth=1.1, linestyle=":", marker="x")
        text = ", ".join(filter(None, [name, rest])) if len(drawn) > 1 else name
        labels.append(drawing.Label(*points[-1], text, drawing.GREY))
    return labels


def _ngrams(shown: Shown, metric: Metric, cells: Sequence[CellResult]) -> list[tuple[str, float]]:
    """Names and heights of the n-gram beside runs; nothing where what is shown was measured after them."""
    return [] if shown.section.measurement else baselines.ngram_lines(cells, metric, "test")


# The table.


def _table(shown: Shown, name: str) -> Table:
    section, metric, bases = shown.section, shown.metrics[0], shown.bases
    others = [one for one in shown.series if one.arm != section.reference]
    last = [point for one in others for point in _last(one).values()]
    family = judge_together([gain(metric, bases.get(level_name(point.level)), point) for point in last])
    tested = dict(zip(map(id, last), family, strict=True))
    rows = []
    for one in shown.series:
        for point in one.points:
            row = _point_row(one.arm, one.variant, point, shown.metrics)
            if base := bases.get(level_name(point.level)):
                made = None if one.arm == section.reference else gain(metric, base, point)
                row["flops_ratio"] = ratio(point.at.get("flops"), base.at.get("flops"))
                row |= estimate_fields("gain_", tested.get(id(point), made))
                row["gain_verdict"] = row["gain_verdict"] if id(point) in tested else None
            rows.append(row)
    if shown.real:
        row = _point_row("real text", "", shown.real, shown.metrics)
        rows.insert(0, row | ({"flops_ratio": None, **estimate_fields("gain_", None)} if bases else {}))
    moderated = any(made.moderated for made in family if made)
    return Table(name, rows, _columns(shown, rows), _caption(shown, moderated=moderated))


def _point_row(arm: str, variant: str, point: Point, metrics: Sequence[Metric]) -> Row:
    more = [key for key in ("repetition",) if any(key in measured for measured in point.by_seed.values())]
    return {
        "arm": arm,
        "variant": variant,
        "level": level_name(point.level),
        "seeds": len(point.values(metrics[0].key)),
        "steps": None,
        "num_draws": None,
        **{name: point.at[name] for name in (*COSTS, "seconds") if name in point.at},
        **metric_fields("", point, dict.fromkeys([*(metric.key for metric in metrics), *more])),
        "lines": point.mean("lines"),
    }


def _columns(shown: Shown, rows: Sequence[Row]) -> list[Column]:
    reference, metric = words.arm_name(shown.section.reference), shown.metrics[0]

    def variant(row: Row) -> str:
        return words.variant_name(row["variant"]) or table.ABSENT

    columns = {
        "arm": table.text("Arm", "arm"),
        "variant": Column("By", variant, left=True),
        "level": table.level(),
        "steps": table.number("Passes", "steps"),
        "num_draws": table.number("Draws", "num_draws"),
    }
    if not shown.section.measurement:
        columns["seeds"] = table.number("Seeds", "seeds", printed=False)
        columns["epoch"] = table.number("Epoch", "epoch")
    columns["flops"] = table.flops("FLOPs", "flops")
    columns["flops_computed"] = table.flops("FLOPs computed", "flops_computed")
    columns["flops_ratio"] = table.number(f"× {reference}", "flops_ratio")
    for one in shown.metrics:
        columns[one.key] = table.measured(table.in_heading(one), one.key, one)
    repetition = find_metric("repetition")
    columns["repetition"] = table.measured("Repetition", "repetition", repetition, printed=False)
    columns["gain_mean"] = table.estimate(
        f"Gain{table.LINE}95 %", "gain_", words.in_metric(metric), printed=False
    )
    columns["gain_verdict"] = Column(
        "Verdict", lambda row: row.get("gain_verdict") or "", left=True, printed=False
    )
    return [column for key, column in columns.items() if any(row.get(key) not in (None, "") for row in rows)]


def _caption(shown: Shown, *, moderated: bool) -> str:
    means = "Means over seeds, ± their standard deviation."
    if not shown.section.reference:
        return means
    where = "the verdict is at the most compute, where the" if shown.section.measurement else "the"
    reference = words.arm_name(shown.section.reference)
    tests = f"{'moderated' if moderated else 'plain'} t tests are corrected"
    return f"{means} Gain: in {shown.metrics[0].name} over {reference}; {where} {tests}."

"""Metrics against a level or a cost: of the runs, or of what was measured after them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.evaluation.measurements import CHOICE
from lab.files import Row
from lab.metrics import Metric, find_metric
from lab.reporting import drawing, table, words
from lab.reporting.content import Content
from lab.reporting.drawing import Picture
from lab.reporting.rows import estimate_fields, metric_fields, ratio
from lab.reporting.series import (
    AfterRuns,
    Point,
    Runs,
    Series,
    after_runs,
    check_series,
    gain,
    runs_of,
    shown_metrics,
)
from lab.reporting.statistics import corrected
from lab.reporting.table import Column, Table
from lab.reporting.tree import ResultTree, level_name
from lab.sections import COSTS, Against

LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "^", "s", "D")


@dataclass(frozen=True)
class Line:
    """A series with where its points lie.

    Attributes:
        places: of each point, None where it has none.
    """

    series: Series
    places: tuple[float | None, ...]


def write(section: Against, tree: ResultTree, name: str) -> Content:
    """Draw metrics against a level or a cost, and list every point.

    Raises:
        ValueError: if the axis is neither a level of the plan nor a cost, or runs may not be compared.
    """
    metrics = shown_metrics(section.metrics, tree.plan.metric)
    measured = after_runs(tree, section.measurement) if section.measurement else None
    series = _measured(section, measured) if measured else _of_runs(section, tree)
    check_series(series, section.matched)
    labels = _labels(section, tree)
    lines = [Line(one, tuple(_place(section, labels, point) for point in one.points)) for one in series]
    real = measured.real if measured else None
    if real and not any(real.values(metric.key) for metric in metrics):
        real = None
    return Content(
        title=section.title or f"Against {_axis_name(section)}",
        pictures=(_picture(section, tree, lines, metrics, real, labels, name),) if series else (),
        tables=(_table(section, series, metrics, real, name),) if series else (),
        warnings=measured.warnings if measured else (),
        terms=("gain", "interval", *["held-out error"] * (not measured)),
    )


def _measured(section: Against, measured: AfterRuns) -> list[Series]:
    """What was measured of the kind; the reference first."""
    found = [
        series
        for series in measured.series.get(section.measurement, ())
        if not section.arms or series.arm in section.arms
    ]
    return sorted(found, key=lambda series: series.arm != section.reference)


def _of_runs(section: Against, tree: ResultTree) -> list[Series]:
    """Each arm's test split over the levels; where they vary more than the axis, a series of each rest."""
    found: dict[tuple[str, str], list[Runs]] = {}
    for arm in section.arms or tree.plan.arms:
        for level in tree.levels:
            rest = {key: value for key, value in level.items() if section.x in level and key != section.x}
            if (runs := runs_of(tree, arm, level)).cells:
                found.setdefault((arm, words.level_words(rest)), []).append(runs)
    return [
        Series(
            arm,
            {},
            tuple(point for one in runs if (point := one.at(section.at))),
            tuple(cell for one in runs for cell in one.cells),
            rest,
        )
        for (arm, rest), runs in found.items()
    ]


def _labels(section: Against, tree: ResultTree) -> dict[float, str]:
    """Place on the axis -> its text, where the axis is a level; empty for a cost.

    Raises:
        ValueError: if it is neither.
    """
    if section.x in COSTS:
        return {}
    if any(section.x not in level for level in tree.levels):
        raise ValueError(
            f"`x` must be a level of {tree.path}, {sorted(tree.levels[0])}, or one of {list(COSTS)}, "
            f"but got x={section.x!r}."
        )
    values = list(dict.fromkeys(level[section.x] for level in tree.levels))
    if _numeric(values):
        return {float(value): _level_text(value) for value in values}
    return {float(place): _level_text(value) for place, value in enumerate(values, start=1)}


def _numeric(values: Sequence[Any]) -> bool:
    """Whether levels can lie on a logarithmic axis."""
    return all(
        isinstance(value, int | float) and not isinstance(value, bool) and value > 0 for value in values
    )


def _place(section: Against, labels: Mapping[float, str], point: Point) -> float | None:
    """Where a point lies on the axis; None if that is not known."""
    if not labels:
        return point.at.get(section.x)
    told = _level_text(point.level[section.x])
    return next(place for place, text in labels.items() if text == told)


def _level_text(value: Any) -> str:
    if value is None:
        return "all"
    return f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _axis_name(section: Against) -> str:
    name = words.axis_name(section.x)
    if section.x in ("flops", "flops_computed"):
        name += " per item" if section.measurement == CHOICE else " per generated token"
    return name


def _picture(
    section: Against,
    tree: ResultTree,
    lines: Sequence[Line],
    metrics: Sequence[Metric],
    real: Point | None,
    labels: Mapping[float, str],
    name: str,
) -> Picture:
    shown = [
        metric for metric in metrics if any(p.values(metric.key) for one in lines for p in one.series.points)
    ]
    dotted = [
        f"{words.arm_name(section.reference)} at its most compute"
        * bool(section.reference and section.measurement),
        "real text" * (real is not None),
        "chance" * any(metric.key == "choice_accuracy" for metric in shown),
    ]
    split = "" if section.measurement else f" On the test split, {words.PLACE_WORDS[section.at]}."
    samples = [metric.sample for metric in shown if metric.errors and not section.measurement]
    split += f" Bars: ± the standard error over held-out {words.join(list(dict.fromkeys(samples)))}." * bool(
        samples
    )
    told = f" Dotted lines: {words.join(list(filter(None, dotted)))}." if any(dotted) else ""
    return Picture(
        name=name,
        title=f"{words.capital(words.join([metric.name for metric in shown]))} against {_axis_name(section)}",
        caption=f"Dots are seeds, lines their mean.{split}{told}",
        panels=tuple(_panel(section, tree, lines, metric, real, labels) for metric in shown),
    )


def _panel(
    section: Against,
    tree: ResultTree,
    lines: Sequence[Line],
    metric: Metric,
    real: Point | None,
    labels: Mapping[float, str],
) -> Figure:
    figure, ax = drawing.new_panel(words.capital(metric.name))
    colours = drawing.arm_colours(list(dict.fromkeys(one.series.arm for one in lines)))
    ends = []
    for one in lines:
        series = one.series
        place = [other for other in lines if other.series.arm == series.arm].index(one)
        known = [
            (x, [metric.scale * value for value in point.values(metric.key).values()], point)
            for x, point in zip(one.places, series.points, strict=True)
            if x is not None and point.values(metric.key)
        ]
        if not known:
            continue
        _line(ax, known, colours[series.arm], place)
        told = (words.variant_name(series.variant), words.level_words(series.level))
        name = ", ".join(filter(None, [words.arm_name(series.arm), *told]))
        ends.append(drawing.Label(known[-1][0], fmean(known[-1][1]), name, colours[series.arm]))
        if not section.measurement and metric.errors:
            errors = [metric.scale * (point.mean(metric.errors[0]) or 0.0) for _, _, point in known]
            means = [fmean(values) for _, values, _ in known]
            ax.errorbar(
                [x for x, _, _ in known],
                means,
                yerr=errors,
                color=colours[series.arm],
                linewidth=0,
                elinewidth=1,
            )
    _levels(ax, section, tree, lines, metric, real, colours)
    x_label = words.capital(_axis_name(section))
    if labels:
        numeric = _numeric([level[section.x] for level in tree.levels])
        drawing.ticks_at(ax, labels, x_label, logarithmic=numeric)
        ax.margins(x=0.12)
    elif ends:
        drawing.log_axis(ax, x_label)
    else:
        ax.set_xlabel(x_label)
        drawing.say(ax, f"{_axis_name(section)} not known")
    if ends:
        right = max(label.x for label in ends)
        drawing.place_labels(ax, [label._replace(x=right) for label in ends])
    ax.set_ylabel(drawing.axis_label(metric, "" if section.measurement else "test"))
    return figure


def _line(ax: Axes, known: Sequence[tuple[float, list[float], Point]], colour: str, place: int) -> None:
    style = place % len(LINES)
    for x, values, _ in known:
        ax.plot([x] * len(values), values, ".", color=colour, alpha=0.35, markersize=5)
    ax.plot(
        [x for x, _, _ in known],
        [fmean(values) for _, values, _ in known],
        color=colour,
        linewidth=1.8,
        linestyle=LINES[style],
        marker=MARKERS[style],
        markersize=9 if len(known) == 1 else 5,  # a point alone must not look like one seed
        markeredgecolor="white",
        markeredgewidth=0.6,
    )


def _levels(
    ax: Axes,
    section: Against,
    tree: ResultTree,
    lines: Sequence[Line],
    metric: Metric,
    real: Point | None,
    colours: Mapping[str, str],
) -> None:
    """Dotted lines: real text, the reference at its most compute, chance."""
    level = real.mean(metric.key) if real else None
    if level is not None:
        drawing.level_line(ax, metric.scale * level, drawing.GREY, "real text")
    bases = _bases(section, [one.series for one in lines]).values() if section.measurement else ()
    for base in bases:
        if (level := base.mean(metric.key)) is not None:
            drawing.level_line(ax, metric.scale * level, colours[section.reference])
    if metric.key == "choice_accuracy":
        options = tree.finished[0].done.config.evaluation.choice_options
        drawing.level_line(ax, 100 / options, drawing.FAINT, "chance")


def _table(
    section: Against, series: Sequence[Series], metrics: Sequence[Metric], real: Point | None, name: str
) -> Table:
    rows = []
    if real:
        rows.append(_point_row("real text", "", real, metrics))
    bases = _bases(section, series)
    others = {id(one) for one in series if one.arm != section.reference}
    last = [point for one in series if id(one) in others for point in _last(one).values()]
    found = corrected([gain(metrics[0], bases.get(level_name(point.level)), point) for point in last])
    tested = dict(zip(map(id, last), found, strict=True))
    for one in series:
        for point in one.points:
            row = _point_row(one.arm, one.variant, point, metrics)
            base = bases.get(level_name(point.level))
            if base:
                made = gain(metrics[0], base, point) if id(one) in others else None
                row["flops_ratio"] = ratio(point.at.get("flops"), base.at.get("flops"))
                row |= estimate_fields("gain_", tested.get(id(point), made))
                row["gain_verdict"] = row["gain_verdict"] if id(point) in tested else None
            rows.append(row)
    if real and bases:
        rows[0] |= {"flops_ratio": None, **estimate_fields("gain_", None)}
    return Table(
        name, rows, _columns(section, rows, metrics, bool(bases)), caption=_caption(section, metrics)
    )


def _last(series: Series) -> dict[str, Point]:
    """Level -> the last point there, at the most compute."""
    return {level_name(point.level): point for point in series.points}


def _bases(section: Against, series: Sequence[Series]) -> dict[str, Point]:
    """Level -> what the others are compared with there: the reference's last point, of its first variant."""
    found: dict[str, Point] = {}
    for one in series:
        if one.arm == section.reference:
            found = _last(one) | found
    return found


def _point_row(arm: str, variant: str, point: Point, metrics: Sequence[Metric]) -> Row:
    coordinates = {name: point.at.get(name) for name in (*COSTS, "seconds") if name in point.at}
    more = [key for key in ("repetition",) if any(key in found for found in point.by_seed.values())]
    return {
        "arm": arm,
        "variant": variant,
        "level": level_name(point.level),
        "seeds": len(point.by_seed),
        "steps": None,
        "num_draws": None,
        **coordinates,
        **metric_fields("", point, dict.fromkeys([*(metric.key for metric in metrics), *more])),
        "lines": point.mean("lines"),
    }


def _columns(
    section: Against, rows: Sequence[Row], metrics: Sequence[Metric], compared: bool
) -> list[Column]:
    def some(key: str) -> bool:
        return any(row.get(key) not in (None, "") for row in rows)

    columns = [table.text("Arm", "arm")]
    if some("variant"):
        columns.append(
            Column("By", lambda row: words.variant_name(row["variant"]) or table.ABSENT, left=True)
        )
    if some("level"):
        columns.append(table.level())
    columns += [
        table.number(heading, key)
        for key, heading in (("steps", "Passes"), ("num_draws", "Draws"))
        if some(key)
    ]
    if not section.measurement:
        columns += [table.number("Seeds", "seeds", printed=False), table.number("Epoch", "epoch")]
    if some("flops"):
        columns += [table.flops("FLOPs", "flops"), table.flops("FLOPs computed", "flops_computed")]
    if some("flops_ratio"):
        columns.append(table.number(f"× {words.arm_name(section.reference)}", "flops_ratio"))
    columns += [
        table.measured(table.in_heading(metric), metric.key, metric) for metric in metrics if some(metric.key)
    ]
    if some("repetition"):
        columns.append(table.measured("Repetition", "repetition", find_metric("repetition"), printed=False))
    if compared:
        columns.append(table.estimate(f"Gain{table.LINE}95 %", "gain_", metrics[0], printed=False))
        columns.append(Column("Verdict", lambda row: row.get("gain_verdict") or "", left=True, printed=False))
    return columns


def _caption(section: Against, metrics: Sequence[Metric]) -> str:
    if not section.reference:
        return "Means over seeds, ± their standard deviation."
    where = "the verdict is at the most compute, where the" if section.measurement else "the"
    return (
        f"Means over seeds, ± their standard deviation. Gain: in {metrics[0].name} over "
        f"{words.arm_name(section.reference)}; {where} tests are corrected."
    )

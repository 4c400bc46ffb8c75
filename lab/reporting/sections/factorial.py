"""Where the gain from AR to the DLM comes from: Shapley values, main effects and interactions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.arms import CORNERS
from lab.files import Row
from lab.metrics import Metric
from lab.reporting import drawing, table, words
from lab.reporting.content import Content
from lab.reporting.drawing import BETTER, WORSE, Mark, Picture
from lab.reporting.effects import (
    CUBE,
    EFFECTS,
    FACTORS,
    GAIN,
    INTERACTION,
    MAIN,
    SHAPLEY,
    Effect,
    effects,
    steps,
)
from lab.reporting.replicates import replicates_of
from lab.reporting.rows import estimate_fields
from lab.reporting.series import Point, Runs, runs_of, shown_metrics
from lab.reporting.statistics import Estimate
from lab.reporting.table import Column, Table
from lab.reporting.tree import ResultTree, check_matched, level_name
from lab.results import Reading
from lab.sections import Factorial, Place

# The corner arms in the order of `effects.CUBE`.
CORNER_ARMS = tuple(sorted(CORNERS, key=lambda arm: CORNERS[arm]))
AR, DLM = CORNER_ARMS[0], CORNER_ARMS[-1]
FACTOR_WORDS = {
    "order": "any-order modelling",
    "compute": "super-dense compute",
    "draws": "Monte Carlo augmentation",
}
LEVEL_WORDS = {
    "order": ("left to right", "any order"),
    "compute": ("causal", "dense"),
    "draws": ("one or none", "fresh"),
}
KIND_WORDS = {GAIN: "AR → DLM", SHAPLEY: "Shapley value", MAIN: "Main effect", INTERACTION: "Interaction"}
_HALF = 0.28  # of a bar's width


@dataclass(frozen=True)
class Attribution:
    """The effects on one metric at one stop under one reading.

    Attributes:
        corners: arm -> what its runs measure, over the seeds that count.
        effects: of `EFFECTS`, each with what is known of it.
    """

    reading: Reading
    place: Place
    metric: Metric
    corners: Mapping[str, Point]
    effects: Mapping[Effect, Estimate]

    @property
    def gain(self) -> Estimate:
        """From AR to the DLM."""
        return next(iter(self.effects.values()))

    @property
    def largest(self) -> tuple[Effect, Estimate]:
        """The largest interaction."""
        return max(self.of_kind(INTERACTION).items(), key=lambda pair: abs(pair[1].mean))

    def of_kind(self, kind: str) -> dict[Effect, Estimate]:
        """The effects of one kind."""
        return {effect: made for effect, made in self.effects.items() if effect.kind == kind}

    def gains(self, factor: str) -> list[dict[int, float]]:
        """Seed -> what switching a factor on brings, for each of its steps (`effects.steps`)."""
        values = [self.corners[arm].values(self.metric.key) for arm in CORNER_ARMS]
        return [
            {
                seed: self.metric.improvement(value, values[after][seed])
                for seed, value in values[before].items()
            }
            for before, after in steps(factor)
        ]

    def of_both_signs(self, factor: str) -> bool:
        """Whether a factor helps alone and costs given the other two, or the other way, in every seed."""
        alone, *_, last = (list(gains.values()) for gains in self.gains(factor))
        return min(alone) > 0 > max(last) or min(last) > 0 > max(alone)

    def values(self, arm: str) -> list[float]:
        """What each seed of a corner measures, to the metric's scale."""
        return [self.metric.scale * value for value in self.corners[arm].values(self.metric.key).values()]


def write(section: Factorial, tree: ResultTree, name: str) -> Content:
    """Take the gain from AR to DLM apart over the eight corners of a result tree.

    Raises:
        ValueError: if a corner is absent from the plan or lacks a metric, there is more than one level, or
            the arms may not be compared.
    """
    _check(tree)
    check_matched([cell for cell in tree.cells if cell.arm in CORNER_ARMS], section.matched, "")
    finished = {arm: {cell.seed for cell in tree.finished if cell.arm == arm} for arm in CORNER_ARMS}
    seeds = sorted(set.intersection(*finished.values()))
    title = "Where the gain comes from"
    if not seeds:
        refusal = _refusal([arm for arm, own in finished.items() if not own])
        return Content(title, headline=refusal, summary={"seeds": [], "attributed": False})
    metrics = shown_metrics(section.metrics, tree.plan.metric)
    attributions = {
        (reading, metric): [_attribute(tree, seeds, reading, place, metric) for place in section.at]
        for reading in tree.readings
        for metric in metrics
    }
    own = {metric: attributions[tree.readings[0], metric] for metric in metrics}
    first = own[metrics[0]][0]
    runs = [runs_of(tree, arm, tree.levels[0]).among(seeds) for arm in CORNER_ARMS]
    improving = {words.arm_name(one.arm): (one.improving, len(one.cells)) for one in runs}
    everything = [made for pair in attributions.values() for one in pair for made in one.effects.values()]
    return Content(
        title,
        headline=_headline(first, within=any(one.improving for one in runs)),
        verdict=_detail(first),
        pictures=(_waterfall(first, name), _interactions(first, name), _all_effects(own, name)),
        tables=(
            _share_table([one for pair in own.values() for one in pair], name),
            _step_table(own[metrics[0]], name),
            *(
                _effect_table(pair, words.reading_suffix(tree, reading), name)
                for (reading, _), pair in attributions.items()
            ),
        ),
        certain=_certain(first, runs, len(tree.seeds) - len(seeds), words.improving(improving)),
        terms=(
            *("factors", "corner", "shapley", "effects", "bootstrap"),
            *words.terms_of(everything),
        ),
        summary={"seeds": seeds, "attributed": True},
    )


def _check(tree: ResultTree) -> None:
    planned = {cell.arm for cell in tree.cells}
    if absent := [arm for arm in CORNER_ARMS if arm not in planned]:
        raise ValueError(
            f"an attribution needs the eight corners, but {tree.path} does not plan {', '.join(absent)}."
        )
    if len(tree.levels) > 1:
        levels = "; ".join(sorted(map(level_name, tree.levels)))
        raise ValueError(f"an attribution needs one level, but {tree.path} plans {levels}.")


def _attribute(
    tree: ResultTree, seeds: Sequence[int], reading: Reading, place: Place, metric: Metric
) -> Attribution:
    runs = {arm: runs_of(tree, arm, tree.levels[0], reading).among(seeds) for arm in CORNER_ARMS}
    corners = {arm: point for arm, own in runs.items() if (point := own.at(place))}
    values = {arm: list(corner.values(metric.key).values()) for arm, corner in corners.items()}
    if lacking := [arm for arm, own in values.items() if len(own) < len(seeds)]:
        raise ValueError(
            f"an attribution of {metric.key!r} needs it of all eight corners, "
            f"but it was not measured of {', '.join(lacking)}."
        )
    made = effects(
        np.array([[metric.improvement(0.0, value) for value in own] for own in values.values()]),
        seeds,
        metric.margin,
        [corner.examples(metric.key) for corner in corners.values()],
    )
    return Attribution(reading, place, metric, corners, dict(zip(EFFECTS, made, strict=True)))


# Words.


def _refusal(unfinished: Sequence[str]) -> str:
    needs = "a seed that all eight corners finished, and there is none"
    if unfinished:
        needs = f"all eight corners, and no run of {words.some(unfinished)} has finished"
    return f"The gain is not attributed: it needs {needs}."


def _headline(first: Attribution, *, within: bool) -> str:
    """The gain and its three parts: two sentences."""
    metric, gain = first.metric, first.gain
    verb = "falls" if (gain.mean > 0) == metric.lower_is_better else "rises"
    ar, dlm = (f"{fmean(first.values(arm)):.{metric.decimals}f}" for arm in (AR, DLM))
    share = 100 / gain.mean if gain.verdict.winner > 0 else None
    parts = [_part(first, effect, made, share) for effect, made in first.of_kind(SHAPLEY).items()]
    return (
        f"From AR to DLM the test {metric.name} {words.PLACE_WORDS[first.place]} {verb} by "
        f"{words.amount(gain.mean, metric)} ({ar} to {dlm})"
        + " within this run length" * (within and first.place == "best")
        + (f", which is {doubt}" if (doubt := _doubt(gain)) else "")
        + f". By Shapley value {words.join(parts)}."
    )


def _part(first: Attribution, effect: Effect, made: Estimate, share: float | None) -> str:
    percent = "" if share is None else f"{made.mean * share:.0f}\u00a0%".replace("-", "−")
    notes = ", ".join(filter(None, [percent, _doubts(first, effect, made)]))
    return f"{FACTOR_WORDS[effect.name]} {_does(made.mean, first.metric)}{f' ({notes})' if notes else ''}"


def _does(gain: float, metric: Metric) -> str:
    return f"{'brings' if gain >= 0 else 'costs'} {words.unsigned(gain, metric)}"


def _doubt(made: Estimate) -> str:
    """`equivalent`, `undecided` or that it is less than the margin; nothing if it differs by more."""
    kind, _, small = words.verdict_words(made.verdict).partition(", by ")
    return small if made.verdict.kind == "differs" else kind


def _doubts(first: Attribution, effect: Effect, made: Estimate) -> str:
    """The same of a Shapley value, and whether it averages both signs."""
    return ", ".join(filter(None, [_doubt(made), "of both signs" * first.of_both_signs(effect.name)]))


def _detail(first: Attribution) -> tuple[str, ...]:
    metric, (effect, largest) = first.metric, first.largest
    shares = first.of_kind(SHAPLEY).items()
    decided = [FACTOR_WORDS[e.name] for e, made in shares if made.verdict.kind != "undecided"]
    by_tests = f"Decided by the corrected tests: {words.join(decided)}."
    whole, part = words.sized(first.gain, metric), words.sized(largest, metric)
    return (
        f"{by_tests if decided else 'None of the three is decided.'} "
        f"The whole gain is {' '.join(filter(None, [whole, metric.difference_unit]))}.",
        f"The largest interaction is {effect.name}, {part}: {words.verdict_words(largest.verdict)}.",
        *_both_signs(first),
    )


def _both_signs(first: Attribution) -> list[str]:
    """What a Shapley value hides whose factor helps in one corner and costs in another."""
    parts = []
    for factor in filter(first.of_both_signs, FACTORS):
        alone, *_, last = (_does(fmean(gains.values()), first.metric) for gains in first.gains(factor))
        parts.append(f"{FACTOR_WORDS[factor]} {alone} alone and {last} given the other two")
    told = "in every seed (not tested). A Shapley value averages both signs"
    return [f"{words.capital('; '.join(parts))}: {told}."] if parts else []


def _certain(first: Attribution, runs: Sequence[Runs], left_out: int, improving: str) -> tuple[str, ...]:
    gain, *ten = first.effects.values()
    of = " that all eight corners finished" + f" ({left_out} left out)" * bool(left_out)
    covered = replicates_of((cell for own in runs for cell in own.cells), first.metric.key)
    scope = words.scope(covered, [gain], first.metric)
    return (words.paired(ten, of, "the gain"), scope, *filter(None, [improving]))


# Tables.


def _share_table(own: Sequence[Attribution], name: str) -> Table:
    """One row per metric and stop: the gain, the three Shapley values and the largest interaction."""
    headings = {
        "gain": "AR → DLM",
        **{factor: factor for factor in FACTORS},
        "largest": "Largest interaction",
    }
    metrics = {one.metric.key: one.metric for one in own}
    rows = []
    for one in own:
        effect, largest = one.largest
        parts = {part.name: made for part, made in one.of_kind(SHAPLEY).items()}
        row: Row = {"metric": one.metric.key, "stop": one.place, "interaction": effect.name}
        for key, made in {"gain": one.gain, **parts, "largest": largest}.items():
            row |= estimate_fields(f"{key}_", made)
        rows.append(row)

    def column(key: str) -> Column:
        def cell(row: Row) -> str:
            size = words.difference(row[f"{key}_mean"], metrics[row["metric"]])
            notes = [row[f"{key}_verdict"]] + [row["interaction"]] * (key == "largest")
            return table.LINE.join([size, *notes])

        return Column(headings[key], cell, printed=key != "largest")

    columns = [
        Column("Metric", lambda row: words.capital(metrics[row["metric"]].name), left=True),
        table.text("Stop", "stop"),
        *map(column, headings),
    ]
    caption = "Under each factor its Shapley value; the three add up to AR → DLM. Positive is better."
    return Table(f"{name}_shares", rows, columns, caption)


def _step_table(own: Sequence[Attribution], name: str) -> Table:
    """What each factor changes in each setting of the other two, the stops side by side."""
    metric, rows = own[0].metric, []
    for factor in FACTORS:
        by_stop = (one.gains(factor) for one in own)
        for (before, after), *at_stops in zip(steps(factor), *by_stop, strict=True):
            on = " and ".join(other for other, level in zip(FACTORS, CUBE[before], strict=True) if level)
            row: Row = {"of": words.capital(FACTOR_WORDS[factor]), "factor": factor, "given": on}
            row |= {"metric": metric.key, "reference": CORNER_ARMS[before], "arm": CORNER_ARMS[after]}
            for one, gains in zip(own, at_stops, strict=True):
                row |= {"seeds": len(gains), f"{one.place}_mean": fmean(gains.values())}
                row[f"{one.place}_seeds_better"] = sum(gain > 0 for gain in gains.values())
                row[f"{one.place}_by_seed"] = gains
            rows.append(row)

    def column(place: Place) -> Column:
        def cell(row: Row) -> str:
            better = f"better in {row[f'{place}_seeds_better']} of {words.count(row['seeds'], 'seed')}"
            return table.LINE.join([words.difference(row[f"{place}_mean"], metric), better])

        return Column(words.capital(words.PLACE_NAMES[place]), cell)

    def given(row: Row) -> str:
        arms = " → ".join(words.arm_name(row[end]) for end in ("reference", "arm"))
        return table.LINE.join([row["given"] or "neither", arms])

    return Table(
        name=f"{name}_steps",
        rows=rows,
        columns=[
            Column(f"Given{table.LINE}from → to", given, left=True),
            *(column(one.place) for one in own),
        ],
        group="of",
        title="What each factor changes, given the other two",
        caption=f"Means over seeds of the test {metric.name}, not tested; positive is better. "
        "The Shapley value weighs the four steps of a factor 1/3, 1/6, 1/6 and 1/3.",
    )


def _effect_table(own: Sequence[Attribution], suffix: words.Suffix, name: str) -> Table:
    """One row per effect, the stops side by side."""
    metric = own[0].metric
    rows = []
    for effect in EFFECTS:
        row: Row = {"reading": own[0].reading, "metric": metric.key, "kind": effect.kind}
        row |= {"effect": effect.name, "seeds": len(own[0].gain.by_seed)}
        for one in own:
            made = one.effects[effect]
            low, high = made.bootstrap_interval or (None, None)
            row |= estimate_fields(f"{one.place}_", made)
            row |= {f"{one.place}_bootstrap_low": low, f"{one.place}_bootstrap_high": high}
        rows.append(row | {"of": KIND_WORDS[effect.kind]})
    columns = [table.text("Effect", "effect")]
    for one in own:
        heading = f"{words.capital(words.PLACE_NAMES[one.place])}{table.LINE}t, bootstrap"
        show, intervals = words.in_metric(metric), ("interval", "bootstrap")
        columns.append(table.estimate(heading, f"{one.place}_", show, intervals=intervals))
        columns.append(table.verdict("Verdict", f"{one.place}_"))
    return Table(
        name=f"{name}_{metric.key}{suffix.name}",
        rows=rows,
        columns=columns,
        group="of",
        title=words.capital(f"{metric.name}{suffix.title}"),
        caption=f"Positive is better. In {metric.difference_unit or 'its own unit'}.",
    )


# Figures.


def _waterfall(first: Attribution, name: str) -> Picture:
    return Picture(
        name=f"{name}_waterfall",
        title="Where the gain from AR to DLM comes from",
        caption="Each bar is a factor's Shapley value: what switching it on changes, averaged over the six "
        "orders in which the three can be switched on. Thin lines are 95 % t intervals, thick ones "
        "bootstrap intervals; dots are seeds. Of both signs: it costs alone and brings given the other "
        "two, or the reverse, in every seed. The axis does not start at 0.",
        panels=(_bars(first),),
    )


def _bars(first: Attribution) -> Figure:
    figure, ax = drawing.new_panel("", width=6.8, height=4.2)
    metric, shares = first.metric, first.of_kind(SHAPLEY)
    parts, notes = list(shares.values()), [_doubts(first, *share) for share in shares.items()]
    sign = -metric.scale if metric.lower_is_better else metric.scale
    tops = [fmean(first.values(AR))]
    for made in parts:
        tops.append(tops[-1] + sign * made.mean)
    ends = [top + sign * end for top, made in zip(tops, parts, strict=False) for end in made.interval or ()]
    low, high = drawing.limits([*tops, *first.values(AR), *first.values(DLM)], ends)
    ax.set_ylim(low, high + 0.15 * (high - low))
    for place, (top, made, note) in enumerate(zip(tops, parts, notes, strict=False), start=1):
        colour = BETTER if made.mean > 0 else WORSE
        ax.bar(place, sign * made.mean, bottom=top, width=2 * _HALF, color=colour, alpha=0.85, zorder=2)
        for interval, width, alpha in ((made.interval, 1.2, 1.0), (made.bootstrap_interval, 4, 0.55)):
            heights = [top + sign * end for end in interval or ()]
            ax.plot(
                [place] * len(heights), heights, color=drawing.INK, linewidth=width, alpha=alpha, zorder=3
            )
        heights = [top, *(top + sign * end for end in (made.mean, *(made.interval or ())))]
        _name(ax, place, max(heights), _side(made, metric, note), colour)
    for place, top in enumerate(tops):
        ax.plot([place, place + 1 + _HALF], [top, top], color=drawing.FAINT, linewidth=1, zorder=1)
    for place, arm, note in (
        (0, AR, ""),
        (len(tops), DLM, f"\n{_side(first.gain, metric, _doubt(first.gain))}"),
    ):
        values = first.values(arm)
        ax.plot([place - _HALF, place + _HALF], [fmean(values)] * 2, color=drawing.INK, linewidth=3, zorder=2)
        spots = [place + 0.12 * (index - (len(values) - 1) / 2) for index in range(len(values))]
        ax.plot(spots, values, "o", color=drawing.GREY, alpha=0.6, markersize=5, zorder=3)
        _name(ax, place, max(values), f"{fmean(values):.{metric.decimals}f}{note}", drawing.INK)
    ax.set_xlim(-0.55, len(tops) + 0.55)
    names = [FACTOR_WORDS[factor].replace(" ", "\n") for factor in FACTORS]
    ax.set_xticks(range(len(tops) + 1), ["AR", *names, "DLM"])
    ax.tick_params(axis="x", length=0)
    better = "lower" if metric.lower_is_better else "higher"
    ax.set_ylabel(f"{drawing.axis_label(metric, 'test')}, {better} is better")
    return figure


def _side(made: Estimate, metric: Metric, notes: str) -> str:
    side = "better" if made.mean > 0 else "worse"
    below = f"\n({notes})".replace(", ", ",\n") if notes else ""
    return f"{words.unsigned(made.mean, metric)} {side}{below}"


def _name(ax: Axes, place: float, height: float, text: str, colour: str) -> None:
    """What a bar is, above it."""
    low, high = ax.get_ylim()
    at = (place, min(height, high - 0.1 * (high - low)))
    style: Any = {"ha": "center", "va": "bottom", "fontweight": "bold", "fontsize": 9, "zorder": 4}
    style["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}
    ax.annotate(text, at, xytext=(0, 4), textcoords="offset points", color=colour, **style)


def _interactions(first: Attribution, name: str) -> Picture:
    """A panel for each pair of factors, with all eight corners in each."""
    pairs = [effect for effect in first.of_kind(INTERACTION) if len(effect.factors) == 2]
    return Picture(
        name=f"{name}_interactions",
        title="How one factor depends on another",
        caption=f"Test {first.metric.name} {words.PLACE_WORDS[first.place]}. "
        f"{words.direction(first.metric)} Thick lines are means over the third factor, thin ones its two "
        "levels: dotted as in AR, dashed as in the DLM. Parallel lines mean no interaction.",
        panels=tuple(_pair(first, effect) for effect in pairs),
    )


def _pair(first: Attribution, effect: Effect) -> Figure:
    metric = first.metric
    means = {levels: fmean(first.values(arm)) for arm, levels in CORNERS.items()}
    figure, ax = drawing.new_panel("")
    ax.set_title(f"{effect.name}: {words.sized(first.effects[effect], metric)}", fontsize=9)
    one, other = effect.factors
    (third,) = (factor for factor in FACTORS if factor not in effect.factors)
    ends = []
    for level, colour in enumerate((WORSE, BETTER)):
        thin = []
        for side, style in enumerate((":", "--")):
            corners = [{one: x, other: level, third: side} for x in (0, 1)]
            order, compute, draws = FACTORS
            thin.append([means[corner[order], corner[compute], corner[draws]] for corner in corners])
            ax.plot((0, 1), thin[-1], style, color=colour, linewidth=1.1, alpha=0.8)
        middle = [fmean(values) for values in zip(*thin, strict=True)]
        ax.plot((0, 1), middle, color=colour, linewidth=2.4, marker="o", markersize=6)
        ends.append(drawing.Label(1.0, middle[-1], LEVEL_WORDS[other][level], colour))
    ax.set_ylim(*drawing.limits([*means.values()], ()))
    ax.set_xlim(-0.15, 1.1)
    ax.set_xticks((0, 1), LEVEL_WORDS[one])
    ax.set_xlabel(one)
    ax.set_ylabel(drawing.axis_label(metric, "test"))
    drawing.place_labels(ax, ends)
    return figure


def _all_effects(own: Mapping[Metric, Sequence[Attribution]], name: str) -> Picture:
    """A panel for each metric, the effects by kind, both stops of an effect in its row."""
    kinds = {kind: [effect for effect in EFFECTS if effect.kind == kind] for kind in KIND_WORDS}
    panels = []
    for metric, stops in own.items():
        rows: list[tuple[str, list[Mark]]] = []
        for kind, members in kinds.items():
            rows += [(KIND_WORDS[kind], [])] if kind != GAIN else []
            for effect in members:
                marks = [
                    Mark(one.effects[effect], *drawing.PLACE_STYLES[one.place], shift=0.3 * index)
                    for index, one in enumerate(stops)
                ]
                rows.append((KIND_WORDS[GAIN] if kind == GAIN else effect.name, marks))
        panels.append(drawing.estimates(words.capital(f"test {metric.name}"), rows, metric))
    return Picture(
        name=f"{name}_effects",
        title="All effects on all metrics",
        caption="Dots are at the best stop, squares at the end. Thick lines are bootstrap intervals. "
        + drawing.ESTIMATES,
        panels=tuple(panels),
    )

"""Where the gain from AR to the DLM comes from: Shapley values, main effects and interactions."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lab.arms import CORNERS
from lab.files import Row
from lab.metrics import Metric
from lab.reporting import drawing, table, words
from lab.reporting.content import Content
from lab.reporting.drawing import BETTER, WORSE, Picture
from lab.reporting.effects import EFFECTS, FACTORS, GAIN, INTERACTION, MAIN, SHAPLEY, Effect, effects
from lab.reporting.rows import estimate_fields
from lab.reporting.series import Point, runs_of, shown_metrics
from lab.reporting.statistics import Estimate, sample_errors
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
_OFF_ON = (WORSE, BETTER)
_HALF = 0.28  # of a bar's width
# How effects at a stop are drawn: in words, colour, marker, distance below the row.
_STYLES: dict[Place, tuple[str, str, str, float]] = {
    "best": ("dots are at the best stop", BETTER, "o", -0.15),
    "end": ("squares are at the end", WORSE, "s", 0.15),
}


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

    def of_kind(self, kind: str) -> dict[Effect, Estimate]:
        """The effects of one kind."""
        return {effect: made for effect, made in self.effects.items() if effect.kind == kind}

    def mean(self, arm: str) -> float:
        """A corner's mean, to the metric's scale."""
        return self.metric.scale * (self.corners[arm].mean(self.metric.key) or 0.0)


def write(section: Factorial, tree: ResultTree, name: str) -> Content:
    """Take the gain from AR to DLM apart over the eight corners of a result tree.

    Raises:
        ValueError: if a corner is absent from the plan, there is more than one level, or the arms may not be
            compared.
    """
    _check(tree)
    check_matched([cell for cell in tree.cells if cell.arm in CORNER_ARMS], section.matched, "")
    finished = [{cell.seed for cell in tree.finished if cell.arm == arm} for arm in CORNER_ARMS]
    seeds = sorted(set.intersection(*finished))
    title = section.title or "Where the gain comes from"
    if not seeds:
        return Content(title=title, headline=_refusal(tree), summary={"seeds": [], "attributed": False})
    metrics = shown_metrics(section.metrics, tree.plan.metric)
    found = [
        _attribute(tree, seeds, reading, place, metric)
        for reading in tree.readings
        for metric in metrics
        for place in section.at
    ]
    first = found[0]
    own = [one for one in found if one.reading == tree.readings[0]]
    improving = {
        words.arm_name(arm): (runs.improving, len(runs.cells))
        for arm in CORNER_ARMS
        for runs in [runs_of(tree, arm, tree.levels[0]).among(seeds)]
    }
    return Content(
        title=title,
        headline=_headline(first, any(number for number, _ in improving.values())),
        verdict=_detail(first),
        pictures=(_waterfall(first, name),),
        tables=(
            _share_table(own, name),
            *(
                _effect_table(
                    [one for one in found if one.metric == metric and one.reading == reading],
                    reading,
                    tree,
                    name,
                )
                for reading in tree.readings
                for metric in metrics
            ),
        ),
        certain=_certain(first, tree, words.improving(improving)),
        folded=(_interactions(first, name), _all_effects(own, section.at, name)),
        terms=(
            *("factors", "corner", "shapley", "effects", "interval", "bootstrap", "holm", "held-out error"),
            *["provisional"] * any(_provisional(one) for one in found),
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
    level, key = tree.levels[0], metric.key
    corners = {
        arm: point
        for arm in CORNER_ARMS
        if (point := runs_of(tree, arm, level, reading).among(seeds).at(place))
    }
    values = [
        [metric.improvement(0.0, value) for value in corner.values(key).values()]
        for corner in corners.values()
    ]
    errors = [sample_errors(metric, corner.by_seed) for corner in corners.values()]
    known = [list(found.values()) for found in errors if found]
    variances = (np.array(known) ** 2).mean(axis=1) if len(known) == len(corners) else None
    made = effects(np.array(values), seeds, variances)
    return Attribution(reading, place, metric, corners, dict(zip(EFFECTS, made, strict=True)))


def _provisional(found: Attribution) -> bool:
    return any(made.verdict.evidence == "seed spread" for made in found.effects.values())


# Words.


def _refusal(tree: ResultTree) -> str:
    none = [arm for arm in CORNER_ARMS if not any(cell.arm == arm for cell in tree.finished)]
    if none:
        names = words.some(none)
        return f"The gain is not attributed: it needs all eight corners, and no run of {names} has finished."
    return "The gain is not attributed: it needs a seed that all eight corners finished, and there is none."


def _headline(found: Attribution, still_improving: bool) -> str:
    """The gain and its three parts: two sentences."""
    metric, gain = found.metric, found.gain
    doubt = _doubt(gain)
    within = " within this run length" if still_improving and found.place == "best" else ""
    verb = "falls" if (gain.mean > 0) == metric.lower_is_better else "rises"
    ar, dlm = (f"{found.mean(arm):.{metric.decimals}f}" for arm in (AR, DLM))
    share = 100 / gain.mean if gain.verdict.evidence == "test" and gain.mean > 0 else None
    parts = [_part(effect, made, metric, share) for effect, made in found.of_kind(SHAPLEY).items()]
    return (
        f"From AR to DLM the test {metric.name} {words.PLACE_WORDS[found.place]} {verb} by "
        f"{words.amount(gain.mean, metric)} ({ar} to {dlm}){within}{f', which is {doubt}' if doubt else ''}. "
        f"By Shapley value {words.join(parts)}."
    )


def _part(effect: Effect, made: Estimate, metric: Metric, share: float | None) -> str:
    percent = "" if share is None else f"{made.mean * share:.0f}\u00a0%".replace("-", "−")
    noted = ", ".join(filter(None, [percent, _doubt(made)]))
    verb = "brings" if made.mean >= 0 else "costs"
    amount = f"{abs(metric.scale * made.mean):.{metric.decimals}f}"
    return f"{FACTOR_WORDS[effect.name]} {verb} {amount}{f' ({noted})' if noted else ''}"


def _doubt(made: Estimate) -> str:
    """`provisional` or `undecided`; nothing if its test decides."""
    return {"test": "", "seed spread": "provisional"}.get(made.verdict.evidence, "undecided")


def _detail(found: Attribution) -> tuple[str, ...]:
    metric = found.metric
    held = [
        FACTOR_WORDS[e.name] for e, made in found.of_kind(SHAPLEY).items() if made.verdict.evidence == "test"
    ]
    effect, made = max(found.of_kind(INTERACTION).items(), key=lambda pair: abs(pair[1].mean))
    largest = f"{words.difference(made.mean, metric)}{words.interval(made, metric)}"
    decided = (
        f"Decided by the corrected tests: {words.join(held)}." if held else "None of the three is decided."
    )
    gain = f"{words.difference(found.gain.mean, metric)}{words.interval(found.gain, metric)}"
    return (
        f"{decided} The whole gain is {gain} {metric.difference_unit}.".replace(" .", "."),
        f"The largest interaction is {effect.name}, {largest}: {words.verdict_words(made.verdict)}.",
    )


def _certain(found: Attribution, tree: ResultTree, improving: str) -> tuple[str, ...]:
    gain, *ten = found.effects.values()
    left = len(tree.seeds) - len(gain.by_seed)
    of = " that all eight corners finished" + f" ({left} left out)" * bool(left)
    return (
        words.paired(ten, of, "the gain and the 95 % intervals"),
        words.scope([gain], found.metric),
        *filter(None, [improving]),
    )


# Tables.


def _share_table(own: Sequence[Attribution], file: str) -> Table:
    """One row per metric and stop: the gain, the three Shapley values and the largest interaction."""
    rows = []
    for found in own:
        parts = {effect.name: made for effect, made in found.of_kind(SHAPLEY).items()}
        effect, largest = max(found.of_kind(INTERACTION).items(), key=lambda pair: abs(pair[1].mean))
        row: Row = {"metric": found.metric.key, "stop": found.place, "interaction": effect.name}
        for name, made in {"gain": found.gain, **parts, "largest": largest}.items():
            row |= estimate_fields(f"{name}_", made)
        rows.append(row)
    by_key = {found.metric.key: found.metric for found in own}
    headings = {
        "gain": "AR → DLM",
        **{factor: factor for factor in FACTORS},
        "largest": "Largest interaction",
    }

    def cell(name: str) -> Column:
        def text(row: Row) -> str:
            metric = by_key[row["metric"]]
            notes = [row[f"{name}_verdict"]] + ([row["interaction"]] if name == "largest" else [])
            return "".join(
                [words.difference(row[f"{name}_mean"], metric), *(table.LINE + note for note in notes)]
            )

        return Column(headings[name], text, printed=name != "largest")

    return Table(
        name=f"{file}_shares",
        rows=rows,
        columns=[
            Column("Metric", lambda row: words.capital(by_key[row["metric"]].name), left=True),
            table.text("Stop", "stop"),
            *map(cell, headings),
        ],
        caption="Under each factor its Shapley value; the three add up to AR → DLM. Positive is better.",
    )


def _effect_table(found: Sequence[Attribution], reading: Reading, tree: ResultTree, file: str) -> Table:
    """One row per effect, the stops side by side."""
    metric = found[0].metric
    rows = []
    for effect in EFFECTS:
        row: Row = {
            "reading": reading,
            "metric": metric.key,
            "kind": effect.kind,
            "effect": effect.name,
            "seeds": len(found[0].gain.by_seed),
        }
        for one in found:
            made = one.effects[effect]
            low, high = made.bootstrap_interval or (None, None)
            row |= estimate_fields(f"{one.place}_", made)
            row |= {f"{one.place}_bootstrap_low": low, f"{one.place}_bootstrap_high": high}
        rows.append(row | {"of": KIND_WORDS[effect.kind]})
    columns = [Column("Effect", lambda row: row["effect"], left=True)]
    for one in found:
        columns.append(
            _with_bootstrap(
                f"{words.capital(words.PLACE_NAMES[one.place])}{table.LINE}t, bootstrap", one.place, metric
            )
        )
        columns.append(table.verdict("Verdict", f"{one.place}_"))
    other = reading if reading != tree.readings[0] else None
    told = f", {words.READING_WORDS[other]}" if other else ""
    return Table(
        name=f"{file}_{metric.key}{f'_{other}' if other else ''}",
        rows=rows,
        columns=columns,
        group="of",
        title=words.capital(f"{metric.name}{told}"),
        caption=f"Positive is better. In {metric.difference_unit or 'its own unit'}.",
    )


def _with_bootstrap(heading: str, place: Place, metric: Metric) -> Column:
    def cell(row: Row) -> str:
        told = words.difference(row[f"{place}_mean"], metric)
        for low, high in (
            (f"{place}_interval_low", f"{place}_interval_high"),
            (f"{place}_bootstrap_low", f"{place}_bootstrap_high"),
        ):
            if row[low] is not None:
                ends = [words.difference(row[end], metric) for end in (low, high)]
                told += f"{table.LINE}{' to '.join(ends)}"
        return told

    return Column(heading, cell)


# Figures.


def _waterfall(found: Attribution, file: str) -> Picture:
    return Picture(
        name=f"{file}_waterfall",
        title="Where the gain from AR to DLM comes from",
        caption="Each bar is a factor's Shapley value: what switching it on changes, averaged over the six "
        "orders in which the three can be switched on. Thin lines are 95 % t intervals, thick ones "
        "bootstrap intervals; dots are seeds. The axis does not start at 0.",
        panels=(_bars(found),),
    )


def _bars(found: Attribution) -> Figure:
    figure, ax = drawing.new_panel("", width=6.8, height=4.2)
    metric, parts = found.metric, list(found.of_kind(SHAPLEY).values())
    sign = -metric.scale if metric.lower_is_better else metric.scale
    tops = [found.mean(AR)]
    for made in parts:
        tops.append(tops[-1] + sign * made.mean)
    for place, (top, made) in enumerate(zip(tops, parts, strict=False), start=1):
        colour = BETTER if made.mean > 0 else WORSE
        ax.bar(place, sign * made.mean, bottom=top, width=2 * _HALF, color=colour, alpha=0.85, zorder=2)
        for interval, width, alpha in ((made.interval, 1.2, 1.0), (made.bootstrap_interval, 4, 0.55)):
            if interval:
                ends = [top + sign * end for end in interval]
                ax.plot([place, place], ends, color=drawing.INK, linewidth=width, alpha=alpha, zorder=3)
    for place, top in enumerate(tops):
        ax.plot([place, place + 1 + _HALF], [top, top], color=drawing.FAINT, linewidth=1, zorder=1)
    seeds = [metric.scale * v for arm in (AR, DLM) for v in found.corners[arm].values(metric.key).values()]
    _set_height(
        ax, [*tops, *seeds], [tops[i] + sign * end for i, m in enumerate(parts) for end in m.interval or ()]
    )
    for place, (top, made) in enumerate(zip(tops, parts, strict=False), start=1):
        ends = [top, *(top + sign * end for end in (made.mean, *(made.interval or ())))]
        _say(ax, place, max(ends), _side(made, metric), BETTER if made.mean > 0 else WORSE)
    _end(ax, found, AR, 0, "")
    _end(ax, found, DLM, len(tops), f"\n{_side(found.gain, metric)}")
    ax.set_xlim(-0.55, len(tops) + 0.55)
    names = [FACTOR_WORDS[factor].replace(" ", "\n") for factor in FACTORS]
    ax.set_xticks(range(len(tops) + 1), ["AR", *names, "DLM"])
    ax.tick_params(axis="x", length=0)
    ax.set_ylabel(
        f"{drawing.axis_label(metric, 'test')}, {words.direction(metric).split()[0].lower()} is better"
    )
    return figure


def _side(made: Estimate, metric: Metric) -> str:
    side = "better" if made.mean > 0 else "worse"
    doubt = f"\n({_doubt(made)})" if _doubt(made) else ""
    return f"{abs(metric.scale * made.mean):.{metric.decimals}f} {side}{doubt}"


def _set_height(ax: Axes, tops: Sequence[float], whiskers: Sequence[float]) -> None:
    """The y axis: all seeds of both ends and all bars; whiskers far beyond them are cut."""
    low, high = min(tops), max(tops)
    reach = 0.6 * max(high - low, 0.01)
    low, high = max(min([low, *whiskers]), low - reach), min(max([high, *whiskers]), high + reach)
    ax.set_ylim(low - 0.1 * (high - low), high + 0.25 * (high - low))


def _say(ax: Axes, place: float, height: float, text: str, colour: str) -> None:
    low, high = ax.get_ylim()
    ax.annotate(
        text,
        (place, min(height, high - 0.1 * (high - low))),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontweight="bold",
        fontsize=9,
        color=colour,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8},
        zorder=4,
    )


def _end(ax: Axes, found: Attribution, arm: str, place: float, note: str) -> None:
    """An arm's mean as a line, with its seeds."""
    metric = found.metric
    values = [metric.scale * value for value in found.corners[arm].values(metric.key).values()]
    ax.plot([place - _HALF, place + _HALF], [fmean(values)] * 2, color=drawing.INK, linewidth=3, zorder=2)
    spots = [place + 0.12 * (index - (len(values) - 1) / 2) for index in range(len(values))]
    ax.plot(spots, values, "o", color=drawing.GREY, alpha=0.6, markersize=5, zorder=3)
    _say(ax, place, max(values), f"{fmean(values):.{metric.decimals}f}{note}", drawing.INK)


def _interactions(found: Attribution, file: str) -> Picture:
    """A panel for each pair of factors, with all eight corners in each."""
    pairs = [effect for effect in found.of_kind(INTERACTION) if len(effect.factors) == 2]
    means: Mapping[tuple[int, ...], float] = {levels: found.mean(arm) for arm, levels in CORNERS.items()}
    return Picture(
        name=f"{file}_interactions",
        title="How one factor depends on another",
        caption=f"Test {found.metric.name} {words.PLACE_WORDS[found.place]}. "
        f"{words.direction(found.metric)} Thick lines are means over the third factor, thin ones its two "
        "levels: dotted as in AR, dashed as in the DLM. Parallel lines mean no interaction.",
        panels=tuple(_pair(found, effect, means) for effect in pairs),
    )


def _pair(found: Attribution, effect: Effect, means: Mapping[tuple[int, ...], float]) -> Figure:
    made, metric = found.effects[effect], found.metric
    figure, ax = drawing.new_panel("")
    size = f"{words.difference(made.mean, metric)}{words.interval(made, metric)}"
    ax.set_title(f"{effect.name}: {size}", fontsize=9)
    first, second = effect.factors
    (third,) = (factor for factor in FACTORS if factor not in (first, second))
    ends = []
    for level, colour in enumerate(_OFF_ON):
        thin = []
        for side, style in enumerate((":", "--")):
            corners = [{first: x, second: level, third: side} for x in (0, 1)]
            thin.append([means[tuple(corner[factor] for factor in FACTORS)] for corner in corners])
            ax.plot((0, 1), thin[-1], style, color=colour, linewidth=1.1, alpha=0.8)
        middle = [fmean(values) for values in zip(*thin, strict=True)]
        ax.plot((0, 1), middle, color=colour, linewidth=2.4, marker="o", markersize=6)
        ends.append(drawing.Label(1.0, middle[-1], LEVEL_WORDS[second][level], colour))
    low, high = min(means.values()), max(means.values())
    margin = 0.08 * (high - low) or 0.01
    ax.set_ylim(low - margin, high + margin)
    ax.set_xlim(-0.15, 1.1)
    ax.set_xticks((0, 1), LEVEL_WORDS[first])
    ax.set_xlabel(first)
    ax.set_ylabel(drawing.axis_label(metric, "test"))
    drawing.place_labels(ax, ends)
    return figure


def _all_effects(own: Sequence[Attribution], at: Sequence[Place], file: str) -> Picture:
    by_metric: dict[str, list[Attribution]] = {}
    for found in own:
        by_metric.setdefault(found.metric.key, []).append(found)
    return Picture(
        name=f"{file}_effects",
        title="All effects on all metrics",
        caption=f"Right of 0 is better: {words.join([_STYLES[place][0] for place in at])}. Thin lines are "
        "95 % t intervals, thick ones bootstrap intervals; a line that leaves the panel is cut.",
        panels=tuple(map(_effect_panel, by_metric.values())),
    )


def _effect_panel(found: Sequence[Attribution]) -> Figure:
    metric = found[0].metric
    figure, ax = drawing.new_panel(words.capital(f"test {metric.name}"), height=4.6)
    places = _places()
    ends = [0.0]
    for one in found:
        _, colour, marker, shift = _STYLES[one.place]
        for effect, row in places.items():
            made = one.effects[effect]
            ax.plot(metric.scale * made.mean, row + shift, marker, color=colour, markersize=4.5, zorder=3)
            for interval, width, alpha in ((made.interval, 1.1, 1.0), (made.bootstrap_interval, 4, 0.4)):
                if interval:
                    scaled = [metric.scale * end for end in interval]
                    ax.plot(scaled, [row + shift] * 2, color=colour, linewidth=width, alpha=alpha)
            ends += [metric.scale * end for end in (made.mean, *(made.bootstrap_interval or ()))]
    margin = 0.08 * (max(ends) - min(ends)) or 0.01
    ax.set_xlim(min(ends) - margin, max(ends) + margin)
    ax.axvline(0, color=drawing.INK, linewidth=0.9, zorder=1)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x")
    names = [
        KIND_WORDS[GAIN] if e.kind == GAIN else f"{e.name}{'' if e.kind == INTERACTION else f' ({e.kind})'}"
        for e in places
    ]
    ax.set_yticks(list(places.values()), names, fontsize=8)
    ax.set_ylim(max(places.values()) + 0.7, -0.7)
    unit = metric.difference_unit
    ax.set_xlabel(f"Effect{f' ({unit})' if unit else ''}")
    return figure


def _places() -> dict[Effect, float]:
    """Effect -> height of its row, with a gap between kinds."""
    places = {EFFECTS[0]: 0.0}
    for before, effect in itertools.pairwise(EFFECTS):
        places[effect] = places[before] + (1.0 if before.kind == effect.kind else 1.5)
    return places

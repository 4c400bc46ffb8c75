"""How much more one arm gains from a level of a factor than another does: a difference of differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.files import Row
from lab.metrics import Metric
from lab.reporting import drawing, table, words
from lab.reporting.content import Content
from lab.reporting.documents import paired_error
from lab.reporting.drawing import Mark, Picture
from lab.reporting.replicates import replicates_of
from lab.reporting.rows import estimate_fields
from lab.reporting.series import Runs, gain, runs_of, shown_metrics
from lab.reporting.statistics import Estimate, estimate
from lab.reporting.table import Table
from lab.reporting.tree import ResultTree, check_matched
from lab.results import Reading
from lab.sections import Interaction, Place

TITLE = "Which gains more"
NO_SEED = "no seed has it of both arms at both levels"
# Of the arm's runs at the reference level and at the level, then of the reference's.
_SIGNS = (-1, 1, 1, -1)


@dataclass(frozen=True)
class Gained:
    """What two arms gain from a level over another, by one metric at one place under one reading.

    Attributes:
        arm: what the arm gains; None if it finished no seed at both levels.
        reference: the same of the reference.
        more: how much more the arm gains, over the seeds of both; None if there is none.
    """

    reading: Reading
    metric: Metric
    place: Place
    arm: Estimate | None
    reference: Estimate | None
    more: Estimate | None

    @property
    def parts(self) -> dict[str, Estimate | None]:
        """By what each is called in rows."""
        return {"arm": self.arm, "reference": self.reference, "more": self.more}


def write(section: Interaction, tree: ResultTree, name: str) -> Content:
    """Compare what two arms gain, seed by seed; each metric at each place is one test.

    Where one of the four is not planned at levels of the factor alone, nothing is compared.

    Raises:
        ValueError: if runs may not be compared.
    """
    metrics = shown_metrics(section.metrics, tree.plan.metric)
    sides = {reading: _sides(section, tree, reading) for reading in tree.readings}
    missing = [
        f"{words.arm_name(runs.arm)}{words.at_level(runs.level)}"
        for runs in sides[tree.readings[0]]
        if not runs.planned
    ]
    if missing:
        return Content(TITLE, headline=_uncompared(section, f"no run of {' or '.join(missing)} is planned"))
    made = {
        (reading, metric): [_gained(own, reading, metric, place) for place in section.at]
        for reading, own in sides.items()
        for metric in metrics
    }
    first, runs = made[tree.readings[0], metrics[0]][0], sides[tree.readings[0]]
    improving = words.improving(
        {
            f"{words.arm_name(own.arm)}{words.at_level(own.level)}": (own.improving, len(own.cells))
            for own in runs
        },
        marked=False,
    )
    certain = []
    if first.more:
        covered = replicates_of((cell for own in runs for cell in own.cells), first.metric.key)
        certain = [words.paired([first.more]), words.scope(covered, [first.more], first.metric)]
    if "best" in section.at and improving:
        certain.append(improving)
    return Content(
        title=TITLE,
        headline=_headline(section, first, within=first.place == "best" and bool(improving)),
        verdict=_detail(section, first),
        pictures=tuple(_picture(section, made[tree.readings[0], metric], name) for metric in metrics),
        tables=tuple(
            _table(section, own, words.reading_suffix(tree, reading), name)
            for (reading, _), own in made.items()
        ),
        certain=tuple(certain),
        terms=("gain", *words.terms_of([one.more for own in made.values() for one in own])),
    )


def _sides(section: Interaction, tree: ResultTree, reading: Reading) -> tuple[Runs, ...]:
    """The runs in the order of `_SIGNS`."""
    sides = tuple(
        runs_of(tree, arm, {section.key: level}, reading)
        for arm in (section.arm, section.reference)
        for level in (section.reference_level, section.level)
    )
    below, above = sides[::2], sides[1::2]
    for own in (below, above):
        cells = [cell for runs in own for cell in runs.cells]
        check_matched(cells, section.matched, words.level_words(own[0].level))
    cells = [cell for runs in sides for cell in runs.cells]
    check_matched(cells, ("held_out",), f"both levels of {section.key}")
    return sides


def _gained(sides: Sequence[Runs], reading: Reading, metric: Metric, place: Place) -> Gained:
    points = [runs.at(place) for runs in sides]
    arm, reference = gain(metric, *points[:2]), gain(metric, *points[2:])
    more = None
    if arm and reference and (seeds := sorted(arm.by_seed.keys() & reference.by_seed.keys())):
        known = [point for point in points if point]
        examples = [
            {seed: own for seed, own in point.examples(metric.key).items() if seed in seeds}
            for point in known
        ]
        more = estimate(
            {seed: arm.by_seed[seed] - reference.by_seed[seed] for seed in seeds},
            max(abs(point.values(metric.key)[seed]) for point in known for seed in seeds),
            margin=metric.margin,
            document_error=paired_error(examples, _SIGNS),
        )
    return Gained(reading, metric, place, arm, reference, more)


# Words.


def _names(section: Interaction) -> tuple[str, str]:
    return words.arm_name(section.arm), words.arm_name(section.reference)


def _step(section: Interaction) -> str:
    """`from quality=low to quality=high`."""
    ends = (words.level_words({section.key: value}) for value in (section.reference_level, section.level))
    return "from {} to {}".format(*ends)


def _uncompared(section: Interaction, why: str) -> str:
    arm, reference = _names(section)
    return f"What {arm} and {reference} gain {_step(section)} is not compared: {why}."


def _headline(section: Interaction, first: Gained, *, within: bool) -> str:
    arm, reference = _names(section)
    where = f"in {first.metric.name}" + f" {words.PLACE_WORDS[first.place]}" * (first.place == "end")
    if first.more is None:
        return _uncompared(section, NO_SEED)
    kind = words.kind_words(first.more.verdict)
    size = words.sized(first.more, first.metric, unit=True, sign=kind not in (words.BETTER, words.WORSE))
    size += words.within_margin(first.more, first.metric) + ", within this run length" * within
    if kind == words.UNDECIDED:
        return f"Whether {arm} gains more than {reference} {_step(section)} is undecided {where}: {size}."
    amount = {words.BETTER: "more than", words.WORSE: "less than", words.EQUIVALENT: "as much as"}[kind]
    by = ", by" if kind in (words.BETTER, words.WORSE) else ":"
    return f"{words.capital(_step(section))} {arm} gains {amount} {reference} {where}{by} {size}."


def _detail(section: Interaction, first: Gained) -> tuple[str, ...]:
    """What each of the two gains."""
    parts = [
        f"{name} gains {words.sized(made, first.metric, unit=True)}"
        for name, made in zip(_names(section), (first.arm, first.reference), strict=True)
        if made
    ]
    return (f"{words.capital(_step(section))} {words.join(parts)}.",) if parts else ()


# The table and the figure.


def _row(section: Interaction, one: Gained) -> Row:
    row: Row = {"metric": one.metric.key, "reading": one.reading, "stop": words.PLACE_NAMES[one.place]}
    row |= {name: getattr(section, name) for name in ("arm", "reference", "key", "level", "reference_level")}
    for name, made in one.parts.items():
        row |= estimate_fields(f"{name}_", made)
    return row


def _labels(section: Interaction) -> Mapping[str, str]:
    arm, reference = _names(section)
    return {"arm": arm, "reference": reference, "more": f"{arm} more than {reference}"}


def _table(section: Interaction, own: Sequence[Gained], suffix: words.Suffix, name: str) -> Table:
    """One row per stop: what each arm gains, and the difference of the two."""
    metric, labels = own[0].metric, _labels(section)
    small = f"{table.LINE}{metric.difference_unit}".rstrip()
    show = words.in_metric(metric)
    columns = [
        table.text("Stop", "stop"),
        *(table.estimate(f"{label}{small}", f"{key}_", show) for key, label in labels.items()),
        table.verdict("Verdict", "more_"),
    ]
    arm, reference = _names(section)
    return Table(
        name=f"{name}_{metric.key}{suffix.name}",
        rows=[_row(section, one) for one in own],
        columns=columns,
        title=words.capital(f"{metric.name}{suffix.title}"),
        caption=f"What each gains {_step(section)}, paired by seed. Verdict: better where {arm} gains more "
        f"than {reference}.",
    )


def _picture(section: Interaction, own: Sequence[Gained], name: str) -> Picture:
    metric, labels = own[0].metric, _labels(section)
    panels = []
    for one in own:
        lines: list[tuple[str, list[Mark] | str]] = [
            (labels[key], [Mark(made, *drawing.PLACE_STYLES[one.place])] if made else NO_SEED)
            for key, made in one.parts.items()
        ]
        panels.append(drawing.estimates(words.capital(words.PLACE_WORDS[one.place]), lines, metric))
    return Picture(
        name=f"{name}_{metric.key}",
        title=f"Gain in test {metric.name} {_step(section)}",
        caption=f"The last line is the difference of the two above it. {drawing.ESTIMATES}",
        panels=tuple(panels),
    )

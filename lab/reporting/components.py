"""What a gain varies by: from replicate to replicate, the documents that it is read on, rounding."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from lab.arms import CORNERS
from lab.data.held_out import effective_documents
from lab.files import Row
from lab.metrics import Metric
from lab.reporting import table, words
from lab.reporting.content import Content
from lab.reporting.replicates import Replicates, replicates_of
from lab.reporting.series import Point, contrasted, gain
from lab.reporting.statistics import Estimate
from lab.reporting.table import Column, Table
from lab.reporting.tree import CellResult, ResultTree, level_name
from lab.sections import Contrast, Differences, Factorial

NAME = "components"


def write(tree: ResultTree) -> Content | None:
    """The components of every gain that the page compares, by the ablation's metric at the best stop.

    Returns:
        None if the page compares nothing that two seeds or held-out documents say something of.
    """
    metric = tree.metric
    values = [[cell.done.best().test.get(metric.key) for cell in pair] for pair in twins(tree)]
    pairs = [known for pair in values if len(known := [one for one in pair if one is not None]) == 2]
    rounding = rounding_component(pairs)
    compared = _compared(tree, metric)
    rows = [_row(contrast, level, made, point, metric, rounding) for contrast, level, made, point in compared]
    rows = [row for row in rows if row["replicate"] is not None or row["documents"] is not None]
    if not rows:
        return None
    seeds = replicates_of(tree.finished, metric.key)
    return Content(
        title="What the gains vary by",
        tables=(_table(rows, metric, seeds, pairs=len(pairs)),),
        certain=(_sentence(rows, metric, own_documents=seeds.own_documents),),
        terms=("components",),
    )


def rounding_component(pairs: Sequence[Sequence[float]]) -> float | None:
    """The standard deviation of one run by rounding alone, pooled over arms.

    Two runs that differ in nothing but the last bits of their initial weights (`training.perturbation`) have
    a difference of twice the variance of one: variance = mean(difference^2) / 2.

    Args:
        pairs: the value of a run and of its twin.

    Returns:
        In the unit of the values; None without pairs.
    """
    if not pairs:
        return None
    return math.sqrt(fmean((first - second) ** 2 for first, second in pairs) / 2)


def twins(tree: ResultTree) -> list[tuple[CellResult, CellResult]]:
    """Each finished run whose weights were perturbed, after the one that it repeats."""

    def place(cell: CellResult) -> tuple[str, str, int]:
        return cell.arm, level_name(cell.level), cell.seed

    plain = {place(cell): cell for cell in tree.finished}
    return [(plain[place(cell)], cell) for cell in tree.twins if place(cell) in plain]


def _compared(
    tree: ResultTree, metric: Metric
) -> Iterator[tuple[Contrast, Mapping[str, Any], Estimate, Point]]:
    """Every contrast of the page's sections at every level, with its gain and the arm's stop."""
    contrasts = [one for section in tree.plan.sections for one in _contrasts(section)]
    for contrast, arm, reference in contrasted(tree, {repr(one): one for one in contrasts}.values()):
        point = arm.at("best")
        made = gain(metric, reference.at("best"), point) if not contrast.reference_at else None
        if made and point:
            yield contrast, arm.level, made, point


def _contrasts(section: object) -> tuple[Contrast, ...]:
    if isinstance(section, Differences):
        return section.contrasts
    arms = sorted(CORNERS, key=lambda arm: CORNERS[arm])
    return (Contrast(arm=arms[-1], reference=arms[0]),) if isinstance(section, Factorial) else ()


def _row(
    contrast: Contrast,
    level: Mapping[str, Any],
    made: Estimate,
    arm: Point,
    metric: Metric,
    rounding: float | None,
) -> Row:
    documents = [examples.documents for examples in arm.examples(metric.key).values()]
    return {
        "level": level_name(level),
        "arm": contrast.arm,
        "against": f"{contrast.reference}{words.reference_place(contrast)}",
        "seeds": len(made.by_seed),
        "replicate": made.standard_deviation,
        "documents": made.document_error,
        # Of a difference of two runs, each of which rounds.
        "rounding": None if rounding is None else math.sqrt(2) * rounding,
        "held_out_documents": fmean(len(set(own)) for own in documents) if documents else None,
        "effective_documents": fmean(map(effective_documents, documents)) if documents else None,
    }


def _table(rows: Sequence[Row], metric: Metric, seeds: Replicates, *, pairs: int) -> Table:
    def size(value: float) -> str:
        return words.unsigned(value, metric)

    columns = [
        table.text("Arm", "arm"),
        table.text("Against", "against"),
        table.number("Seeds", "seeds"),
        table.number("Replicate", "replicate", size),
        table.number("Documents", "documents", size),
        *[table.number("Rounding", "rounding", size)] * bool(pairs),
        Column(f"Held-out documents{table.LINE}effective", _documents, printed=False),
    ]
    held = "it is not part of it, as all seeds share them"
    if seeds.own_documents:
        held = "it is part of it as far as seeds do not share them"
    elif not seeds.known:
        held = "one seed cannot tell whether it is part of it"
    unit = f", {metric.difference_unit}" * bool(metric.difference_unit)
    caption = (
        f"Standard deviations of one seed's gain{unit}. Replicate: over seeds, all that differs between them "
        f"together. Documents: from their number; {held}."
    )
    if pairs:
        caption += f" Rounding: part of it, from {words.count(pairs, 'twin run')}, pooled over arms."
    levels = len({row["level"] for row in rows}) > 1
    return Table(NAME, rows, columns, caption, group="level" if levels else "")


def _documents(row: Row) -> str:
    number, effective = row["held_out_documents"], row["effective_documents"]
    return table.ABSENT if number is None else f"{number:.0f}{table.LINE}{effective:.0f} effective"


def _sentence(rows: Sequence[Row], metric: Metric, *, own_documents: bool) -> str:
    """Where most of the spread over seeds comes from: a sentence."""
    shares = []
    for name in ("documents", "rounding"):
        known = [(row[name], row["replicate"]) for row in rows if row[name] is not None and row["replicate"]]
        if known and (own_documents or name == "rounding"):
            share = sum(part**2 for part, _ in known) / sum(whole**2 for _, whole in known)
            # Of their documents seeds have some in common, which are no part of what varies over them.
            most = "at most " * (name == "documents")
            shares.append(f"{most}{min(share, 1):.0%} from {name}".replace("%", " %"))
    spreads = [row["replicate"] for row in rows if row["replicate"] is not None]
    if not spreads:
        return "One seed says nothing of the spread over seeds."
    sizes = dict.fromkeys(words.unsigned(spread, metric) for spread in (min(spreads), max(spreads)))
    text = f"A seed's gain varies by {' to '.join(sizes)} {metric.difference_unit}".rstrip()
    return f"{text}{f': of its variance {words.join(shares)}' if shares else ''}."

"""Numbers that each seed of an arm gives, such as where curves cross or what a match costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.evaluation.measurements import GENERATION
from lab.files import Row
from lab.metrics import Metric, find_metric
from lab.reporting import quantities, table, words
from lab.reporting.content import Content
from lab.reporting.quantities import PLACE_UNITS, RATIO, Found
from lab.reporting.sections.curves import crossing_of
from lab.reporting.series import AfterRuns, after_runs, check_series, runs_of
from lab.reporting.table import Column, Table
from lab.reporting.tree import ResultTree, check_matched, level_name, still_improving
from lab.results import Reading
from lab.sections import Quantity

TITLES = {
    "crossing": "passes {}'s best",
    "equal_tokens": "passes {} at equal tokens",
    "onset": "begins to overfit",
    "match_ratio": "matches {}",
    "best_level": "is best at",
}
TERMS = {"match_ratio": "match", "onset": "onset", "crossing": "crossing", "equal_tokens": "crossing"}


@dataclass(frozen=True)
class Line:
    """A quantity of one arm at one level.

    Attributes:
        name: which quantity.
        variant: of what was measured after the runs; empty else.
        levels: of `best_level`, seed -> the level; empty else.
    """

    name: str
    reading: Reading
    arm: str
    variant: str
    level: Mapping[str, Any]
    found: Found
    levels: Mapping[int, str]


def write(section: Quantity, tree: ResultTree, name: str) -> Content:
    """Take each quantity of each arm at each level.

    Raises:
        ValueError: if runs may not be compared.
    """
    metric = find_metric(section.metric or tree.plan.metric)
    measured = after_runs(tree, section.measurement) if section.measurement else None
    everything = [
        line
        for reading in (tree.readings[:1] if measured else tree.readings)
        for quantity in section.names
        for line in (
            _matches(section, tree, metric, measured)
            if quantity == "match_ratio" and measured
            else _lines(quantity, section, tree, metric, reading)
        )
    ]
    lines = [line for line in everything if line.reading == tree.readings[0]]
    others = [line for line in everything if line.reading != tree.readings[0]]
    told = [_sentence(line, section, metric) for line in lines] or [_nothing(section)]
    return Content(
        title=section.title or "Where it turns",
        headline=" ".join(told[:1]) if section.names == ("match_ratio",) else "",
        verdict=tuple(told) if len(told) <= 3 else (),
        tables=tuple(
            _table(own, section, file, title)
            for own, file, title in ((lines, name, ""), (others, f"{name}_{tree.readings[-1]}", _other(tree)))
            if own
        ),
        certain=(*_certain(lines, section), *(_improving(lines, section, tree) if measured else ())),
        warnings=measured.warnings if measured else (),
        terms=tuple(TERMS[one] for one in section.names if one in TERMS),
    )


def _other(tree: ResultTree) -> str:
    return words.capital(words.READING_WORDS[tree.readings[-1]])


def _lines(
    name: str, section: Quantity, tree: ResultTree, metric: Metric, reading: Reading
) -> Iterator[Line]:
    if name == "best_level":
        yield from _best_levels(section, tree, metric, reading)
    else:
        arms = [arm for arm in section.arms or tree.plan.arms if name == "onset" or arm != section.reference]
        for level in tree.levels:
            for arm in arms:
                runs = runs_of(tree, arm, level, reading)
                if name == "onset":
                    found = quantities.onset(runs.along, metric)
                else:
                    base = runs_of(tree, section.reference, level, reading)
                    check_matched([*base.cells, *runs.cells], section.matched, words.level_words(level))
                    found = (
                        crossing_of(name, runs, base, metric)
                        if base.cells and runs.cells
                        else Found({}, PLACE_UNITS)
                    )
                yield Line(name, reading, arm, "", level, found, {})


def _matches(section: Quantity, tree: ResultTree, metric: Metric, measured: AfterRuns) -> Iterator[Line]:
    series = [
        one
        for one in measured.series.get(section.measurement, ())
        if not section.arms or one.arm in {*section.arms, section.reference}
    ]
    check_series(series, section.matched)
    for one in series:
        base = next((o for o in series if o.arm == section.reference and o.level == one.level), None)
        if base and one.arm != section.reference:
            found = quantities.match_ratio(one, base, metric)
            yield Line("match_ratio", tree.readings[0], one.arm, one.variant, one.level, found, {})


def _best_levels(section: Quantity, tree: ResultTree, metric: Metric, reading: Reading) -> Iterator[Line]:
    """At which level each seed of an arm is best, by the test split at the best stop."""
    for arm in section.arms or tree.plan.arms:
        best: dict[int, tuple[float, str]] = {}
        for level in tree.levels:
            point = runs_of(tree, arm, level, reading).at("best")
            for seed, value in point.values(metric.key).items() if point else ():
                found = (metric.improvement(value, 0.0), words.level_words(level))
                best[seed] = min(best.get(seed, found), found, key=lambda pair: pair[0])
        levels = {seed: level for seed, (_, level) in sorted(best.items())}
        yield Line("best_level", reading, arm, "", {}, Found({}, ()), levels)


# Words.


def _nothing(section: Quantity) -> str:
    return f"Nothing is compared with {words.arm_name(section.reference)}: too little was measured."


def _sentence(line: Line, section: Quantity, metric: Metric) -> str:
    """One quantity of one arm in a sentence."""
    arm, where = words.arm_name(line.arm), words.at_level(line.level)
    reference = words.arm_name(section.reference)
    if line.name == "best_level":
        return f"{arm} is best {_most(line.levels)}."
    if not line.found.by_seed and line.name == "onset":
        return f"{arm} has no finished run{where}."
    if not line.found.by_seed:
        return f"{arm} and {reference} are not compared{where}: no seed has both."
    if line.name == "match_ratio":
        return _match(line, section, metric)
    reached, seeds, first = len(line.found.reached), len(line.found.by_seed), line.found.from_first
    verb = {"crossing": f"passes the best of {reference}", "onset": "overfits"}.get(
        line.name, f"passes {reference} at equal tokens"
    )
    if not reached:
        return f"{arm} never {verb} within the run{where}."
    if reached < seeds:
        return f"{arm} {verb} in {reached} of {seeds} seeds{where}."
    back = "" if line.found.holds else ", but not for good"
    bound = "at most " if first else ""
    when = (
        "from the first stop on"
        if first == seeds
        else f"after {bound}{words.epochs(line.found.median('epoch') or 0)}"
    )
    return f"{arm} {verb} {when}{where}{back}."


def _most(levels: Mapping[int, str]) -> str:
    if not levels:
        return "nowhere, as no run has finished"
    counts = {level: list(levels.values()).count(level) for level in dict.fromkeys(levels.values())}
    if len(counts) == 1:
        return f"at {next(iter(counts))} in every seed"
    return words.join([f"at {level} in {number} of {len(levels)} seeds" for level, number in counts.items()])


def _match(line: Line, section: Quantity, metric: Metric) -> str:
    arm, reference, found = words.arm_name(line.arm), words.arm_name(section.reference), line.found
    who = f"{arm} ({words.variant_name(line.variant)})" if line.variant else arm
    goal = f"{reference}'s {metric.name}{words.at_level(line.level)}"
    if not found.reached:
        passing = f", only in passing in {len(found.in_passing)} of {len(found.by_seed)} seeds" * bool(
            found.in_passing
        )
        return f"{who} does not match {goal} at any compute measured{passing}."
    if not found.every_seed:
        return f"{who} matches {goal} in {len(found.reached)} of {len(found.by_seed)} seeds."
    bound = "at most " if found.from_first else ""
    low_high = (
        f" [{words.plain(found.interval[0])} to {words.plain(found.interval[1])}]" if found.interval else ""
    )
    return f"{who} matches {goal} with {bound}{words.plain(found.mean or 0)}{low_high} times its FLOPs."


def _certain(lines: Sequence[Line], section: Quantity) -> tuple[str, ...]:
    seeds = [len(line.found.by_seed) or len(line.levels) for line in lines]
    if not any(seeds):
        return ()
    said = [f"Over {words.counts([number for number in seeds if number], 'seed')}."]
    if section.names == ("match_ratio",):
        said.append("The mean is geometric, its 95 % interval of the logarithms; neither is corrected.")
    elif section.names != ("best_level",):
        said.append(
            "Medians with the lowest and highest seed; a seed that does not get there counts as later."
        )
    return tuple(said)


def _improving(lines: Sequence[Line], section: Quantity, tree: ResultTree) -> Iterator[str]:
    """Which of the arms were still improving when their runs ended: a longer run may match otherwise."""
    arms = dict.fromkeys([section.reference, *(line.arm for line in lines)] if lines else ())
    cells = {arm: [cell for cell in tree.finished if cell.arm == arm] for arm in arms}
    told = words.improving(
        {
            words.arm_name(arm): (still_improving(own, tree.readings[0]), len(own))
            for arm, own in cells.items()
        },
        marked=False,
    )
    yield from filter(None, [told])


# The table.


def _row(line: Line, section: Quantity) -> Row:
    found = line.found
    row: Row = {
        "quantity": line.name,
        "reading": line.reading,
        "measurement": section.measurement,
        "level": level_name(line.level),
        "arm": line.arm,
        "variant": line.variant,
        "reference": section.reference,
        "seeds": len(found.by_seed) or len(line.levels),
        "seeds_that_reach": len(found.reached),
        "from_first": found.from_first,
        "holds_to_the_end": found.holds,
        "in_passing": len(found.in_passing),
        "geometric_mean": found.mean if found.units else None,
        "interval_low": None,
        "interval_high": None,
    }
    if found.units and found.interval:
        row["interval_low"], row["interval_high"] = found.interval
    for unit in dict.fromkeys((*found.units, *(RATIO if "match_ratio" in section.names else PLACE_UNITS))):
        known = unit in found.units
        low, high = (found.range(unit) if known else None) or (None, None)
        row |= {unit: found.median(unit) if known else None, f"{unit}_low": low, f"{unit}_high": high}
    row["by_seed"] = {
        **{str(seed): dict(one.at) if one else None for seed, one in found.by_seed.items()},
        **{str(seed): level for seed, level in line.levels.items()},
    }
    return row


def _table(lines: Sequence[Line], section: Quantity, name: str, title: str) -> Table:
    rows = [_row(line, section) for line in lines]
    unit = RATIO[0] if "match_ratio" in section.names else PLACE_UNITS[0]
    per = "per item" if section.measurement and section.measurement != GENERATION else "per token"
    levels = section.names == ("best_level",)
    place = "Level" if levels else f"Epoch{table.LINE}median, range"
    heading = f"× FLOPs{table.LINE}{per}" if unit == RATIO[0] else place
    columns = [table.level()] if any(row["level"] for row in rows) else []
    columns += [Column("Arm", _what, left=True)]
    if any(row["variant"] for row in rows):
        columns.append(Column("By", lambda row: words.variant_name(row["variant"]), left=True))
    columns += [
        Column("Seeds", _seeds),
        Column(heading, lambda row: _value(row, unit), left=levels),
    ]
    if unit != RATIO[0] and not levels:
        columns.append(table.flops("FLOPs", "train_flops"))
    return Table(name, rows, columns, title=title)


def _what(row: Row) -> str:
    told = TITLES[row["quantity"]].format(words.arm_name(row["reference"]))
    return f"{words.arm_name(row['arm'])} {told}"


def _seeds(row: Row) -> str:
    reach = row["seeds"] if row["quantity"] == "best_level" else row["seeds_that_reach"]
    return f"{reach} of {row['seeds']}"


def _value(row: Row, unit: str) -> str:
    """The value of a row with its range or interval below it: `12`, `≤ 3`, `never`, `in 2 of 3 seeds`."""
    if row["quantity"] == "best_level":
        return _most(row["by_seed"]).removeprefix("at ")
    if not row["seeds"]:
        return "not known"
    if not row["seeds_that_reach"]:
        return "not for good" if row["in_passing"] else "never"
    ratio = row["quantity"] == "match_ratio"
    value = row["geometric_mean"] if ratio else row[unit]
    ends = ("interval_low", "interval_high") if ratio else (f"{unit}_low", f"{unit}_high")
    low, high = (row[end] for end in ends)
    if value is None:
        return "in some seeds"
    told = ("≤ " if row["from_first"] else "") + words.plain(value)
    notes = []
    if low is not None and words.plain(low) != words.plain(high):
        notes.append(f"{words.plain(low)} to {words.plain(high)}")
    if not row["holds_to_the_end"]:
        notes.append("not for good")
    return told + "".join(table.LINE + note for note in notes)

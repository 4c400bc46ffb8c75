"""Numbers that each seed of an arm gives, such as where curves cross or what a match costs."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from lab.evaluation.measurements import GENERATION
from lab.files import Row
from lab.metrics import Metric, find_metric
from lab.reporting import data_potential, quantities, table, words
from lab.reporting.content import Content
from lab.reporting.quantities import PLACE_UNITS, RATIO, SeedPlaces
from lab.reporting.sections.curves import crossing_of
from lab.reporting.series import AfterRuns, after_runs, check_series, runs_of
from lab.reporting.table import Column, Table
from lab.reporting.tree import ResultTree, check_matched, level_name, still_improving
from lab.results import Reading
from lab.sections import Quantity

# Of a quantity: what an arm does in the table and, at a place on its run, in a sentence; the term to explain.
TITLES = {
    "crossing": "passes {}'s best",
    "equal_tokens": "passes {} at equal tokens",
    "onset": "begins to overfit",
    "match_ratio": "matches {}",
    "best_level": "is best at",
}
VERBS = {
    "crossing": "passes the best of {}",
    "equal_tokens": "passes {} at equal tokens",
    "onset": "overfits",
}
TERMS = {"match_ratio": "match", "onset": "onset", "crossing": "crossing", "equal_tokens": "crossing"}
NOTHING = SeedPlaces({}, PLACE_UNITS)


@dataclass(frozen=True)
class Line:
    """A quantity of one arm at one level.

    Attributes:
        name: which quantity.
        variant: of what was measured after the runs; empty else.
        best_levels: of `best_level`, seed -> the level; empty else.
    """

    name: str
    reading: Reading
    arm: str
    level: Mapping[str, Any]
    places: SeedPlaces
    variant: str = ""
    best_levels: Mapping[int, str] = field(default_factory=dict)

    @property
    def seeds(self) -> int:
        """How many seeds it is known of."""
        return len(self.places.by_seed) or len(self.best_levels)


def write(section: Quantity, tree: ResultTree, name: str) -> Content:
    """Take each quantity of each arm at each level.

    Raises:
        ValueError: if runs may not be compared.
    """
    if section.names == ("data_potential",):
        return data_potential.write(section, tree, name)
    metric = find_metric(section.metric or tree.plan.metric)
    measured = after_runs(tree) if section.measurement else None
    if measured:
        by_reading = {tree.readings[0]: list(_matches(section, tree, metric, measured))}
    else:
        by_reading = {
            reading: [
                line
                for quantity in section.names
                for line in _lines(quantity, section, tree, metric, reading)
            ]
            for reading in tree.readings
        }
    lines = by_reading[tree.readings[0]]
    nothing = f"Nothing is compared with {words.arm_name(section.reference)}: too little was measured."
    sentences = [_sentence(line, section, metric) for line in lines] or [nothing]
    tables = []
    for reading, own in by_reading.items():
        suffix = words.reading_suffix(tree, reading)
        tables += [_table(own, section, f"{name}{suffix.name}", suffix.heading)] if own else []
    return Content(
        title="Where it turns",
        headline=sentences[0] if section.names == ("match_ratio",) else "",
        verdict=tuple(sentences) if len(sentences) <= 3 else (),
        tables=tuple(tables),
        certain=tuple(_certain(lines, section, tree)),
        warnings=measured.warnings if measured else (),
        terms=tuple(TERMS[one] for one in section.names if one in TERMS),
    )


def _lines(
    name: str, section: Quantity, tree: ResultTree, metric: Metric, reading: Reading
) -> Iterator[Line]:
    """A quantity of the runs: of each arm, of places on them for each level."""
    arms = section.arms or tree.plan.arms
    if name == "best_level":
        yield from (_best_level(arm, tree, metric, reading) for arm in arms)
        return
    for level, arm in product(tree.levels, arms):
        runs = runs_of(tree, arm, level, reading)
        if not runs.planned:
            continue
        if name == "onset":
            yield Line(name, reading, arm, level, quantities.onset(runs.along, metric))
        elif arm != section.reference:
            base = runs_of(tree, section.reference, level, reading)
            check_matched([*base.cells, *runs.cells], section.matched, words.level_words(level))
            both = base.cells and runs.cells
            places = crossing_of(name, runs, base, metric) if both else NOTHING
            yield from [Line(name, reading, arm, level, places)] if base.planned else []


def _best_level(arm: str, tree: ResultTree, metric: Metric, reading: Reading) -> Line:
    """At which level each seed of an arm is best, by the test split at the best stop; of equals the first.

    Of the seeds that have all levels at which the arm is planned.
    """
    planned = [runs for level in tree.levels if (runs := runs_of(tree, arm, level, reading)).planned]
    values = {
        words.level_words(runs.level): point.values(metric.key) if (point := runs.at("best")) else {}
        for runs in planned
    }
    seeds = set.intersection(*map(set, values.values())) if values else set()
    best = {
        seed: max(values, key=lambda level: metric.improvement(0.0, values[level][seed]))
        for seed in sorted(seeds)
    }
    return Line("best_level", reading, arm, {}, SeedPlaces({}, ()), best_levels=best)


def _matches(section: Quantity, tree: ResultTree, metric: Metric, measured: AfterRuns) -> Iterator[Line]:
    """What a match costs each arm and variant, of what was measured after the runs."""
    arms = {*section.arms, section.reference} if section.arms else {*tree.plan.arms}
    series = [one for one in measured.series.get(section.measurement, ()) if one.arm in arms]
    check_series(series, section.matched)
    for one in series:
        base = next((o for o in series if o.arm == section.reference and o.level == one.level), None)
        if base and one.arm != section.reference:
            places = quantities.match_ratio(one, base, metric)
            yield Line("match_ratio", tree.readings[0], one.arm, one.level, places, one.variant)


# Words.


def _sentence(line: Line, section: Quantity, metric: Metric) -> str:
    """One quantity of one arm in a sentence."""
    arm, reference, places = words.arm_name(line.arm), words.arm_name(section.reference), line.places
    at = words.at_level(line.level)
    if line.name == "best_level":
        return f"{arm} is best {_most(line.best_levels)}."
    if not places.by_seed and line.name == "onset":
        return f"{arm} has no finished run{at}."
    if not places.by_seed:
        return f"{arm} and {reference} are not compared{at}: no seed has both."
    some_seeds = f"in {len(places.reached)} of {len(places.by_seed)} seeds"
    bounded = bool(places.from_first) if line.name == "match_ratio" else places.at_most
    at_most = "at most " * bounded
    if line.name == "match_ratio":
        who = f"{arm} ({words.variant_name(line.variant)})" if line.variant else arm
        goal = f"{reference}'s {metric.name}{at}"
        if not places.reached:
            passing = f", only in passing in {len(places.in_passing)} of {len(places.by_seed)} seeds"
            return f"{who} does not match {goal} at any compute measured{passing * bool(places.in_passing)}."
        if not places.every_seed:
            return f"{who} matches {goal} {some_seeds}."
        ends = " to ".join(map(words.plain, places.interval or ()))
        cost = f"{at_most}{words.plain(places.mean or 0)}{f' [{ends}]' if ends else ''}"
        return f"{who} matches {goal} with {cost} times its FLOPs."
    verb = VERBS[line.name].format(reference)
    if not places.reached:
        return f"{arm} never {verb} within the run{at}."
    if not places.every_seed:
        return f"{arm} {verb} {some_seeds}{at}."
    when = f"after {at_most}{words.epochs(places.median('epoch') or 0)}"
    if places.from_first == len(places.by_seed):
        when = "from the first stop on"
    return f"{arm} {verb} {when}{at}{'' if places.holds else ', but not for good'}."


def _most(levels: Mapping[Any, str]) -> str:
    if not levels:
        return "nowhere, as no finished run measured it"
    counts = Counter(levels.values())
    if len(counts) == 1:
        return f"at {min(counts)} in every seed"
    return words.join([f"at {level} in {number} of {len(levels)} seeds" for level, number in counts.items()])


def _certain(lines: Sequence[Line], section: Quantity, tree: ResultTree) -> Iterator[str]:
    if seeds := [line.seeds for line in lines if line.seeds]:
        yield f"Over {words.counts(seeds, 'seed')}."
        if section.names == ("match_ratio",):
            yield "The mean is geometric, its 95 % interval of the logarithms; neither is corrected."
        elif section.names != ("best_level",):
            yield "Medians with the lowest and highest seed; a seed that does not get there counts as later."
    if lines and section.measurement:
        arms = dict.fromkeys([section.reference, *(line.arm for line in lines)])
        cells = {arm: [cell for cell in tree.finished if cell.arm == arm] for arm in arms}
        improving = {
            words.arm_name(arm): (still_improving(own, tree.readings[0]), len(own))
            for arm, own in cells.items()
        }
        yield from filter(None, [words.improving(improving, marked=False)])


# The table.


def _row(line: Line, section: Quantity) -> Row:
    places = line.places
    low, high = (places.interval if places.units else None) or (None, None)
    row: Row = {
        "quantity": line.name,
        "reading": line.reading,
        "measurement": section.measurement,
        "level": level_name(line.level),
        "arm": line.arm,
        "variant": line.variant,
        "reference": section.reference,
        "seeds": line.seeds,
        "seeds_that_reach": len(places.reached),
        "from_first": places.from_first,
        "at_most": places.at_most,
        "holds_to_the_end": places.holds,
        "in_passing": len(places.in_passing),
        "geometric_mean": places.mean,
        "interval_low": low,
        "interval_high": high,
    }
    for unit in RATIO if section.measurement else PLACE_UNITS:
        known = unit in places.units
        low, high = (places.range(unit) if known else None) or (None, None)
        row |= {unit: places.median(unit) if known else None, f"{unit}_low": low, f"{unit}_high": high}
    by_seed = {str(seed): dict(one.at) if one else None for seed, one in places.by_seed.items()}
    row["by_seed"] = by_seed or {str(seed): level for seed, level in line.best_levels.items()}
    return row


def _table(lines: Sequence[Line], section: Quantity, name: str, title: str) -> Table:
    rows = [_row(line, section) for line in lines]
    only_levels = section.names == ("best_level",)
    heading = "Level" if only_levels else f"Epoch{table.LINE}median, range"
    if section.measurement:
        heading = f"× FLOPs{table.LINE}per {'token' if section.measurement == GENERATION else 'item'}"

    def arm(row: Row) -> str:
        reference = words.arm_name(row["reference"])
        return f"{words.arm_name(row['arm'])} {TITLES[row['quantity']].format(reference)}"

    def seeds(row: Row) -> str:
        return f"{row['seeds' if row['quantity'] == 'best_level' else 'seeds_that_reach']} of {row['seeds']}"

    columns = [*table.levels(rows), Column("Arm", arm, left=True)]
    if any(row["variant"] for row in rows):
        columns.append(Column("By", lambda row: words.variant_name(row["variant"]), left=True))
    columns += [Column("Seeds", seeds), Column(heading, _value, left=only_levels)]
    if not section.measurement and not only_levels:
        columns.append(table.flops("FLOPs", "train_flops"))
    return Table(name, rows, columns, title=title)


def _value(row: Row) -> str:
    """The value of a row with its range or interval below it: `12`, `≤ 3`, `never`, `in 2 of 3 seeds`."""
    if row["quantity"] == "best_level":
        return _most(row["by_seed"]).removeprefix("at ")
    if not row["seeds"]:
        return "not known"
    if not row["seeds_that_reach"]:
        return "not for good" if row["in_passing"] else "never"
    keys = (PLACE_UNITS[0], f"{PLACE_UNITS[0]}_low", f"{PLACE_UNITS[0]}_high")
    if row["quantity"] == "match_ratio":
        keys = ("geometric_mean", "interval_low", "interval_high")
    value, low, high = (row[key] for key in keys)
    if value is None:
        return "in some seeds"
    of_places = row["quantity"] != "match_ratio"
    lines = ["≤ " * bool(row["at_most" if of_places else "from_first"]) + words.plain(value)]
    later = of_places and row["seeds_that_reach"] < row["seeds"]
    if low is not None and (later or words.plain(low) != words.plain(high)):
        lowest = "≤ " * bool(of_places and row["from_first"]) + words.plain(low)
        lines.append(f"{lowest} to {'later' if later else words.plain(high)}")
    lines += ["not for good"] * (not row["holds_to_the_end"])
    return table.LINE.join(lines)

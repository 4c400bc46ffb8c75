"""What a page says first: the primary contrasts, by the rule that was registered before the runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.files import Row
from lab.metrics import Metric, find_metric
from lab.registration import Registration
from lab.reporting import table, words
from lab.reporting.content import Content
from lab.reporting.sequential import DIFFERS, EQUIVALENT, UNDECIDED, Decision, decide
from lab.reporting.series import Runs, runs_of
from lab.reporting.table import Column, Table
from lab.reporting.tree import ResultTree, check_matched, level_name
from lab.results import Registered
from lab.sections import Contrast

TITLE = "Primary contrasts"
EXPLORATORY = "Looked at besides: not registered, so its errors add to those of the primary contrasts."


@dataclass(frozen=True)
class Primary:
    """A primary contrast, and what came of it.

    Attributes:
        sides: the finished runs of the arm and of its reference.
        values: of each, seed -> what it measures.
        gains: of seeds 0, 1, ..., as far as both arms finished them without a gap.
    """

    contrast: Contrast
    sides: tuple[Runs, Runs]
    values: tuple[Mapping[int, float], Mapping[int, float]]
    gains: tuple[float, ...]
    decision: Decision

    @property
    def names(self) -> tuple[str, str]:
        """The arm and its reference in words, the reference with its level where that is another."""
        return words.arm_name(self.contrast.arm), words.reference_name(self.contrast)

    @property
    def improving(self) -> list[int]:
        """Of how many seeds of the look each side was best at its last stop."""
        return [runs.among(range(self.decision.seeds)).improving for runs in self.sides]

    @property
    def empty(self) -> bool:
        """Whether it is of the best and the last stop of the same runs, which are one in every seed."""
        arm, reference = self.sides
        same = (arm.arm, arm.level) == (reference.arm, reference.level)
        return same and 0 < self.decision.seeds == self.improving[0]

    @property
    def undecided(self) -> bool:
        """Whether more seeds are to decide it."""
        return self.decision.verdict == UNDECIDED and not self.empty


def is_decided(tree: ResultTree) -> bool:
    """Whether the finished runs decide every primary contrast in which there is something to compare.

    Raises:
        ValueError: if nothing is registered, or runs may not be compared.
    """
    return not any(one.undecided for one in _primaries(tree, _registered(tree).rule))


def write(tree: ResultTree) -> Content | None:
    """The primary contrasts, the look at which each stopped, and the rule; None if nothing is registered.

    Raises:
        ValueError: if runs may not be compared.
    """
    if tree.plan.registration is None:
        return None
    registered = tree.plan.registration
    rule, metric = registered.rule, find_metric(registered.rule.metric)
    primaries = _primaries(tree, rule)
    when = _when(registered)
    few = " ".join(_sentence(one, primaries, rule, when) for one in primaries) if len(primaries) <= 2 else ""
    looked = any(one.decision.interval for one in primaries)
    level = f"Intervals are at the level of their look, {words.join(_levels(primaries))}, "
    level += "after a sequential stop." if tree.plan.auto else "by which more seeds may still be added."
    return Content(
        title=TITLE,
        headline=few or _counted(primaries, rule, when),
        verdict=(_where(primaries, rule, tree),),
        tables=(_table(primaries, rule, metric),),
        certain=(*[level] * looked, f"Rule {registered.hash}: {rule_words(rule)}."),
        note="All other comparisons on this page were looked at besides.",
        warnings=_late(registered),
        terms=("gain", "look"),
        summary={"hash": registered.hash, "after_results": registered.after_results},
    )


def _registered(tree: ResultTree) -> Registered:
    if tree.plan.registration is None:
        raise ValueError(f"{tree.path} must have a registration, but nothing is registered.")
    return tree.plan.registration


def _primaries(tree: ResultTree, rule: Registration) -> list[Primary]:
    """Every contrast with its gains and its decision, in registered order."""
    metric = find_metric(rule.metric)
    sides, values = [], []
    for contrast in rule.contrasts:
        arm = runs_of(tree, contrast.arm, contrast.level)
        reference = runs_of(tree, contrast.reference, contrast.level | contrast.reference_level)
        check_matched([*reference.cells, *arm.cells], ("held_out",), words.level_words(contrast.level))
        points = arm.at(rule.place), reference.at(contrast.reference_at or rule.place)
        own, other = (point.values(metric.key) if point else {} for point in points)
        sides.append((arm, reference))
        values.append((own, other))
    compared = [_without_gap(*one) for one in values]
    gains = [tuple(metric.improvement(before, after) for after, before in own) for own in compared]
    sizes = [tuple(max(map(abs, pair)) for pair in own) for own in compared]
    decisions = decide(gains, rule, sizes)
    return [Primary(*one) for one in zip(rule.contrasts, sides, values, gains, decisions, strict=True)]


def _without_gap(arm: Mapping[int, float], reference: Mapping[int, float]) -> list[tuple[float, float]]:
    """The values of both for seeds 0, 1, ... up to the first that one of the two lacks."""
    pairs: list[tuple[float, float]] = []
    while (seed := len(pairs)) in arm and seed in reference:
        pairs.append((arm[seed], reference[seed]))
    return pairs


# Words.


def rule_words(rule: Registration) -> str:
    """A rule in words, as it follows a colon."""
    metric = find_metric(rule.metric)
    contrasts = []
    for one in rule.contrasts:
        who, whom = words.arm_name(one.arm), words.reference_name(one)
        at = words.at_level(one.level)
        contrasts.append(f"{who}{at} against {whom}" if one.reference_level else f"{who} against {whom}{at}")
    alpha = words.percent(rule.alpha)
    family = f"Holm over {len(contrasts)} contrasts, " * (len(contrasts) > 1)
    return (
        f"{words.some(contrasts)}, by {metric.name} {words.PLACE_WORDS[rule.place]} on the test split; "
        f"paired t, {family}{alpha} spent over looks at {words.join([*map(str, rule.looks)])} seeds "
        f"(Lan-DeMets, Pocock type); equivalence within {words.amount(rule.margin, metric)} by two one-sided "
        f"tests at {alpha} of their own"
    )


def _when(registered: Registered) -> str:
    if registered.after_results:
        return "registered when results were there"
    return "by a rule changed when results were there" if registered.first else "registered before the runs"


def _late(registered: Registered) -> tuple[str, ...]:
    """What is wrong with when the rule came, in a sentence or none."""
    if registered.first:
        late = "The rule was changed after results were there."
        return (f"{late} At first it was {registered.first.digest()}: {rule_words(registered.first)}.",)
    late = "The rule was registered when results were there already, so it may have been chosen by them."
    return (late,) * registered.after_results


def _sentence(one: Primary, primaries: Sequence[Primary], rule: Registration, when: str) -> str:
    """The verdict on a contrast, by how much, after how many seeds."""
    made, (who, whom), metric = one.decision, one.names, find_metric(rule.metric)
    at, place = words.at_level(one.contrast.level), f"in {metric.name}{' at the end' * (rule.place == 'end')}"
    who, place = (f"{who}{at}", place) if one.contrast.reference_level else (who, f"{place}{at}")
    margin = words.amount(rule.margin, metric)
    finished = min(len(other.gains) for other in primaries)
    if made.mean is None:
        have = "both have" if len(one.gains) == finished else "all contrasts have"
        first = f"the first look is at {rule.looks[0]} seeds, of which {have} {finished}"
        return f"{who} against {whom} is undecided {place}: {first}{_gap(primaries, finished)} ({when})."
    if one.empty:
        nothing = "the best stop is the last in every seed, so there is nothing to compare"
        return f"{who} against {whom} is undecided {place}: {nothing} ({made.seeds} seeds; {when})."
    if made.verdict == DIFFERS:
        side = "better" if made.mean > 0 else "worse"
        text = f"{who} is {side} than {whom} {place} by {_sized(made, metric, sign=False)}"
        text += f", which is within the margin of {margin}" * made.within_margin
    elif made.verdict == EQUIVALENT:
        text = f"{who} is equivalent to {whom} {place} within {margin}: a gain of {_sized(made, metric)}"
    else:
        text = f"{who} against {whom} is undecided {place}: a gain of {_sized(made, metric)}"
    text += ", within this run length" * (rule.place == "best" and any(one.improving))
    left = "the last look"
    if following := next((look for look in rule.looks if look > made.seeds), None):
        left = f"the next look needs {following - finished} more{_gap(primaries, finished)}"
    left = f"{left}; " * (made.verdict == UNDECIDED)
    return f"{text} ({made.seeds} seeds; {left}{when})."


def _gap(primaries: Sequence[Primary], finished: int) -> str:
    """Who lacks the first seed that not all have, as an ending; nothing if nobody has it or a later one."""
    if all(seed < finished for one in primaries for own in one.values for seed in own):
        return ""
    names = dict.fromkeys(
        f"{words.arm_name(runs.arm)}{words.at_level(runs.level)}"
        for one in primaries
        for runs, own in zip(one.sides, one.values, strict=True)
        if finished not in own
    )
    return f" without a gap: seed {finished} of {words.some([*names])} is missing"


def _sized(made: Decision, metric: Metric, *, sign: bool = True) -> str:
    """A gain with its interval, such as `0.120 [0.050 to 0.190] nats/token`; without a sign its size.

    Of an equivalent one the interval is what its tests look at, with its level.
    """
    side = 1 if sign or made.mean is None or made.mean > 0 else -1
    interval, at = made.interval, ""
    if made.verdict == EQUIVALENT and made.equivalence_level:
        interval, at = made.equivalence_interval, f" at {words.confidence(2 * made.equivalence_level)}"
    mean, *ends = (
        words.difference(value, metric).removeprefix("" if sign else "+")
        for value in (side * (made.mean or 0.0), *sorted(side * end for end in interval or ()))
    )
    shown = f" [{' to '.join(ends)}{at}]" if ends else ""
    return f"{mean}{shown} {metric.difference_unit}".strip()


def _counted(primaries: Sequence[Primary], rule: Registration, when: str) -> str:
    counts = Counter(one.decision.verdict for one in primaries)
    verbs = {DIFFERS: "show a difference", EQUIVALENT: "are equivalent", UNDECIDED: "are undecided"}
    verbs[UNDECIDED] += _nothing(primaries)
    text = words.join([f"{counts[verdict]} {verb}" for verdict, verb in verbs.items() if counts[verdict]])
    within = [any(one.improving) for one in primaries if not one.empty]
    if rule.place == "best" and any(within):
        text += f"; {'all' if all(within) else 'some'} within this run length"
    return f"Of {len(primaries)} primary contrasts {text} ({when})."


def _nothing(primaries: Sequence[Primary]) -> str:
    """In how many there is nothing to compare, as an ending; nothing if in none."""
    empty = sum(one.empty for one in primaries)
    return f", {empty} with nothing to compare" if empty else ""


def _where(primaries: Sequence[Primary], rule: Registration, tree: ResultTree) -> str:
    """At which look it stands, and what follows."""
    compared = [one for one in primaries if not one.empty]
    seeds = max(one.decision.seeds for one in compared or primaries)
    undecided = sum(one.decision.verdict == UNDECIDED for one in primaries)
    if not seeds:
        return f"No look was taken yet; the first is at {rule.looks[0]} seeds."
    number = rule.looks.index(seeds) + 1
    at = f"Look {number} of {len(rule.looks)}, at {seeds} seeds"
    if not compared:
        return f"{at}, found nothing to compare."
    if not any(one.undecided for one in compared):
        last = "the last of them" if len(primaries) > 1 else "it"
        return f"{at}, decided {last if len(compared) == len(primaries) else 'all that can be compared'}."
    which = f"{undecided} of {len(primaries)}" if len(primaries) > 1 else "it"
    which += f" undecided{_nothing(primaries)}"
    if number == len(rule.looks):
        return f"{at}, is the last and leaves {which}."
    how = "the same command adds them" if tree.plan.auto else "SEEDS=auto adds them"
    return f"{at}, leaves {which}; the next is at {rule.looks[number]} seeds: {how}."


def _levels(primaries: Sequence[Primary]) -> list[str]:
    levels = dict.fromkeys(one.decision.level for one in primaries if one.decision.level)
    return [f"{100 * (1 - level):.1f} %" for level in levels]


# The table.


def _row(one: Primary, rule: Registration) -> Row:
    made = one.decision
    low, high = made.interval or (None, None)
    return {
        "arm": one.contrast.arm,
        "reference": one.contrast.reference,
        "level": level_name(one.contrast.level),
        "reference_level": level_name(one.contrast.reference_level),
        "against": f"{one.contrast.reference}{words.reference_place(one.contrast)}",
        "metric": rule.metric,
        "place": rule.place,
        "seeds": made.seeds,
        "mean": made.mean,
        "interval_low": low,
        "interval_high": high,
        "p_value": made.p_value,
        "p_level": made.level,
        "equivalence_p": made.equivalence_p,
        "equivalence_level": made.equivalence_level,
        "verdict": made.verdict,
        "within_margin": made.within_margin,
        "by_seed": {str(seed): gain for seed, gain in enumerate(one.gains)},
    }


def _table(primaries: Sequence[Primary], rule: Registration, metric: Metric) -> Table:
    rows = [_row(one, rule) for one in primaries]

    def test(p: str, level: str) -> Column:
        def cell(row: Row) -> str:
            if row[p] is None:
                return table.ABSENT
            return f"{words.p_value(row[p])}{table.LINE}of {row[level]:.4f}"

        return Column("Difference" if p == "p_value" else "Equivalence", cell)

    small = f"{metric.difference_unit}, at the look's level".removeprefix(", ")
    columns = [
        table.text("Arm", "arm"),
        table.text("Against", "against"),
        *table.levels(rows),
        table.number("Seeds", "seeds"),
        table.estimate(f"Gain{table.LINE}{small}", "", words.in_metric(metric)),
        test("p_value", "p_level"),
        test("equivalence_p", "equivalence_level"),
        table.text("Verdict", "verdict"),
    ]
    caption = "Below each p-value what it must not exceed at this look."
    return Table("primary", rows, columns, caption)

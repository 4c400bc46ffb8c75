"""What a sweep found, in words."""

from collections.abc import Sequence

from lab.metrics import Metric
from lab.reporting import words
from lab.reporting.statistics import PairedDifference, Verdict
from lab.reporting.sweep.findings import Contrast, LevelFinding, Sweep, level_text, mean_test
from lab.reporting.words import in_unit, join, signed

STOP_WORDS = {"best": "at the best stop", "end": "at the end of training"}
PAIRS_TOLD = 4
_SIDES = {1: "better", -1: "worse"}


def verdict_words(verdict: Verdict) -> str:
    """`better`, `worse` or `undecided`; a verdict by seed spread alone is provisional."""
    note = " (provisional)" if verdict.evidence == "seed spread" else ""
    return _SIDES.get(verdict.winner, "undecided") + note


def headline(sweep: Sweep) -> str:
    """Each group of contrasts, counted, with its clearest arm: one sentence.

    Where a level has many pairs, all but its first are counted together.
    """
    clauses = []
    for level in sweep.levels:
        pairs = [reference for reference, contrasts in level.groups.items() if len(contrasts) == 1]
        further = pairs[1:] if len(pairs) > PAIRS_TOLD else []
        clauses += [
            _counted(level, reference, contrasts)
            for reference, contrasts in level.groups.items()
            if reference not in further
        ]
        clauses += [_further(level, [level.groups[reference][0] for reference in further])] if further else []
    if not clauses:
        return _lowest(sweep)
    within = words.improving_clause(_improving([c for level in sweep.levels for c in level.contrasts]))
    return f"By {_told(sweep.tree.metric)}[95 % interval]): {'; '.join(clauses)}{within}."


def _told(metric: Metric) -> str:
    """What is compared, with its unit, up to the interval."""
    return f"test {metric.name} at the best stop ({metric.unit}{', ' * bool(metric.unit)}"


def _improving(contrasts: Sequence[Contrast]) -> dict[str, tuple[int, int]]:
    """Compared arm -> how many of its runs were best at their last stop, and of how many."""
    arms = [arm for c in contrasts if c.seeds for arm in (c.reference, c.arm)]
    return {f"{arm.arm}{level_text(arm.level)}": (arm.improving, len(arm.cells)) for arm in arms}


def _counted(level: LevelFinding, reference: str, contrasts: Sequence[Contrast]) -> str:
    where = level_text(level.level)
    if len(contrasts) == 1:
        return f"{_alone(contrasts[0])}{where}"
    return f"against {reference}{where}, {_verdicts(contrasts, f'of {len(contrasts)} arms')}"


def _further(level: LevelFinding, contrasts: Sequence[Contrast]) -> str:
    """The pairs of a level that are not told one by one."""
    whole = f"of {len(contrasts)} other arms, each against its own,"
    return f"{_verdicts(contrasts, whole)}{level_text(level.level)}"


def _verdicts(contrasts: Sequence[Contrast], whole: str) -> str:
    """How many arms have which verdict, and the clearest of each: `2 of 4 arms do better (a, by 0.2)`.

    Provisional verdicts are counted on their own.
    """
    parts = []
    for winner, side in _SIDES.items():
        for note, evidence in (("", "test"), (" provisionally", "seed spread")):
            chosen = [c for c in contrasts if c.at["best"].verdict == Verdict(winner, evidence)]
            if chosen:
                verb = "does" if len(chosen) == 1 else "do"
                parts.append((len(chosen), verb, f"{side}{note} ({_clearest(chosen)})"))
    rest = [contrast for contrast in contrasts if contrast.at["best"].verdict.winner == 0]
    not_compared = sum(contrast.at["best"].gain is None for contrast in rest)
    for count, text in ((len(rest) - not_compared, "undecided"), (not_compared, "not compared")):
        if count:
            parts.append((count, "is" if count == 1 else "are", text))
    (first, verb, text), *others = parts
    clauses = [f"{first} {whole} {verb} {text}"]
    clauses += [f"{count} {verb} {text}" for count, verb, text in others]
    return join(clauses)


def _clearest(chosen: Sequence[Contrast]) -> str:
    """Which arm of one verdict has the largest difference."""
    gains = {c.arm.arm: c.at["best"].gain for c in chosen}
    name, gain = max(((n, g) for n, g in gains.items() if g), key=lambda pair: abs(pair[1].mean))
    return f"{name}{' most' if len(chosen) > 1 else ''}, by {_amount(gain, chosen[0].arm.metric)}"


def _lowest(sweep: Sweep) -> str:
    clauses = []
    metric = sweep.tree.metric
    most, best = ("lowest", min) if metric.lower_is_better else ("highest", max)
    for level in sweep.levels:
        found = {name: mean_test(arm, "best") for name, arm in level.arms.items()}
        values = {name: value for name, value in found.items() if value is not None}
        if values:
            name = best(values, key=lambda arm: values[arm])
            clauses.append(
                f"{name} has the {most} mean test {metric.name}{level_text(level.level)}, "
                f"{values[name]:.{metric.decimals}f}"
            )
    told = in_unit("; ".join(clauses), metric)
    return f"At the best stop, {told}; no arm is declared to be compared with another."


def found(level: LevelFinding, reference: str) -> str:
    """One group of contrasts at the best stop: every arm with its gain and interval, in one sentence."""
    contrasts = level.groups[reference]
    counts = sorted({len(contrast.seeds) for contrast in contrasts if contrast.seeds})
    seeds = " to ".join(map(str, counts)) or "0"
    improving = words.improving(_improving(contrasts))
    return (
        f"Against {reference}{level_text(level.level)}, by {_told(contrasts[0].arm.metric)}"
        f"[95 % interval] over {seeds} seed{'' if counts == [1] else 's'}): "
        f"{_by_verdict(contrasts, 'best')}.{' ' * bool(improving)}{improving}"
    )


def found_at_end(level: LevelFinding, reference: str) -> str:
    """The same group at the end of training."""
    return f"At the end of training: {_by_verdict(level.groups[reference], 'end')}."


def _by_verdict(contrasts: Sequence[Contrast], which: str) -> str:
    """The arms under their verdicts, the better ones first, each with its gain."""
    order = ("better", "provisionally better", "worse", "provisionally worse", "undecided", "not compared")
    told: dict[str, list[str]] = {verdict: [] for verdict in order}
    for contrast in contrasts:
        made = contrast.at[which]
        if made.gain is None:
            told["not compared"].append(contrast.arm.arm)
        elif made.verdict.winner == 0:
            told["undecided"].append(f"{contrast.arm.arm} at {_signed(made.gain, contrast.arm.metric)}")
        else:
            verdict = _provisionally(made.verdict) + _SIDES[made.verdict.winner]
            told[verdict].append(f"{contrast.arm.arm} by {_amount(made.gain, contrast.arm.metric)}")
    return "; ".join(f"{verdict}: {join(arms)}" for verdict, arms in told.items() if arms)


def _alone(contrast: Contrast) -> str:
    """The only arm that is compared with its reference, in a clause."""
    arm, reference, made = contrast.arm.arm, contrast.reference.arm, contrast.at["best"]
    metric = contrast.arm.metric
    if made.gain is None:
        return f"{arm} is not compared with {reference}, as no seed was finished by both"
    if made.verdict.winner == 0:
        return f"{arm} against {reference} is undecided at {_signed(made.gain, metric)}"
    verdict = _provisionally(made.verdict) + _SIDES[made.verdict.winner]
    return f"{arm} is {verdict} than {reference} by {_amount(made.gain, metric)}"


def _provisionally(verdict: Verdict) -> str:
    return "provisionally " if verdict.evidence == "seed spread" else ""


def _signed(gain: PairedDifference, metric: Metric) -> str:
    """A gain with its sign and its interval."""
    mean = signed(gain.mean, metric.decimals)
    if gain.interval is None:
        return mean
    low, high = (signed(bound, metric.decimals) for bound in gain.interval)
    return f"{mean} [{low} to {high}]"


def _amount(gain: PairedDifference, metric: Metric) -> str:
    """The size of a difference, with its interval read in the same direction."""
    mean = f"{abs(gain.mean):.{metric.decimals}f}"
    if gain.interval is None:
        return mean
    ends = sorted(bound * (1 if gain.mean >= 0 else -1) for bound in gain.interval)
    low, high = (f"{end:.{metric.decimals}f}".replace("-", "−") for end in ends)
    return f"{mean} [{low} to {high}]"


def uncertainty(sweep: Sweep) -> str:
    """What the gains are uncertain by, and how verdicts are reached."""
    contrasts = [contrast for level in sweep.levels for contrast in level.contrasts]
    gains = [gain for contrast in contrasts if (gain := contrast.at["best"].gain)]
    return words.uncertainty(gains, " at each stop", sweep.tree.metric) if gains else ""


def left_out(sweep: Sweep) -> str:
    """What is missing from the comparison, or nothing."""
    gaps: dict[str, list[str]] = {}
    for cell in sweep.tree.cells:
        if cell.status != "done":
            gaps.setdefault(f"{cell.arm}{level_text(cell.level)}", []).append(str(cell.seed))
    return words.left_out(sweep.tree, [f"seed {', '.join(seeds)} of {arm}" for arm, seeds in gaps.items()])

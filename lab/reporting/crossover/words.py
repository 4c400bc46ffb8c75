"""The findings in words, for a reader who has not read the paper."""

import math
from collections.abc import Sequence
from statistics import fmean, median

from lab.files import Row
from lab.metrics import Metric
from lab.reporting import words
from lab.reporting.crossover.findings import AR, DLM, BudgetFinding, CrossingSummary, Crossover
from lab.reporting.statistics import Verdict
from lab.reporting.words import in_unit, join, plain, scientific


def verdict_words(verdict: Verdict) -> str:
    """`DLM wins`, `AR wins` or `undecided`; a winner by seed spread alone is provisional."""
    won = {1: "DLM wins", -1: "AR wins", 0: "undecided"}[verdict.winner]
    return won + (" (provisional)" if verdict.evidence == "seed spread" else "")


def evidence_words(budget: BudgetFinding) -> str:
    """Why the verdict of a budget is what it is."""
    if budget.gain is None:
        return "no seed was finished by both arms"
    return {
        "test": "the corrected paired test rejects a difference of 0",
        "seed spread": "all seeds agree by more than they differ, but the corrected test does not reject 0",
        "too few seeds": "one seed has no spread to judge by",
        "no spread": "all seeds have the same difference, which leaves no spread to judge by",
        "none": "the difference is within the spread of the seeds",
    }[budget.verdict.evidence]


def headline(crossover: Crossover) -> str:
    """The verdict over all budgets in one sentence."""
    clauses = []
    for winner, name in ((1, "the diffusion model (DLM)"), (-1, "the autoregressive model (AR)")):
        for note, evidence in (("", "test"), (" provisionally", "seed spread")):
            budgets = [b for b in crossover.budgets if b.verdict == Verdict(winner, evidence)]
            clauses += _at(f"{name} wins{note}", budgets)
    clauses += _at("it is undecided", [b for b in crossover.budgets if b.verdict.winner == 0])
    sentence = "; ".join(clauses)
    return sentence[0].upper() + sentence[1:] + "."


def _at(said: str, budgets: Sequence[BudgetFinding]) -> list[str]:
    """A verdict with its budgets, in a clause; those within the run length apart from the others."""
    clauses = []
    for within in (False, True):
        amounts = [_amount(budget) for budget in budgets if budget.within_run_length == within]
        if amounts:
            ending = f" {words.WITHIN}" if within else ""
            clauses.append(f"{said} at {join(amounts)} unique tokens{ending}")
    return clauses


def _amount(budget: BudgetFinding) -> str:
    return "all" if budget.unique_tokens is None else f"{budget.unique_tokens:,}"


def found(budget: BudgetFinding) -> str:
    """One budget in words: the two best stops, who is better and by how much."""
    if budget.gain is None:
        return f"With {budget.name}, no seed was finished by both arms, so nothing is compared."
    ar, dlm = (_reached(budget, arm) for arm in (AR, DLM))
    side = "better" if budget.gain.mean > 0 else "worse"
    runs = len(budget.seeds)
    counts = {f"the {arm.upper()}": (budget.improving(arm), runs) for arm in (AR, DLM)}
    improving = words.improving(counts, verdicts=False)
    within = f" {words.WITHIN}" if budget.within_run_length else ""
    sentences = [
        f"With {budget.name}, the AR is best {ar} and the DLM {dlm}.",
        f"{improving[:1].upper()}{improving[1:]}",
        f"The DLM is {side} by {_number(abs(budget.gain.mean), budget.metric)}: "
        f"{verdict_words(budget.verdict)}{within}, as {evidence_words(budget)}.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _reached(budget: BudgetFinding, arm: str) -> str:
    """When an arm is best, and what it reaches there."""
    stops, metric = budget.best_stops(arm), budget.metric
    value = _number(fmean(stop.test[metric.key] for stop in stops), metric)
    return f"after {_epochs(median(stop.epoch for stop in stops))} (test {metric.name} {value})"


def _number(value: float, metric: Metric) -> str:
    return in_unit(f"{value:.{metric.decimals}f}", metric)


def _epochs(value: float) -> str:
    return f"{plain(value)} epoch{'' if plain(value) == '1' else 's'}"


def crossing_short(summary: CrossingSummary) -> str:
    """Where one budget's curves cross, for a table cell or a label."""
    if not summary.by_seed:
        return "not known"
    if not summary.crossed:
        return "none in the run"
    if summary.from_first_stop:
        return "by the first stop"
    epoch = summary.median("epoch")
    return _seeds_that_cross(summary) if epoch is None else _epochs(epoch)


def notes(crossing: Row) -> list[str]:
    """What a crossover's table cell must add: that some seeds never cross, or that one goes back.

    Args:
        crossing: a row of `tables`.
    """
    some, seeds = crossing["seeds_that_cross"], crossing["seeds"]
    partly = crossing["epoch"] is not None and some < seeds
    return [f"{some} of {seeds} seeds"] * partly + ["not for good"] * (
        some > 0 and not crossing["holds_to_the_end"]
    )


def beyond(metric: Metric) -> dict[str, str]:
    """How the better of two curves lies: the verbs and the side."""
    side = "below" if metric.lower_is_better else "above"
    return {"side": side, "falls": f"{'falls' if side == 'below' else 'rises'} {side}"}


def _seeds_that_cross(summary: CrossingSummary) -> str:
    return f"in {len(summary.crossed)} of {len(summary.by_seed)} seeds"


def crossing_sentence(budget: BudgetFinding) -> str:
    """Where the DLM's validation metric falls below the AR's at one budget, in epochs and FLOPs."""
    if not budget.seeds:
        return ""
    said = beyond(budget.metric)
    its, side, falls = f"Its validation {budget.metric.name}", said["side"], said["falls"]
    not_falls = falls.replace("s ", " ", 1)
    summary = budget.below_best
    epoch, flops = summary.median("epoch"), summary.median("train_flops")
    low, high = summary.range("epoch") or (math.inf, math.inf)
    span = f"{plain(low)} to {plain(high)}"
    if not summary.crossed:
        same_moment = _at_the_same_moment(budget)
        return f"{its} does not {not_falls} the AR's best within the run{same_moment}."
    back = "" if summary.holds else f" It does not stay {side} at every later stop."
    if summary.from_first_stop:
        if summary.holds:
            return f"{its} lies {side} the AR's best from the first stop on."
        return f"{its} lies {side} the AR's best at the first stop already.{back}"
    if epoch is None or flops is None:
        return (
            f"{its} {falls} the AR's best {_seeds_that_cross(summary)} "
            f"(at {span} epochs) and not within the run in the others.{back}"
        )
    seeds = f" (seeds: {span})" if len(summary.crossed) > 1 else ""
    share = flops / median(stop.train_flops for stop in budget.best_stops(AR))
    missing = len(summary.by_seed) - len(summary.crossed)
    sentences = [
        f"{its} {falls} the AR's best after {_epochs(epoch)}{seeds} and "
        f"{scientific(flops)} training FLOPs, {plain(share)} times what the AR's best stop cost"
        f"{_at_the_same_moment(budget)}."
    ]
    if missing:
        sentences.append(f"In {missing} of {len(summary.by_seed)} seeds it does not within the run.")
    return " ".join(sentences) + back


def _at_the_same_moment(budget: BudgetFinding) -> str:
    """Where the DLM falls below the AR's value at the same tokens seen: a clause, or nothing."""
    if not budget.below_current.crossed:
        return ""
    where = crossing_short(budget.below_current)
    back = "" if budget.below_current.holds else ", not for good"
    return f"; {beyond(budget.metric)['side']} the AR's value at the same moment: {where}{back}"


def uncertainty(crossover: Crossover) -> str:
    """What the numbers are uncertain by, and how verdicts are reached."""
    gains = [budget.gain for budget in crossover.budgets if budget.gain]
    if not gains:
        return "No seed was finished by both arms at any budget, so no uncertainty can be given."
    return words.uncertainty(gains, metric=crossover.tree.metric)


def left_out(crossover: Crossover) -> str:
    """What is missing from the comparison, or nothing."""
    return words.left_out(
        crossover.tree,
        [
            f"seed {', '.join(map(str, budget.left_out))} with {budget.name}"
            for budget in crossover.budgets
            if budget.left_out
        ],
    )

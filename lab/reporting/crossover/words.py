"""The findings in words, for a reader who has not read the paper."""

import math
from statistics import fmean, median

from lab.reporting import words
from lab.reporting.crossover.findings import AR, DLM, BudgetFinding, CrossingSummary, Crossover
from lab.reporting.statistics import Verdict
from lab.reporting.words import join, plain, scientific


def verdict_words(verdict: Verdict) -> str:
    """`DLM wins`, `AR wins` or `undecided`; a winner by seed spread alone is provisional."""
    words = {1: "DLM wins", -1: "AR wins", 0: "undecided"}[verdict.winner]
    return words + (" (provisional)" if verdict.evidence == "seed spread" else "")


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
            budgets = [
                _amount(budget)
                for budget in crossover.budgets
                if (budget.verdict.winner, budget.verdict.evidence) == (winner, evidence)
            ]
            if budgets:
                clauses.append(f"{name} wins{note} at {join(budgets)} unique tokens")
    undecided = [_amount(budget) for budget in crossover.budgets if budget.verdict.winner == 0]
    if undecided:
        clauses.append(f"it is undecided at {join(undecided)} unique tokens")
    sentence = "; ".join(clauses)
    return sentence[0].upper() + sentence[1:] + "."


def _amount(budget: BudgetFinding) -> str:
    return "all" if budget.unique_tokens is None else f"{budget.unique_tokens:,}"


def found(budget: BudgetFinding) -> str:
    """One budget in words: the two best stops, who is better and by how much."""
    if budget.gain is None:
        return f"With {budget.name}, no seed was finished by both arms, so nothing is compared."
    ar, dlm = (
        f"after {_epochs(median(stop['epoch'] for stop in stops))} "
        f"(test NLL {fmean(stop['test']['nll'] for stop in stops):.3f} nats/token)"
        for stops in (budget.best_stops(AR), budget.best_stops(DLM))
    )
    side = "better" if budget.gain.mean > 0 else "worse"
    return (
        f"With {budget.name}, the AR is best {ar} and the DLM {dlm}. "
        f"The DLM is {side} by {abs(budget.gain.mean):.3f} nats/token: "
        f"{verdict_words(budget.verdict)}, as {evidence_words(budget)}."
    )


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


def _seeds_that_cross(summary: CrossingSummary) -> str:
    return f"in {len(summary.crossed)} of {len(summary.by_seed)} seeds"


def crossing_sentence(budget: BudgetFinding) -> str:
    """Where the DLM's validation NLL falls below the AR's at one budget, in epochs and FLOPs."""
    if not budget.seeds:
        return ""
    summary = budget.below_best
    epoch, flops = summary.median("epoch"), summary.median("train_flops")
    low, high = summary.range("epoch") or (math.inf, math.inf)
    span = f"{plain(low)} to {plain(high)}"
    if not summary.crossed:
        same_moment = _at_the_same_moment(budget)
        return f"Its validation NLL does not fall below the AR's best within the run{same_moment}."
    if summary.from_first_stop:
        return "Its validation NLL lies below the AR's best from the first stop on."
    if epoch is None or flops is None:
        return (
            f"Its validation NLL falls below the AR's best {_seeds_that_cross(summary)} "
            f"(at {span} epochs) and not within the run in the others."
        )
    seeds = f" (seeds: {span})" if len(summary.crossed) > 1 else ""
    share = flops / median(stop["train_flops"] for stop in budget.best_stops(AR))
    missing = len(summary.by_seed) - len(summary.crossed)
    sentences = [
        f"Its validation NLL falls below the AR's best after {_epochs(epoch)}{seeds} and "
        f"{scientific(flops)} training FLOPs, {plain(share)} times what the AR's best stop cost"
        f"{_at_the_same_moment(budget)}."
    ]
    if missing:
        sentences.append(f"In {missing} of {len(summary.by_seed)} seeds it does not within the run.")
    if not all(crossing.holds for crossing in summary.crossed):
        sentences.append("It does not stay below at every later stop.")
    return " ".join(sentences)


def _at_the_same_moment(budget: BudgetFinding) -> str:
    """Where the DLM falls below the AR's value at the same tokens seen: a clause, or nothing."""
    if not budget.below_current.crossed:
        return ""
    where = crossing_short(budget.below_current)
    return f"; below the AR's value at the same moment: {where}"


def uncertainty(crossover: Crossover) -> str:
    """What the numbers are uncertain by, and how verdicts are reached."""
    gains = [budget.gain for budget in crossover.budgets if budget.gain]
    if not gains:
        return "No seed was finished by both arms at any budget, so no uncertainty can be given."
    return words.uncertainty(gains)


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

"""What an ablation of inference compute found, in words."""

from collections.abc import Iterable

from lab.evaluation.measurements import CHOICE, GENERATION
from lab.reporting import words
from lab.reporting.inference.findings import AR, DLM, METRICS, Curve, Inference
from lab.reporting.statistics import Verdict
from lab.reporting.words import in_unit, join, plain, signed

ARM_NAMES = {"ar": "AR", "dlm": "DLM", "any_order_ar": "any-order AR"}
SAMPLER_NAMES = {
    "left_to_right": "left to right",
    "exact": "exact chain rule",
    "draws": "Monte Carlo draws",
}
_GOALS = {GENERATION: "match AR's text under an independent judge", CHOICE: "match AR's choice accuracy"}
_STAY = ", and it matches at every larger amount measured"


def arm_name(arm: str) -> str:
    """An arm as the page calls it."""
    return ARM_NAMES.get(arm, arm)


def sampler_name(sampler: str) -> str:
    """A sampler, or a way of scoring, as the page calls it."""
    if sampler.startswith("blocks:"):
        return f"blocks of {sampler.removeprefix('blocks:')}"
    return SAMPLER_NAMES.get(sampler, sampler)


def verdict_words(verdict: Verdict) -> str:
    """`better`, `worse` or `undecided`; a verdict by seed spread alone is provisional."""
    side = {1: "better", -1: "worse", 0: "undecided"}[verdict.winner]
    return side + (" (provisional)" if verdict.evidence == "seed spread" else "")


def headline(found: Inference) -> str:
    """How many times AR's inference FLOPs the DLM needs to match its text, and its choices: one sentence.

    For text the first sampler of the DLM counts, for choices the Monte Carlo draws.
    """
    clauses = []
    for kind, which in ((GENERATION, 0), (CHOICE, -1)):
        curves = found.against(kind, DLM)
        if curves and curves[which].match:
            clauses.append(_needs(curves[which]))
    if not clauses:
        return "Nothing is compared: AR and DLM were not both measured at any seed."
    told = {f"the {name}" if name == "DLM" else name: n for name, n in _improving(found, (AR, DLM)).items()}
    return f"{'; '.join(clauses)}{words.improving_clause(told)}."


def _improving(found: Inference, arms: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Arms as the page calls them -> how many runs were best at their last stop, and of how many."""
    return {arm_name(arm): counts for arm, counts in found.improving(arms).items()}


def _needs(curve: Curve) -> str:
    """What one curve needs to match AR, in a clause."""
    match = curve.match
    name, goal = arm_name(curve.arm), _GOALS[curve.kind]
    stays = _STAY if len(curve.points) > 1 else ""
    if match is None:
        return f"the {name} is not compared"
    passing = f"{len(match.in_passing)} of {len(match.by_seed)} seeds"
    if not match.reached and match.in_passing:
        return f"the {name} does not {goal} for good, only at less compute in {passing}: {_at_most(curve)}"
    if not match.reached:
        return f"the {name} does not {goal} at any amount of compute, {_at_most(curve)}"
    if not match.every_seed:
        low, high = match.reached[0], match.reached[-1]
        times = plain(low) if low == high else f"{plain(low)} to {plain(high)}"
        return (
            f"to {goal}, the {name} needs {times} times AR's inference FLOPs{stays}, in "
            f"{len(match.reached)} of {len(match.by_seed)} seeds and does not in the others"
            f"{f' (in {passing} only at less compute)' if match.in_passing else ''}, {_at_most(curve)}"
        )
    bound = "at most " if match.from_first else ""
    interval = match.interval
    spread = f" (95 % interval {plain(interval[0])} to {plain(interval[1])})" if interval else ""
    times = f"{bound}{plain(match.mean or 0)} times AR's inference FLOPs{spread}"
    return f"to {goal}, the {name} needs {times}{stays}"


def _at_most(curve: Curve) -> str:
    """Where a curve ends: its compute in words, and what is still missing there."""
    gain = curve.gain
    metric, draws = curve.metric, curve.most.num_draws
    if curve.kind == GENERATION:
        where, whose = f"even with {curve.most.steps} passes", "its text's"
    else:
        where, whose = f"even with {draws} draws" if draws else "scored exactly", "its"
    if gain is None:
        return where
    side = "higher" if metric.improvement(0.0, gain.mean) > 0 else "lower"
    interval = ""
    if gain.interval:
        ends = sorted(_in_direction(bound, gain.mean) for bound in gain.interval)
        low, high = (f"{end:.{metric.decimals}f}".replace("-", "−") for end in ends)
        interval = f" (95 % interval {low} to {high})"
    amount = in_unit(f"{abs(gain.mean):.{metric.decimals}f}", metric)
    return f"{where} {whose} {metric.name} is {amount} {side}{interval}"


def _in_direction(bound: float, mean: float) -> float:
    """A bound of an interval read in the direction of its mean."""
    return bound if mean >= 0 else -bound


def found_sentences(found: Inference) -> list[str]:
    """Each sampler of the DLM and each way in which it scores options, in a sentence; text first."""
    sentences = []
    for kind in (GENERATION, CHOICE):
        for curve in found.against(kind, DLM):
            by = sampler_name(curve.sampler)
            said = f"{by[0].upper()}{by[1:]}: {_needs(curve)}."
            if curve.match and curve.match.every_seed and curve.gain:
                said += f" At the most compute it is {verdict_words(curve.verdict)}{_test_words(curve)}."
            sentences.append(said)
    compared = dict.fromkeys(curve.arm for curve in found.curves)
    improving = words.improving(_improving(found, compared))
    return [*sentences, improving] if improving else sentences


def _test_words(curve: Curve) -> str:
    if curve.gain is None or curve.adjusted_p is None:
        return ""
    gain = in_unit(signed(curve.gain.mean, curve.metric.decimals), curve.metric)
    return f" (gain {gain}, {words.p_value(curve.adjusted_p)})"


def full_cost(found: Inference) -> str:
    """What one pass for each token costs the DLM against AR, beside the paper's statement; or nothing."""
    reference = found.reference(GENERATION)
    curves = found.against(GENERATION, DLM)
    if reference is None or not curves:
        return ""
    ratio = curves[0].most.cost("flops") / reference.most.cost("flops")
    tokens, prompt = found.about["generated_tokens"], found.about["prompt_tokens"]
    return (
        f"With one pass for each of {tokens} tokens after a prompt of {prompt}, the DLM costs {plain(ratio)} "
        "times AR's FLOPs, AR with a KV cache: about as many times as there are tokens, plus attention. The "
        "paper's 16 to 4,700 times, for 16 to 4,096 tokens, is this count at its 1B shape; it does not say "
        "how many passes the quality needs."
    )


def diversity(found: Inference) -> str:
    """Whether a lower judge NLL was bought with less diverse text; or nothing."""
    reference = found.reference(GENERATION)
    if reference is None or found.real is None:
        return ""
    told = [("real text", found.real), ("AR", reference.most)]
    told += [(f"DLM {sampler_name(c.sampler)}", c.most) for c in found.against(GENERATION, DLM)]
    parts = [f"{name} {_value(p.mean('judge_nll'))} and {_value(p.mean('distinct'))}" for name, p in told]
    return (
        "A low judge NLL may come from dull text, so it is read beside diversity. Judge NLL and "
        f"distinct-{found.about['ngram']} at the most compute: {join(parts)}. Text below the judge NLL of "
        "real text is not better than real text but more predictable."
    )


def _value(number: float | None) -> str:
    return "–" if number is None else f"{number:.2f}"


def left_out(found: Inference) -> str:
    """What is missing from the comparison, or nothing."""
    gaps: dict[str, list[str]] = {}
    for cell in found.tree.cells:
        if cell.status != "done":
            gaps.setdefault(cell.arm, []).append(str(cell.seed))
    said = words.left_out(found.tree, [f"seed {', '.join(seeds)} of {arm}" for arm, seeds in gaps.items()])
    if found.unmeasured:
        names = join([f"{cell.arm} seed {cell.seed}" for cell in found.unmeasured])
        said = (
            f"{said} Trained but not measured: {names}; the command below measures what is missing.".strip()
        )
    return " ".join(filter(None, [said, *found.damaged]))


def uncertainty(found: Inference) -> str:
    """What the gains are uncertain by, and how verdicts are reached.

    Arms continue the same prompts with texts of their own, so a text's windows are not shared.
    """
    gains = [curve.gain for curve in found.against(GENERATION) if curve.gain]
    if not gains:
        return ""
    said = words.uncertainty(gains, " of text", METRICS[GENERATION])
    return f"{said} The comparisons of choice accuracy are corrected among themselves."

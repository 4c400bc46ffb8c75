"""Numbers, lists, arms, levels and verdicts in words, the same on every page."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from lab.metrics import NLL, Metric
from lab.reporting.replicates import Replicates
from lab.reporting.statistics import ALPHA, Estimate, Verdict, judged_apart
from lab.reporting.tree import ResultTree, level_name
from lab.results import Reading
from lab.sections import Contrast

READING_WORDS = {"annealed": "annealed stops", "along_run": "stops along one run"}
PLACE_NAMES = {"best": "best stop", "end": "end"}
PLACE_WORDS = {"best": "at the best stop", "end": "at the end of training"}
_AXES = {
    "factors.ar_share": "share of AR",
    "factors.block": "size of blocks",
    "epoch": "epochs",
    "train_flops": "training FLOPs",
    "seconds": "training time",
    "flops": "inference FLOPs",
    "flops_computed": "inference FLOPs as computed here",
    "num_draws": "Monte Carlo draws an option",
    "steps": "passes",
}
# What a bound says beside an NLL, wherever a page sets one there.
BOUND = (
    "A NELBO is an upper bound on the NLL: a DLM's below AR's NLL is evidence for the DLM, above it is "
    "evidence for neither."
)
AT = "@"  # in a variant, before the stop where it is taken
NAMED = 6  # items in a sentence; the rest is counted
TOKENS = " unique tokens"
# Set behind a verdict on an arm that was still improving when its run ended.
MARK = "†"
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
BETTER, WORSE, EQUIVALENT, UNDECIDED = "better", "worse", "equivalent", "undecided"
_SIDES = {1: BETTER, -1: WORSE}
_ARMS = {"ar": "AR", "dlm": "DLM", "any_order_ar": "any-order AR"}
_ARMS |= {"ar_ensemble": "AR ensemble", "dlm_ensemble": "DLM ensemble"}
_VARIANTS = {"left_to_right": "left to right", "exact": "exact chain rule", "draws": "Monte Carlo draws"}


def plain(value: float) -> str:
    """A count for reading: 3 significant digits below 1,000, whole numbers above."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def is_positive(value: Any) -> bool:
    """Whether a level is a number that can lie on a logarithmic axis."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def scientific(value: float) -> str:
    """A large count for reading, such as 1.6 × 10¹³."""
    if value == 0:
        return "0"
    power = math.floor(math.log10(abs(value)))
    mantissa = f"{value / 10**power:.1f}"
    if mantissa == "10.0":
        mantissa, power = "1.0", power + 1
    return f"{mantissa} × 10{str(power).translate(_SUPERSCRIPTS)}"


def signed(value: float, decimals: int = 3) -> str:
    """A difference with its sign; what rounds to zero has none."""
    text = f"{value:+.{decimals}f}"
    return (text[1:] if float(text) == 0 else text).replace("-", "−")


def difference(value: float, metric: Metric) -> str:
    """A difference in a metric's decimals, of a share in percentage points."""
    return signed(metric.scale * value, metric.decimals)


def in_metric(metric: Metric) -> Callable[[float], str]:
    """How differences in a metric are shown."""
    return partial(difference, metric=metric)


def unsigned(value: float, metric: Metric) -> str:
    """The size of a difference, without its unit."""
    return f"{abs(metric.scale * value):.{metric.decimals}f}"


def amount(value: float, metric: Metric) -> str:
    """The size of a difference with its unit: `0.165 nats/token`."""
    return f"{unsigned(value, metric)} {metric.difference_unit}".strip()


def sized(made: Estimate, metric: Metric, *, sign: bool = True, unit: bool = False) -> str:
    """A difference with its interval: `−0.165 [−0.310 to −0.020]`, of an equivalent one the 90 % interval.

    Args:
        made: the difference.
        metric: what it is of.
        sign: whether it has a sign; without one it is read in its own direction, `0.165 [0.020 to 0.310]`.
        unit: whether it has its unit.
    """
    side = 1 if sign or made.mean >= 0 else -1
    equivalent = made.verdict.kind == "equivalent"
    interval = (made.equivalence_interval if equivalent else made.interval) or ()
    at = f" at {confidence(2 * made.equivalence_alpha)}" * equivalent

    mean, *ends = (
        difference(value, metric).removeprefix("" if sign else "+")
        for value in (side * made.mean, *sorted(side * end for end in interval))
    )
    parts = [mean, metric.difference_unit * unit, f"[{' to '.join(ends)}{at}]" if ends else ""]
    return " ".join(filter(None, parts))


def capital(text: str) -> str:
    """A text as a sentence begins; `NLL` stays as it is, and so does a level such as `size=0.1m`."""
    return text if "=" in text.split(" ")[0] else text[:1].upper() + text[1:]


def p_value(value: float) -> str:
    """A p-value for reading, in three decimals, or as many as tell it from 0.05."""
    if value < 0.001:
        return "p < 0.001"
    texts = (f"{value:.{digits}f}" for digits in range(3, 9))
    return f"p = {next((text for text in texts if float(text) != ALPHA), f'{value:.3f}')}"


def percent(share: float) -> str:
    """A share in two significant digits: `8.1 %`."""
    if 0.995 <= share < 1:
        return "more than 99 %"
    return f"{100 * share:.{3 if share == 1 else 2}g} %" if share >= 1e-4 else "less than 0.01 %"


def duration(seconds: float) -> str:
    """A time span for reading: `1 h 03 min`, `2 min 05 s` or `7 s`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def join(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def some(parts: Sequence[str]) -> str:
    """The parts joined, or the first of them and how many more there are."""
    rest = len(parts) - NAMED
    return join([*parts[:NAMED], f"{rest} more"] if rest > 1 else parts)


def count(number: int, noun: str) -> str:
    """`1 seed`, `3 seeds`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def counts(numbers: Sequence[int], noun: str) -> str:
    """`3 seeds`, or `2 to 3 seeds` where they differ."""
    low, high = min(numbers), max(numbers)
    return count(high, noun) if low == high else f"{low} to {count(high, noun)}"


def epochs(value: float) -> str:
    """`1 epoch`, `24.4 epochs`."""
    return f"{plain(value)} epoch{'' if plain(value) == '1' else 's'}"


def axis_name(x: str) -> str:
    """A level, a cost or a place on a run in words, as within a sentence."""
    return _AXES.get(x, x.rpartition(".")[2].replace("_", " "))


def arm_name(arm: str) -> str:
    """An arm as pages call it."""
    return _ARMS.get(arm, arm)


def variant_name(variant: str) -> str:
    """A sampler, or a way of scoring, as pages call it; with the stop where that is another than the best."""
    if AT in variant:
        name, place = variant.split(AT)
        return ", ".join(filter(None, [variant_name(name), PLACE_NAMES[place]]))
    if variant == "blocks:1":
        return "left to right"
    if variant.startswith("blocks:"):
        return f"blocks of {variant.removeprefix('blocks:')}"
    return _VARIANTS.get(variant, variant)


def level_words(level: Mapping[str, Any]) -> str:
    """A level in words: `10,000 unique tokens`, `size=0.1m`; empty where there are no levels."""
    return named_level(level_name(level))


def named_level(name: str) -> str:
    """A level's name in words: `unique_tokens=10000` as `10,000 unique tokens`."""
    text = re.sub(r"unique_tokens=(\d+)", lambda match: f"{int(match[1]):,}{TOKENS}", name)
    return text.replace("unique_tokens=None", "the whole corpus")


def at_level(level: Mapping[str, Any]) -> str:
    """A level as an ending such as ` at size=0.1m`; nothing where there are no levels."""
    return f" at {level_words(level)}" if level else ""


def reference_name(contrast: Contrast) -> str:
    """What an arm is compared with: the reference, and where it is taken if that is elsewhere."""
    return arm_name(contrast.reference) + reference_place(contrast)


def reference_place(contrast: Contrast) -> str:
    """Where a reference is taken, as an ending; nothing where that is the arm's level and stop."""
    at = f" {PLACE_WORDS[contrast.reference_at]}" if contrast.reference_at else ""
    return at_level(contrast.reference_level) + at


def levels_words(levels: Sequence[Mapping[str, Any]]) -> str:
    """Levels joined, what they share said once: `10,000 unique tokens, size=0.1m and 0.3m`."""
    first = levels[0]
    varying = [key for key in first if any(level.get(key) != first[key] for level in levels)]
    if len(varying) != 1 or any(level.keys() != first.keys() for level in levels):
        return some([level_words(level) for level in levels])
    (key,) = varying
    names = [level_words({key: level[key]}) for level in levels]
    if all(name.endswith(TOKENS) for name in names):
        own = some([name.removesuffix(TOKENS) for name in names]) + TOKENS
    else:
        head = f"{key.rpartition('.')[2]}="
        own = some([names[0], *(name.removeprefix(head) for name in names[1:])])
    shared = level_words({other: value for other, value in first.items() if other != key})
    return ", ".join(filter(None, [shared, own]))


class Suffix(NamedTuple):
    """What tells the tables of one reading from those of the headline reading, which have none."""

    name: str = ""
    title: str = ""

    @property
    def heading(self) -> str:
        """The title as it stands alone."""
        return capital(self.title.removeprefix(", "))


def reading_suffix(tree: ResultTree, reading: Reading) -> Suffix:
    """What the names of a reading's tables end with."""
    other = reading != tree.readings[0]
    return Suffix(f"_{reading}", f", {READING_WORDS[reading]}") if other else Suffix()


def topic(metric: Metric) -> str:
    """What the figures of a metric show, for their titles."""
    return "Surprise at held-out text" if metric.key == NLL else f"{capital(metric.name)} on held-out text"


def bound_beside(metrics: Iterable[Metric]) -> str:
    """What a bound among metrics says; nothing if there is none."""
    return BOUND if any(metric.bound for metric in metrics) else ""


def direction(metric: Metric) -> str:
    """Which way is better: a sentence."""
    return f"{'Lower' if metric.lower_is_better else 'Higher'} is better."


def kind_words(verdict: Verdict) -> str:
    """`better`, `worse`, `equivalent` or `undecided`."""
    return _SIDES[verdict.winner] if verdict.kind == "differs" else verdict.kind


def verdict_words(verdict: Verdict) -> str:
    """The same; of one that differs and yet is within the margin, that too."""
    small = ", by less than the margin" * (verdict.kind == "differs" and verdict.within_margin)
    return f"{kind_words(verdict)}{small}"


def within_margin(made: Estimate, metric: Metric) -> str:
    """What follows the size of a difference that is shown to be within the margin; nothing if it is not."""
    if not made.verdict.within_margin or made.margin is None:
        return ""
    verb = "less than" if made.verdict.kind == "differs" else "within"
    return f", {verb} the margin of {amount(made.margin, metric)}"


def confidence(alpha: float) -> str:
    """What an interval at this level is called: `95 %`."""
    return f"{100 * (1 - alpha):.3g} %"


def terms_of(family: Iterable[Estimate | None]) -> list[str]:
    """What the page must explain of how these were judged."""
    made = [one for one in family if one]
    return ["verdict", "interval", "holm", *["moderated"] * any(one.moderated for one in made)]


def improving(arms: Mapping[str, tuple[int, int]], *, marked: bool = True) -> str:
    """Which arms were best at their last stop, and what that means: a sentence, or nothing.

    Args:
        arms: name -> how many of its runs were, and of how many.
        marked: whether a table marks them, so that the sentence explains the mark.
    """
    names = [
        name if number == runs else f"{name} ({number} of {runs} seeds)"
        for name, (number, runs) in arms.items()
        if number
    ]
    if not names:
        return ""
    was, run = ("were", "their runs") if len(names) > 1 else ("was", "its run")
    mark = f"{MARK} " * marked
    return (
        f"{mark}{some(names)} {was} still improving when {run} ended: verdicts hold within this run length."
    )


def paired(family: Sequence[Estimate], of: str = "", uncorrected: str = "") -> str:
    """Over how many seeds differences are paired, by which test, and what is corrected: a sentence.

    Args:
        family: the estimates of one metric at one stop, which are tested together; at least one.
        of: which seeds these are.
        uncorrected: what else than the intervals is not corrected for their number.
    """
    seeds = [len(made.by_seed) for made in family]
    tested = sum(made.p_value is not None for made in family)
    text = f"Paired over {counts(seeds, 'seed')}{of}"
    if not tested:
        whys = ["one seed has no spread"] * (1 in seeds) + ["equal seeds leave no spread"] * (max(seeds) > 1)
        return f"{text}; {join(whys)} to judge by, so nothing is decided."
    moderated = any(made.moderated for made in family)
    text += " by moderated t tests, as enough contrasts share what they say of the spread;" * moderated
    text += " by plain t tests;" * (not moderated)
    if moderated and (differ := [made.verdict.kind == "differs" for made in family]).count(True):
        apart = [made is not None and made.verdict.kind == "differs" for made in judged_apart(family)]
        both = sum(a and b for a, b in zip(differ, apart, strict=True))
        text += f" by plain ones {both} of the {sum(differ)} that differ would;"
    if 2 in seeds:
        text += " two seeds say little of their own spread;"
    if rest := len(family) - tested:
        text += f" {count(rest, 'comparison')} without spread {'is' if rest == 1 else 'are'} undecided;"
    if tested == 1:
        return f"{text} p-values are not corrected, as each metric and stop has one comparison."
    intervals = f"the {confidence(family[0].alpha)} intervals"
    kept = " and ".join(filter(None, [uncorrected, intervals]))
    return f"{text} p-values are corrected (Holm) for the {tested} of a metric and stop, {kept} are not."


def decidable(gain: float, metric: Metric) -> str:
    """The smallest gain that a table decides: a sentence."""
    smallest = "With these seeds the smallest gain that this table decides in 4 of 5 cases is about"
    return f"{smallest} {amount(gain, metric)}."


def scope(replicates: Replicates, family: Sequence[Estimate], metric: Metric) -> str:
    """What the intervals cover, and what they do not: a sentence."""
    if not replicates.known:
        return "One seed says nothing of what seeds share."
    covered = ["the choice of unique tokens"] * replicates.own_tokens
    covered += [f"the choice of {metric.examples}"] * replicates.own_held_out
    shared = ["unique tokens"] * (not replicates.own_tokens)
    shared += [metric.examples] * (not replicates.own_held_out)
    shared += ["held-out documents"] * replicates.same_documents
    text = f"Intervals cover {join([*covered, 'the randomness of training'])}{' alone' * (not covered)}"
    if shared:
        text += f": all seeds share the same {join(shared)}"
        errors = [made.document_error for made in family if made.document_error is not None]
        if errors and not replicates.own_documents:
            sizes = dict.fromkeys(unsigned(error, metric) for error in (min(errors), max(errors)))
            error = f"{' to '.join(sizes)} {metric.difference_unit}".strip()
            number = f"number{' of documents' * (not replicates.same_documents)}"
            text += f", whose {number} gives each gain a standard error of about {error}"
    common = {
        "unique tokens": replicates.share if replicates.own_tokens else None,
        "held-out documents": replicates.documents if replicates.own_documents else None,
    }
    parts = [f"{percent(share)} of their {what}" for what, share in common.items() if share is not None]
    if parts:
        text += f"; two seeds are expected to have {join(parts)} in common"
    if replicates.limited:
        text += "; as a budget takes more than half of the training split, verdicts are about this text alone"
    return f"{text}."

"""Numbers, lists and gaps in words, the same on every page."""

import math
from collections.abc import Mapping, Sequence

from lab.metrics import METRICS, NLL, Metric
from lab.reporting.results import ResultTree
from lab.reporting.statistics import CONFIDENCE, PairedDifference, provisional_rate

READING_WORDS = {"annealed": "annealed stops", "along_run": "stops along one run"}
# What is added to a verdict on an arm that was still improving when its run ended; its mark in a terminal.
WITHIN, MARK = "within this run length", "†"
MARK_CAPTION = f"\n{MARK}: an arm was still improving when its run ended, so {WITHIN}"
NAMED = 3  # arms; a headline counts more
# Below it a corrected p-value decides.
THRESHOLD = round(1 - CONFIDENCE, 9)
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def plain(value: float) -> str:
    """A count for reading: 3 significant digits below 1,000, whole numbers above."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


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
    """A difference with its sign."""
    return f"{value:+.{decimals}f}".replace("-", "−")


def in_unit(number: str, metric: Metric) -> str:
    """A number with the metric's unit: `0.165 nats/token`."""
    return f"{number} {metric.unit}".strip()


def named(metric: Metric, unit: str) -> str:
    """A metric's name with a unit: `NLL in nats/token`."""
    return f"{metric.name} in {unit}" if unit else metric.name


def capital(text: str) -> str:
    """A text as a sentence begins; `NLL` stays as it is."""
    return text[:1].upper() + text[1:]


def topic(metric: Metric) -> str:
    """What the figures of a metric show, for their titles."""
    return "Surprise at held-out text" if metric.key == NLL else f"{capital(metric.name)} on held-out text"


def direction(metric: Metric) -> str:
    """Which way is better: a sentence."""
    return f"{'Lower' if metric.lower_is_better else 'Higher'} is better."


def p_value(value: float) -> str:
    """A p-value for reading, in three decimals, or as many as tell it from 0.05."""
    return "p < 0.001" if value < 0.001 else f"p = {p_number(value)}"


def p_number(value: float) -> str:
    """The number of a p-value, in three decimals, or as many as tell it from 0.05."""
    texts = (f"{value:.{digits}f}" for digits in range(3, 9))
    return next((text for text in texts if float(text) != THRESHOLD), f"{value:.3f}")


def percent(share: float) -> str:
    """A small share in two significant digits: `8.1 %`."""
    return f"{100 * share:.2g} %" if share >= 1e-4 else "less than 0.01 %"


def duration(seconds: float) -> str:
    """A time span for reading: `1 h 03 min`, `2 min 05 s` or `7 s`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def join(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def uncertainty(gains: Sequence[PairedDifference], where: str = "", metric: Metric = METRICS[NLL]) -> str:
    """What paired differences are uncertain by, and how verdicts are reached.

    Args:
        gains: the differences that are corrected together, at least one.
        where: at what each such set is taken, such as ` at each stop`.
        metric: what is compared.
    """
    sample = metric.sample or "windows"
    counts = sorted({len(gain.by_seed) for gain in gains})
    seeds = " to ".join(map(str, counts)) + (" seed" if counts == [1] else " seeds")
    sentences = [f"Each difference is paired over {seeds}: both arms share seed, data and {sample}."]
    tested = [len(gain.by_seed) for gain in gains if gain.p_value is not None]
    if tested:
        sentences.append(
            f"The p-values of the paired t tests are corrected (Holm) for {len(tested)} "
            f"comparison{'s' * (len(tested) > 1)}{where}; the 95 % intervals are not corrected. "
            f"{_provisional(tested)}"
        )
    if 2 in tested:
        sentences.append(
            "Two seeds say little about their own spread: their 95 % interval reaches 12.7 standard errors "
            "to each side."
        )
    if 1 in counts:
        sentences.append("One seed has no spread, so it decides nothing.")
    same = sum(gain.p_value is None and len(gain.by_seed) > 1 for gain in gains)
    if same:
        sentences.append(
            f"{same} comparison{'s have' if same > 1 else ' has'} the same difference at every seed, which "
            "leaves no spread to judge by: undecided, and not counted among the tests."
        )
    return " ".join([*sentences, scope([gain.window_standard_error for gain in gains], metric)])


def _provisional(tested: Sequence[int]) -> str:
    """What a provisional winner is, how often chance makes one, and how many of them to expect.

    Args:
        tested: the number of seeds of each comparison.
    """
    rates = [f"{n} seeds do so in {percent(provisional_rate(n))}" for n in sorted(set(tested))]
    said = (
        "A winner is called provisional where that p-value is 0.05 or more and yet all seeds agree by more "
        f"than they differ from one another. With no true difference {join(rates)} of comparisons"
    )
    if len(tested) == 1:
        return f"{said}."
    expected = sum(provisional_rate(n) for n in tested)
    return (
        f"{said}. This rate is for each comparison and not corrected: if no arm differed, about "
        f"{expected:.2g} of {len(tested)} would be provisional by chance."
    )


def scope(errors: Sequence[float | None], metric: Metric = METRICS[NLL], unit: str | None = None) -> str:
    """What the verdicts are about, and what is uncertain beyond it.

    Args:
        errors: the differences' standard errors over windows, items or prompts; None where not known.
        metric: what is compared.
        unit: of the errors, where it is not the metric's.
    """
    sample = metric.sample or "windows"
    said = (
        f"Verdicts are about these unique tokens and these held-out {sample}, which all seeds share. What "
        "other tokens to train on would change is not measured. As a statement about the whole corpus, a "
        "difference carries a further standard error"
    )
    known = [error for error in errors if error is not None]
    if not known:
        return f"{said} from the number of {sample}, which is not known."
    sizes = dict.fromkeys(f"{size:.{metric.decimals}f}" for size in (min(known), max(known)))
    size = f"{' to '.join(sizes)} {metric.unit if unit is None else unit}".strip()
    return (
        f"{said} of {size} from the number of {sample}. That adds the arms' errors as if each had {sample} "
        f"of its own, which makes it too large, and treats {sample} as independent although several come "
        "from one document, which makes it too small."
    )


def last_stop(count: int, runs: int) -> str:
    """The mark of an arm of which some runs were best at their last stop; nothing if none was."""
    return f"last stop; {count} of {runs} seed{'s' * (runs != 1)}" if count else ""


def improving(arms: Mapping[str, tuple[int, int]], *, verdicts: bool = True) -> str:
    """Which arms were best at their last stop, and what that means; or nothing.

    Args:
        arms: name -> how many of its runs were, and of how many.
        verdicts: say too that the verdicts hold within this run length.
    """
    told = [
        f"{name} ({count} of {runs} seed{'s' * (runs != 1)})" for name, (count, runs) in arms.items() if count
    ]
    if not told:
        return ""
    was, run, it = ("were", "their runs", "them") if len(told) > 1 else ("was", "its run", "it")
    held = f", and verdicts on {it} hold {WITHIN}" if verdicts else ""
    return f"{join(told)} {was} still improving when {run} ended, so this is for this many tokens{held}."


def improving_clause(arms: Mapping[str, tuple[int, int]]) -> str:
    """The same as the end of a headline, few arms by name and many by number; or nothing.

    Args:
        arms: name -> how many of its runs were best at their last stop, and of how many.
    """
    names = [name for name, (count, _) in arms.items() if count]
    if not names:
        return ""
    told = join(names) if len(names) <= NAMED else f"{len(names)} of {len(arms)} arms"
    ended = "their runs" if len(names) > 1 else "its run"
    return f"; what is said of {told}, still improving when {ended} ended, holds {WITHIN}"


def left_out(tree: ResultTree, gaps: Sequence[str]) -> str:
    """What is missing from the comparison, or nothing.

    Args:
        tree: the planned runs and their states.
        gaps: what the missing runs take out of it, such as `seed 1 with 20,000 unique tokens`.
    """
    statuses = [cell.status for cell in tree.cells]
    failed, missing = statuses.count("failed"), statuses.count("missing")
    if not failed and not missing:
        return ""
    dropped = f" Left out: {join(gaps)}." if gaps else ""
    return (
        f"Of {len(statuses)} planned runs, {failed} failed and {missing} are missing. "
        f"Only seeds that both arms finished are compared.{dropped}"
    )

"""Numbers, lists and gaps in words, the same on every page."""

import math
from collections.abc import Sequence

from lab.reporting.results import ResultTree
from lab.reporting.statistics import PairedDifference

READING_WORDS = {"annealed": "annealed stops", "along_run": "stops along one run"}
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


def signed(value: float) -> str:
    """A difference with its sign, in three decimals."""
    return f"{value:+.3f}".replace("-", "−")


def p_value(value: float) -> str:
    """A p-value for reading, in three decimals."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def duration(seconds: float) -> str:
    """A time span for reading: `1 h 03 min`, `2 min 05 s` or `7 s`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def join(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def uncertainty(gains: Sequence[PairedDifference], where: str = "") -> str:
    """What paired differences are uncertain by, and how verdicts are reached.

    Args:
        gains: the differences that are corrected together, at least one.
        where: at what each such set is taken, such as ` at each stop`.
    """
    counts = sorted({len(gain.by_seed) for gain in gains})
    seeds = " to ".join(map(str, counts)) + (" seed" if counts == [1] else " seeds")
    sentences = [f"Each difference is paired over {seeds}: both arms share seed, data and windows."]
    tested = sum(gain.p_value is not None for gain in gains)
    if tested:
        sentences.append(
            f"The p-values of the paired t tests are corrected (Holm) for {tested} "
            f"comparison{'s' * (tested > 1)}{where}. A winner is called provisional where that p-value is "
            "0.05 or more and yet all seeds agree by more than they differ from one another."
        )
    if 2 in counts:
        sentences.append(
            "Two seeds say little about their own spread: their 95 % interval reaches 12.7 standard errors "
            "to each side, and with no true difference two seeds pass as provisional in 30 % of cases."
        )
    if 1 in counts:
        sentences.append("One seed has no spread, so it decides nothing.")
    largest = max(gain.window_standard_error for gain in gains)
    sentences.append(
        "The verdict is about these held-out windows. As a statement about the whole corpus, each difference "
        f"carries a further standard error of at most {largest:.3f} nats/token from the number of windows; "
        "both arms read the same windows, so the true one is smaller."
    )
    return " ".join(sentences)


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

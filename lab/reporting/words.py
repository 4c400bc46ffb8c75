"""Numbers, lists and gaps in words, the same on every page."""

import math
from collections.abc import Sequence

from lab.reporting.results import ResultTree

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

"""The verdicts of a sweep as a table for the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from lab.files import Row
from lab.metrics import Metric
from lab.reporting.words import MARK, MARK_CAPTION, named, signed


def verdict_table(headline: str, arms: Sequence[Row], contrasts: Sequence[Row], metric: Metric) -> Table:
    """One line per arm, a section per level: what it reaches, and its gain with its interval and verdict."""
    table = Table(title=headline, title_justify="left", caption_justify="left", box=SIMPLE, padding=0)
    table.add_column("arm", no_wrap=True)
    table.add_column("best", justify="right", no_wrap=True)
    table.add_column("against")
    for heading in ("gain", "gain\nat end"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    compared = {(row["level"], row["arm"]): row for row in contrasts}
    for place, row in enumerate(arms):
        if row["level"] and (place == 0 or arms[place - 1]["level"] != row["level"]):
            table.add_section()
            table.add_row(row["level"], style="bold")
        value = row[f"best_test_{metric.key}"]
        best = "–" if value is None else f"{value:.{metric.decimals}f}"
        table.add_row(row["arm"], best, *_compared(compared.get((row["level"], row["arm"])), metric))
    gain = "that of the arm compared with − that"
    if not metric.lower_is_better:
        gain = "that − that of the arm compared with"
    table.caption = (
        f"best: test {named(metric, metric.unit)} at the best stop; gain: {gain}, "
        "mean and 95 % interval over seeds; positive: better"
    ) + (MARK_CAPTION if any(row["within_run_length"] for row in contrasts) else "")
    return table


def _compared(row: Row | None, metric: Metric) -> list[str]:
    if row is None:
        return []
    if row["best_gain"] is None:
        return [row["reference"], "–", "–", "not compared"]
    low, high = row["best_gain_interval_low"], row["best_gain_interval_high"]
    interval = "" if low is None else f"\n{signed(low, metric.decimals)} to {signed(high, metric.decimals)}"
    return [
        row["reference"],
        signed(row["best_gain"], metric.decimals) + interval,
        signed(row["end_gain"], metric.decimals),
        (row["best_verdict"] + MARK * row["within_run_length"]).replace(" (", "\n("),
    ]

"""The verdicts of a sweep as a table for the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from lab.reporting.tables import Row
from lab.reporting.words import MARK, MARK_CAPTION, signed


def verdict_table(headline: str, arms: Sequence[Row], contrasts: Sequence[Row]) -> Table:
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
        nll = row["best_test_nll"]
        best = "–" if nll is None else f"{nll:.3f}"
        table.add_row(row["arm"], best, *_compared(compared.get((row["level"], row["arm"]))))
    table.caption = (
        "best: test NLL in nats/token at the best stop; gain: that of the arm compared with − that, "
        "mean and 95 % interval over seeds; positive: better"
    ) + (MARK_CAPTION if any(row["within_run_length"] for row in contrasts) else "")
    return table


def _compared(row: Row | None) -> list[str]:
    if row is None:
        return []
    if row["best_gain"] is None:
        return [row["reference"], "–", "–", "not compared"]
    low, high = row["best_gain_interval_low"], row["best_gain_interval_high"]
    interval = "" if low is None else f"\n{signed(low)} to {signed(high)}"
    return [
        row["reference"],
        signed(row["best_gain"]) + interval,
        signed(row["end_gain"]),
        (row["best_verdict"] + MARK * row["within_run_length"]).replace(" (", "\n("),
    ]

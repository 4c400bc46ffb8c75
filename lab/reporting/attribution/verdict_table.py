"""The effects as a table for the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from lab.reporting.attribution.words import KIND_WORDS
from lab.reporting.tables import Row
from lab.reporting.words import p_number, signed


def verdict_table(headline: str, effects: Sequence[Row]) -> Table:
    """One line per effect on the test NLL: at the best stop with interval and verdict, and at the end.

    Args:
        headline: the finding in one sentence.
        effects: the rows of one reading and the NLL; none if attribution is refused.
    """
    table = Table(title=headline, title_justify="left", caption_justify="left", box=SIMPLE, padding=0)
    table.add_column("effect", no_wrap=True)
    for heading in ("gain,\nbest stop", "95 % interval", "Holm\np", "gain,\nend"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict,\nbest stop", no_wrap=True)
    at_end = {(row["kind"], row["effect"]): row for row in effects if row["stop"] == "end"}
    kind = None
    for row in effects:
        if row["stop"] != "best":
            continue
        if row["kind"] != kind:
            kind = row["kind"]
            table.add_row(f"[bold]{KIND_WORDS[kind]}[/bold]")
        low, high, p = row["interval_low"], row["interval_high"], row["holm_p_value"]
        table.add_row(
            f" {row['effect']}",
            signed(row["mean"]),
            "–" if low is None else f"{signed(low)} to {signed(high)}",
            "–" if p is None else p_number(p),
            signed(at_end[row["kind"], row["effect"]]["mean"]),
            row["verdict"].replace(" (uncorrected)", "\n(alone)"),
        )
    table.caption = (
        "test NLL, nats/token; positive: better than without\n"
        "alone: p < 0.05 by itself, but not corrected for the ten effects"
    )
    return table

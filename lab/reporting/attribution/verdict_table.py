"""The effects as a table for the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from lab.files import Row
from lab.metrics import Metric
from lab.reporting.attribution.findings import unit_of
from lab.reporting.attribution.words import KIND_WORDS
from lab.reporting.words import p_number, signed


def verdict_table(headline: str, effects: Sequence[Row], metric: Metric) -> Table:
    """One line per effect on what is compared: at the best stop with interval and verdict, and at the end.

    Args:
        headline: the finding in one sentence.
        effects: the rows of one reading and the metric; none if attribution is refused.
        metric: what is compared.
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
            signed(row["mean"], metric.decimals),
            "–" if low is None else f"{signed(low, metric.decimals)} to {signed(high, metric.decimals)}",
            "–" if p is None else p_number(p),
            signed(at_end[row["kind"], row["effect"]]["mean"], metric.decimals),
            row["verdict"].replace(" (uncorrected)", "\n(alone)"),
        )
    compared = ", ".join(filter(None, [f"test {metric.name}", unit_of(metric)]))
    table.caption = (
        f"{compared}; positive: better than without\n"
        "alone: p < 0.05 by itself, but not corrected for the ten effects"
    )
    return table

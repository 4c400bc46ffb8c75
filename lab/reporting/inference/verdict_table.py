"""The comparisons of an inference ablation as a table for the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from lab.evaluation.measurements import CHOICE, GENERATION
from lab.files import Row
from lab.reporting.inference.findings import METRICS
from lab.reporting.inference.words import arm_name, sampler_name
from lab.reporting.words import MARK, MARK_CAPTION, plain, signed


def verdict_table(headline: str, matches: Sequence[Row]) -> Table:
    """One line per curve compared with AR: the compute to match it, and the gain at the most compute."""
    table = Table(title=headline, title_justify="left", caption_justify="left", box=SIMPLE, padding=0)
    for heading in ("text or choice by", "to match AR\n× FLOPs", "at most\n× FLOPs", "gain there", "verdict"):
        table.add_column(heading, justify="left" if heading in ("text or choice by", "verdict") else "right")
    for place, row in enumerate(matches):
        if place and matches[place - 1]["kind"] != row["kind"]:
            table.add_section()
        table.add_row(
            f"{arm_name(row['arm'])}, {sampler_name(row['sampler'])}",
            match_text(row),
            "–" if row["most_flops_ratio"] is None else plain(row["most_flops_ratio"]),
            _gain(row),
            (row["verdict"] + MARK * row["within_run_length"] if row["verdict"] else "not compared").replace(
                " (", "\n("
            ),
        )
    text, chosen = METRICS[GENERATION], METRICS[CHOICE]
    table.caption = (
        f"gain: {text.name} ({text.unit}) or {chosen.name} against AR's, mean and 95 % interval over seeds; "
        "positive: better"
    ) + (MARK_CAPTION if any(row["within_run_length"] for row in matches) else "")
    return table


def match_text(row: Row) -> str:
    """What a curve needs to match AR: a multiple, `at most` one, or in how many seeds it matches."""
    if row["seeds_that_match"] == 0:
        never = "not for good" if row["in_passing"] else "never"
        return never if row["seeds"] else "–"
    if row["flops_ratio"] is None:
        return f"in {row['seeds_that_match']} of {row['seeds']} seeds"
    return ("≤ " if row["from_first"] else "") + plain(row["flops_ratio"])


def _gain(row: Row) -> str:
    if row["gain"] is None:
        return "–"
    low, high = row["gain_interval_low"], row["gain_interval_high"]
    return signed(row["gain"]) + ("" if low is None else f"\n{signed(low)} to {signed(high)}")

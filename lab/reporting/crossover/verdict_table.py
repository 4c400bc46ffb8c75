"""The verdict of a crossover as a table for the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from lab.files import Row
from lab.metrics import Metric
from lab.reporting.crossover.words import notes
from lab.reporting.words import MARK, MARK_CAPTION, named, plain, signed


def verdict_table(headline: str, verdicts: Sequence[Row], metric: Metric) -> Table:
    """One line per budget: both best stops, the gain with its seed range, the crossover and the verdict."""
    table = Table(title=headline, title_justify="left", caption_justify="left", box=SIMPLE, padding=0)
    for heading in ("unique\ntokens", "AR best", "DLM best", "gain\nseeds", "crossover"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    gain_of = "AR − DLM" if metric.lower_is_better else "DLM − AR"
    for row in verdicts:
        gain = "–"
        if row["gain"] is not None:
            mean, low, high = (
                signed(row[name], metric.decimals) for name in ("gain", "gain_low", "gain_high")
            )
            gain = f"{mean}\n{low} to {high}"
        table.add_row(
            "–" if row["unique_tokens"] is None else f"{row['unique_tokens']:,}",
            *(
                _best(metric, row[f"{arm}_test_{metric.key}"], row[f"{arm}_best_epoch"])
                for arm in ("ar", "dlm")
            ),
            gain,
            "\n".join([row["crossover"], *notes(row["below_best"])]),
            (row["verdict"] + MARK * row["within_run_length"]).replace(" (", "\n("),
        )
    table.caption = (
        f"best: test {named(metric, metric.unit)} @ epoch of the best stop; "
        f"gain: {gain_of}, mean and range over seeds"
    ) + (MARK_CAPTION if any(row["within_run_length"] for row in verdicts) else "")
    return table


def _best(metric: Metric, value: float | None, epoch: float | None) -> str:
    return "–" if value is None or epoch is None else f"{value:.{metric.decimals}f} @ {plain(epoch)}"

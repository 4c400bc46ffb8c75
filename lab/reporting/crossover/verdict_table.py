"""The verdict of a crossover as a table for the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.table import Table

from lab.reporting.crossover.words import notes
from lab.reporting.tables import Row
from lab.reporting.words import MARK, MARK_CAPTION, plain, signed


def verdict_table(headline: str, verdicts: Sequence[Row]) -> Table:
    """One line per budget: both best stops, the gain with its seed range, the crossover and the verdict."""
    table = Table(title=headline, title_justify="left", caption_justify="left", box=SIMPLE, padding=0)
    for heading in ("unique\ntokens", "AR best", "DLM best", "gain\nseeds", "crossover"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for row in verdicts:
        gain = "–"
        if row["gain"] is not None:
            gain = f"{signed(row['gain'])}\n{signed(row['gain_low'])} to {signed(row['gain_high'])}"
        table.add_row(
            "–" if row["unique_tokens"] is None else f"{row['unique_tokens']:,}",
            *(_best(row[f"{arm}_test_nll"], row[f"{arm}_best_epoch"]) for arm in ("ar", "dlm")),
            gain,
            "\n".join([row["crossover"], *notes(row["below_best"])]),
            (row["verdict"] + MARK * row["within_run_length"]).replace(" (", "\n("),
        )
    table.caption = (
        "best: test NLL in nats/token @ epoch of the best stop; gain: AR − DLM, mean and range over seeds"
    ) + (MARK_CAPTION if any(row["within_run_length"] for row in verdicts) else "")
    return table


def _best(nll: float | None, epoch: float | None) -> str:
    return "–" if nll is None or epoch is None else f"{nll:.3f} @ {plain(epoch)}"

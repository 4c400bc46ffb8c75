"""What the report of a crossover says."""

from lab.metrics import NLL, find_metric
from lab.reporting.content import Content
from lab.reporting.crossover import figures, tables, words
from lab.reporting.crossover.findings import Crossover, analyse
from lab.reporting.crossover.verdict_table import verdict_table
from lab.reporting.results import ResultTree
from lab.reporting.statistics import Verdict

# What the table of best stops shows beside what is compared.
OTHERS = (NLL, "bits_per_byte", "choice_accuracy", "option_gap")


def content(tree: ResultTree) -> Content:
    """Compare the DLM with the AR at each budget of a result tree.

    Raises:
        ValueError: if no run has finished, an arm is absent from the plan, or the arms may not be compared.
    """
    crossover = analyse(tree)
    others = list(crossover.readings)[1:]
    headline = words.headline(crossover)
    verdicts = {reading: tables.verdict_rows(budgets) for reading, budgets in crossover.readings.items()}
    best_stops = tables.best_stop_rows(crossover.budgets)
    return Content(
        headline=headline,
        left_out=words.left_out(crossover),
        template="crossover.html.jinja",
        page={
            "budgets": [
                {"found": words.found(budget), "crossing": words.crossing_sentence(budget)}
                for budget in crossover.budgets
            ],
            "uncertainty": words.uncertainty(crossover),
            "verdicts": verdicts[crossover.headline],
            "other_verdicts": {reading: verdicts[reading] for reading in others},
            "best_stops": best_stops,
            "crossing_notes": words.notes,
            "beyond": words.beyond(tree.metric),
            "others": [find_metric(key) for key in OTHERS if key != tree.metric.key],
        },
        figures=figures.draw_all(crossover),
        summary={
            "comparisons": sum(budget.adjusted_p is not None for budget in crossover.budgets),
            "budgets_won": _won(crossover),
            "verdicts": verdicts[crossover.headline],
            "verdicts_by_reading": verdicts,
            "best_stops": best_stops,
        },
        verdict_table=verdict_table(headline, verdicts[crossover.headline], tree.metric),
    )


def _won(crossover: Crossover) -> dict[str, int]:
    """How many budgets each arm wins by the corrected test and provisionally, and how many neither."""
    verdicts = [budget.verdict for budget in crossover.budgets]
    return {
        "dlm": verdicts.count(Verdict(1, "test")),
        "ar": verdicts.count(Verdict(-1, "test")),
        "dlm_provisionally": verdicts.count(Verdict(1, "seed spread")),
        "ar_provisionally": verdicts.count(Verdict(-1, "seed spread")),
        "undecided": sum(verdict.winner == 0 for verdict in verdicts),
    }

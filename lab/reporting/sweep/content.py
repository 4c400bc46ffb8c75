"""What the report of a sweep says."""

from lab.metrics import find_metric
from lab.reporting.content import Content
from lab.reporting.results import STOPS, YARDSTICK, ResultTree
from lab.reporting.sweep import figures, tables, words
from lab.reporting.sweep.findings import analyse
from lab.reporting.sweep.verdict_table import verdict_table


def content(tree: ResultTree) -> Content:
    """Compare each arm of a result tree with the arm that its plan names for it.

    Raises:
        ValueError: if no run has finished, or the arms may not be compared.
    """
    sweep = analyse(tree)
    others = list(sweep.readings)[1:]
    headline = words.headline(sweep)
    contrasts = {reading: tables.contrast_rows(levels) for reading, levels in sweep.readings.items()}
    arms = {reading: tables.arm_rows(levels) for reading, levels in sweep.readings.items()}
    found = [
        {"best": words.found(level, reference), "end": words.found_at_end(level, reference)}
        for level in sweep.levels
        for reference in level.groups
    ]
    return Content(
        headline=headline,
        left_out=words.left_out(sweep),
        template="sweep.html.jinja",
        page={
            "found": found,
            "uncertainty": words.uncertainty(sweep),
            "contrasts": contrasts[sweep.headline],
            "other_contrasts": {reading: contrasts[reading] for reading in others},
            "arms": arms[sweep.headline],
            "stops": STOPS,
            "others": [find_metric(key) for key in YARDSTICK if key != tree.metric.key],
        },
        figures=figures.draw_all(sweep),
        summary={
            "comparisons": sum(row["best_holm_p_value"] is not None for row in contrasts[sweep.headline]),
            "found": found,
            "contrasts": contrasts[sweep.headline],
            "contrasts_by_reading": contrasts,
            "arms": arms[sweep.headline],
            "arms_by_reading": arms,
        },
        verdict_table=verdict_table(headline, arms[sweep.headline], contrasts[sweep.headline], tree.metric),
        tables={
            "arms": [row for rows in arms.values() for row in rows],
            "contrasts": [row for rows in contrasts.values() for row in rows],
        },
    )

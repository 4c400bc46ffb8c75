"""What the report of an attribution says."""

from lab.files import Row
from lab.reporting.attribution import figures, tables, words
from lab.reporting.attribution.findings import CONTROLS, analyse, unit_of
from lab.reporting.attribution.verdict_table import verdict_table
from lab.reporting.content import Content
from lab.reporting.results import STOPS, ResultTree
from lab.reporting.words import improving


def content(tree: ResultTree) -> Content:
    """Take the gain from AR to DLM apart over the eight corners of a result tree.

    Raises:
        ValueError: if no run has finished, a corner is absent from the plan, there is more than one level, or
            the arms may not be compared.
    """
    cube = analyse(tree)
    headline = words.headline(cube)
    effects = tables.effect_rows(cube)
    corners = {reading: tables.corner_rows(cube, reading) for reading in cube.readings}
    steps = tables.step_rows(cube)
    first = cube.readings[0]
    return Content(
        headline=headline,
        left_out=words.left_out(cube),
        template="attribution.html.jinja",
        page={
            "attributed": cube.headline is not None,
            "found": words.found(cube.headline) if cube.headline else "",
            "improving": improving(cube.improving(first), verdicts=False),
            "shares": tables.share_rows(cube, first),
            "uncertainty": words.uncertainty(cube),
            "corners": corners[first],
            "corners_by_reading": corners,
            "effects": {reading: _by_metric(effects, reading) for reading in cube.readings},
            "kind_words": words.KIND_WORDS,
            "level_words": words.LEVEL_WORDS,
            "metrics": cube.metrics,
            "metric_name": cube.name,
            "unit_of": unit_of,
            "stops": STOPS,
            "steps": [row for row in steps if row["reading"] == first],
            "asymmetries": {control: words.asymmetry(cube, control) for control in CONTROLS},
        },
        figures=figures.draw_all(cube),
        summary={
            "seeds": list(cube.seeds),
            "seeds_left_out": list(cube.left_out),
            "attributed": cube.headline is not None,
            "corners": corners[first],
            "corners_by_reading": corners,
            "effects": effects,
            "controls": steps,
        },
        verdict_table=verdict_table(
            headline,
            [row for row in effects if (row["reading"], row["metric"]) == (first, tree.plan.metric)],
            tree.metric,
        ),
        tables={
            "corners": [row for rows in corners.values() for row in rows],
            "effects": effects,
            "effects_by_seed": tables.by_seed_rows(cube),
            "controls": steps,
        },
    )


def _by_metric(rows: list[Row], reading: str) -> dict[str, list[dict[str, Row]]]:
    """Metric -> for each effect, its row at each stop."""
    found: dict[str, dict[tuple[str, str], dict[str, Row]]] = {}
    for row in rows:
        if row["reading"] == reading:
            effects = found.setdefault(row["metric"], {})
            effects.setdefault((row["kind"], row["effect"]), {})[row["stop"]] = row
    return {metric: list(effects.values()) for metric, effects in found.items()}

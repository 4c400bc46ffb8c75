"""What the report of an inference ablation says."""

from lab.evaluation.measurements import CHOICE, GENERATION
from lab.reporting.content import Content
from lab.reporting.inference import figures, tables, words
from lab.reporting.inference.findings import analyse
from lab.reporting.inference.verdict_table import match_text, verdict_table
from lab.reporting.results import ResultTree


def content(tree: ResultTree) -> Content:
    """Read what was measured of inference and compare each arm with AR.

    Raises:
        ValueError: if no run has finished, the arms may not be compared, or the ablation has levels.
    """
    found = analyse(tree)
    headline = words.headline(found)
    headline = headline[0].upper() + headline[1:]
    generations, choices = tables.generation_rows(found), tables.choice_rows(found)
    matches = tables.match_rows(found)
    judges = [cell for cell in tree.finished if cell.arm == found.judge]
    return Content(
        headline=headline,
        left_out=words.left_out(found),
        template="inference.html.jinja",
        page={
            "found": words.found_sentences(found),
            "full_cost": words.full_cost(found),
            "diversity": words.diversity(found),
            "uncertainty": words.uncertainty(found),
            "generations": generations,
            "choices": choices,
            "matches": [row | {"match": match_text(row)} for row in matches],
            "examples": tables.example_rows(found),
            "about": found.about,
            "parsed": any(row["parse_rate"] is not None for row in generations),
            "judge_tokens": sorted({cell.done.data.unique_tokens for cell in judges}),
            "prompts": sorted({cell.done.config.inference.prompts for cell in tree.finished}),
            "items": sorted({cell.done.config.inference.choice_items for cell in tree.finished}),
            "arm_name": words.arm_name,
            "sampler_name": words.sampler_name,
        },
        figures=figures.draw_all(found),
        summary={
            "found": words.found_sentences(found),
            "matches": matches,
            "generation": generations,
            "choice": choices,
        },
        verdict_table=verdict_table(headline, matches),
        tables={
            "generation": tables.seed_rows(found, GENERATION),
            "choice": tables.seed_rows(found, CHOICE),
        },
    )

"""Result trees of an older lab, converted once to today's records: their summaries keep every number.

`old_trees.tar.xz` holds a tree of each kind of page at preset smoke, as commit cfd9c60 computed it on the
standard library of Python 3.11.7, with the `old_summary.json` that it wrote. Both summaries are read as
numbers with names: what is measured, where, of whom. If a number changes its meaning, say why in `GONE`.
"""

import json
import re
import tarfile
from pathlib import Path

import pytest

from lab.reporting.report import write_report

ARCHIVE = Path(__file__).with_name("old_trees.tar.xz")
TREES = ("attribution", "crossover", "inference-compute", "regularization", "super-dense")
# Last part of a number's name -> why it is not there any more.
GONE = {
    "unique_tokens": "a level is told by its name; beside it stands the number in whole windows",
}
METRICS = ("nll", "choice_accuracy", "option_gap")
BY_PLACE = re.compile(r"(best|end)_(.*)")


def leaves(value, name=()):
    """(names of the way there, number) for every number in a JSON document."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*name, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*name, str(index)))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def fields(row, renamed, skipped=()):
    """The numbers of a row under today's names."""
    for name, number in leaves({key: item for key, item in row.items() if key not in skipped}):
        yield (renamed.get(name[0], name[0]), *name[1:]), number


ESTIMATE = {
    "gain": "mean",
    "gain_low": "low",
    "gain_high": "high",
    "gain_standard_deviation": "standard_deviation",
    "gain_interval_low": "interval_low",
    "gain_interval_high": "interval_high",
    "gain_window_standard_error": "held_out_error",
    "window_standard_error": "held_out_error",
    "gain_by_seed": "by_seed",
    "holm_p_value": "adjusted_p",
}
ARM = {
    "runs": "seeds",
    "validation_nll": "best_validation_nll",
    "best_test_nll": "best_nll",
    "best_test_nll_standard_deviation": "best_nll_standard_deviation",
    "best_test_nll_standard_error": "best_nll_standard_error",
    "end_test_nll": "end_nll",
    "end_test_nll_standard_deviation": "end_nll_standard_deviation",
}
MATCH = {
    "seeds_that_match": "seeds_that_reach",
    "flops_ratio": "geometric_mean",
    "flops_ratio_low": "interval_low",
    "flops_ratio_high": "interval_high",
    "flops_ratio_by_seed": "by_seed",
}
POINT = {"accuracy": "choice_accuracy", "accuracy_standard_deviation": "choice_accuracy_standard_deviation"}
POINT |= {
    f"gain{end}": f"gain_{name}"
    for end, name in (("", "mean"), ("_interval_low", "interval_low"), ("_interval_high", "interval_high"))
}


def old_numbers(summary):
    """Name -> number, as the older summary has them."""
    yield from (pair for pair in _old_crossover(summary))
    for rows in summary.get("contrasts_by_reading", {}).values():
        for row in rows:
            where = ("difference", row["reading"], row["level"], row["arm"], row["reference"], "nll")
            for name, number in fields(row, {}, ("within_run_length",)):
                place = BY_PLACE.fullmatch(name[0])
                told = (place[1], ESTIMATE.get(place[2], place[2])) if place else name
                yield (*where, *told), number
    for rows in summary.get("arms_by_reading", {}).values():
        for row in rows:
            yield from _under(("arm", row["reading"], row["level"], row["arm"]), fields(row, ARM))
    for rows in summary.get("corners_by_reading", {}).values():
        for row in rows:
            yield from _under(
                ("arm", row["reading"], "", row["arm"]), fields(row, {}, ("order", "compute", "draws"))
            )
    for row in summary.get("effects", ()):
        where = ("effect", row["reading"], row["metric"], row["kind"], row["effect"], row["stop"])
        yield from _under(where, fields(row, ESTIMATE, ("seeds",)))
    for row in summary.get("controls", ()):
        where = ("difference", row["reading"], "", row["to"], row["from"], row["metric"], row["stop"])
        yield from _under(where, fields(row, ESTIMATE, ("seeds",)))
    for row in summary.get("matches", ()):
        where = ("quantity", "match_ratio", "annealed", row["kind"], "", row["arm"], row["sampler"])
        kept = {
            key: item for key, item in row.items() if key in {*MATCH, "seeds", "from_first", "in_passing"}
        }
        for name, number in fields(kept, MATCH):
            yield (*where, *name, *(("flops_ratio",) if name[0] == "by_seed" else ())), number
    for kind in ("generation", "choice"):
        for row in summary.get(kind, ()):
            where = ("point", kind, row["arm"], row["sampler"], str(row["steps"]), str(row["num_draws"]))
            yield from _under(where, fields(row, POINT, ("steps", "num_draws")))
    for row in summary["tuning"] or ():
        yield from _under(("tuning", row["arm"], row["level"]), fields(row, {}))
    for row in summary["runs"]:
        yield from _under(("run", row["arm"], row["level"], row["seed"]), fields(row, {}, ("seed",)))


def _old_crossover(summary):
    for rows in summary.get("verdicts_by_reading", {}).values():
        for row in rows:
            level = f"unique_tokens={row['unique_tokens']}"
            where = ("difference", row["reading"], level, "dlm", "ar", "nll", "best")
            gains = {key: item for key, item in row.items() if key in {*ESTIMATE, "p_value"}}
            yield from _under(where, fields(gains, ESTIMATE))
            for arm in ("ar", "dlm"):
                own = {
                    key.removeprefix(f"{arm}_"): item
                    for key, item in row.items()
                    if key.startswith(f"{arm}_")
                }
                arms = ("arm", row["reading"], level, arm)
                yield from _under(arms, fields(own, {**ARM, "test_nll": "best_nll"}))
            for old, new in (("below_best", "crossing"), ("below_current", "equal_tokens")):
                found = {**row[old], "seeds_that_reach": row[old]["seeds_that_cross"]}
                quantity = ("quantity", new, row["reading"], "", level, "dlm", "")
                yield from _under(
                    quantity, fields(found, {}, ("seeds_that_cross", "from_first_stop", "holds_to_the_end"))
                )
    for row in summary.get("best_stops", ()):
        level = f"unique_tokens={row['unique_tokens']}"
        renamed = {key: f"best_{key.removeprefix('test_')}" for key in row if key.startswith("test_")}
        yield from _under(("arm", row["reading"], level, row["arm"]), fields(row, {**ARM, **renamed}))


def _under(where, found):
    return (((*where, *name), number) for name, number in found)


def new_numbers(summary):
    """Name -> number, as today's summary has them."""
    for section in summary["sections"]:
        for rows in section["tables"].values():
            for row in rows:
                yield from _new_row(section["kind"], row)
    for row in summary["arms"]:
        yield from _under(("arm", row["reading"], row["level"], row["arm"]), fields(row, {}))
    for row in (summary["tuning"] or {"tables": {"tuning_studies": []}})["tables"]["tuning_studies"]:
        yield from _under(("tuning", row["arm"], row["level"]), fields(row, {}))
    for row in summary["runs"]:
        yield from _under(("run", row["arm"], row["level"], row["seed"]), fields(row, {}, ("seed",)))


def _new_row(kind, row):
    if kind in ("differences", "factorial") and "metric" in row and "reading" in row:
        where = (
            ("difference", row["reading"], row["level"], row["arm"], row["reference"], row["metric"])
            if kind == "differences"
            else ("effect", row["reading"], row["metric"], row["kind"], row["effect"])
        )
        for name, number in fields(row, {}, ("within_run_length",)):
            place = BY_PLACE.fullmatch(name[0])
            told = (place[1], place[2], *name[1:]) if place else name
            yield (*where, *told), number
    elif kind == "quantity":
        where = (
            "quantity",
            row["quantity"],
            row["reading"],
            row["measurement"],
            row["level"],
            row["arm"],
            row["variant"],
        )
        yield from _under(where, fields(row, {}))
    elif kind == "against" and "flops_ratio" in row:
        measured = "generation" if "judge_nll" in row else "choice"
        where = (
            "point",
            measured,
            row["arm"],
            row["variant"],
            str(row["steps"]).removesuffix(".0"),
            str(row["num_draws"]).removesuffix(".0"),
        )
        yield from _under(where, fields(row, {}))


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("name", TREES)
def test_every_number_is_the_same_to_the_last_bit(trees, name):
    tree = trees / name / "smoke"
    old = dict(old_numbers(json.loads((tree / "old_summary.json").read_text())))
    new = dict(new_numbers(write_report(tree).summary))
    kept = {where: value for where, value in old.items() if where[-1] not in GONE}
    assert len(kept) > 100
    # A share's effects were in percentage points.
    shares = {where for where in kept if "choice_accuracy" in where and where[0] in ("effect", "difference")}
    assert {where: new.get(where) for where in kept.keys() - shares} == {
        where: kept[where] for where in kept.keys() - shares
    }
    for where in shares:
        scale = 1 if where[-1] in ("p_value", "adjusted_p") else 100
        assert scale * new[where] == pytest.approx(kept[where], rel=1e-9, abs=1e-12)

"""Result trees of an older lab, converted once to today's records: their summaries keep every number.

`old_trees.tar.xz` holds a tree of each kind of page at preset smoke, as commit cfd9c60 computed it on the
standard library of Python 3.11.7, with the `old_summary.json` that it wrote. `old_numbers.json.xz` holds the
numbers of these summaries under today's names, as this test at commit 5b925b0 read them: what is measured,
where, of whom.
"""

import json
import lzma
import re
from pathlib import Path

import pytest
from old_trees import unpack_old_trees

from lab.reporting.report import write_report

NUMBERS = json.loads(lzma.decompress(Path(__file__).with_name("old_numbers.json.xz").read_bytes()))
BY_PLACE = re.compile(r"(best|end)_(.*)")
# What names a row of a section's table; all else in it are numbers.
NAMES = {
    "differences": ("reading", "level", "arm", "reference", "metric"),
    "factorial": ("reading", "metric", "kind", "effect"),
    "quantity": ("quantity", "reading", "measurement", "level", "arm", "variant"),
    "against": ("arm", "variant", "steps", "num_draws"),
}
CALLED = {"differences": "difference", "factorial": "effect", "quantity": "quantity"}


def leaves(value, name=()):
    """(names of the way there, number) for every number in a JSON document."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from leaves(item, (*name, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


def numbers(where, row):
    """Name -> number of a row."""
    for name, number in leaves(row, where):
        yield " | ".join(str(part).removesuffix(".0") for part in name), number


def summary_numbers(summary):
    """Name -> number, as today's summary has them."""
    for section in summary["sections"]:
        for row in (row for rows in section["tables"].values() for row in rows):
            yield from section_numbers(section["kind"], row)
    for row in summary["arms"]:
        yield from numbers(("arm", row["reading"], row["level"], row["arm"]), row)
    for row in summary["runs"]:
        yield from numbers(("run", row["arm"], row["level"], row["seed"]), row)


def section_numbers(kind, row):
    if kind not in NAMES or not {*NAMES[kind]} <= row.keys():
        return
    where = tuple(row[name] for name in NAMES[kind])
    if kind == "against":
        where = ("point", "generation" if "judge_nll" in row else "choice", *where)
    else:
        where = (CALLED[kind], *where)
    for name, value in row.items():
        place = BY_PLACE.fullmatch(name) if kind in ("differences", "factorial") else None
        yield from numbers((*where, *(place.groups() if place else (name,))), value)


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    unpack_old_trees(folder)
    return folder


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_is_the_same_to_the_last_bit(trees, name):
    new = dict(summary_numbers(write_report(trees / name / "smoke").summary))
    # A share's effects were in percentage points.
    shares = {where for where in NUMBERS[name] if re.match(r"(effect|difference) .*choice_accuracy", where)}
    # The arms' own errors were added up; today's are paired, by document.
    gone = {where for where in NUMBERS[name] if where.endswith("held_out_error")}
    # Trials were pruned, and what they had reached counted for nothing.
    gone |= {where for where in NUMBERS[name] if where.startswith("tuning |")}
    # Of runs that see equally many tokens the same, but it was a ratio of speeds.
    times = {where for where in NUMBERS[name] if where.endswith("train_time_ratio")}
    assert {where: new.get(where) for where in times} == pytest.approx({w: NUMBERS[name][w] for w in times})
    gone |= times
    kept = {where: value for where, value in NUMBERS[name].items() if where not in shares | gone}
    assert len(kept) > 100
    assert {where: new.get(where) for where in kept} == kept
    for where in shares - gone:
        scale = 1 if where.endswith(("p_value", "adjusted_p")) else 100
        assert scale * new[where] == pytest.approx(NUMBERS[name][where], rel=1e-9, abs=1e-12)

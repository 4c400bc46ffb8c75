"""Result trees of an older lab, converted once to today's records: their summaries keep every number.

`old_trees.tar.xz` holds a tree of each kind of report at preset smoke, as commit cfd9c60 computed it on
the standard library of Python 3.11.7, with the `old_summary.json` that it wrote. If a number changes its
meaning, name it in `RENAMED` or `GONE` and say why in the change.
"""

import json
import re
import tarfile
from pathlib import Path

import pytest

from lab.reporting.report import write_report

ARCHIVE = Path(__file__).with_name("old_trees.tar.xz")
TREES = ("attribution", "crossover", "inference-compute", "regularization", "super-dense")
RENAMED = {"accuracy": "choice_accuracy", "accuracy_standard_deviation": "choice_accuracy_standard_deviation"}
GONE = {"schema", "plan.unit"}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def numbers(value, place=""):
    """Place -> number, for every number in a JSON document; `a.b[0]`."""
    if isinstance(value, dict):
        for key, item in value.items():
            key = RENAMED.get(key, key)
            yield from numbers(item, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from numbers(item, f"{place}[{index}]")
    elif isinstance(value, int | float):
        yield place, value


@pytest.mark.parametrize("name", TREES)
def test_every_number_is_the_same_to_the_last_bit(trees, name):
    tree = trees / name / "smoke"
    old = dict(numbers(json.loads((tree / "old_summary.json").read_text())))
    new = dict(numbers(write_report(tree).summary))
    kept = {place: value for place, value in old.items() if re.sub(r"\[\d+\]", "", place) not in GONE}
    assert len(kept) > 100
    assert {place: new.get(place) for place in kept} == kept

"""What committed studies keep: provenance, and the NLL of every held-out window."""

import csv
import io
import json

import pytest
from fake_trees import DOCUMENTS
from report_pages import read_page

from lab.reporting.report import write_report
from lab.sections import Curves

pytestmark = pytest.mark.usefixtures("no_pictures")
ONE = {"budgets": (20_000,), "seeds": (0,), "sections": (Curves(),)}


def test_provenance_names_all_that_numbers_follow_from(fake_tree):
    tree = fake_tree(**ONE)

    def other(result):
        result["process"] |= {"cpu": "Slow CPU 1", "threads": 8, "population": ["a1", "b2"]}
        result["process"]["versions"]["python"] = "3.12.1"
        result["data"]["packages"] = {"keras-hub": "0.32.0", "keras": "3.15.1"}

    tree.edit("dlm", 20_000, 0, other)
    report = write_report(tree.path)
    told = report.summary["provenance"]
    assert told["Processor and threads"] == "Fast CPU 3000, 2 threads / Slow CPU 1, 8 threads"
    assert told["Trained together"] == "2 runs: a1, b2"
    assert told["Data hash by unique tokens"] == "20,000: data20000"
    assert told["Held-out hashes"] == "validation: va1, test: 7e57"
    assert told["Packages of the corpus"] == "keras 3.15.1, keras-hub 0.32.0"
    assert "python 3.11.7 / 3.12.1" in told["Versions"]
    assert told["Code hash"] == "feedfacecafebeef"
    text = read_page(report).text
    for value in told.values():
        assert value in text
    assert "bit for bit, on the same machine only" in text


def test_provenance_has_no_line_for_what_there_is_none_of(fake_tree):
    told = write_report(fake_tree(**ONE).path).summary["provenance"]
    assert not {"Packages of the corpus", "Trained together"} & set(told)


def test_the_plan_in_the_summary_is_the_plan_without_its_cells(fake_tree):
    tree = fake_tree(**ONE)
    plan = write_report(tree.path).summary["plan"]
    planned = json.loads((tree.path / "plan.json").read_text())
    assert {name: plan[name] for name in planned.keys() - {"cells", "schema"}} == {
        name: value for name, value in planned.items() if name not in ("cells", "schema")
    }
    assert not {"cells", "schema", "schema_version", "unit"} & set(plan)


def test_every_window_of_the_best_and_last_stops_is_kept(fake_tree):
    tree = fake_tree(**{**ONE, "seeds": (0, 1)})
    report = write_report(tree.path)
    rows = list(csv.DictReader(io.StringIO((report.page.parent / "windows.csv").read_text())))
    assert "windows.csv" in read_page(report).links
    # runs, readings, stops, splits, windows
    assert len(rows) == 4 * 2 * 2 * 2 * 4
    place = {"arm": "ar", "seed": "1", "reading": "annealed", "which": "best", "split": "test"}
    own = [row for row in rows if place.items() <= row.items()]
    assert [int(row["window"]) for row in own] == [0, 1, 2, 3]
    assert [int(row["document"]) for row in own] == list(DOCUMENTS)
    best = json.loads((tree.logdir("ar", 20_000, 1) / "result.json").read_text())["stops"][4]["measured"]
    kept = next(row for row in best if row["task"]["split"] == "test")["examples"]["values"]
    assert [float(row["nll"]) for row in own] == kept
    assert sum(kept) / 4 == pytest.approx(2.74)


def test_without_examples_the_file_of_windows_is_empty(fake_tree):
    tree = fake_tree(**ONE)

    def forget(result):
        for stop in result["stops"]:
            for row in stop["measured"]:
                row.pop("examples", None)

    for arm in tree.arms:
        tree.edit(arm, 20_000, 0, forget)
    report = write_report(tree.path)
    assert (report.page.parent / "windows.csv").read_text().strip() == ""

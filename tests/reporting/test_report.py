import csv
import io
import json
import math
import subprocess
import sys
from typing import get_args

import pytest
from report_pages import Page, assert_needs_no_network_and_no_script, read_page
from rich.console import Console

from lab.ablation import Analysis
from lab.reporting.report import ANALYSES, write_report


def test_summary_holds_the_numbers_of_the_page(fake_tree):
    report = write_report(fake_tree().path)
    summary = json.loads((report.page.parent / "summary.json").read_text())
    verdicts, best, *_ = read_page(report).tables
    assert summary["schema"] == 2
    assert len(verdicts) == 1 + len(summary["verdicts"])
    for cells, row in zip(verdicts[1:], summary["verdicts"], strict=True):
        shown = " ".join(cells).replace("−", "-").replace("\n", " ")
        assert cells[0] == f"{row['unique_tokens']:,}"
        assert row["verdict"] in shown
        numbers = ("ar_test_nll", "dlm_test_nll", "gain_window_standard_error", "holm_p_value")
        signed = ("gain", "gain_low", "gain_high", "gain_interval_low", "gain_interval_high")
        for text in [f"{row[name]:.3f}" for name in numbers] + [f"{row[name]:+.3f}" for name in signed]:
            assert text in shown
    for cells, row in zip(best[1:], summary["best_stops"], strict=True):
        shown = " ".join(cells)
        assert cells[1] == row["arm"].upper()
        for name in ("validation_nll", "test_nll", "test_nll_standard_deviation", "test_bits_per_byte"):
            assert f"{row[name]:.3f}" in shown
        assert f"{100 * row['test_choice_accuracy']:.1f} %" in shown
        assert (cells[-1] == "–") == (row["test_nelbo"] is None) == (row["arm"] == "ar")
    assert "bound" in best[0][-1]
    assert report.summary["headline"] == summary["headline"]
    assert report.summary["headline"] in read_page(report).text


def test_summary_numbers_are_the_known_ones(fake_tree):
    tree = fake_tree()
    report = write_report(tree.path)
    small, _, large = report.summary["verdicts"]
    assert small["gain"] == pytest.approx(0.165)
    assert small["below_best"]["epoch"] == pytest.approx((2**7.25 + 2**7.1) / 2)
    assert small["below_best"]["by_seed"]["0"]["tokens_seen"] == pytest.approx(20_000 * 2**7.25)
    assert (small["verdict"], large["below_best"]["epoch"]) == ("DLM wins (provisional)", None)
    summary = json.loads((report.page.parent / "summary.json").read_text())
    assert summary["budgets_won"] == {
        "dlm": 0,
        "ar": 2,
        "dlm_provisionally": 1,
        "ar_provisionally": 0,
        "undecided": 0,
    }
    assert summary["comparisons"] == 3
    assert summary["run_counts"] == {"done": 12, "failed": 0, "missing": 0}
    assert summary["runs"][0]["tokens_per_second"] == 30_000
    assert summary["provenance"]["Code hash"] == "feedfacecafebeef"


def test_the_page_says_that_stops_are_a_grid_and_explains_its_words(fake_tree):
    page = read_page(write_report(fake_tree(seeds=(0, 1, 2)).path))
    assert "each at about 2.0 times the tokens of the one before: the best one measured is not" in page.text
    for word in ("Paired t", "Holm p", "Window error", "Draw", "Provisional"):
        assert page.text.count(f"\n{word}") == 1
    assert (
        "Chance alone does this in 30 % of comparisons with 2 seeds, 8.1 % of comparisons with 3" in page.text
    )
    assert "too few for a test" not in page.text


def test_the_tables_mark_a_best_stop_at_the_end_of_its_run(fake_tree):
    verdicts, best, *_ = read_page(write_report(fake_tree().path)).tables
    assert [
        ("last stop; 2 of 2 seeds" in row[2], "last stop; 2 of 2 seeds" in row[3]) for row in verdicts[1:]
    ] == [
        (False, True),
        (False, True),
        (True, True),
    ]
    assert all("within this run length" in row[1] for row in verdicts[1:])
    marked = ["last stop; 2 of 2 seeds" in row[3] for row in best[1:]]
    assert marked == [False, True, False, True, True, True]


def test_the_page_needs_no_network_and_no_script(fake_tree):
    report = write_report(fake_tree().path)
    assert_needs_no_network_and_no_script(report)
    assert sum(link.startswith("data:") for link in read_page(report).links) == 4


def test_a_hostile_text_stays_text(fake_tree):
    hostile = 'Does <script>alert(1)</script> & "quotes" {{ 7 * 7 }} win?'
    tree = fake_tree(question=hostile)
    tree.fail("dlm", 80_000, 1, "<img src=x onerror=alert(2)>")
    report = write_report(tree.path)
    html = report.page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "<img src=x" not in html
    page = Page(html)
    assert hostile in page.text
    assert "<img src=x onerror=alert(2)>" in page.text


def test_failed_and_missing_runs_are_shown_and_counted(fake_tree):
    tree = fake_tree(seeds=(0, 1, 2))
    tree.fail("dlm", 80_000, 1, "NaN in the training loss")
    (tree.logdir("ar", 20_000, 0) / "result.json").unlink()
    report = write_report(tree.path)
    text = read_page(report).text
    assert "Of 18 planned runs, 1 failed and 1 are missing" in text
    assert "failed: NaN in the training loss" in text
    assert "RuntimeError: last line" in text
    assert [row["seeds"] for row in report.summary["verdicts"]] == [[1, 2], [0, 2], [0, 1, 2]]


def test_csv_has_every_stop_once(fake_tree):
    tree = fake_tree()
    folder = write_report(tree.path).page.parent
    curves = list(csv.DictReader(io.StringIO((folder / "curves.csv").read_text())))
    assert len(curves) == 12 * 2 * 9
    keys = {(r["arm"], r["unique_tokens"], r["seed"], r["reading"], r["tokens_seen"]) for r in curves}
    assert len(keys) == len(curves)
    row = next(r for r in curves if (r["arm"], r["reading"], r["seed"]) == ("dlm", "annealed", "1"))
    truth = tree.dlm_nll(int(row["tokens_seen"]), int(row["unique_tokens"]), 1)
    assert math.isclose(float(row["validation_nll"]), truth)
    best = list(csv.DictReader(io.StringIO((folder / "best_stops.csv").read_text())))
    assert len(best) == 12 * 2 * 2
    assert {r["which"] for r in best} == {"best", "end"}
    assert next(r for r in best if r["arm"] == "ar")["test_nelbo"] == ""


def test_writing_twice_gives_the_same_bytes(fake_tree):
    tree = fake_tree(budgets=(20_000,))
    folder = write_report(tree.path).page.parent
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_report(tree.path)
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}
    names = {"index.html", "summary.json", "curves.csv", "best_stops.csv", "windows.csv"}
    drawn = ("validation_nll", "choice", "best_stops", "training_flops")
    assert set(first) == names | {f"{name}.{kind}" for name in drawn for kind in ("svg", "png")}


def test_other_reading_is_told_apart_and_left_out_where_there_is_none(fake_tree):
    both = read_page(write_report(fake_tree(budgets=(20_000,)).path)).text
    assert "The other reading: stops along one run" in both
    alone = read_page(write_report(fake_tree(budgets=(20_000,), readings=("along_run",)).path)).text
    assert "The other reading" not in alone
    assert "There is one reading only: stops along one run" in alone


def test_one_seed_and_holes_make_a_page_too(fake_tree):
    tree = fake_tree(seeds=(0,))
    tree.fail("ar", 20_000, 0, "lost")
    tree.fail("dlm", 20_000, 0, "lost")
    report = write_report(tree.path)
    assert "one seed has no spread" in read_page(report).text
    assert report.summary["verdicts"][0]["gain"] is None
    assert report.summary["verdicts"][0]["ar_test_nll"] is None


def test_the_terminal_table_fits_80_columns_with_verdict_and_crossover(fake_tree):
    tree = fake_tree()
    tree.fail("ar", 320_000, 0, "lost")
    tree.fail("ar", 320_000, 1, "lost")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(write_report(tree.path).verdict_table)
    text = console.export_text()
    assert "…" not in text
    for expected in (
        "DLM wins",
        "AR wins",
        "undecided",
        "145 epochs",
        "none in the run",
        "2.735 @ 16",
        "+0.165",
    ):
        assert expected in text


def test_a_report_imports_no_keras_and_no_array_backend():
    code = (
        "import sys; import lab.reporting.report;"
        "found = {'keras', 'jax', 'tensorflow', 'torch', 'matplotlib.pyplot'} & set(sys.modules);"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_plan_with_an_analysis_that_no_page_exists_for_is_refused(fake_tree):
    tree = fake_tree(budgets=(20_000,), seeds=(0,))
    tree.replan(lambda plan: plan.update(analysis="guess"))
    with pytest.raises(ValueError, match=r"`analysis` must be one of \[.*'crossover'.*laptop plans 'guess'"):
        write_report(tree.path)


def test_every_analysis_that_can_be_declared_has_a_page():
    assert set(ANALYSES) == set(get_args(Analysis))


def test_an_empty_tree_is_an_error(fake_tree):
    tree = fake_tree(budgets=(20_000,), seeds=(0,))
    for arm in ("ar", "dlm"):
        (tree.logdir(arm, 20_000, 0) / "result.json").unlink()
    with pytest.raises(ValueError, match=r"needs a finished run"):
        write_report(tree.path)
    assert not (tree.path / "report").exists()

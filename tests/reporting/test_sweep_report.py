import csv
import io
import json

import pytest
from report_pages import Page, assert_needs_no_network_and_no_script, read_page
from rich.console import Console

from lab.reporting.report import write_report


def read_csv(report, name):
    return list(csv.DictReader(io.StringIO((report.page.parent / name).read_text())))


def test_the_page_shows_the_numbers_of_the_summary(fake_sweep):
    report = write_report(fake_sweep().path)
    summary = json.loads((report.page.parent / "summary.json").read_text())
    contrasts, arms, other, runs, _ = read_page(report).tables
    assert len(contrasts) == len(other) == 1 + len(summary["contrasts"]) == 6
    for cells, row in zip(contrasts[1:], summary["contrasts"], strict=True):
        shown = " ".join(cells).replace("−", "-")
        assert cells[:3] == [row["arm"], row["reference"], "3"]
        for which in ("best", "end"):
            assert f"{row[f'{which}_gain']:+.3f}" in shown
            assert f"{row[f'{which}_gain_interval_low']:+.3f} to " in shown
            assert row[f"{which}_verdict"] in shown
    for cells, row in zip(arms[1:], summary["arms"], strict=True):
        shown = " ".join(cells)
        assert cells[:2] == [row["arm"], "3"]
        assert f"{row['best_test_nll']:.3f} ± {row['best_test_nll_standard_deviation']:.3f}" in shown
        assert f"{row['end_test_nll']:.3f}" in shown
        assert f"{100 * row['best_choice_accuracy']:.1f} %" in shown
        assert cells[-1] == "853,504"
    assert len(runs) == 1 + 18
    text = read_page(report).text
    for sentence in (summary["headline"], summary["found"][0]["best"], summary["found"][1]["end"]):
        assert sentence in text


def test_the_summary_holds_the_known_numbers(fake_sweep):
    summary = write_report(fake_sweep().path).summary
    rows = {row["arm"]: row for row in summary["contrasts"]}
    assert rows["ar_mask30"]["best_gain"] == pytest.approx(0.2)
    assert (rows["ar_mask30"]["best_verdict"], rows["ar_mask90"]["end_verdict"]) == ("better", "worse")
    assert rows["dlm_passes2"]["train_flops_ratio"] == rows["dlm_passes2"]["train_time_ratio"] == 2
    assert summary["arms"][0]["best_epoch"] == 16
    assert summary["arms"][0]["train_flops_at_best"] == pytest.approx(16 * 20_000 * 5.1e6)
    assert summary["arms"][0]["train_flops"] == pytest.approx(5_120_000 * 5.1e6)
    assert summary["arms"][0]["best_test_nll"] == pytest.approx(2.74)
    assert (summary["comparisons"], summary["headline_reading"]) == (5, "annealed")
    assert set(summary["contrasts_by_reading"]) == {"annealed", "along_run"}
    assert summary["plan"]["contrasts"]["dlm_passes2"] == "dlm"


def test_the_page_needs_no_network_and_a_hostile_text_stays_text(fake_sweep):
    hostile = 'Does <script>alert(1)</script> & "quotes" {{ 7 * 7 }} win?'
    tree = fake_sweep(question=hostile)
    tree.fail("dlm", 20_000, 1, "<img src=x onerror=alert(2)>")
    report = write_report(tree.path)
    assert_needs_no_network_and_no_script(report)
    page = Page(report.page.read_text(encoding="utf-8"))
    assert hostile in page.text
    assert "<img src=x onerror=alert(2)>" in page.text


def test_failed_and_missing_runs_show_as_such(fake_sweep):
    tree = fake_sweep()
    for seed in tree.seeds:
        tree.fail("ar_mask30", 20_000, seed, "NaN in the training loss")
    (tree.logdir("dlm", 20_000, 0) / "result.json").unlink()
    report = write_report(tree.path)
    page = read_page(report)
    assert "Of 18 planned runs, 3 failed and 1 are missing" in page.text
    assert "failed: NaN in the training loss" in page.text
    contrasts, arms, *_ = page.tables
    assert contrasts[2][:5] == ["ar_mask30", "ar", "0", "–", "–"]
    assert arms[3][:4] == ["ar_mask30", "0 of 3", "–", "–"]
    assert arms[5][:2] == ["dlm", "2 of 3"]


def test_levels_are_a_column_where_there_are_any(fake_sweep):
    report = write_report(fake_sweep(budgets=(20_000, 80_000)).path)
    contrasts, arms, *_ = read_page(report).tables
    assert [row[0] for row in contrasts[1:]] == 5 * ["unique_tokens=20000"] + 5 * ["unique_tokens=80000"]
    assert arms[0][0] == "Level"
    assert "Level" not in read_page(write_report(fake_sweep().path)).text


def test_csv_has_every_arm_and_contrast_once_per_reading(fake_sweep):
    tree = fake_sweep()
    report = write_report(tree.path)
    assert len(read_csv(report, "arms.csv")) == 6 * 2
    contrasts = read_csv(report, "contrasts.csv")
    assert len({(row["arm"], row["reading"]) for row in contrasts}) == len(contrasts) == 5 * 2
    assert len(read_csv(report, "curves.csv")) == 18 * 2 * 9
    for name in ("arms.csv", "contrasts.csv", "curves.csv", "best_stops.csv"):
        assert name in read_page(report).links


def test_without_contrasts_the_page_shows_the_arms_alone(fake_sweep):
    report = write_report(fake_sweep(arms=("ar", "dlm"), contrasts={}).path)
    assert "no arm is declared to be compared" in read_page(report).text
    assert "How certain is this?" not in read_page(report).text
    assert read_csv(report, "contrasts.csv") == []
    arms, runs, _ = read_page(report).tables
    assert (len(arms), len(runs)) == (3, 7)


def test_writing_twice_gives_the_same_bytes(fake_sweep):
    tree = fake_sweep()
    folder = write_report(tree.path).page.parent
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_report(tree.path)
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("budgets", [(20_000,), (20_000, 80_000)])
def test_the_terminal_table_fits_80_columns(fake_sweep, budgets):
    tree = fake_sweep(
        budgets=budgets,
        arms=("ar", "ar_mask30", "dlm", "dlm_a_long_name_x"),
        contrasts={
            "ar_mask30": "ar",
            "dlm": "ar",
            "dlm_a_long_name_x": "dlm",
        },
    )
    for seed in tree.seeds:
        tree.fail("dlm_a_long_name_x", 20_000, seed, "lost")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(write_report(tree.path).verdict_table)
    text = console.export_text()
    assert "…" not in text
    for expected in ("dlm_a_long_name_x", "2.740", "+0.200", "+0.175 to +0.225", "better", "not compared"):
        assert expected in text
    assert ("unique_tokens=80000" in text) == (len(budgets) == 2)

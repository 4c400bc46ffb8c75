"""An ablation that compares another metric than the NLL gets a page that compares that."""

import io
import re

import pytest
from fake_cube import FakeCube
from report_pages import read_page
from rich.console import Console

from lab.reporting.attribution.findings import analyse as analyse_cube
from lab.reporting.crossover import words
from lab.reporting.crossover.findings import analyse as analyse_crossover
from lab.reporting.report import write_report
from lab.reporting.results import read_tree
from lab.reporting.sweep import figures
from lab.reporting.sweep.findings import analyse as analyse_sweep


def terminal(report) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report.verdict_table)
    return " ".join(console.export_text().split())


def test_a_crossover_by_option_gap_is_higher_is_better(fake_tree):
    tree = fake_tree(budgets=(20_000,), metric="option_gap")
    (budget,) = analyse_crossover(read_tree(tree.path)).budgets
    # Best stops are those of lowest NLL: the AR's at 16 epochs, the DLM's at the end, 256 epochs.
    ar, dlm = (budget.best_stops(arm)[0] for arm in ("ar", "dlm"))
    assert (ar.epoch, dlm.epoch) == (16, 256)
    assert budget.gain.by_seed[0] == pytest.approx(dlm.test["option_gap"] - ar.test["option_gap"])
    assert budget.gain.by_seed[0] == pytest.approx(0.4 - 0.15)
    assert budget.gain.window_standard_error is None  # this tree has no standard error of it
    # 0.15 behind at equal tokens: it rises above the AR's best 1.5 doublings after it.
    assert budget.below_best.by_seed[0].epoch == pytest.approx(16 * 2**1.5)
    assert budget.below_current.by_seed[0] is None
    text = words.crossing_sentence(budget)
    assert text.startswith("Its validation option gap rises above the AR's best after 45.3 epochs")
    assert "(test option gap 0.500 nats/token)" in words.found(budget).replace("0.510", "0.500")


def test_the_page_of_a_crossover_names_metric_direction_and_how_stops_are_chosen(fake_tree):
    tree = fake_tree(budgets=(20_000,), metric="option_gap")
    tree.edit("dlm", 20_000, 1, lambda result: change_choice(result, option_gap=0.8))
    report = write_report(tree.path)
    page = read_page(report)
    assert "Option gap on held-out text while training goes on" in report.page.read_text(encoding="utf-8")
    assert "Higher is better. One panel per budget" in page.text
    assert "there the DLM first rises above the AR's best stop" in page.text
    assert "the stop of lowest validation NLL, though the option gap is compared" in page.text
    verdicts, best, *_ = page.tables
    assert verdicts[0][2:5] == [
        "AR best test option gap, epoch",
        "DLM best test option gap, epoch",
        "Gain DLM − AR nats/token, seeds",
    ]
    assert verdicts[0][6] == "Item error"
    assert "Test option gap ± seeds" in best[0]
    assert "Test NLL" in best[0]
    svg = (report.page.parent / "validation_option_gap.svg").read_bytes()
    assert b"Validation option gap (nats/token)" in svg
    row = report.summary["verdicts"][0]
    assert row["dlm_test_option_gap"] - row["ar_test_option_gap"] == pytest.approx(row["gain"])
    assert row["verdict"].startswith("DLM wins")
    assert "gain: DLM − AR" in terminal(report)
    assert "standard error from the number of items, which is not known" in page.text


def test_a_sweep_by_choice_accuracy_is_higher_is_better(fake_sweep):
    tree = fake_sweep(metric="choice_accuracy")
    for arm, accuracy in (("ar", 0.5), ("ar_mask30", 0.6), ("ar_mask90", 0.45)):
        for seed in tree.seeds:
            change_accuracy(tree, arm, seed, accuracy + 0.001 * seed * (arm != "ar"))
    sweep = analyse_sweep(read_tree(tree.path))
    better, worse = (
        next(c for c in sweep.levels[0].contrasts if c.arm.arm == arm).at["best"]
        for arm in ("ar_mask30", "ar_mask90")
    )
    assert dict(better.gain.by_seed) == pytest.approx({0: 0.1, 1: 0.101, 2: 0.102})
    assert (better.verdict.winner, worse.verdict.winner) == (1, -1)
    assert better.gain.window_standard_error == pytest.approx(0.03 * 2**0.5)
    report = write_report(tree.path)
    page = read_page(report)
    assert report.summary["headline"].startswith(
        "By test choice accuracy at the best stop ([95 % interval]): against ar, "
    )
    assert "ar_mask30 by 0.101 [" in report.summary["found"][0]["best"]
    contrasts, arms, *_ = page.tables
    assert contrasts[0][3] == "Gain, best stop 95 %"
    assert contrasts[2][3].startswith("+0.101")
    assert "Test choice accuracy ± seeds" in arms[0]
    assert "Item error" in arms[0]
    assert "Higher is better. Left at the best stop" in page.text
    assert "The test choice accuracy of the arm, minus that of the arm compared with" in page.text
    svg = (report.page.parent / "test_choice_accuracy.svg").read_bytes()
    assert b"Test choice accuracy (%)" in svg
    assert "further standard error of 0.042 from the number of items" in page.text.replace(" to 0.042", "")
    assert "best: test choice accuracy at the best stop" in terminal(report)


def change_accuracy(tree, arm, seed, accuracy):
    values = {"choice_accuracy": accuracy, "choice_accuracy_standard_error": 0.03}
    tree.edit(arm, 20_000, seed, lambda result: change_choice(result, **values))


def change_choice(result, **values):
    for stop in result["stops"]:
        for row in stop["measured"]:
            if row["task"]["measurement"] == "choice":
                row["values"] |= values


def test_the_interval_of_a_gain_lies_on_its_side_of_the_reference(fake_sweep):
    tree = fake_sweep(metric="choice_accuracy")
    for seed in tree.seeds:
        change_accuracy(tree, "ar", seed, 0.5)
        change_accuracy(tree, "ar_mask30", seed, 0.6 + 0.01 * seed)
    sweep = analyse_sweep(read_tree(tree.path))
    best, _ = figures.draw_all(sweep)["test_choice_accuracy"].axes
    row = tree.arms.index("ar_mask30")
    whisker = [line for line in best.get_lines() if set(line.get_ydata()) == {row}][-1]
    (contrast,) = [c for c in sweep.levels[0].contrasts if c.arm.arm == "ar_mask30"]
    low, high = contrast.at["best"].gain.interval
    assert list(whisker.get_xdata()) == pytest.approx([50 + 100 * low, 50 + 100 * high])


def test_without_contrasts_the_highest_arm_is_named(fake_sweep):
    summary = write_report(fake_sweep(arms=("ar", "dlm"), contrasts={}, metric="option_gap").path).summary
    assert summary["headline"].startswith("At the best stop, dlm has the highest mean test option gap, 0.7")


def test_an_attribution_by_option_gap_divides_that(tmp_path):
    tree = FakeCube(tmp_path, metric="option_gap", noise=0.0).write()
    cube = analyse_cube(read_tree(tree.path))
    assert [metric.key for metric in cube.metrics] == ["option_gap", "nll", "choice_accuracy"]
    assert cube.headline.metric.key == "option_gap"
    # The gap rises by half of what the NLL falls.
    assert cube.headline.gain.mean == pytest.approx(0.125)
    report = write_report(tree.path)
    text = report.summary["headline"]
    assert text.startswith("From AR to DLM the test option gap at the best stop rises by 0.125 nats/token (")
    page = read_page(report)
    assert "From ar to ar_masked_frozen the option gap rises by 0.015" in page.text
    assert "Test option gap at the best stop, higher is better." in page.text
    svg = (report.page.parent / "waterfall.svg").read_bytes()
    assert b"Test option gap (nats/token), higher is better" in svg
    assert "test option gap, nats/token; positive: better" in terminal(report)


def test_an_attribution_by_choice_accuracy_is_in_percentage_points(tmp_path):
    report = write_report(FakeCube(tmp_path, metric="choice_accuracy", noise=0.0).write().path)
    found = re.search(r"rises by (\S+) percentage points \((\S+) to (\S+)\)", report.summary["headline"])
    gain, ar, dlm = map(float, found.groups())
    assert gain == pytest.approx(5.0)
    assert dlm - ar == pytest.approx(gain, abs=2e-3)


def test_a_bound_is_said_to_be_one(fake_tree):
    tree = fake_tree(budgets=(20_000,), arms=("ar", "dlm"), metric="nelbo")
    for seed in tree.seeds:
        tree.edit("ar", 20_000, seed, add_bound)
    report = write_report(tree.path)
    text = read_page(report).text
    assert "The NELBO is an upper bound on the NLL, and not the NLL." in text
    assert (
        b"Validation NELBO, a bound (nats/token)"
        in (report.page.parent / "validation_nelbo.svg").read_bytes()
    )


def add_bound(result):
    for stop in result["stops"]:
        rows = [row for row in stop["measured"] if row["task"]["measurement"] == "nll"]
        for row in rows:
            row["values"] |= {"nelbo": row["values"]["nll"] + 0.2, "nelbo_example_standard_error": 0.04}

"""An ablation that compares another metric than the NLL gets a page that compares that."""

import html
import re

import pytest
from fake_cube import FakeCube
from report_pages import read_page

from lab.metrics import find_metric
from lab.reporting import words
from lab.reporting.report import write_report
from lab.reporting.sections import factorial
from lab.reporting.tree import read_tree
from lab.sections import Against, Curves, Differences, Factorial, Quantity, pairs

CROSSOVER = (
    Curves(against={"dlm": "ar"}, marks=("best", "crossing")),
    Differences(contrasts=pairs({"dlm": "ar"})),
    Quantity(names=("crossing", "equal_tokens", "onset"), reference="ar", arms=("dlm",)),
)


def tables(report):
    """Every table's rows, by its name."""
    return {name: rows for one in report.summary["sections"] for name, rows in one["tables"].items()}


def test_a_crossover_by_option_gap_is_higher_is_better(fake_tree):
    tree = fake_tree(budgets=(20_000,), metric="option_gap", sections=CROSSOVER)
    report = write_report(tree.path)
    found = tables(report)
    (gain,) = found["differences_option_gap"]
    # Best stops are those of lowest NLL: the AR's at 16 epochs, the DLM's at the end, 256 epochs.
    arms = {row["arm"]: row for row in report.summary["arms"] if row["reading"] == "annealed"}
    assert (arms["ar"]["best_epoch"], arms["dlm"]["best_epoch"]) == (16, 256)
    assert gain["best_by_seed"] == pytest.approx({"0": 0.4 - 0.15, "1": 0.4 - 0.15})
    assert gain["best_arm"] - gain["best_reference"] == pytest.approx(0.25)
    assert gain["best_document_error"] is None  # its values are not kept by example
    crossing, equal, onset = found["quantity"]
    # 0.15 behind at equal tokens: it rises above the AR's best 1.5 doublings after it.
    assert crossing["epoch"] == pytest.approx(16 * 2**1.5)
    assert (equal["seeds_that_reach"], onset["seeds_that_reach"]) == (0, 0)
    page = read_page(report)
    assert "DLM passes the best of AR after 45.3 epochs at 20,000 unique tokens." in page.text
    assert "Higher is better." in page.text
    assert "Option gap on held-out text" in page.text
    (svg,) = (report.page.parent).glob("curves_option_gap_epoch.svg")
    assert b"Validation option gap (nats/token)" in svg.read_bytes()


@pytest.mark.parametrize(
    ("metric", "part", "gain"),
    [("option_gap", 0.5, "0.125 nats/token"), ("choice_accuracy", 0.2, "5.0 percentage")],
)
def test_an_attribution_divides_the_metric_that_is_compared(tmp_path, metric, part, gain):
    tree = read_tree(FakeCube(tmp_path, metric=metric, noise=0.0, seeds=(0, 1)).write().path)
    content = factorial.write(Factorial(at=("best",)), tree, "factorial")
    (row,) = content.tables[0].rows
    # It rises by a part of the 0.25 by which the NLL falls.
    shares = [row[f"{name}_mean"] for name in ("order", "compute", "draws")]
    assert (row["metric"], row["gain_mean"], sum(shares)) == (metric, *2 * [pytest.approx(part * 0.25)])
    found = re.search(
        rf"the test {find_metric(metric).name} .* rises by {gain}.* \((\S+) to (\S+)\)", content.headline
    )
    ar, dlm = map(float, found.groups())
    assert dlm - ar == pytest.approx(float(gain.split()[0]), abs=2e-3)


def test_a_bound_is_said_to_be_one_and_an_arm_without_it_is_not_compared(fake_tree):
    sections = (CROSSOVER[0], CROSSOVER[2])
    report = write_report(fake_tree(budgets=(20_000,), metric="nelbo", sections=sections).path)
    page = read_page(report).text
    assert words.BOUND in page
    assert [row["seeds"] for row in tables(report)["quantity"]] == [0, 0, 2]  # the onset needs no AR
    assert "DLM and AR are not compared" in page
    svg = (report.page.parent / "curves_nelbo_epoch.svg").read_bytes()
    assert b"Validation NELBO, a bound (nats/token)" in svg
    assert b"not measured: AR" in svg


@pytest.mark.usefixtures("no_pictures")
def test_wherever_a_bound_stands_beside_an_nll_it_is_said_to_be_evidence_to_one_side_only(fake_tree):
    assert "below AR's NLL is evidence for the DLM, above it is evidence for neither" in words.BOUND
    sections = (
        Against(x="data.unique_tokens", metrics=("nll", "nelbo")),
        Against(x="data.unique_tokens", metrics=("nll",)),
        Differences(contrasts=pairs({"dlm": "ar"}), metrics=("nll", "nelbo")),
    )
    report = write_report(fake_tree(budgets=(20_000,), sections=sections).path)
    page = html_of(report)
    # Of both pictures' captions the first's; the NELBO's table in both readings; the arms; the caveat.
    captions = re.findall(r"<figcaption>(.*?)</figcaption>|<caption>(.*?)</caption>", page, re.DOTALL)
    said = [words.BOUND in picture + table for picture, table in captions]
    figures = [words.BOUND in picture for picture, _ in captions if picture]
    assert (figures[:2], sum(said)) == ([True, False], 4)
    assert page.count(words.BOUND) == 5
    # Where no arm has one, only the caveat says it.
    alone = write_report(fake_tree(budgets=(20_000,), arms=("ar",), sections=(Curves(),)).path)
    assert html_of(alone).count(words.BOUND) == 1


def html_of(report):
    return html.unescape(report.page.read_text(encoding="utf-8"))

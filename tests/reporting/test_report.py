"""What is written beside what `test_pages.py` asks of every page: files, caveats, the index."""

import csv
import io
import json
import math
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args
from urllib.parse import unquote

import pytest
from fake_trees import overfit_at_the_end
from report_pages import Page, read_page
from rich.console import Console
from typer.testing import CliRunner

import lab.reporting.sections
from lab.__main__ import app
from lab.reporting.report import write_index, write_report
from lab.reporting.tree import read_tree
from lab.results import DamagedError
from lab.sections import AnySection, Curves, Differences, pairs

pytestmark = pytest.mark.usefixtures("no_pictures")
KINDS = {kind.model_fields["kind"].default for kind in get_args(get_args(AnySection)[0])}
ONE = {"budgets": (20_000,), "seeds": (0,), "sections": (Curves(),)}


def rows_of(report, name):
    text = (report.page.parent / f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))


def test_every_section_that_can_be_declared_has_a_module_that_writes_it():
    (folder,) = lab.reporting.sections.__path__
    assert {path.stem for path in Path(folder).glob("[a-z]*.py")} == KINDS
    assert all(callable(import_module(f"lab.reporting.sections.{kind}").write) for kind in KINDS)


def test_a_section_that_no_page_knows_makes_a_plan_damaged(fake_tree):
    tree = fake_tree(**ONE)
    tree.replan(lambda plan: plan["sections"][0].update(kind="guess"))
    with pytest.raises(DamagedError, match=r"plan\.json: .* \(sections\.0: .*'guess'.* writes it anew\."):
        read_tree(tree.path)


def test_the_page_says_what_was_found_for_single_arms(fake_tree):
    tree = fake_tree(**ONE)
    found = {"training": {"weight_decay": 0.14, "batch_size": 16}, "factors": {"stratified": True}}
    tree.replan(lambda plan: plan.update(strong={"dlm": found}))
    text = read_page(write_report(tree.path)).text
    assert "DLM with training.weight_decay=0.14, training.batch_size=16 and factors.stratified=True." in text
    assert "shared, not tuned for each arm" not in text


def test_the_page_says_which_files_were_left_out(fake_tree):
    tree, note = fake_tree(**ONE), "Of the text 2 files (2 .csv) were not read."
    assert "not read" not in read_page(write_report(tree.path)).text
    tree.replan(lambda plan: plan.update(left_out=note))
    report = write_report(tree.path)
    assert note in read_page(report).text
    assert report.summary["warnings"].count(note) == 1


def test_what_is_no_single_value_is_json_in_a_csv(fake_sweep):
    report = write_report(fake_sweep(sections=(Differences(contrasts=pairs({"dlm": "ar"})),)).path)
    kept = rows_of(report, "differences_nll")
    rows = report.summary["sections"][0]["tables"]["differences_nll"]
    nested = {name for row in rows for name, value in row.items() if isinstance(value, dict | list)}
    assert nested
    assert [[json.loads(row[name]) for name in nested] for row in kept] == json.loads(
        json.dumps([[row[name] for name in nested] for row in rows])
    )


def test_csv_has_every_stop_once(fake_tree):
    tree = fake_tree()
    report = write_report(tree.path)
    curves, best = rows_of(report, "curves"), rows_of(report, "best_stops")
    assert len(curves) == 12 * 2 * 9
    keys = {(r["arm"], r["unique_tokens"], r["seed"], r["reading"], r["tokens_seen"]) for r in curves}
    assert len(keys) == len(curves)
    row = next(r for r in curves if (r["arm"], r["reading"], r["seed"]) == ("dlm", "annealed", "1"))
    truth = tree.dlm_nll(int(row["tokens_seen"]), int(row["unique_tokens"]), 1)
    assert math.isclose(float(row["validation_nll"]), truth)
    assert len(best) == 12 * 2 * 2
    assert {r["which"] for r in best} == {"best", "end"}
    assert next(r for r in best if r["arm"] == "ar")["test_nelbo"] == ""


def test_the_arms_are_told_at_their_best_stop_and_at_the_end(fake_tree):
    tree = fake_tree(sections=(Curves(),))
    tree.edit("ar", 320_000, 1, overfit_at_the_end)
    report = write_report(tree.path)
    assert report.summary["run_counts"] == {"done": 12, "failed": 0, "missing": 0}
    assert {row["tokens_per_second"] for row in report.summary["runs"]} == {30_000}
    (heading, *body), *_ = read_page(report).tables
    assert [row[0] for row in body if len(row) == 1] == [
        f"{budget} unique tokens" for budget in ("20,000", "80,000", "320,000")
    ]
    arms = {(row["level"], row["arm"]): row for row in report.summary["arms"] if row["reading"] == "annealed"}
    small = arms["unique_tokens=20000", "ar"]
    assert small["best_nll"] == pytest.approx(3.9 - 0.3 * 4 + 0.005 + 0.03)
    assert small["end_nll"] == pytest.approx(small["best_nll"] + 4 * 0.4)
    assert (small["best_epoch"], small["best_at_last_stop"]) == (16, 0)
    epochs = [row[2] for row in body if len(row) > 1]
    assert epochs == ["16", "256†", "16", "64†", "12" + "8 to 16†", "16†"]
    assert "Test NELBOnats/token, a bound" in heading


def test_without_a_comparison_the_terminal_shows_the_arms(fake_tree):
    console = Console(width=80, record=True, file=io.StringIO())
    report = write_report(fake_tree(**ONE).path)
    console.print(report.printed)
    said = "2 of 2 runs are done; no arm is declared to be compared with another."
    assert report.summary["headline"] == said
    text = console.export_text()
    assert said in text
    assert "2.735" not in text.partition("dlm")[2]
    assert "2.730" in text.partition("dlm")[0]


def test_the_page_says_that_stops_are_a_grid_and_explains_its_words(fake_tree):
    page = read_page(write_report(fake_tree(budgets=(20_000,)).path))
    assert "each at about 2.0 times the tokens of the one before: the best one measured is not" in page.text
    explained = ("Replicate, documents, rounding", "Better, worse, equivalent, undecided; margin")
    for word in ("AR, DLM", "NELBO", "95 % interval", *explained, "Passes"):
        assert page.text.count(f"\n{word}") == 1, word
    for word in ("Trial", "Shapley value", "Bootstrap interval", "Moderated t test"):
        assert f"\n{word}" not in page.text


def test_the_other_reading_is_told_where_there_is_one(fake_tree):
    both = write_report(fake_tree(budgets=(20_000,)).path)
    assert "Verdicts rest on annealed stops" in read_page(both).text
    assert (both.page.parent / "differences_nll_along_run.csv").is_file()
    tree = fake_tree(budgets=(20_000,), readings=("along_run",))
    alone = write_report(tree.path)
    assert "Verdicts rest on annealed" not in read_page(alone).text
    assert "There is one reading only: stops along one run" in read_page(alone).text
    assert not (alone.page.parent / "differences_nll_along_run.csv").exists()
    assert alone.summary["headline_reading"] == "along_run"


def test_a_report_imports_no_keras_and_no_array_backend():
    modules = [f"lab.reporting.sections.{kind}" for kind in KINDS]
    code = (
        f"import sys; import lab.reporting.report, {', '.join(modules)};"
        "found = {'keras', 'jax', 'tensorflow', 'torch', 'matplotlib.pyplot'} & set(sys.modules);"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def unfinish(tree):
    for cell in read_tree(tree.path).cells:
        (cell.logdir / "result.json").unlink()


def test_an_empty_tree_is_an_error(fake_tree):
    tree = fake_tree(**ONE)
    unfinish(tree)
    with pytest.raises(ValueError, match=r"needs a finished run"):
        write_report(tree.path)
    assert not (tree.path / "report").exists()


@pytest.fixture
def two_trees(fake_tree, fake_sweep):
    """A finished tree, and one of which nothing is finished, in one folder."""
    finished = fake_tree(**ONE, question="Is <b>this</b> finished?")
    unfinished = fake_sweep(seeds=(0,))
    unfinish(unfinished)
    return finished.path, unfinished.path


def test_the_index_tells_of_each_tree_its_question_and_headline_and_leads_to_its_page(two_trees, tmp_path):
    finished, unfinished = two_trees
    damaged = tmp_path / "results" / "damaged" / "a #1"
    for tree in (finished, damaged):
        tree.mkdir(parents=True, exist_ok=True)
        report = write_report(finished)
        (tree / "report").mkdir(exist_ok=True)
    (damaged / "report" / "summary.json").write_text('{"plan": 3}')
    path = write_index(tmp_path / "results", [finished, unfinished, damaged])
    assert path == tmp_path / "results" / "index.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert [path.parent / unquote(link) for link in page.links] == [report.page]
    assert "b" not in page.tags
    assert "Is <b>this</b> finished?" in page.text
    assert report.summary["headline"] in page.text
    assert "crossover, preset laptop; runs: 2 done" in page.text
    assert page.text.count("No page yet.") == 2
    assert "ar-noise, preset laptop" in page.text
    assert "damaged, preset a #1" in page.text


def test_a_tree_with_a_name_that_is_no_address_is_led_to_all_the_same(fake_tree, tmp_path):
    tree = fake_tree(**ONE)
    write_report(tree.path)
    moved = tree.path.rename(tree.path.with_name("a #1 of 100%"))
    (link,) = Page(write_index(tmp_path, [moved]).read_text(encoding="utf-8")).links
    assert (tmp_path / unquote(link)).is_file()
    assert "#" not in link


def test_lab_report_writes_what_it_can_and_names_the_rest(two_trees, tmp_path):
    finished, unfinished = two_trees
    root = tmp_path / "results"
    said = CliRunner().invoke(app, ["report", str(root)])
    assert said.exit_code == 0
    assert said.stderr.startswith(f"no page for {unfinished}: a report needs a finished run, but none of 6")
    assert len(said.stderr.splitlines()) == 1
    assert (finished / "report" / "index.html").is_file()
    assert f"all of them: {root / 'index.html'}" in said.stdout
    assert "2 of 2 runs are done" in (root / "index.html").read_text(encoding="utf-8")
    said = CliRunner().invoke(app, ["report", str(unfinished)])
    assert said.exit_code == 1
    assert "no page for" in said.stderr

"""A file that is empty, cut or mistyped never ends a report: the page says what is missing and why."""

import json

import pytest
from report_pages import read_page

from lab.reporting.report import write_report
from lab.reporting.tree import read_tree
from lab.results import DamagedError
from lab.sections import Curves, Fit

pytestmark = pytest.mark.usefixtures("no_pictures")


def cut(text):
    return text[: len(text) // 2]


def mistyped(text):
    return text.replace('"parameters": 853504', '"parameters": "many"').replace('"arms": [', '"arms": [[], ')


def other_schema(text):
    return json.dumps(json.loads(text) | {"schema": 1})


def damage(path, how):
    path.write_text(how(path.read_text()))


DAMAGES = [lambda text: "", cut, mistyped, other_schema, lambda text: "[1, 2]", lambda text: "\x00\xff"]


def cells_of(tree):
    return {(cell.arm, cell.seed): cell for cell in read_tree(tree.path).cells}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_result_makes_its_run_missing_and_says_so(fake_tree, how):
    tree = fake_tree(budgets=(20_000,))
    path = tree.logdir("dlm", 20_000, 1) / "result.json"
    damage(path, how)
    before = path.read_bytes()
    cell = cells_of(tree)["dlm", 1]
    assert (cell.status, cell.result) == ("missing", None)
    assert str(path) in cell.reason
    assert cell.reason.endswith("the same command makes it again")
    assert path.read_bytes() == before


def test_where_every_result_is_damaged_the_error_names_them(fake_tree):
    tree = fake_tree(budgets=(20_000,), seeds=(0,))
    for arm in tree.arms:
        damage(tree.logdir(arm, 20_000, 0) / "result.json", cut)
    with pytest.raises(ValueError, match=r"needs a finished run, but none of 2 .*ar/.*result.json: not JSON"):
        write_report(tree.path)


@pytest.mark.parametrize("text", ["", '{"reas', '{"reason": 7}', '{"log_tail": "x"}', "[]"])
def test_a_damaged_failure_makes_its_run_missing(fake_tree, text):
    tree = fake_tree(budgets=(20_000,))
    tree.fail("dlm", 20_000, 1, "out of memory")
    (tree.logdir("dlm", 20_000, 1) / "failure.json").write_text(text)
    cell = cells_of(tree)["dlm", 1]
    assert cell.status == "missing"
    assert "seed=1/failure.json: not " in cell.reason


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_plan_is_an_error_that_says_what_writes_it_anew(fake_tree, how):
    tree = fake_tree(budgets=(20_000,), seeds=(0,))
    damage(tree.path / "plan.json", how)
    with pytest.raises(DamagedError, match=r"plan\.json: .* writes it anew\.$"):
        read_tree(tree.path)


def test_a_plan_of_another_metric_is_damaged_and_names_its_command(fake_tree):
    tree = fake_tree(budgets=(20_000,), seeds=(0,))
    tree.replan(lambda plan: plan.update(metric="beauty"))
    with pytest.raises(DamagedError, match=r"metrics must be .*\['beauty'\]\. 'make crossover' writes"):
        read_tree(tree.path)


def test_damaged_lines_of_a_log_are_left_out_counted_and_never_written(fake_sweep):
    tree = fake_sweep(arms=("ar", "dlm"), sections=(Curves(),))
    path = tree.logdir("dlm", 20_000, 1) / "metrics.jsonl"
    lines = path.read_text() + '{"kind": "train"}\n{"kind": "train", "tokens_per_second": "fast"}\n'
    path.write_text(lines + '[1]\nno json\n{"kind": "train", "tokens_per_s')
    before = path.read_bytes()
    report = write_report(tree.path)
    assert path.read_bytes() == before  # a run may be in the midst of its last line
    said = (
        "In the log of dlm unique_tokens=20000 seed=1 4 lines are damaged and left out of its training speed."
    )
    assert report.summary["warnings"] == [said]
    assert said in read_page(report).text
    (row,) = [row for row in report.summary["runs"] if (row["arm"], row["seed"]) == ("dlm", 1)]
    assert row["tokens_per_second"] == 30_000


def test_a_run_of_another_version_or_measured_otherwise_is_missing(fake_tree):
    tree = fake_tree(budgets=(20_000,))
    tree.replan(lambda plan: plan["cells"][3].update(version="0ther"))
    tree.replan(lambda plan: plan["cells"][0].update(evaluation="0ther"))
    cells = cells_of(tree)
    assert (cells["dlm", 1].status, cells["ar", 0].status) == ("missing", "missing")
    assert "of another version" in cells["dlm", 1].reason
    assert "measured otherwise" in cells["ar", 0].reason
    tree.replan(lambda plan: plan["cells"][0].update(evaluation=""))
    assert cells_of(tree)["ar", 0].status == "done"


def test_a_run_of_another_version_that_failed_since_is_failed(fake_tree):
    tree = fake_tree(budgets=(20_000,))
    tree.replan(lambda plan: plan["cells"][3].update(version="0ther"))
    tree.store(tree.logdir("dlm", 20_000, 1) / "failure.json", {"reason": "lost", "log_tail": ""})
    cell = cells_of(tree)["dlm", 1]
    assert (cell.status, cell.reason) == ("failed", "lost")


def test_a_run_without_what_a_section_compares_is_missing(fake_tree):
    fit = Fit(y="bits_per_byte", x=("data.unique_tokens",))
    tree = fake_tree(budgets=(20_000,), sections=(Curves(), fit))

    def forget(result):
        tested = [row for row in result["stops"][8]["measured"] if row["task"]["split"] == "test"]
        del tested[0]["values"]["bits_per_byte"]

    tree.edit("ar", 20_000, 0, forget)
    cells = cells_of(tree)
    assert (cells["ar", 0].status, cells["ar", 1].status) == ("missing", "done")
    assert cells["ar", 0].reason == "'bits_per_byte' was not measured at its best and last stops"
    tree.replan(lambda plan: plan.update(sections=plan["sections"][:1]))
    assert cells_of(tree)["ar", 0].status == "done"


def test_a_bound_is_not_demanded_of_an_arm_that_has_none(fake_tree):
    cells = cells_of(fake_tree(budgets=(20_000,), metric="nelbo"))
    assert {cell.status for cell in cells.values()} == {"done"}

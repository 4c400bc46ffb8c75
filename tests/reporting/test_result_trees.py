import pytest

from lab.reporting.results import by_level, check_comparable, level_name, read_tree


def test_cells_are_done_failed_or_missing(fake_tree):
    tree = fake_tree()
    tree.fail("dlm", 80_000, 1, "NaN in the training loss")
    (tree.logdir("ar", 20_000, 0) / "result.json").unlink()
    cells = {(c.arm, c.level["data.unique_tokens"], c.seed): c for c in read_tree(tree.path).cells}
    failed, missing = cells["dlm", 80_000, 1], cells["ar", 20_000, 0]
    assert (failed.status, failed.reason) == ("failed", "NaN in the training loss")
    assert failed.log_tail == "Traceback\nRuntimeError: last line"
    assert missing.status == "missing"
    assert [cell.status for cell in cells.values()].count("done") == 10
    assert cells["dlm", 20_000, 1].done.config.seed == 1
    with pytest.raises(
        ValueError, match=r"the run dlm unique_tokens=80000 seed=1 has no result: it is failed"
    ):
        assert failed.done


def test_levels_are_named_and_ordered_by_budget(fake_tree):
    tree = read_tree(fake_tree(budgets=(320_000, 20_000, 80_000)).path)
    names = [level_name(group[0].level) for group in by_level(tree.cells)]
    assert names == ["unique_tokens=20000", "unique_tokens=80000", "unique_tokens=320000"]
    assert level_name({}) == ""


def test_a_plan_is_needed_and_must_be_of_this_schema_without_repeats(fake_tree, tmp_path):
    with pytest.raises(ValueError, match=r"expected a JSON file at .*plan.json"):
        read_tree(tmp_path / "nothing")
    tree = fake_tree()
    tree.replan(lambda plan: plan["cells"].append(plan["cells"][0]))
    with pytest.raises(ValueError, match=r"planned once, but these are twice: \[\('ar', .*20000', 0\)\]"):
        read_tree(tree.path)
    tree.replan(lambda plan: plan.update(schema=1))
    with pytest.raises(ValueError, match=r"`schema` must be 3, but got 1. 'make crossover' writes it anew"):
        read_tree(tree.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda result: result["data"].update(hash="other"),
            r"runs at unique_tokens=80000 must have the same data hash, but got data80000 for ar seed 0 "
            r"and other for dlm seed 1",
        ),
        (lambda result: result["version"].update(code="0ld"), r"all levels must have the same code hash"),
        (lambda result: result["process"].update(backend="torch"), r"all levels must have the same backend"),
        (
            lambda result: result["data"]["hashes"].update(test="other"),
            r"unique_tokens=80000 .* held-out text",
        ),
        (lambda result: result.update(parameters=7), r"unique_tokens=80000 must have the same number of par"),
        (lambda result: result["stops"].pop(0), r"unique_tokens=80000 must have the same stops"),
    ],
)
def test_runs_that_differ_are_not_compared(fake_tree, change, message):
    tree = fake_tree()
    check_comparable(read_tree(tree.path).cells)
    tree.edit("dlm", 80_000, 1, change)
    with pytest.raises(ValueError, match=message):
        check_comparable(read_tree(tree.path).cells)


def test_other_data_and_parameters_are_allowed_at_another_level(fake_tree):
    tree = fake_tree()
    for arm in ("ar", "dlm"):
        for seed in tree.seeds:
            tree.edit(arm, 80_000, seed, lambda result: result.update(parameters=7))
    check_comparable(read_tree(tree.path).cells)


def test_arms_planned_with_other_seeds_are_not_compared(fake_tree):
    tree = fake_tree()
    tree.replan(lambda plan: plan["cells"].remove(plan["cells"][7]))
    with pytest.raises(ValueError, match=r"must have the same seeds, but got {'ar': \[0, 1\], 'dlm': \[0\]}"):
        check_comparable(read_tree(tree.path).cells)

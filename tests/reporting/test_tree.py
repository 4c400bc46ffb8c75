import pytest

from lab.reporting.tree import by_level, check_matched, check_sound, level_name, read_tree
from lab.sections import EQUAL


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
    fake = fake_tree(budgets=(20_000, 80_000), arms=("ar",))
    fake.replan(lambda plan: plan["cells"][0].update(level={"data.unique_tokens": None}))
    assert [group[0].level["data.unique_tokens"] for group in by_level(read_tree(fake.path).cells)][
        -1
    ] is None


def test_a_plan_is_needed_and_must_be_of_this_schema_without_repeats(fake_tree, tmp_path):
    with pytest.raises(ValueError, match=r"expected a JSON file at .*plan.json"):
        read_tree(tmp_path / "nothing")
    tree = fake_tree()
    tree.replan(lambda plan: plan["cells"].append(plan["cells"][0]))
    with pytest.raises(ValueError, match=r"planned once, but these are twice: \[\('ar', .*20000', 0\)\]"):
        read_tree(tree.path)
    tree.replan(lambda plan: plan.update(schema=1))
    with pytest.raises(ValueError, match=r"`schema` must be 4, but got 1. 'make crossover' writes it anew"):
        read_tree(tree.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda result: result["version"].update(code="0ld"), "all levels must have the same code hash"),
        (lambda result: result["process"].update(backend="torch"), "all levels must have the same backend"),
    ],
)
def test_a_tree_of_several_codes_or_backends_is_not_sound(fake_tree, change, message):
    tree = fake_tree()
    check_sound(read_tree(tree.path))
    tree.edit("dlm", 80_000, 1, change)
    with pytest.raises(ValueError, match=message):
        check_sound(read_tree(tree.path))


def test_arms_planned_with_other_seeds_are_not_sound(fake_tree):
    tree = fake_tree()
    tree.replan(lambda plan: plan["cells"].remove(plan["cells"][7]))
    message = r"arms at unique_tokens=80000 must have the same seeds, but got {'ar': \[0, 1\], 'dlm': \[0\]}"
    with pytest.raises(ValueError, match=message):
        check_sound(read_tree(tree.path))


def slower(result):
    for stop in result["stops"]:
        stop["train_flops"] *= 2


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "data",
            lambda r: r["data"].update(hash="other"),
            "data hash, but got data80000 for ar seed 1 and other",
        ),
        ("held_out", lambda r: r["data"]["hashes"].update(test="other"), "held-out text, but got .*7e57"),
        (
            "parameters",
            lambda r: r.update(parameters=7),
            "number of parameters, but got 853504 .* and 7 for dlm",
        ),
        ("stops", lambda r: r["stops"].pop(0), r"stops \(reading, tokens seen\), but got"),
        ("train_flops", slower, r"training FLOPs, but got 2641.* for ar seed 0 and 5314"),
    ],
)
def test_runs_that_differ_in_what_is_matched_are_refused(fake_tree, name, change, message):
    tree = fake_tree(budgets=(80_000,))

    def check(*matched):
        check_matched(read_tree(tree.path).cells, matched, "80,000 unique tokens")

    # Less than a percent apart, to both sides of 2.65e13 FLOPs.
    tree.flops_per_token = {"ar": 5.16e6, "dlm": 5.19e6}.get
    tree.write()
    check(*EQUAL, "train_flops")
    tree.edit("dlm", 80_000, 1, change)
    check(*({*EQUAL, "train_flops"} - {name}))
    with pytest.raises(ValueError, match=f"runs at 80,000 unique tokens must have the same {message}"):
        check(name)


def test_only_runs_of_one_seed_must_share_their_data_and_only_finished_ones_count(fake_tree):
    tree = fake_tree(budgets=(20_000,))
    for arm in tree.arms:
        tree.edit(arm, 20_000, 1, lambda result: result["data"].update(hash="of seed 1"))
    check_matched(read_tree(tree.path).cells, EQUAL, "")
    tree.edit("dlm", 20_000, 1, lambda result: result.update(parameters=7))
    with pytest.raises(ValueError, match="runs at the only level must have the same number of parameters"):
        check_matched(read_tree(tree.path).cells, EQUAL, "")
    tree.fail("dlm", 20_000, 1, "lost")
    check_matched(read_tree(tree.path).cells, EQUAL, "")


def test_levels_and_seeds_are_those_planned_and_readings_those_in_common(fake_tree):
    tree = fake_tree(budgets=(80_000, 20_000), seeds=(1, 0))
    found = read_tree(tree.path)
    assert [level["data.unique_tokens"] for level in found.levels] == [20_000, 80_000]
    assert found.seeds == (0, 1)
    assert [cell.seed for cell in found.cells_of("dlm", found.levels[0])] == [0, 1]
    assert found.readings == ("annealed", "along_run")

    def one_reading(result):
        result["stops"] = [stop for stop in result["stops"] if stop["reading"] == "along_run"]

    tree.edit("ar", 20_000, 0, one_reading)
    assert read_tree(tree.path).readings == ("along_run",)
    for arm, budget, seed in [(a, b, s) for a in tree.arms for b in tree.budgets for s in tree.seeds]:
        (tree.logdir(arm, budget, seed) / "result.json").unlink()
    with pytest.raises(ValueError, match=r"a report needs a finished run, but none of 8 in .*laptop is"):
        assert read_tree(tree.path).readings

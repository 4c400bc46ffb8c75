import json
from dataclasses import replace

from scheduling_bench import tiny_ablation

from lab.registration import Registration
from lab.results import PLAN, PlanRecord, read_record
from lab.scheduling.plan import UNREAD, DataFacts
from lab.sections import pairs


def test_plan_json_holds_the_whole_plan(bench):
    plan = bench.plan()
    plan.write()
    written = json.loads((bench.tree / "plan.json").read_text())
    assert list(written) == [
        "schema",
        "ablation",
        "preset",
        "question",
        "paper",
        "metric",
        "expected",
        "arms",
        "ensembles",
        "strong",
        "sections",
        "measurements",
        "command",
        "auto",
        "left_out",
        "cells",
    ]
    assert (written["schema"], written["ablation"], written["preset"]) == (4, "tiny", "tiny")
    assert (written["arms"], written["measurements"]) == (["ar", "dlm"], {})
    assert [section["kind"] for section in written["sections"]] == ["differences", "curves"]
    cell = plan.cells[0]
    config = written["cells"][0].pop("config")
    assert config == cell.config.model_dump(mode="json", exclude_none=True)
    assert written["cells"][0] == {
        "arm": "ar",
        "level": {"data.unique_tokens": 1000},
        "seed": 0,
        "role": "run",
        "logdir": "runs/ar/unique_tokens=1000/seed=0",
        "version": plan.version(cell).digest(),
        "evaluation": plan.job(cell).wanted,
    }
    assert len(written["cells"]) == 4


def test_plan_json_comes_back_as_the_plan(bench):
    plan = bench.plan(ablation=tiny_ablation(measurements={"yardstick": ""}))
    plan.write()
    found = read_record(PlanRecord, bench.tree / PLAN)
    bare = [cell.model_copy(update={"version": "", "evaluation": ""}) for cell in found.cells]
    assert bare == list(plan.cells)
    assert [(cell.version, cell.evaluation) for cell in found.cells] == [
        (job.run.digest(), job.wanted) for job in map(plan.job, plan.cells)
    ]
    assert found.measurements == {"yardstick": ""}
    assert found.sections == plan.ablation.sections


def test_plan_json_says_what_strong_arms_run_with(bench):
    strong = {"dlm": {"training": {"weight_decay": 1.5}}}
    replace(bench.plan(), strong=strong).write()
    assert read_record(PlanRecord, bench.tree / PLAN).strong == strong


def test_plan_json_says_once_which_files_were_left_out(bench):
    plan = bench.plan()
    first = plan.cells[0].config.data
    notes = {
        first: "a",
        first.model_copy(update={"length": 99}): "a",
        first.model_copy(update={"length": 98}): "",
    }
    facts = {data: DataFacts(UNREAD.hashes, 0, left_out=note) for data, note in notes.items()}
    assert (plan.record().left_out, replace(plan, data=facts).record().left_out) == ("", "a")


def test_a_job_is_its_cells_run(bench):
    plan = bench.plan()
    cell = plan.cells[1]
    job = plan.job(cell)
    assert (job.key, job.label, job.command) == (
        "runs/dlm/unique_tokens=1000/seed=0",
        "dlm unique_tokens=1000 seed=0",
        "run",
    )
    assert (job.arm, job.level, job.seed) == ("dlm", {"data.unique_tokens": 1000}, 0)
    assert job.logdir == bench.tree / job.key
    assert job.config == cell.config
    assert len({plan.job(cell).version for cell in plan.cells}) == 4


def test_a_jobs_version_follows_from_weights_and_evaluation_and_from_nothing_else(bench):
    def job(plan):
        return plan.job(plan.cells[0])

    first = job(bench.plan())
    for overrides in ({"training": {"log_steps": 3}}, {"inference": {"prompts": 3}}):
        assert job(bench.plan(overrides=overrides)).version == first.version
    other = job(bench.plan(overrides={"evaluation": {"test_windows": 5}}))
    assert (other.run, other.wanted == first.wanted, other.version == first.version) == (
        first.run,
        False,
        False,
    )
    other = job(bench.plan(overrides={"training": {"batch_size": 8}}))
    assert (other.run == first.run, other.wanted, other.version == first.version) == (
        False,
        first.wanted,
        False,
    )
    data = bench.plan().cells[0].config.data
    for split, same_run in (("train", False), ("test", True)):
        facts = {data: DataFacts({**UNREAD.hashes, split: "1" * 16}, 0)}
        other = job(replace(bench.plan(), data=facts))
        assert (other.run == first.run, other.version == first.version) == (same_run, False)


def test_the_windows_of_an_epoch_follow_from_the_budget_or_else_the_corpus(bench):
    plan = bench.plan()
    assert [plan.windows(cell) for cell in plan.cells] == [62, 62, 125, 125]
    whole = plan.cells[0].model_copy(
        update={
            "config": plan.cells[0].config.model_copy(
                update={"data": plan.cells[0].config.data.model_copy(update={"unique_tokens": None})}
            )
        }
    )
    known = replace(plan, data={whole.config.data: DataFacts(UNREAD.hashes, 333)})
    assert known.windows(whole) == 20


def registered(bench, seeds=1, **rule):
    """What the tree's plan says after one with this rule was written."""
    primary = Registration(**{"contrasts": pairs({"dlm": "ar"})} | rule)
    bench.plan(seeds, ablation=tiny_ablation(primary=primary)).write()
    return read_record(PlanRecord, bench.tree / PLAN).registration


def finish(bench):
    """Have a result in the tree."""
    folder = bench.tree / bench.plan().cells[0].logdir
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text("{}")


def test_what_an_arm_has_alone_is_not_in_the_rule(bench):
    primary = Registration(contrasts=pairs({"dlm": "ar"}))
    plan = bench.plan(ablation=tiny_ablation(primary=primary))
    level = {"data.unique_tokens": 500}
    alone = plan.cells[0].model_copy(update={"level": level, "logdir": "runs/ar/unique_tokens=500/seed=0"})
    assert replace(plan, cells=[alone, *plan.cells]).record().registration == plan.record().registration


def test_the_rule_is_registered_with_its_levels_and_its_hash_is_not_of_the_seeds(bench):
    first = registered(bench)
    assert [contrast.level for contrast in first.rule.contrasts] == [
        {"data.unique_tokens": budget} for budget in (1000, 2000)
    ]
    assert (first.rule.metric, first.hash) == ("nll", first.rule.digest())
    assert (first.after_results, first.first) == (False, None)
    assert registered(bench, seeds=5) == first
    finish(bench)
    assert registered(bench, seeds=3) == first


def test_a_rule_may_change_until_results_are_there_and_then_the_first_stays_beside_it(bench):
    registered(bench, margin=0.5)
    first = registered(bench)
    assert first.first is None
    finish(bench)
    other = registered(bench, margin=0.01)
    assert (other.after_results, other.first) == (False, first.rule)
    assert other.hash != first.hash
    assert registered(bench, margin=0.02).first == first.rule
    assert registered(bench) == first  # the one that came before the results


def test_a_rule_that_came_after_results_stays_so(bench):
    bench.plan().write()
    finish(bench)
    late = registered(bench)
    assert (late.after_results, late.first) == (True, None)
    assert registered(bench, margin=0.01).first == late.rule
    assert registered(bench) == late
    (bench.tree / PLAN).write_text("{")  # a damaged plan registered nothing
    assert registered(bench, margin=0.01).after_results

import json
from dataclasses import replace

from scheduling_bench import tiny_ablation

from lab.results import PLAN, PlanRecord, read_record
from lab.scheduling.plan import UNREAD, DataFacts


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
        "sections",
        "measurements",
        "command",
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

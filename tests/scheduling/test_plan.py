import json

from scheduling_bench import tiny_ablation

from lab.scheduling.ablation import Scale
from lab.tracking.records import write_atomic, write_json
from lab.tracking.version import Version, claim_version


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
        "unit",
        "expected",
        "analysis",
        "arms",
        "contrasts",
        "command",
        "tuning",
        "cells",
    ]
    assert (written["schema"], written["ablation"], written["preset"]) == (2, "tiny", "tiny")
    assert (written["analysis"], written["arms"]) == ("sweep", ["ar", "dlm"])
    assert written["contrasts"] == {"dlm": "ar"}
    assert written["cells"][0] == {
        "key": plan.cells[0].key,
        "version": plan.version(plan.cells[0]).digest(),
        "arm": "ar",
        "level": {"data.unique_tokens": 1000},
        "seed": 0,
        "logdir": "runs/ar/unique_tokens=1000/seed=0",
    }
    assert len(written["cells"]) == 4


def test_a_changed_run_is_moved_aside_and_never_deleted(bench):
    old, new = bench.plan(), bench.plan(overrides={"training": {"batch_size": 8}})
    for plan in (old, old):
        for cell in plan.cells[:2]:
            write_atomic(plan.logdir(cell) / "config.yaml", cell.config.to_yaml().encode())
            write_atomic(plan.logdir(cell) / "result.json", b"{}")
    assert old.set_aside() == []
    moved = new.set_aside()
    assert [old.place for old in moved] == [
        bench.tree / f"{cell.logdir}.{cell.key}" for cell in plan.cells[:2]
    ]
    assert {old.changed for old in moved} == {"configuration"}
    assert all((old.place / "result.json").exists() for old in moved)
    assert not any(new.logdir(cell).exists() for cell in new.cells)
    assert new.set_aside() == []


def test_a_second_move_takes_another_name(bench):
    old, new = bench.plan(), bench.plan(overrides={"training": {"batch_size": 8}})
    cell = old.cells[0]
    places = []
    for _ in range(2):
        write_atomic(old.logdir(cell) / "config.yaml", cell.config.to_yaml().encode())
        places += new.set_aside()
    assert [old.place.name for old in places] == [f"seed=0.{cell.key}", f"seed=0.{cell.key}.2"]


def test_a_config_of_another_version_is_moved_aside_too(bench):
    plan = bench.plan(ablation=tiny_ablation(scales={"tiny": Scale({}, seeds=1, budget="")}))
    write_atomic(plan.logdir(plan.cells[0]) / "config.yaml", b"gone: 1\n")
    (old,) = plan.set_aside()
    place = old.place
    assert place.name.startswith("seed=0.")
    assert (place / "config.yaml").read_text() == "gone: 1\n"


def test_what_changed_since_a_run_is_said(bench):
    plan = bench.plan()
    cell = plan.cells[0]
    write_atomic(plan.logdir(cell) / "config.yaml", cell.config.to_yaml().encode())
    claim_version(plan.logdir(cell), Version(cell.key, "old code", "old data"))
    (old,) = plan.set_aside()
    assert old.changed == "code and data"


def test_what_does_not_say_its_version_is_not_taken_for_todays(bench):
    plan = bench.plan()
    for cell, left in zip(
        plan.cells, ("metrics.jsonl", "checkpoints/x", "log.txt", "result.json"), strict=True
    ):
        write_atomic(plan.logdir(cell) / "config.yaml", cell.config.to_yaml().encode())
        write_atomic(plan.logdir(cell) / left, b"")
    write_json(
        plan.logdir(plan.cells[3]) / "result.json",
        {"config_key": plan.cells[3].key, "code_hash": "old", "data": {"hash": ""}},
    )
    assert [old.changed for old in plan.set_aside()] == ["version", "version", "code"]

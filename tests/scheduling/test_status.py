"""What `python -m lab status` says of trees made up file by file, and of one that a driver works on."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ablation_bench import tiny_ablation
from result_bench import PROCESS, result
from rich.console import Console
from scheduling_bench import wait_for

from lab.ablation import Scale
from lab.arms import arm_values
from lab.evaluation.measurements import find_set
from lab.files import write_json
from lab.registration import Registration
from lab.results import (
    Measured,
    MeasurementResult,
    StopReference,
    VersionRecord,
    measurement_folder,
    write_record,
)
from lab.scheduling import status
from lab.scheduling.ledger.locks import sole_owner
from lab.scheduling.status import JobStatus, NothingYetError, TreeStatus, find_trees, show_status
from lab.sections import pairs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def driven(bench):
    """A driver is at work on the tree."""
    with sole_owner(bench.tree, "driver"):
        yield


@pytest.fixture
def tree(bench):
    """A plan of one arm, one level and five seeds, and `write(seed, name, **content)` for its logdirs."""
    scale = Scale({"data.unique_tokens": (1000,)}, seeds=5, budget="no time")
    arms = {"ar": arm_values("ar")}
    plan = bench.plan(ablation=tiny_ablation(arms=arms, sections=(), scales={"tiny": scale}))
    plan.write()

    def write(seed, name, **content):
        logdir = plan.logdir(plan.cells[seed])
        logdir.mkdir(parents=True, exist_ok=True)
        (logdir / name).write_text(json.dumps(content))
        return logdir

    def finish(seed, **changes):
        write_result(plan, plan.cells[seed], **changes)

    return SimpleNamespace(path=bench.tree, plan=plan, write=write, finish=finish)


def write_result(plan, cell, **changes):
    job = plan.job(cell)
    version = VersionRecord(values=dict(job.run.values), code=job.run.code)
    made = {"config": cell.config, "version": version, "evaluation": job.wanted, **changes}
    write_record(job.logdir / "result.json", result(**made))


def said(path, once=True, width=300, terminal=False):
    file = io.StringIO()
    show_status(path, Console(file=file, width=width, force_terminal=terminal), once)
    return file.getvalue()


def test_where_seeds_are_added_it_says_at_which_look(tree):
    arms = {arm: arm_values(arm) for arm in ("ar", "dlm")}
    primary = Registration(contrasts=pairs({"dlm": "ar"}))
    ablation = tiny_ablation(arms=arms, primary=primary)
    plan = replace(tree.plan, ablation=ablation)
    plan.write()
    assert "look" not in said(tree.path)
    replace(plan, auto=True).write()
    assert "0 of 5 runs done, look 2 of 5 (5 seeds)" in said(tree.path)


def test_each_state_is_told_from_the_files(tree, driven):
    write, place = tree.write, ("ar", "unique_tokens=1000")
    tree.finish(0, wall_seconds=100.0)
    tree.finish(1, wall_seconds=1.0, evaluation="another")  # does not count
    write(1, "progress.json", share=1.0, phase="done", updated=time.time())
    write(2, "progress.json", share=0.25, tokens_per_second=1234.5, updated=time.time())
    write(3, "progress.json", share=0.5, tokens_per_second=9.0, updated=time.time() - 3600)  # stopped
    write(4, "failure.json", outcome="error", reason="bad\x1b[31m\nluck", log_tail="x")
    assert TreeStatus(tree.path).jobs() == [
        JobStatus(*place, 0, "done", share=1.0),
        JobStatus(*place, 1, "queued"),
        JobStatus(*place, 2, "running", share=0.25, tokens_per_second=1234.5),
        JobStatus(*place, 3, "queued", share=0.5),
        JobStatus(*place, 4, "failed", failure="error: bad [31m luck"),
    ]
    text = said(tree.path)
    # 100 s for the second, 75 s and 50 s for the rest of the next two, one after the other
    assert "1 of 5 runs done, about 4 min left" in text
    row = next(line for line in text.splitlines() if "│ ar" in line)
    assert [word for word in row.split() if word.isdigit()] == ["2", "1", "1", "1"]
    assert "seed 2: 25%, 1,234 tokens/s" in row
    assert "failed: ar unique_tokens=1000 seed=4: error: bad [31m luck" in text
    assert "\x1b" not in text


def test_a_run_of_another_version_is_not_the_planned_one(tree):
    for seed, other in ((0, {"values": {}, "code": "c"}), (1, None)):
        tree.finish(seed, **({"version": VersionRecord(**other)} if other else {}))
        tree.write(seed, "progress.json", share=0.7, updated=time.time())
        tree.write(seed, "failure.json", outcome="error", reason="of the other one")
    first, second, *_ = TreeStatus(tree.path).jobs()
    assert (first.state, first.share, first.failure) == ("queued", 0.0, "")
    assert second.state == "done"


def test_a_result_that_is_written_while_it_is_watched_is_seen(tree):
    watched = TreeStatus(tree.path)
    assert watched.jobs()[0].state == "queued"
    tree.finish(0)
    assert watched.jobs()[0].state == "done"
    tree.finish(0, evaluation="another one")
    assert watched.jobs()[0].state == "queued"


def test_a_run_with_a_living_process_runs_however_long_it_is_silent(tree):
    path, write = tree.path, tree.write
    logdir = write(0, "progress.json", share=0.5, seconds=20.0, pace_seconds=30.0, updated=time.time() - 3600)
    lock = logdir / "run.lock"
    lock.write_text(str(os.getpid()))
    running = TreeStatus(path).jobs()[0]
    assert (running.state, running.share) == ("running", 0.5)
    closing = running.timed.closing
    assert closing > 0
    assert running.timed.left == pytest.approx((0.5 + closing) * 30)
    assert running.timed.seconds == pytest.approx(20 + running.timed.left)
    long_ago = time.time() - 10**7  # then another process had this number
    os.utime(lock, (long_ago, long_ago))
    assert TreeStatus(path).jobs()[0].state == "queued"
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    lock.write_text(str(ended.pid))
    assert TreeStatus(path).jobs()[0].state == "queued"
    lock.write_text("no number")
    assert TreeStatus(path).jobs()[0].state == "queued"


def test_half_written_and_foreign_files_are_no_obstacle(tree, driven):
    logdir = tree.write(0, "progress.json", share="x", updated=None)
    for name in ("result.json", "failure.json"):
        (logdir / name).write_bytes(b'{"half\xff')
    tree.write(1, "progress.json", share=7, updated=time.time())
    (logdir / "progress.json").write_text("[]")
    jobs = TreeStatus(tree.path).jobs()
    assert [job.state for job in jobs] == ["queued", "running", *["queued"] * 3]
    assert jobs[1].share == 1.0


@pytest.mark.parametrize("content", ["", '{"schema": 4', "[]", '{"schema": 4}'])
def test_a_damaged_result_is_named(tree, content):
    tree.finish(1)
    logdir = tree.write(0, "result.json")
    (logdir / "result.json").write_text(content)
    lines = said(tree.path, width=1000).splitlines()
    (line,) = (line for line in lines if "result.json" in line)
    assert line.startswith(f"{logdir / 'result.json'}: not ")
    assert line.endswith("The same command makes it again.")
    assert "1 of 5 runs done" in lines[0]


def test_on_a_terminal_it_goes_on_until_all_have_ended(tree, monkeypatch):
    monkeypatch.setattr(status, "REFRESH_SECONDS", 0.01)
    shown = []
    live = threading.Thread(target=lambda: shown.append(said(tree.path, once=False, terminal=True)))
    live.start()
    time.sleep(0.2)
    assert live.is_alive()
    for seed in range(4):
        tree.finish(seed)
    tree.write(4, "failure.json", outcome="lost", reason="lost: killed by SIGKILL")
    live.join(timeout=60)
    assert "failed: ar unique_tokens=1000 seed=4: lost: killed by SIGKILL" in shown[0]
    assert "4 of 5 runs done" in shown[0]
    assert "5 of 5 runs done" not in said(tree.path, once=True, terminal=True)


def test_every_tree_below_a_folder_is_shown(tree, tmp_path):
    other = tmp_path / "other" / "deep"
    replace(tree.plan, tree=other, cells=()).write()
    assert find_trees(tmp_path) == [other, tree.path]
    text = said(tmp_path)
    assert f"{other}: 0 of 0 runs done" in text
    assert f"{tree.path}: 0 of 5 runs done" in text


@pytest.mark.parametrize(
    ("folder", "why"),
    [
        ("none", "there is no such folder"),
        ("empty", "there is no plan.json in it or below it"),
        ("other", "there is no plan.json in it or below it"),
        ("starting", "a driver is starting"),
    ],
)
def test_before_any_run_it_says_so(folder, why, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "plan.json").mkdir(parents=True)
    (tmp_path / "other" / "notes.txt").touch()
    path = tmp_path / folder
    with sole_owner(tmp_path / "starting" / "deep", "driver"):
        assert said(path) == f"nothing has run yet in {path}: {why}.\n"
        with pytest.raises(NothingYetError, match="nothing has run yet in"):
            find_trees(path)


def test_a_file_and_the_inside_of_a_tree_are_refused(tree, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`path` must be a folder of results, but got the file .*file\."):
        show_status(tmp_path / "file", Console())
    tree.write(0, "progress.json")
    with pytest.raises(ValueError, match=rf"or above some, but got .*runs, inside of {tree.path}\."):
        show_status(tree.path / "runs", Console())


def test_a_dead_drivers_runs_are_queued_at_once(tree):
    tree.finish(0)
    tree.write(1, "progress.json", share=0.5, pace_seconds=10.0, updated=time.time())
    with sole_owner(tree.path, "driver"):
        assert TreeStatus(tree.path).jobs()[1].state == "running"
        assert "1 of 5 runs done, about" in said(tree.path)
    assert TreeStatus(tree.path).jobs()[1] == JobStatus("ar", "unique_tokens=1000", 1, "queued", share=0.5)
    assert "1 of 5 runs done, no driver is at work\n" in said(tree.path)


def test_where_the_lock_tells_nothing_a_run_that_was_heard_of_runs(tree, monkeypatch):
    monkeypatch.setattr(status, "is_owned", lambda *_: None)
    tree.write(0, "progress.json", share=0.5, updated=time.time())
    tree.write(1, "progress.json", share=0.5, updated=time.time() - 3600)
    assert [job.state for job in TreeStatus(tree.path).jobs()][:2] == ["running", "queued"]
    assert "driver" not in said(tree.path)


def test_a_finished_study_needs_no_driver(tree):
    for seed in range(5):
        tree.finish(seed)
    assert said(tree.path).startswith(f"{tree.path}: 5 of 5 runs done\n")


def test_a_driver_that_is_stopped_or_killed_is_told_at_once(bench):
    bench.behave({"ar": "wait", "dlm": "wait"})
    driver = bench.driver()
    try:
        wait_for(lambda: all(map(bench.tries, bench.plan().cells[:2])))
        assert "0 of 4 runs done\n" in said(bench.tree)
        driver.send_signal(signal.SIGSTOP)
        stopped = f"0 of 4 runs done, its driver is stopped (`kill -CONT {driver.pid}` lets it go on)"
        wait_for(lambda: stopped in said(bench.tree))
        driver.send_signal(signal.SIGCONT)
    finally:
        driver.kill()
        driver.communicate()
    assert "0 of 4 runs done, no driver is at work" in said(bench.tree)


@pytest.mark.parametrize("content", ['{"cells": [{}]}', "[]", "", '{"cells"'])
def test_a_damaged_plan_is_named_and_the_other_trees_are_shown(tree, tmp_path, content):
    damaged = tmp_path / "a" / "plan.json"
    damaged.parent.mkdir()
    damaged.write_text(content)
    file = io.StringIO()
    assert not show_status(tmp_path, Console(file=file, width=1000))
    first, second, *_ = file.getvalue().splitlines()
    assert first.startswith(f"{damaged.parent}: {damaged}: not ")
    assert second == f"{tree.path}: 0 of 5 runs done, no driver is at work"
    assert show_status(tree.path, Console(file=file))


def measured(plan, cell, name, **changes):
    """A measurement as it lies in the tree, of a run that is finished."""
    tasks = find_set(name).tasks(cell.config)
    stop = StopReference(run=plan.version(cell).digest(), reading="annealed", step=10)
    rows = [Measured(key="", task=task, stops=(stop,), values={}) for task in tasks]
    values = {
        **{"measurement": name, "wanted": "w", "code": "c", "stops": (stop,), "tokens_seen": 1, "epoch": 1.0},
        **{"process": PROCESS, "wall_seconds": 30.0, "rows": rows, **changes},
    }
    folder = folder_of(plan, cell, name)
    write_record(folder / "result.json", MeasurementResult(**values))


def folder_of(plan, cell, name):
    return plan.tree / measurement_folder(cell.logdir, name)


def test_measurements_are_shown_too(bench, driven):
    measurements = {"inference": "ar", "yardstick": ""}
    plan = bench.plan(seeds=3, ablation=tiny_ablation(measurements=measurements))
    plan.write()
    cells = [cell for cell in plan.cells if cell.level["data.unique_tokens"] == 1000]
    dlm = [cell for cell in cells if cell.arm == "dlm"]
    for cell in cells:
        write_result(plan, cell)
    watched = TreeStatus(bench.tree)

    def states(name):
        jobs = [job for job in watched.jobs() if job.measurement == name]
        return [job.state for job in jobs if job.level == "unique_tokens=1000"]

    assert states("inference") == ["queued"] * 3
    assert len(states("yardstick")) == 6
    measured(plan, dlm[0], "inference")
    assert states("inference") == ["done", "queued", "queued"]
    folder = folder_of(plan, dlm[1], "inference")
    write_json(folder / "progress.json", {"phase": "measure", "share": 0.4, "updated": time.time()})
    write_json(folder_of(plan, dlm[2], "inference") / "failure.json", {"outcome": "lost", "reason": "gone"})
    assert states("inference") == ["done", "running", "failed"]
    text = said(bench.tree)
    assert "6 of 12 runs done, 1 of 18 measurements done, about " in text
    (row,) = (line for line in text.splitlines() if "│ inference" in line)
    assert [word for word in row.split() if word.isdigit()][:4] == ["3", "1", "1", "1"]
    assert "dlm unique_tokens=1000 seed 1: 40%" in row
    assert "failed: inference dlm unique_tokens=1000 seed=2: lost: gone" in text

    # Of another run, or of other settings: to be measured again.
    stop = StopReference(run="another", reading="annealed", step=10)
    write_json(folder_of(plan, dlm[0], "inference") / "progress.json", {"phase": "done", "share": 1.0})
    for changes in ({"stops": (stop,)}, {"rows": ()}):
        measured(plan, dlm[0], "inference", **changes)
        assert states("inference") == ["queued", "running", "failed"]


def test_what_can_never_be_measured_is_not_waited_for(bench):
    plan = bench.plan(ablation=tiny_ablation(measurements={"inference": "ar"}))
    plan.write()
    ar, dlm, *_ = plan.cells
    assert len(TreeStatus(bench.tree).jobs()) == 6
    for cell in (ar, dlm):
        write_json(plan.logdir(cell) / "failure.json", {"outcome": "error", "reason": "no"})
        jobs = TreeStatus(bench.tree).jobs()
        assert [job.level for job in jobs if job.measurement] == ["unique_tokens=2000"]
        (plan.logdir(cell) / "failure.json").unlink()


def test_it_shows_a_driver_at_work_and_opens_no_ledger(bench):
    bench.behave({"dlm": "raise"})
    bench.drive()
    journal = bench.tree / "study.journal"
    journal.write_bytes(journal.read_bytes() + b"half")
    before = {file: file.read_bytes() for file in bench.tree.rglob("*") if file.is_file()}
    command = [sys.executable, "-m", "lab", "status", str(bench.folder / "results")]
    environment = {**os.environ, "COLUMNS": "300", "STORAGE": "postgresql://me:sesame@127.0.0.1:1/name"}
    shown = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert "2 of 4 runs done" in shown
    assert shown.count("exit code 1: RuntimeError: no such luck") == 2
    assert {file: file.read_bytes() for file in bench.tree.rglob("*") if file.is_file()} == before


def test_a_run_that_has_just_started_is_shown(bench):
    bench.behave({"ar": "wait", "dlm": "wait"})
    driver = bench.driver()
    try:
        first = bench.plan().cells[0]
        wait_for(lambda: bench.tries(first))
        (bench.tree / first.logdir / "run.lock").write_text(str(bench.tries(first)[0]))
        states = [job.state for job in TreeStatus(bench.tree).jobs()]
        assert states[0] == "running"
        assert states[2:] == ["queued", "queued"]
    finally:
        driver.kill()
        driver.communicate()

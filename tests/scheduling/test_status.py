"""What `python -m lab status` says of trees made up file by file, and of one that a driver works on."""

import io
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console
from scheduling_bench import wait_for

from lab.scheduling import status
from lab.scheduling.status import CellStatus, TreeStatus, find_trees, seconds_left, show_status

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path):
    """A plan of one arm, one level and five seeds, and `write(seed, name, **content)` for its logdirs."""

    def write(seed, name, **content):
        logdir = tmp_path / "tree" / "runs" / f"seed={seed}"
        logdir.mkdir(parents=True, exist_ok=True)
        (logdir / name).write_text(json.dumps(content))
        return logdir

    cells = [
        {
            "key": f"k{s}",
            "arm": "[ar]",
            "level": {"data.unique_tokens": 1000},
            "seed": s,
            "logdir": f"runs/seed={s}",
        }
        for s in range(5)
    ]
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "plan.json").write_text(json.dumps({"cells": cells}))
    return tmp_path / "tree", write


def said(path, once=True, width=300, terminal=False):
    file = io.StringIO()
    show_status(path, Console(file=file, width=width, force_terminal=terminal), once)
    return file.getvalue()


def test_each_state_is_told_from_the_files(tree):
    path, write = tree
    write(0, "result.json", config_key="k0", wall_seconds=100.0)
    write(1, "result.json", config_key="another", wall_seconds=1.0)  # does not count
    write(2, "progress.json", share=0.25, tokens_per_second=1234.5, updated=time.time())
    write(3, "progress.json", share=0.5, tokens_per_second=9.0, updated=time.time() - 3600)  # stopped
    write(4, "failure.json", outcome="error", reason="bad\x1b[31m\nluck", log_tail="x")
    place = ("[ar]", "unique_tokens=1000")
    assert TreeStatus(path).cells() == [
        CellStatus(*place, 0, "done", 1.0, seconds=100.0),
        CellStatus(*place, 1, "queued"),
        CellStatus(*place, 2, "running", 0.25, 1234.5),
        CellStatus(*place, 3, "queued", 0.5),
        CellStatus(*place, 4, "failed", failure="error: bad [31m luck"),
    ]
    text = said(path)
    # 100 s for the second, 75 s and 50 s for the rest of the next two, one after the other
    assert "1 of 5 runs done, about 4 min left" in text
    row = next(line for line in text.splitlines() if "[ar]" in line)
    assert [word for word in row.split() if word.isdigit()] == ["2", "1", "1", "1"]
    assert "seed 2: 25%, 1,234 tokens/s" in row
    assert "failed: [ar] unique_tokens=1000 seed=4: error: bad [31m luck" in text
    assert "\x1b" not in text


def test_a_run_with_a_living_process_runs_however_long_it_is_silent(tree):
    path, write = tree
    logdir = write(0, "progress.json", share=0.5, updated=time.time() - 3600)
    lock = logdir / "run.lock"
    lock.write_text(str(os.getpid()))
    running = TreeStatus(path).cells()[0]
    assert (running.state, running.share) == ("running", 0.5)
    assert 0 <= running.seconds < 600
    long_ago = time.time() - 10**7  # then another process had this number
    os.utime(lock, (long_ago, long_ago))
    assert TreeStatus(path).cells()[0].state == "queued"
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    lock.write_text(str(ended.pid))
    assert TreeStatus(path).cells()[0].state == "queued"
    lock.write_text("no number")
    assert TreeStatus(path).cells()[0].state == "queued"


def test_half_written_and_foreign_files_are_no_obstacle(tree):
    path, write = tree
    logdir = write(0, "progress.json", share="x", updated=None)
    for name in ("result.json", "failure.json"):
        (logdir / name).write_bytes(b'{"half\xff')
    write(1, "progress.json", share=7, updated=time.time())
    (logdir / "progress.json").write_text("[]")
    assert [cell.state for cell in TreeStatus(path).cells()] == ["queued", "running", *["queued"] * 3]
    assert TreeStatus(path).cells()[1].share == 1.0


def test_time_left_rests_on_done_runs_then_on_the_run_itself_then_on_the_others():
    done = CellStatus("a", "", 0, "done", 1.0, seconds=100.0)
    assert seconds_left([done, CellStatus("a", "", 1, "running", 0.5, seconds=7.0)]) == 50.0
    assert seconds_left([done, CellStatus("b", "", 0, "running", 0.5, seconds=40.0)]) == 20.0
    assert seconds_left([done, CellStatus("b", "", 0, "running", 0.5)]) == 50.0
    two = [CellStatus("a", "", seed, "running") for seed in (1, 2)]
    assert seconds_left([done, *two, CellStatus("a", "", 3, "queued")]) == 150.0
    assert seconds_left([done, CellStatus("a", "", 1, "queued")]) is None
    assert seconds_left(two) is None


def test_on_a_terminal_it_goes_on_until_all_have_ended(tree, monkeypatch):
    path, write = tree
    monkeypatch.setattr(status, "REFRESH_SECONDS", 0.01)
    shown = []
    live = threading.Thread(target=lambda: shown.append(said(path, once=False, terminal=True)))
    live.start()
    time.sleep(0.2)
    assert live.is_alive()
    for seed in range(4):
        write(seed, "result.json", config_key=f"k{seed}", wall_seconds=1.0)
    write(4, "failure.json", outcome="lost", reason="lost: killed by SIGKILL")
    live.join(timeout=60)
    assert "failed: [ar] unique_tokens=1000 seed=4: lost: killed by SIGKILL" in shown[0]
    assert "4 of 5 runs done" in shown[0]
    assert "5 of 5 runs done" not in said(path, once=True, terminal=True)


def test_every_tree_below_a_folder_is_shown(tree, tmp_path):
    path, _ = tree
    other = tmp_path / "other" / "deep"
    other.mkdir(parents=True)
    (other / "plan.json").write_text('{"cells": []}')
    assert find_trees(tmp_path) == [other, path]
    text = said(tmp_path)
    assert f"{other}: 0 of 0 runs done" in text
    assert f"{path}: 0 of 5 runs done" in text


def test_what_is_no_tree_is_refused(tree, tmp_path):
    path, _ = tree
    with pytest.raises(ValueError, match=r"`path` must hold a plan\.json, in it or below it, but got"):
        show_status(tmp_path / "none", Console())
    (path / "plan.json").write_text('{"cells": [{}]}')
    with pytest.raises(ValueError, match=r"plan\.json: not a plan \(KeyError\)"):
        show_status(path, Console())
    (path / "plan.json").write_text("[]")
    with pytest.raises(ValueError, match=r"plan\.json: not a plan \(TypeError\)"):
        show_status(path, Console())


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
        states = [cell.state for cell in TreeStatus(bench.tree).cells()]
        assert states[0] == "running"
        assert states[2:] == ["queued", "queued"]
    finally:
        driver.kill()
        driver.communicate()

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scheduling_bench import alive, wait_for

from lab.scheduling.executors import process
from lab.scheduling.executors.executor import Ended
from lab.scheduling.executors.process import ProcessGroup, bound_log, oom_kills, rank_log, spawn

SLEEP = "import time; time.sleep(600)"
GRANDCHILD = (
    "import subprocess, sys, time; sleep = 'import time; time.sleep(600)';"
    "print(subprocess.Popen([sys.executable, '-c', sleep]).pid, flush=True)"
)
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def group(folder, *codes, stall_seconds=1000.0):
    """An attempt of one process a code."""
    return ProcessGroup(
        [
            spawn([sys.executable, "-c", code], os.environ, rank_log(folder, i))
            for i, code in enumerate(codes)
        ],
        folder,
        stall_seconds,
    )


def finish(handle):
    wait_for(lambda: handle.poll() is not None)
    return handle.poll()


def be_impatient_once_up(handle):
    """A machine that is slow to start a process does not look like a run that hangs."""
    wait_for(lambda: "up" in rank_log(handle._logdir, 0).read_text())
    handle._stall_seconds = 0.4


@pytest.mark.parametrize("code", [0, 1, 3, 75])
def test_the_exit_code_is_handed_on(tmp_path, code):
    handle = group(tmp_path, f"raise SystemExit({code})")
    assert finish(handle) == Ended(code)
    handle.stop(hard=True)  # ended: nothing to do
    assert handle.poll() == Ended(code)


@needs_proc
def test_a_stop_reaches_grandchildren(tmp_path):
    handle = group(tmp_path, f"{GRANDCHILD}; time.sleep(600)")
    wait_for(lambda: (tmp_path / "log.txt").read_text().endswith("\n"))
    handle.stop(hard=False)
    assert finish(handle) == Ended(-signal.SIGTERM)
    wait_for(lambda: not alive(int((tmp_path / "log.txt").read_text())))


@needs_proc
def test_what_a_process_leaves_behind_ends_with_it(tmp_path):
    assert finish(group(tmp_path, GRANDCHILD)) == Ended(0)
    wait_for(lambda: not alive(int((tmp_path / "log.txt").read_text())))


def test_one_rank_ends_badly_and_all_end_at_once(tmp_path):
    handle = group(tmp_path, SLEEP, "print('no such luck'); raise SystemExit(4)", SLEEP)
    assert finish(handle) == Ended(4)
    assert all(child.returncode is not None for child in handle._processes)
    assert "[rank 1 ended:]\nno such luck" in (tmp_path / "log.txt").read_text()


def test_a_killed_rank_is_what_is_reported(tmp_path):
    handle = group(tmp_path, SLEEP, SLEEP)
    handle._processes[1].kill()
    assert finish(handle) == Ended(-signal.SIGKILL)


def test_a_preempted_rank_waits_for_the_others_checkpoint(tmp_path):
    slow = "import pathlib, time; time.sleep(1); pathlib.Path('saved').touch(); raise SystemExit(75)"
    code = f"import os; os.chdir({str(tmp_path)!r}); {slow}"
    assert finish(group(tmp_path, code, "raise SystemExit(75)")) == Ended(75)
    assert (tmp_path / "saved").exists()


def test_a_hung_run_leaves_its_stacks_and_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "ABORT_SECONDS", 60.0)
    code = (
        "import os; os.environ['LAB_PARENT'] = str(os.getppid())\n"
        "from lab.scheduling.executors import child; child.enter()\n"
        "def deadlocked():\n    import threading; print('up', flush=True); threading.Event().wait()\n"
        "deadlocked()"
    )
    handle = group(tmp_path, code)
    be_impatient_once_up(handle)
    assert finish(handle) == Ended(-signal.SIGABRT, "stalled")
    log = (tmp_path / "log.txt").read_text()
    assert "[no progress for 0.4 s; the stacks of all threads:]" in log
    assert "in deadlocked" in log
    assert "_end_with" in log  # every thread's


def test_a_hung_run_that_ignores_the_request_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "ABORT_SECONDS", 0.5)
    code = "import signal, time; signal.signal(signal.SIGABRT, signal.SIG_IGN); print('up', flush=True); "
    handle = group(tmp_path, f"{code}time.sleep(600)")
    be_impatient_once_up(handle)
    assert finish(handle) == Ended(-signal.SIGKILL, "stalled")


@pytest.mark.parametrize("progress", [True, False])
def test_progress_holds_the_timer_off(tmp_path, monkeypatch, progress):
    handle = group(tmp_path, SLEEP, stall_seconds=3.0)
    now = time.monotonic()
    for i in range(1, 9):
        if progress:
            (tmp_path / "progress.json").write_text("x" * i)
        monkeypatch.setattr(process.time, "monotonic", lambda i=i: now + 2 * i)
        handle.poll()
    assert (handle._aborted is None) == progress
    monkeypatch.undo()
    handle.stop(hard=True)
    finish(handle)


def test_a_watcher_that_slept_does_not_blame_the_run(tmp_path, monkeypatch):
    handle = group(tmp_path, SLEEP, stall_seconds=100.0)
    now = time.monotonic()
    for later in (1000.0, 2000.0):
        monkeypatch.setattr(process.time, "monotonic", lambda later=later: now + later)
        assert handle.poll() is None
    monkeypatch.undo()
    handle.stop(hard=True)
    assert finish(handle) == Ended(-signal.SIGKILL)


def test_a_kill_by_the_kernel_for_memory_is_told_apart(tmp_path, monkeypatch):
    counter = iter([3, 4, 4, 4])
    monkeypatch.setattr(process, "oom_kills", lambda: next(counter))
    suicide = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert finish(group(tmp_path, suicide)) == Ended(-signal.SIGKILL, "host_oom")
    assert finish(group(tmp_path, suicide)) == Ended(-signal.SIGKILL)


def test_our_own_kill_is_not_taken_for_the_kernels(tmp_path, monkeypatch):
    counter = iter([3, 4])
    monkeypatch.setattr(process, "oom_kills", lambda: next(counter))
    handle = group(tmp_path, SLEEP)
    handle.stop(hard=True)
    assert finish(handle) == Ended(-signal.SIGKILL)


def test_the_kernels_counter_is_of_our_control_group_else_of_the_machine(tmp_path):
    (tmp_path / "self").mkdir()
    assert oom_kills(tmp_path, tmp_path) == 0
    (tmp_path / "vmstat").write_text("pgfault 12\noom_kill 5\n")
    assert oom_kills(tmp_path, tmp_path) == 5
    (tmp_path / "self" / "cgroup").write_text("4:memory:/v1\n0::/mine/own\n")
    assert oom_kills(tmp_path, tmp_path) == 5
    (tmp_path / "mine" / "own").mkdir(parents=True)
    (tmp_path / "mine" / "own" / "memory.events").write_text("oom 9\noom_kill 2\n")
    assert oom_kills(tmp_path, tmp_path) == 2


def test_a_log_is_cut_in_place_and_its_writer_goes_on(tmp_path):
    log = tmp_path / "log.txt"
    code = "import sys; sys.stdout.write('x' * 5000 + 'end'); sys.stdout.flush(); input(); print('more')"
    with log.open("ab") as output:
        pipes = {"stdin": subprocess.PIPE, "stdout": output}
        with subprocess.Popen([sys.executable, "-c", code], **pipes) as writer:
            wait_for(lambda: log.stat().st_size == 5003)
            assert not bound_log(log, most=5003, keep=100)
            assert bound_log(log, most=5000, keep=100)
            assert log.read_text() == "\n[the first 4903 bytes of this log were dropped]\n" + "x" * 97 + "end"
            writer.communicate(b"\n")
    assert log.read_text().endswith("xendmore\n")


def test_a_flood_of_output_stays_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "bound_log", lambda log: bound_log(log, most=2**20, keep=2**10))
    monkeypatch.setattr(process, "LOOK_SECONDS", 0.1)
    flooded, seen, log = tmp_path / "flooded", tmp_path / "seen", tmp_path / "log.txt"
    code = (
        "import os, pathlib, time\nfor _ in range(40):\n    os.write(1, b'\\xff' * 2**18); time.sleep(0.02)\n"
        f"pathlib.Path({str(flooded)!r}).touch()\n"
        f"while not pathlib.Path({str(seen)!r}).exists():\n    time.sleep(0.02)"
    )
    handle = group(tmp_path, code)
    wait_for(lambda: handle.poll() is None and flooded.exists() and log.stat().st_size < 2 * 2**20)
    assert b"bytes of this log were dropped" in log.read_bytes()
    seen.touch()
    assert finish(handle) == Ended(0)

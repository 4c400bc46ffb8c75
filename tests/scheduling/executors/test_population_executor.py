"""The driver's side of populations, with processes that train nothing."""

import os
import select
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from scheduling_bench import FAKE_POPULATION, alive, wait_for

from lab.scheduling.executors import process
from lab.scheduling.executors.executor import Attempt, Ended
from lab.scheduling.executors.population_executor import PopulationExecutor, PopulationProcess

# Ends as the test says, and does not heed SIGTERM.
RUN = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: None)
go = pathlib.Path(sys.argv[sys.argv.index("--logdir") + 1]) / "go"
while not (go.exists() and go.read_text()):
    time.sleep(0.02)
sys.exit(int(go.read_text()))
"""
SINGLE = (sys.executable, "-c", RUN)
COMMAND = (sys.executable, "-c", FAKE_POPULATION, *SINGLE)
SILENT = "import faulthandler, time; faulthandler.enable(); print('last words', flush=True); time.sleep(600)"

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Where temporary folders lie."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path / "temporary"


@pytest.fixture
def attempts(tmp_path):
    """Runs, each with a folder of its own."""
    made = [tmp_path / f"run {number}" for number in range(9)]
    for logdir in made:
        logdir.mkdir()
    return [Attempt(logdir / "config.yaml", logdir, tmp_path / "cache") for logdir in made]


@pytest.fixture
def executor(folders):
    """`executor(population, workers)`; closed at the end."""
    made = []

    def executor(population, workers=1, command=COMMAND, **options):
        made.append(PopulationExecutor(population, workers, command, SINGLE, **options))
        return made[-1]

    yield executor
    for one in made:
        one.close()


def end(attempt, code=0):
    (attempt.logdir / "go").write_text(str(code))


def finish(handle):
    wait_for(lambda: handle.poll() is not None)
    return handle.poll()


def pids(executor):
    """The processes of the places; 0 where there is none."""
    return [one._process.pid if one else 0 for one in executor._processes]


def said(executor, place=0):
    """What the process of a place has written to its log."""
    return (executor._processes[place]._folder / "log.txt").read_text()


def log(attempt):
    return (attempt.logdir / "log.txt").read_text()


def test_places_fill_and_empty(executor, attempts):
    two = executor(2, workers=2)
    assert (two.free(), two.free("measure"), pids(two)) == (4, 2, [0, 0])
    handles = [two.start(attempt) for attempt in attempts[:4]]
    assert (two.free(), two.free("measure")) == (0, 0)
    before = pids(two)
    assert all(before)
    assert [handle.poll() for handle in handles] == [None] * 4
    end(attempts[1], 3)
    assert finish(handles[1]) == Ended(3)
    assert [handle.poll() for handle in handles] == [None, Ended(3), None, None]
    assert two.free() == 1
    handles[2].stop(hard=True)
    assert finish(handles[2]) == Ended(-9)  # of the run alone
    for attempt in (attempts[0], attempts[3]):
        end(attempt)
    assert [finish(handles[0]), finish(handles[3])] == [Ended(0), Ended(0)]
    assert (two.free(), two.free("measure")) == (4, 2)
    two.start(attempts[4])
    assert pids(two) == before  # a process serves one run after the other


def test_the_place_where_most_are_at_work_is_filled_first(executor, attempts):
    three = executor(3, workers=3)
    handles = [three.start(attempt) for attempt in attempts[:4]]
    assert [bool(pid) for pid in pids(three)] == [True, True, False]
    for number in (0, 1):
        end(attempts[number])
        finish(handles[number])
    three.start(attempts[4])  # one run in each of two places
    three.start(attempts[5])
    assert [one.free if one else 3 for one in three._processes] == [0, 2, 3]
    assert three.free() == 5


def test_a_run_is_asked_to_end_once(executor, attempts):
    one = executor(2)
    first, second = (one.start(attempt) for attempt in attempts[:2])
    for _ in range(5):
        first.stop(hard=False)
    for _ in range(5):
        first.stop(hard=True)
    finish(first)
    first.stop(hard=True)  # ended: nothing to do
    second.stop(hard=True)
    finish(second)
    assert said(one).split() == ["start", "start", "stop", "drop", "drop"]


def test_a_measurement_waits_for_the_runs_and_ends_the_processes(executor, attempts):
    two = executor(2, workers=2)
    handle = two.start(attempts[0])
    assert two.free("measure") == 0
    end(attempts[0])
    finish(handle)
    (process,) = (one._process for one in two._processes if one)
    measurement = replace(attempts[1], command="measure")
    measured = two.start(measurement)
    assert process.returncode == -9
    assert (two.free("measure"), two.free("run"), pids(two)) == (1, 0, [0, 0])
    end(measurement)
    assert finish(measured) == Ended(0)
    assert (two.free("measure"), two.free("run")) == (2, 4)


@needs_proc
def test_a_killed_process_ends_all_its_runs_and_their_logs_say_so(executor, attempts):
    two = executor(2, workers=2)
    handles = [two.start(attempt) for attempt in attempts[:3]]
    wait_for(lambda: "start\nstart\n" in said(two))
    os.kill(pids(two)[0], signal.SIGKILL)
    assert [finish(handle) for handle in handles[:2]] == [Ended(-9), Ended(-9)]
    for attempt in attempts[:2]:
        assert log(attempt).endswith("[the process that trained it with others has ended:]\nstart\nstart\n")
    assert handles[2].poll() is None
    assert "ended" not in log(attempts[2])
    assert two.free() == 3
    for attempt in attempts[3:6]:
        two.start(attempt)
    assert handles[0].poll() == Ended(-9)
    assert two.free() == 0


@needs_proc
@pytest.mark.parametrize("look", [1, 2, 3])
def test_a_process_that_ends_between_two_looks_makes_room(executor, attempts, monkeypatch, look):
    one = executor(2)
    first = one.start(attempts[0])
    looks, real = [], PopulationProcess.look

    def look_and_lose(process):
        real(process)
        looks.append(process)
        if len(looks) == look:
            os.kill(pids(one)[0], signal.SIGKILL)
            os.waitid(os.P_PID, pids(one)[0], os.WEXITED | os.WNOWAIT)

    monkeypatch.setattr(PopulationProcess, "look", look_and_lose)
    second = one.start(attempts[1])
    assert len(looks) >= look
    assert finish(first) == Ended(-9)
    end(attempts[1], 3)
    assert finish(second) == Ended(3)


@needs_proc
def test_an_end_that_was_told_before_the_process_was_killed_counts(executor, attempts):
    one = executor(2)
    handles = [one.start(attempt) for attempt in attempts[:2]]
    end(attempts[0], 3)
    process = one._processes[0]
    assert select.select([process._reports], [], [], 120)[0]  # told, and not yet read
    os.kill(pids(one)[0], signal.SIGKILL)
    wait_for(lambda: handles[1].poll())
    assert [handle.poll() for handle in handles] == [Ended(3), Ended(-9)]


@pytest.mark.parametrize("code", [4, 5])
def test_where_memory_lacks_later_runs_come_in_smaller_populations(executor, attempts, code):
    two = executor(4, workers=2)
    handles = [two.start(attempt) for attempt in attempts[:5]]
    for number in (0, 1):  # one after the other, of one process: half once
        end(attempts[number], code)
        assert finish(handles[number]) == Ended(code)
        assert (two.free(), two.population) == (0, 2)
    end(attempts[4])
    finish(handles[4])
    old = pids(two)
    assert two.free() == 2  # the other has four places still
    for attempt in attempts[5:7]:
        handles.append(two.start(attempt))
    assert (two.free(), pids(two)[0]) == (0, old[0])
    assert pids(two)[1] != old[1]
    assert two._processes[1].places == 2
    end(attempts[5], code)
    finish(handles[5])
    assert (two.free(), two.population) == (0, 1)
    end(attempts[6], code)  # of the same process
    finish(handles[6])
    assert (two.free(), two.population) == (1, 1)
    last = two.start(attempts[7])
    end(attempts[7], code)
    finish(last)
    assert (two.free(), two.population) == (1, 1)


def test_a_process_that_the_system_kills_for_memory_halves_the_population_too(
    executor, attempts, monkeypatch
):
    kills = [0]
    monkeypatch.setattr(process, "oom_kills", lambda: kills[0])
    one = executor(4)
    handle = one.start(attempts[0])
    kills[0] += 1
    os.kill(pids(one)[0], signal.SIGKILL)
    assert finish(handle) == Ended(-9, "host_oom")
    assert (one.free(), one.population) == (2, 2)


def test_a_process_that_shows_no_life_is_ended_and_leaves_its_stacks_to_its_runs(
    executor, attempts, monkeypatch
):
    monkeypatch.setattr(process, "ABORT_SECONDS", 60.0)
    one = executor(2, command=(sys.executable, "-c", SILENT))
    handles = [one.start(attempt) for attempt in attempts[:2]]
    wait_for(lambda: "last words" in said(one))
    one._processes[0]._group._stall_seconds = 0.4  # once it can tell its stacks
    for handle, attempt in zip(handles, attempts, strict=False):
        assert finish(handle) == Ended(-signal.SIGABRT, "stalled")
        assert "no progress for 0.4 s; the stacks of all threads:" in log(attempt)
        assert "Current thread" in log(attempt)


@needs_proc
def test_closing_leaves_no_process_and_no_folder(executor, attempts, folders):
    two = executor(2, workers=2)
    handles = [two.start(attempt) for attempt in attempts[:3]]
    end(attempts[0])
    finish(handles[0])
    running = pids(two)
    assert len(list(folders.iterdir())) == 2
    two.close()
    assert not any(map(alive, running))
    assert list(folders.iterdir()) == []
    assert [handle.poll() for handle in handles] == [Ended(0), Ended(-9), Ended(-9)]
    handles[1].stop(hard=False)
    two.close()  # again: nothing to do
    assert two.free() == 4


def test_an_order_to_a_process_that_has_ended_is_let_be(folders, attempts):
    ended = PopulationProcess(2, os.environ, (sys.executable, "-c", "print('no', end='')"))
    wait_for(lambda: ended.ended)
    assert (ended.free, ended.idle) == (0, True)
    member = ended.start(attempts[0])
    assert member.poll() == Ended(0)
    ended.close()


def test_a_process_that_reads_nothing_holds_up_nobody(folders, attempts):
    deaf = PopulationProcess(9000, os.environ, (sys.executable, "-c", SILENT))
    begun = time.monotonic()
    for _ in range(3000):  # many times what a pipe holds
        deaf.order(do="start", run=0, log="x" * 100)
    assert deaf.start(attempts[0]).poll() is None
    deaf.close()
    assert time.monotonic() - begun < 60


def test_orders_that_had_no_room_are_sent_when_there_is_some(folders, attempts, tmp_path):
    go = tmp_path / "go"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists():\n    time.sleep(0.02)"
    one = PopulationProcess(9000, os.environ, (sys.executable, "-c", f"{wait}\n{FAKE_POPULATION}", *SINGLE))
    for number in range(3000):
        one.order(do="stop", run=-number, padding="x" * 100)
    member = one.start(attempts[0])
    assert one._unsent
    go.touch()
    end(attempts[0], 3)
    assert finish(member) == Ended(3)
    assert not one._unsent
    one.close()


def test_the_time_without_progress_must_be_positive(folders):
    with pytest.raises(ValueError, match="`stall_seconds` must be > 0, but got stall_seconds=0"):
        PopulationExecutor(2, 1, stall_seconds=0)

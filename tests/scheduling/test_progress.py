import errno
import io
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lab.scheduling import progress
from lab.scheduling.progress import RunsProgress

STATE = {
    "phase": "train",
    "share": 0.25,
    "step": 10,
    "total_steps": 40,
    "epoch": 1.5,
    "total_epochs": 6.0,
    "tokens_per_second": 12345.6,
    "train_loss": 2.3456,
}


class Clock:
    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


def report(folder, **changes):
    folder.mkdir(exist_ok=True)
    state = {**STATE, "updated": time.time() + 1, **changes}
    (folder / "progress.json").write_text(json.dumps(state))


def jobs_of(bench, logdir):
    """The runs of a plan, all in one folder."""
    plan = bench.plan()
    return [replace(plan.job(cell), logdir=logdir) for cell in plan.cells]


@pytest.fixture
def shown():
    file = io.StringIO()
    return RunsProgress(Console(file=file, width=200), plain_seconds=20), file


def test_plain_lines_say_what_runs_and_what_is_left(bench, shown, tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    runs, file = shown
    jobs = jobs_of(bench, tmp_path / "a")
    with runs.shown(4, 1):
        runs.started(jobs[0])
        report(tmp_path / "a", share=0.0)
        clock.now += 21
        runs.refresh()
        report(tmp_path / "a")
        clock.now += 29
        runs.refresh()
        runs.refresh()  # a moment later: nothing new to say
        clock.now += 50
        runs.ended(jobs[0])
    lines = file.getvalue().splitlines()
    assert lines[0] == "1/4 runs"
    assert (
        "[ar unique_tokens=1000 seed=0: 25% train, epoch 1.5/6.0, 12,346 tokens/s, loss 2.346 nats/token]"
        in lines[2]
    )
    # 50 s for a quarter of a run, two and three quarters are left; then 100 s for one, two are left.
    assert lines[2].startswith("1/4 runs  about 9 min left")
    assert lines[3] == "2/4 runs  about 3 min left  ar unique_tokens=1000 seed=0: done"
    assert len(lines) == 4


def test_a_resumed_run_counts_what_it_gained_only(bench, shown, tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    runs, file = shown
    with runs.shown(1, 0):
        runs.started(jobs_of(bench, tmp_path / "a")[0])
        report(tmp_path / "a", share=0.5)
        clock.now += 20
        runs.refresh()
        report(tmp_path / "a", share=0.75, train_loss=None)
        clock.now += 20
        runs.refresh()
    last = file.getvalue().splitlines()[-1]
    assert "about 40 s left" in last
    assert "loss" not in last


def stale_handle(*_, **__):
    raise OSError(errno.ESTALE, "Stale file handle")


def test_an_earlier_attempts_progress_and_what_cannot_be_read_are_ignored(
    bench, shown, tmp_path, monkeypatch
):
    clock = Clock(monkeypatch)
    runs, file = shown
    with runs.shown(1, 0):
        report(tmp_path / "a", updated=time.time() - 60)
        runs.started(jobs_of(bench, tmp_path / "a")[0])
        clock.now += 20
        runs.refresh()
        (tmp_path / "a" / "progress.json").write_text('{"share":')
        clock.now += 20
        runs.refresh()
        for damaged in ({"share": "x"}, {"phase": None, "share": 0.5, "total_epochs": 2}):
            report(tmp_path / "a", **damaged)
            if damaged["share"] != "x":
                state = json.loads((tmp_path / "a" / "progress.json").read_text())
                del state["epoch"]
                (tmp_path / "a" / "progress.json").write_text(json.dumps(state))
            clock.now += 20
            runs.refresh()
        monkeypatch.setattr(Path, "read_bytes", stale_handle)
        clock.now += 20
        runs.refresh()
    assert file.getvalue().count("starting") == 5


def test_failures_and_second_tries(bench, shown, tmp_path):
    runs, file = shown
    job, other, *_ = jobs_of(bench, tmp_path)
    with runs.shown(2, 0):
        runs.started(job)
        runs.ended(job, "lost; trying again", final=False)
        runs.started(job)
        runs.ended(job, "exit code 1: [red]no[/red]")
        runs.ended(other, reused=True)
    lines = file.getvalue().splitlines()
    assert lines[1:] == [
        "0/2 runs  ar unique_tokens=1000 seed=0: lost; trying again",
        "1/2 runs  ar unique_tokens=1000 seed=0: exit code 1: [red]no[/red]",
        "2/2 runs  dlm unique_tokens=1000 seed=0: done before",
    ]


def test_a_terminal_gets_bars(bench, tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    file = io.StringIO()
    runs = RunsProgress(Console(file=file, force_terminal=True, width=200))
    with runs.shown(2, 0):
        runs.started(jobs_of(bench, tmp_path / "a")[0])
        report(tmp_path / "a")
        clock.now += 1
        runs.refresh()
    assert "12,346 tokens/s" in file.getvalue()
    assert "━" in file.getvalue()

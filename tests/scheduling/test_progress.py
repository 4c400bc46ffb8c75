import errno
import io
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from scheduling_bench import wait_for

from lab.scheduling import progress
from lab.scheduling.progress import Alone, RunsProgress, watching

STATE = {
    "phase": "train",
    "share": 0.25,
    "seconds": 50.0,
    "pace_seconds": 160.0,
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
    jobs = jobs_of(bench, tmp_path / "a")  # of ar and dlm at 1,000 tokens, then at 2,000
    with runs.shown(jobs, {jobs[1].key: 300.0}):
        runs.started(jobs[0])
        report(tmp_path / "a", share=0.0, pace_seconds=None)
        clock.now += 21
        runs.refresh()
        report(tmp_path / "a")
        clock.now += 29
        runs.refresh()
        runs.refresh()  # a moment later: nothing new to say
        clock.now += 50
        runs._runs[jobs[0].key].started -= 180
        runs.ended(jobs[0])
    lines = file.getvalue().splitlines()
    ar, dlm, *others = (job.timed.work for job in jobs)
    assert others == [ar, dlm]
    left = (0.75 + jobs[0].timed.closing) * 160
    # By the one that is done as far as their work is known; then by the pace of the one that runs too.
    assert lines[0] == f"1/4 runs  about {300 / dlm * (2 * ar + dlm) / 60:.0f} min left"
    assert (
        "[ar unique_tokens=1000 seed=0: 25% train, epoch 1.5/6.0, 12,346 tokens/s, loss 2.346 nats/token]"
        in lines[2]
    )
    pace = (300 + 50 + left) / (ar + dlm)
    assert lines[2].startswith(f"1/4 runs  about {(left + (ar + dlm) * pace) / 60:.0f} min left")
    pace = (300 + 180) / (ar + dlm)
    assert lines[3].startswith(f"2/4 runs  about {(ar + dlm) * pace / 60:.0f} min left  ar")
    assert lines[3].endswith("ar unique_tokens=1000 seed=0: done")
    assert len(lines) == 4


def test_what_earlier_runs_took_is_said_until_these_tell(bench, shown, tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    runs, file = shown
    jobs = jobs_of(bench, tmp_path / "a")
    runs.pace = 60 / sum(job.timed.work for job in jobs)
    with runs.shown(jobs, {}):
        for job in jobs[:2]:
            runs.started(job)
        clock.now += 21
        runs.refresh()
    lines = file.getvalue().splitlines()
    assert lines[0] == "0/4 runs  about 60 s left"
    assert lines[1].startswith(
        "0/4 runs  about 30 s left  [ar unique_tokens=1000 seed=0: starting]"
    )  # two at once


@pytest.mark.parametrize("share", [-1.0, 0.0, 1.0, 9.0])
def test_time_left_is_never_negative_whatever_a_run_says(share, bench, shown, tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    runs, file = shown
    job = jobs_of(bench, tmp_path / "a")[0]
    with runs.shown([job], {}):
        runs.started(job)
        report(tmp_path / "a", share=share, seconds=-5.0)
        clock.now += 20
        runs.refresh()
    assert not re.search(r"nan|inf|about -", file.getvalue())


def test_a_stage_that_others_follow_says_whose_time_it_is(bench, shown, tmp_path, monkeypatch):
    runs, file = shown
    jobs = jobs_of(bench, tmp_path / "a")
    with runs.shown(jobs, {jobs[0].key: 60.0}, "tuning runs of round 1"):
        pass
    assert re.fullmatch(r"1/4 tuning runs of round 1  about \d+ min left for these", file.getvalue().strip())


def test_with_nothing_left_to_do_no_time_is(bench, shown, tmp_path):
    runs, file = shown
    jobs = jobs_of(bench, tmp_path / "a")
    with runs.shown(jobs, {job.key: 1.0 for job in jobs}):
        pass
    assert file.getvalue() == "4/4 runs\n"


def test_a_run_that_is_alone_is_watched_while_it_works(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "LIVE_SECONDS", 0.01)
    file = io.StringIO()
    runs = RunsProgress(Console(file=file, width=200), plain_seconds=0.0)
    with watching(Alone("ar seed=0", tmp_path / "a"), runs):
        report(tmp_path / "a")
        wait_for(lambda: "[ar seed=0: 25% train" in file.getvalue())
    said = file.getvalue()
    assert said.startswith("0/1 runs")
    assert "0/1 runs  about 2 min left  [ar" in said
    time.sleep(0.05)
    assert file.getvalue() == said  # nobody watches any more


def test_a_label_that_the_console_lacks_characters_for_is_shown(tmp_path):
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    runs = RunsProgress(Console(file=file, width=200))
    job = Alone("ü−\udcff [b]", tmp_path)
    with runs.shown([job], {}):
        runs.started(job)
        runs.ended(job)
    file.flush()
    assert rb"1/1 runs  \xfc-\udcff [b]: done" in file.buffer.getvalue()


def stale_handle(*_, **__):
    raise OSError(errno.ESTALE, "Stale file handle")


def test_an_earlier_attempts_progress_and_what_cannot_be_read_are_ignored(
    bench, shown, tmp_path, monkeypatch
):
    clock = Clock(monkeypatch)
    runs, file = shown
    job = jobs_of(bench, tmp_path / "a")[0]
    with runs.shown([job], {}):
        report(tmp_path / "a", updated=time.time() - 60)
        runs.started(job)
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
    with runs.shown([job, other], {}):
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
    jobs = jobs_of(bench, tmp_path / "a")
    with runs.shown(jobs[:2], {}):
        runs.started(jobs[0])
        report(tmp_path / "a")
        clock.now += 1
        runs.refresh()
    assert "12,346 tokens/s" in file.getvalue()
    assert "━" in file.getvalue()

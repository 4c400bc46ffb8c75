"""A run that is asked to end does so at once or after its update, and goes on to the same numbers."""

import os
import shutil
import signal
import time
from types import SimpleNamespace

import pytest
from test_kill import start
from training_bench import numbers_of, rows_of, weights_of_stops

from lab.training import ending
from lab.training.ending import REPEAT_SECONDS, Notice, PreemptedError
from lab.version import read_version


def test_notice_is_kept_until_it_can_be_obeyed():
    notice = Notice()
    notice.obey()
    notice.give()
    assert notice.given
    with pytest.raises(PreemptedError, match="asked to end"):
        notice.obey()
    with pytest.raises(PreemptedError, match="asked to end"), notice.at_once():
        raise AssertionError("entered")


def test_a_stretch_that_changes_nothing_is_left_at_once():
    notice = Notice()
    with notice.at_once(), pytest.raises(PreemptedError, match="asked to end"):
        notice.give()


def test_a_notice_that_another_thread_left_is_obeyed_where_the_run_may_be_left():
    notice = Notice()
    notice.given = True
    notice.obey_where_it_may_be()
    notice = Notice()
    with notice.at_once():
        notice.obey_where_it_may_be()
        notice.given = True
        with pytest.raises(PreemptedError, match="asked to end"):
            notice.obey_where_it_may_be()
    notice.obey_where_it_may_be()


def test_a_signal_is_notice_and_a_later_one_acts_as_usual(monkeypatch):
    notice, seen = Notice(), []
    clock = iter([100.0, 100.1, 100.0 + REPEAT_SECONDS + 0.1])
    monkeypatch.setattr(ending, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append("usual"))
    try:
        with notice.by_signals():
            os.kill(os.getpid(), signal.SIGUSR1)
            assert (notice.given, seen) == (True, [])
            os.kill(os.getpid(), signal.SIGUSR1)  # the same notice by another way
            assert seen == []
            os.kill(os.getpid(), signal.SIGUSR1)
            assert seen == ["usual"]
        os.kill(os.getpid(), signal.SIGUSR1)
        assert seen == ["usual"] * 2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_ctrl_c_twice_is_never_taken_for_one():
    with Notice().by_signals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_run_asked_to_end_at_any_moment_goes_on_to_the_same_result(undisturbed, tmp_path, monkeypatch):
    """Notice comes in the main run, in a branch, and while a stop is measured."""
    from lab.training import run as module
    from lab.training.checkpoint import Checkpoints
    from lab.training.run import Run, train_run

    run = undisturbed("dlm")
    logdir = tmp_path / "run"
    moments = {"step": [3, 45], "measure": [20]}  # steps made; rows in the log
    tick, measure_one = Run._progress, module.measure
    noticed = Notice()

    def progress(self, phase, step=None):
        tick(self, phase, step)
        if phase == "train" and moments["step"] and step >= moments["step"][0] and not self.notice.given:
            moments["step"].pop(0)
            self.notice.give()

    def measure(*arguments):
        done = len(rows_of(logdir))
        if moments["measure"] and done >= moments["measure"][0] and not noticed.given:
            moments["measure"].pop(0)
            noticed.give()
        return measure_one(*arguments)

    monkeypatch.setattr(Run, "_progress", progress)
    monkeypatch.setattr(module, "measure", measure)
    steps = []
    while moments["step"] or moments["measure"]:
        with pytest.raises(PreemptedError):
            train_run(run.config, logdir, run.cache, noticed)
        noticed = Notice()
        steps.append(Checkpoints(logdir / "checkpoints", read_version(logdir)).load()[0])
        assert not (logdir / "result.json").exists()
    assert steps[:2] == [3, 40]  # the branch towards stop 50 begins at 40
    assert steps[2] > 40
    result = train_run(run.config, logdir, run.cache, noticed)
    assert numbers_of(result) == numbers_of(run.result)
    assert weights_of_stops(logdir) == weights_of_stops(run.logdir)
    logged, expected = (
        [(row["step"], row["train_loss"], row["gradient_norm"]) for row in rows if row["kind"] == "train"]
        for rows in (rows_of(logdir), rows_of(run.logdir))
    )
    assert logged == expected


# `python -m lab`, whose run waits, once its log has so many rows, until a file says that it was told.
WAITING = """
import pathlib, time
from lab.__main__ import app
from lab.tracking.records import MetricsLog
append, told = MetricsLog.append, pathlib.Path({told!r})
def append_and_wait(self, row):
    append(self, row)
    while len(self.rows) >= {rows} and not told.exists():
        time.sleep(0.01)
MetricsLog.append = append_and_wait
app()
"""


@pytest.mark.slow
def test_a_process_that_gets_a_notice_leaves_a_checkpoint_and_says_so(undisturbed, tmp_path):
    run = undisturbed("ar")
    logdir = tmp_path / "run"
    for number, rows in ((signal.SIGTERM, 3), (signal.SIGUSR1, 12)):
        told = tmp_path / number.name
        process = start(run, logdir, ("-c", WAITING.format(told=str(told), rows=rows)))
        try:
            while process.poll() is None and len(rows_of(logdir)) < rows:
                time.sleep(0.01)
            process.send_signal(number)
            told.touch()
            assert process.wait(timeout=600) == 75, (tmp_path / "run.log").read_text()
        finally:
            process.kill()
            process.wait()
        assert not (logdir / "result.json").exists()
        assert list((logdir / "checkpoints").glob("step-*"))
    assert start(run, logdir).wait(timeout=600) == 0
    assert numbers_of(logdir) == numbers_of(run.result)


def test_training_data_that_changed_since_a_run_began_are_refused(undisturbed, corpus, tmp_path):
    from lab.data.dataset import prepare
    from lab.training.run import train_run

    run = undisturbed("ar")
    logdir, cache = tmp_path / "run", tmp_path / "cache"
    shutil.copytree(run.logdir, logdir)
    (logdir / "result.json").unlink()
    dataset = prepare(run.config.data, cache)
    trained_on = dataset.tokenizer.decode(dataset.train)
    file = next(path for path in sorted(corpus.glob("*.txt")) if path.read_text() in trained_on)
    content = file.read_bytes()
    try:
        file.write_bytes(content + b"and one line more\n")
        with pytest.raises(ValueError, match=r"this changed: data \([0-9a-f]{16} became [0-9a-f]{16}\)"):
            train_run(run.config, logdir, cache)
    finally:
        file.write_bytes(content)
    assert not (logdir / "result.json").exists()

import json
from types import SimpleNamespace

import numpy as np
import pytest
from training_bench import tiny_config

from lab.scheduling import progress_file
from lab.training import progress
from lab.training.progress import ProgressFile, StepLog, logs_as_arrays, split_logs


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_progress_is_rewritten_at_most_once_a_second(tmp_path, monkeypatch):
    clock = SimpleNamespace(time=lambda: clock.now, now=100.0)
    monkeypatch.setattr(progress, "time", clock)
    path = tmp_path / "progress.json"
    first = {"total_steps": 40, "total_epochs": 2.5}
    file = ProgressFile(path, first, started=98.0)
    file.update(phase="train", step=1)
    assert read(path) == {**first, "phase": "train", "step": 1, "seconds": 2.0, "updated": 100.0}
    clock.now = 100.9
    file.update(step=2, train_loss=3.5)
    assert read(path)["step"] == 1
    clock.now = 101.0
    file.update(step=3)
    assert read(path) == {
        **{**first, "phase": "train", "step": 3, "train_loss": 3.5, "seconds": 3.0, "updated": 101.0}
    }
    clock.now = 101.1
    file.update(force=True, phase="done")
    assert read(path)["phase"] == "done"
    assert first == {"total_steps": 40, "total_epochs": 2.5}


@pytest.mark.parametrize(
    ("earlier", "seconds"),
    [('{"seconds": 7.5}', 7.5), (None, 0), ("", 0), ('{"seconds": ', 0), ("{}", 0), ('{"seconds": []}', 0)],
)
def test_the_time_of_earlier_attempts_counts_where_it_can_be_read(tmp_path, monkeypatch, earlier, seconds):
    clock = SimpleNamespace(time=lambda: clock.now, now=100.0)
    monkeypatch.setattr(progress, "time", clock)
    path = tmp_path / "progress.json"
    if earlier is not None:
        path.write_text(earlier)
    file = ProgressFile(path, {})
    clock.now = 102.0
    assert file.seconds == seconds + 2
    file.update(force=True)
    assert ProgressFile(path, {}).seconds == seconds + 2


class Played:
    """A progress.json whose clock is turned by hand."""

    def __init__(self, path, monkeypatch):
        self.clock = SimpleNamespace(time=lambda: self.clock.now, now=100.0)
        monkeypatch.setattr(progress, "time", self.clock)
        self.path, self.file = path, ProgressFile(path, {})

    def goes(self, seconds, phase, share):
        """After so many seconds it says where it is; returns the pace that it says then."""
        self.clock.now += seconds
        self.file.update(force=True, phase=phase, share=share)
        return read(self.path).get("pace_seconds")


def test_the_pace_counts_no_compiling(tmp_path, monkeypatch):
    run = Played(tmp_path / "progress.json", monkeypatch)
    assert run.goes(0, "compile", 0.0) is None
    assert run.goes(30, "train", 0.01) is None
    assert run.goes(2, "train", 0.03) == pytest.approx(100)
    assert run.goes(2, "evaluate", 0.05) == pytest.approx(100)
    assert run.goes(20, "train", 0.05) == pytest.approx(100)  # what measures was compiled too
    assert run.goes(5, "train", 0.10) == pytest.approx(100)
    assert run.goes(5, "evaluate", 0.15) == pytest.approx(100)
    assert run.goes(12, "train", 0.15) == pytest.approx((2 + 5 + 5 + 12) / 0.12)  # and measures again
    assert progress_file.read_progress(tmp_path).seconds == 76


def test_the_pace_of_an_attempt_that_goes_on_is_its_own(tmp_path, monkeypatch):
    (tmp_path / "progress.json").write_text('{"seconds": 1000, "share": 0.5, "pace_seconds": 7}')
    run = Played(tmp_path / "progress.json", monkeypatch)
    assert run.goes(0, "compile", 0.5) is None
    assert run.goes(10, "train", 0.5) is None
    assert run.goes(10, "train", 0.6) == pytest.approx(100)
    assert progress_file.read_progress(tmp_path).seconds == 1020


def test_a_measurement_has_a_pace_from_its_second_report_on(tmp_path, monkeypatch):
    run = Played(tmp_path / "progress.json", monkeypatch)
    assert run.goes(0, "measure", 0.0) is None
    assert run.goes(10, "measure", 0.0) is None  # nothing was gained
    assert run.goes(10, "measure", 0.25) == pytest.approx(80)


def test_training_is_shown_ten_times_a_second_and_each_change_of_phase_at_once(
    corpus, cache, tmp_path, monkeypatch
):
    from lab.data.dataset import prepare
    from lab.training import records
    from lab.training.distribution import Ranks
    from lab.training.timeline import make_timeline
    from lab.version import Version

    config = tiny_config("ar", corpus=corpus)
    dataset, version = prepare(config.data, cache), Version({}, "")
    made = records.RunRecords(config, tmp_path, version, dataset, make_timeline(config, 60), Ranks(), 0.0)
    clock, shown = SimpleNamespace(monotonic=lambda: clock.now, now=100.0), []
    monkeypatch.setattr(records, "time", clock)
    monkeypatch.setattr(ProgressFile, "update", lambda self, **values: shown.append(values))
    for seconds, phase, step in (
        *((0, "compile", 0), (0, "train", 1), (0.05, "train", 2), (0.06, "train", 3), (0.01, "train", 4)),
        *(
            (0.01, "evaluate", 4),
            (0.01, "evaluate", 4),
            (0.01, "train", 5),
            (0.09, "train", 6),
            (0, "done", 6),
        ),
    ):
        clock.now += seconds
        made.progress(phase, step, step)
    made.board.__exit__(None, None, None)
    assert [(values["phase"], values["step"]) for values in shown] == [
        *(("compile", 0), ("train", 1), ("train", 3)),
        *(("evaluate", 4), ("evaluate", 4), ("train", 5), ("done", 6)),
    ]
    assert [values["force"] for values in shown] == [values["phase"] != "train" for values in shown]


class Steps:
    """A StepLog from a step on, with what it said."""

    def __init__(self, monkeypatch, accumulation=1, log_steps=2, first=10, logs=None):
        self.records, self.ticks = [], []
        self.clock = SimpleNamespace(perf_counter=lambda: self.clock.now, now=0.0)
        monkeypatch.setattr(progress, "time", self.clock)
        self.log = StepLog(
            *(first, accumulation, log_steps, 64, lambda *row: self.records.append(row), self.ticks.append),
            logs=logs,
        )
        self.model = SimpleNamespace(stop_training=False)
        self.log.set_model(self.model)

    def batches(self, losses, norm=1.5):
        for number, loss in enumerate(losses):
            self.clock.now += 0.5
            self.log.on_train_batch_end(number, {"loss": loss, "gradient_norm": norm})


def test_the_mean_loss_and_the_rate_cover_the_updates_since_the_last_record(monkeypatch):
    steps = Steps(monkeypatch)
    steps.batches([4.0, 2.0, 1.0, 2.0, 9.0])
    assert steps.records == [(12, 3.0, 1.5, 128.0), (14, 1.5, 1.5, 128.0)]
    assert steps.ticks == [11, 12, 13, 14, 15]
    steps.log.on_train_end()
    assert steps.log.failure is None


def test_whatever_else_is_logged_is_recorded_as_its_mean(monkeypatch):
    steps = Steps(monkeypatch)
    steps.log._record = lambda *row, **others: steps.records.append(others)
    for number, share in enumerate([0.5, 0.25, 0.0, 0.5]):
        steps.clock.now += 0.5
        steps.log.on_train_batch_end(number, {"loss": 1.0, "gradient_norm": 1.0, "dropped_share": share})
    assert steps.records == [{"dropped_share": 0.375}, {"dropped_share": 0.25}]


def test_micro_batches_make_one_update(monkeypatch):
    steps = Steps(monkeypatch, accumulation=3)
    steps.batches([3.0, 3.0, 3.0, 6.0, 6.0, 6.0])
    assert steps.ticks == [11, 12]
    assert steps.records == [(12, 4.5, 1.5, 2 * 64 / 3.0)]


def test_a_stretch_goes_on_with_the_means_of_the_one_before(monkeypatch):
    """Its rate is its own: whatever came between the two took time too."""
    whole = Steps(monkeypatch, accumulation=2, log_steps=3, first=9)
    whole.batches([3.0, 2.0, 1.0, 0.1, 0.2, 0.3, 7.0, 8.0])
    first = Steps(monkeypatch, accumulation=2, log_steps=3, first=9)
    first.batches([3.0, 2.0])
    first.log.on_train_end()
    arrays = {"transformer/w": np.ones(2), **logs_as_arrays(first.log.logs)}
    state, logs = split_logs(arrays)
    assert list(state) == ["transformer/w"]
    second = Steps(monkeypatch, accumulation=2, log_steps=3, first=10, logs=logs)
    second.batches([1.0, 0.1, 0.2, 0.3, 7.0, 8.0])
    assert first.records == []
    assert second.records == whole.records == [(12, sum([3.0, 2.0, 1.0, 0.1, 0.2, 0.3]) / 6, 1.5, 64.0)]
    assert second.log.logs == whole.log.logs == {"loss": [7.0, 8.0]}


def test_no_row_is_of_more_updates_than_it_says(monkeypatch):
    """The stretch before had another `log_steps`."""
    steps = Steps(monkeypatch, log_steps=2, first=13, logs={"loss": [9.0, 8.0, 2.0]})
    steps.batches([1.0])
    assert steps.records == [(14, 1.5, 1.5, 128.0)]


@pytest.mark.parametrize(
    ("losses", "norm", "step", "message"),
    [
        ([1.0, float("nan"), 1.0], 1.0, 12, "loss nan, gradient norm 1.0 at step 12"),
        ([1.0, 1.0], float("inf"), 12, "loss 1.0, gradient norm inf at step 12"),
        ([1.0, 1.0, float("inf")], 1.0, 13, "loss inf, gradient norm 1.0 at step 13"),
    ],
    ids=["nan loss", "infinite gradient", "after the last record"],
)
def test_a_loss_or_gradient_that_is_not_finite_stops(monkeypatch, losses, norm, step, message):
    steps = Steps(monkeypatch)
    for number, loss in enumerate(losses):
        if steps.model.stop_training:
            break
        steps.clock.now += 0.5
        steps.log.on_train_batch_end(number, {"loss": loss, "gradient_norm": norm})
    steps.log.on_train_end()
    assert steps.log.failure == message
    assert steps.model.stop_training
    assert [row[0] for row in steps.records] == [12] * (step == 13)

"""The process's side of a population, over pipes, with runs that count in place of training."""

import json
import os
import select
import signal
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from scheduling_bench import wait_for

pytestmark = pytest.mark.skipif(
    os.environ.get("KERAS_BACKEND", "jax") != "jax", reason="populations are JAX's"
)
ENDLESS = 10**9


class Steps:
    """In place of a joint step: each micro-batch takes a moment."""

    def begin(self, learners):
        pass

    def __call__(self, inputs):
        time.sleep(0.002)
        return {"loss": np.array(inputs)}

    def end(self):
        pass


class Learner:
    variables = ()
    optimizer = SimpleNamespace(variables=())
    stop_training = False

    def joint_step(self, places, how):
        return Steps()


def train(order, member):
    """Count as far as the order says, or until notice is given (75); say so as a run does."""
    import keras

    from lab.training.ending import DroppedError

    class Heed(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = member.notice.given and not order.get("stubborn")

    print(f"run {order['run']} begins")
    if order.get("raises"):
        raise RuntimeError("no such luck")
    batches = ((number,) for number in range(order["count"]))
    try:
        member.fit(Learner(), batches, order["count"], [Heed()])
    except DroppedError:
        print("dropped", file=sys.stderr)
        return 75
    print("ends")
    return 75 if member.notice.given else order.get("code", 0)


class Driver:
    """The other end of the pipes."""

    def __init__(self, folder):
        self.folder = folder
        (self.orders, self.to), (self._from, self.reports) = os.pipe(), os.pipe()
        self._said = b""

    def log(self, run):
        path = self.folder / f"{run}.txt"
        return path.read_text() if path.exists() else ""

    def send(self, do, run, **more):
        log = str(self.folder / f"{run}.txt")
        os.write(self.to, json.dumps({"do": do, "run": run, "log": log, **more}).encode() + b"\n")

    def start(self, run, count, **more):
        """Start a run, and see it begin."""
        self.send("start", run, count=count, **more)
        wait_for(lambda: "begins" in self.log(run))

    def report(self):
        """The next report: the number of a run and its exit code."""
        while b"\n" not in self._said:
            assert select.select([self._from], [], [], 120)[0], "waited for a report in vain"
            self._said += os.read(self._from, 1000)
        line, self._said = self._said.split(b"\n", 1)
        said = json.loads(line)
        return said["run"], said["code"]

    def sees_it_end(self):
        """Whether the process closes its end of the pipe without another report."""
        assert select.select([self._from], [], [], 120)[0], "waited for the end in vain"
        return os.read(self._from, 1) == b""

    def leave(self):
        if self.to is not None:
            os.close(self.to)
            self.to = None


@pytest.fixture
def serving(tmp_path, monkeypatch):
    """`serving(script)`: serve here, where signals come, while a script plays the driver in a thread.

    Returns what the script returns; the driver leaves with its end.
    """
    from lab.scheduling.executors import members

    monkeypatch.setattr(members, "BEAT_SECONDS", 0.05)

    def serving(script):
        driver, said = Driver(tmp_path), []

        def play():
            try:
                said.append(script(driver))
            except BaseException as error:
                said.append(error)
            finally:
                driver.leave()

        thread = threading.Thread(target=play)
        thread.start()
        with os.fdopen(driver.reports, "w", encoding="utf-8") as reports:
            members.serve(4, tmp_path, train, members.Orders(driver.orders), reports)
        thread.join()
        os.close(driver.orders)
        os.close(driver._from)
        if isinstance(said[0], BaseException):
            raise said[0]
        return said[0]

    return serving


def test_runs_start_and_end_each_with_its_code_and_its_log(serving):
    def script(driver):
        driver.start(1, 20, code=0)
        driver.start(2, 40, code=3)
        return driver.report(), driver.report(), driver.log(1), driver.log(2)

    logs = "run 1 begins\nends\n", "run 2 begins\nends\n"
    assert serving(script) == ((1, 0), (2, 3), *logs)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_that_raises_ends_with_code_1_and_the_others_go_on(serving):
    def script(driver):
        driver.start(1, ENDLESS)
        driver.send("start", 2, count=1, raises=True)
        raised = driver.report()
        driver.send("stop", 1)
        return [raised, driver.report()]

    assert serving(script) == [(2, 1), (1, 75)]


def test_a_run_is_stopped_or_dropped_and_the_others_go_on(serving):
    def script(driver):
        for run in (1, 2, 3):
            driver.start(run, ENDLESS)
        driver.send("stop", 2)
        stopped = driver.report()
        driver.send("drop", 1)
        dropped = driver.report()
        driver.start(4, 20)  # there is room for it
        ended = driver.report()
        driver.send("stop", 3)
        return [stopped, dropped, ended, driver.report(), driver.log(2), driver.log(1)]

    *reports, stopped, dropped = serving(script)
    assert reports == [(2, 75), (1, 75), (4, 0), (3, 75)]
    assert (stopped, dropped) == ("run 2 begins\nends\n", "run 1 begins\ndropped\n")


def test_a_run_that_was_dropped_before_it_began_ends_too(serving):
    def script(driver):
        for do in ("start", "drop"):  # in one reading
            driver.send(do, 1, count=ENDLESS)
        return driver.report()

    assert serving(script) == (1, 75)


def test_an_order_for_a_run_that_has_ended_is_let_be(serving):
    def script(driver):
        driver.start(1, 1)
        reports = [driver.report()]
        for do in ("stop", "drop"):
            driver.send(do, 1)
        driver.start(2, 1)
        return [*reports, driver.report()]

    assert serving(script) == [(1, 0), (2, 0)]


def test_an_order_that_comes_in_parts_is_read_when_it_is_whole(serving):
    def script(driver):
        driver.start(1, ENDLESS)
        line = json.dumps({"do": "start", "run": 2, "count": 1, "log": str(driver.folder / "ä.txt")}).encode()
        stop = json.dumps({"do": "stop", "run": 1}).encode()
        for part in (line[:10], line[10:], b"\n" + stop):
            os.write(driver.to, part)
            time.sleep(0.05)
        started = driver.report()
        os.write(driver.to, b"\n")
        return [started, driver.report(), (driver.folder / "ä.txt").read_text()]

    assert serving(script) == [(2, 0), (1, 75), "run 2 begins\nends\n"]


@pytest.mark.parametrize("notice", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_notice_is_one_to_all_runs_and_ends_the_process_when_they_have_ended(serving, notice):
    def script(driver):
        for run in (1, 2):
            driver.start(run, ENDLESS)
        os.kill(os.getpid(), notice)
        return sorted([driver.report(), driver.report()]), driver.sees_it_end()

    assert serving(script) == ([(1, 75), (2, 75)], True)


def test_a_run_that_comes_after_the_notice_has_it_too(serving):
    def script(driver):
        driver.start(1, ENDLESS, stubborn=True)
        os.kill(os.getpid(), signal.SIGTERM)
        driver.start(2, ENDLESS)
        stopped = driver.report()
        driver.send("drop", 1)
        return stopped, driver.report(), driver.sees_it_end()

    assert serving(script) == ((2, 75), (1, 75), True)


def test_a_process_without_a_run_ends_at_a_notice(serving):
    def script(driver):
        driver.start(1, 1)
        report = driver.report()
        os.kill(os.getpid(), signal.SIGTERM)
        return report, driver.sees_it_end()

    assert serving(script) == ((1, 0), True)


def test_the_process_ends_when_the_driver_has_gone(serving):
    def script(driver):
        driver.start(1, ENDLESS)
        driver.leave()

    serving(script)


def test_the_process_shows_that_it_is_alive_whether_it_trains_or_waits(serving, tmp_path):
    beat = tmp_path / "progress.json"

    def next_beat():
        seen = beat.stat().st_mtime_ns
        wait_for(lambda: beat.stat().st_mtime_ns > seen)

    def script(driver):
        wait_for(beat.exists)
        next_beat()
        driver.start(1, ENDLESS)
        next_beat()
        beat.unlink()
        wait_for(beat.exists)

    serving(script)


def test_a_folder_that_is_gone_ends_no_run(serving, tmp_path, monkeypatch):
    def script(driver):
        driver.start(1, ENDLESS)
        (tmp_path / "2.txt").mkdir()  # no log can be opened there
        driver.send("start", 2, count=1)
        ended = driver.report()
        driver.send("stop", 1)
        return ended, driver.report()

    monkeypatch.setattr(type(tmp_path), "touch", lambda path: (tmp_path / "no" / path.name).open("x"))
    assert serving(script) == ((2, 0), (1, 75))

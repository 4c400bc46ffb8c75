"""A run's progress, for whoever watches: metrics while it trains, and a small file to poll."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lab.files import Row, read_json, write_json
from lab.training.variables import Arrays

Logs = dict[str, list[Any]]  # what micro-batches log, by name, in their order
_LOGS = "log/"  # before the names of logs among the arrays of a checkpoint


class ProgressFile:
    """`progress.json`, rewritten at most once a second.

    Its `pace_seconds` say how long the whole takes at the pace of this attempt so far. The first passage from
    one phase to another does not count: there a program is compiled.

    Args:
        path: the file.
        values: what it says from the start.
        started: when this attempt began, unix seconds; now, if it is not given.
    """

    def __init__(self, path: Path, values: Row, started: float | None = None) -> None:
        self._path = path
        self._values = dict(values)
        self._written = 0.0
        self._started = time.time() if started is None else started
        self._earlier = _seconds(path)
        self._last: tuple[str, float, float] | None = None  # phase, share, time
        self._left_before: set[str] = set()  # phases that went over into another
        self._paced_share = self._paced_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Time that all attempts have taken so far."""
        return self._earlier + time.time() - self._started

    def update(self, force: bool = False, **values: Any) -> None:
        """Lay new values over the old ones."""
        self._values.update(values)
        now = time.time()
        self._follow(now)
        if force or now - self._written >= 1.0:
            self._written = now
            write_json(self._path, {**self._values, "seconds": self.seconds, "updated": now})

    def _follow(self, now: float) -> None:
        """Measure the pace."""
        last, phase, share = self._last, self._values.get("phase", ""), self._values.get("share", 0.0)
        self._last = phase, share, now
        if last is None:
            return
        if last[0] not in (phase, *self._left_before):
            self._left_before.add(last[0])
            return
        self._paced_share += share - last[1]
        self._paced_seconds += now - last[2]
        if self._paced_share > 0:
            self._values["pace_seconds"] = self._paced_seconds / self._paced_share


def _seconds(path: Path) -> float:
    """What an earlier attempt said; 0 if there is none, or its file is damaged."""
    try:
        return float(read_json(path)["seconds"])
    except (ValueError, LookupError, TypeError):
        return 0.0


def logs_as_arrays(logs: Logs) -> Arrays:
    """Logs as a checkpoint holds them beside the state of training."""
    return {f"{_LOGS}{name}": np.array(values, np.float64) for name, values in logs.items()}


def split_logs(arrays: Arrays) -> tuple[Arrays, Logs]:
    """The state of training and the logs that a checkpoint holds."""
    logs = {name: values.tolist() for name, values in arrays.items() if name.startswith(_LOGS)}
    state = {name: array for name, array in arrays.items() if name not in logs}
    return state, {name.removeprefix(_LOGS): values for name, values in logs.items()}


class StepLog(keras.callbacks.Callback):
    """Hands on the mean logs and the last gradient norm of each `log_steps` updates, and stops on a bad loss.

    An update's gradient norm is that of the gradient that is clipped, which its last micro-batch logs. The
    rate is of the updates of this stretch alone. Where `log_steps` was another before the stretch, its first
    means may be of fewer updates.

    Args:
        first_step: updates made before this stretch.
        accumulation: micro-batches an update.
        log_steps: updates between two records.
        tokens_per_step: tokens an update sees.
        record: called with step, train_loss (nats/token), gradient_norm and tokens_per_second, and by its
            name with the mean of whatever else a micro-batch logs.
        tick: called with the step after each update.
        asked_to_end: whether to stop after this update.
        logs: those since the last record, of the stretch before.

    Attributes:
        step: updates made so far.
        logs: those since the last record; plain numbers once the stretch is over.
    """

    def __init__(
        self,
        first_step: int,
        accumulation: int,
        log_steps: int,
        tokens_per_step: int,
        record: Callable[..., None],
        tick: Callable[[int], None],
        asked_to_end: Callable[[], bool] = lambda: False,
        logs: Logs | None = None,
    ) -> None:
        super().__init__()
        self.step = first_step
        self.logs: Logs = {"loss": [], **(logs or {})}
        self._accumulation = accumulation
        self._log_steps = log_steps
        self._tokens_per_step = tokens_per_step
        self._record = record
        self._tick = tick
        self._asked_to_end = asked_to_end
        self._gradient_norm: Any = None
        self._since = first_step, time.perf_counter()
        self.failure: str | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Collect the logs without waiting for it; read it back once every `log_steps` updates."""
        for name, value in logs.items():
            if name != "gradient_norm":
                self.logs.setdefault(name, []).append(value)
        self._gradient_norm = logs["gradient_norm"]
        if (batch + 1) % self._accumulation:
            return
        self.step += 1
        self._tick(self.step)
        if self._asked_to_end():
            self.model.stop_training = True
        if self.step % self._log_steps:
            return
        means, norm = self._read_back()
        if self.failure:
            return
        (step, since), now = self._since, time.perf_counter()
        rate = (self.step - step) * self._tokens_per_step / (now - since)
        self._record(self.step, means.pop("loss"), norm, rate, **means)
        self.logs, self._since = {"loss": []}, (self.step, now)

    def on_train_end(self, logs: Any = None) -> None:
        """Look at the losses since the last record too: what follows measures or saves these weights."""
        if self.logs["loss"] and not self.failure:
            self._read_back()

    def _read_back(self) -> tuple[dict[str, float], float]:
        """The means since the last record and the last gradient norm; stops if they are not finite."""
        most = self._log_steps * self._accumulation
        self.logs = {name: [float(value) for value in values[-most:]] for name, values in self.logs.items()}
        means = {name: sum(values) / len(values) for name, values in self.logs.items()}
        norm = float(self._gradient_norm)
        if not all(map(math.isfinite, (*means.values(), norm))):
            self.failure = f"loss {means['loss']}, gradient norm {norm} at step {self.step}"
            self.model.stop_training = True
        return means, norm

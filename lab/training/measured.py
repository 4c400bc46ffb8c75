"""What was measured of a run's stops so far, and what is still missing."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from lab.config import RunConfig
from lab.evaluation.measurements import NLL_EXACT, row_key, text_hash, yardstick
from lab.files import Row
from lab.metrics import NLL
from lab.results import (
    READINGS,
    DamagedError,
    Measured,
    Reading,
    StopReference,
    Task,
    order_readings,
    parse_record,
)
from lab.training.ending import DivergedError
from lab.training.timeline import Stop, Timeline

MEASURED = "measured"  # kind of these rows in a run's log
SAMPLE = "sample"


class MeasuredStops:
    """The measurements of one run, by stop. The validation split is measured at every stop; the test split
    at the best and the last stop of each reading, which are known once the validation is, and at all places
    at the best of the headline. Stops of the headline write a sample besides.

    Args:
        config: the run's configuration.
        run: the digest of its version.
        hashes: split -> hash of its content.
        timeline: its stops.
        rows: of its log; a row that is not as the lab writes it counts as not measured.
    """

    def __init__(
        self, config: RunConfig, run: str, hashes: Mapping[str, str], timeline: Timeline, rows: Sequence[Row]
    ) -> None:
        self.timeline = timeline
        self._config, self._run, self._hashes = config, run, hashes
        self._tasks = {split: yardstick(config, split) for split in ("validation", "test")}
        self._measured = {one.key: one for row in rows if (one := measured_of(row)) is not None}
        self._patience = config.training.patience
        self._headline = headline = order_readings(stop.reading for stop in timeline.stops)[0]
        sampled = {(row["reading"], row["step"]) for row in rows if row["kind"] == SAMPLE}
        self._unsampled = {
            stop
            for stop in timeline.stops
            if config.evaluation.sample_tokens
            and stop.reading == headline
            and (stop.reading, stop.step) not in sampled
        }

    @cached_property
    def _keys(self) -> dict[Stop, dict[str, list[str]]]:
        """Stop -> split -> the key of each of its tasks."""
        return {
            stop: {
                split: [
                    row_key(task, [self.reference(stop)], text_hash(task, self._hashes, self._config))
                    for task in tasks
                ]
                for split, tasks in self._tasks.items()
            }
            for stop in self.timeline.stops
        }

    def reference(self, stop: Stop) -> StopReference:
        """A name for the weights of a stop."""
        return StopReference(run=self._run, reading=stop.reading, step=stop.step)

    def add(self, measured: Measured) -> None:
        """Take a measurement that was made now."""
        self._measured[measured.key] = measured

    def add_sample(self, stop: Stop) -> None:
        """Note that a stop has its sample."""
        self._unsampled.discard(stop)

    def missing(self, stop: Stop) -> list[Task]:
        """What is to be measured of a stop, on the test split only if it is picked."""
        missing = self._missing(stop, "validation")
        if stop in self.picked():
            exact = stop == self._best(self._validated_along(self._headline))
            tested = self._missing(stop, "test")
            missing += [task for task in tested if exact or task.measurement != NLL_EXACT]
        return missing

    def _missing(self, stop: Stop, split: str) -> list[Task]:
        keys = zip(self._tasks[split], self._keys[stop][split], strict=True)
        return [task for task, key in keys if key not in self._measured]

    def lacks_sample(self, stop: Stop) -> bool:
        """Whether a stop is to write a sample and has none."""
        return stop in self._unsampled

    def rows(self, stop: Stop) -> tuple[Measured, ...]:
        """What was measured of a stop, in the order of its tasks."""
        keys = [key for keys in self._keys[stop].values() for key in keys]
        return tuple(self._measured[key] for key in keys if key in self._measured)

    @property
    def stops(self) -> list[Stop]:
        """The stops of the run as far as is known: with `training.patience` none that lies later than it."""
        last = self._last_step()
        return [stop for stop in self.timeline.stops if stop.step <= last]

    def _last_step(self) -> int:
        """The step at which the run ends, by what is measured so far."""
        worse, best = 0, math.inf
        for stop in sorted(one for one in self.timeline.stops if one.reading == self._headline):
            if not self._patience or self._missing(stop, "validation"):
                break
            nll = self._validation_nll(stop)
            worse, best = (worse + 1, best) if nll > best else (0, nll)
            if worse == self._patience:
                return stop.step
        return self.timeline.total_steps

    @property
    def validated(self) -> list[Stop]:
        """The stops whose validation is complete."""
        return [stop for stop in self.stops if not self._missing(stop, "validation")]

    def picked(self) -> set[Stop]:
        """The best and the last stop of each reading; none before every stop has its validation."""
        return self.best_and_last() if len(self.validated) == len(self.stops) else set()

    def best_and_last(self) -> set[Stop]:
        """Those of each reading, among the stops that have their validation."""
        along = (self._validated_along(reading) for reading in READINGS)
        return {stop for own in along if own for stop in (self._best(own), own[-1])}

    def _validated_along(self, reading: Reading) -> list[Stop]:
        own = (stop for stop in self.validated if stop.reading == reading)
        return sorted(own, key=lambda stop: stop.step)

    def _best(self, stops: Sequence[Stop]) -> Stop:
        return min(stops, key=self._validation_nll)

    def _validation_nll(self, stop: Stop) -> float:
        values = [row.values.get(NLL) for row in self.rows(stop) if row.task.split == "validation"]
        return next(value for value in values if value is not None)

    def share_done(self, main: int, step: int) -> float:
        """How far the run has come: the updates of its stops and of the main run, of all there are.

        Args:
            main: updates that the main run has had.
            step: those of the weights that are trained or measured now, which may be a branch's.
        """
        validated = self.validated
        main = max([main, *(stop.start for stop in validated)])
        branches = sum(stop.step - stop.start for stop in validated)
        return min(1.0, (main + branches + max(0, step - main)) / self.timeline.work_to(self.stops))


def measured_of(row: Row) -> Measured | None:
    """The measurement in a row of a log; None if there is none, or it is not as the lab writes it."""
    try:
        return parse_record(Measured, row["measured"], Path("a row")) if row["kind"] == MEASURED else None
    except (DamagedError, LookupError):
        return None


def require_finite(measured: Measured) -> None:
    """Raise where a metric is not finite, as where the weights are finite and the logits are not.

    Raises:
        DivergedError: with each such value.
    """
    values = {name: value for name, value in measured.values.items() if value is not None}
    if bad := {name: value for name, value in values.items() if not math.isfinite(value)}:
        raise DivergedError(f"every metric on the {measured.task.split} split must be finite, but got {bad}.")

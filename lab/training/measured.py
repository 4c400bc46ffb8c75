"""What was measured of a run's stops so far, and what is still missing."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from lab.config import RunConfig
from lab.evaluation.measurements import row_key, yardstick
from lab.files import Row
from lab.metrics import NLL
from lab.results import READINGS, DamagedError, Measured, StopReference, Task, parse_record
from lab.training.timeline import Stop, Timeline

MEASURED = "measured"  # kind of these rows in a run's log


class MeasuredStops:
    """The measurements of one run, by stop. The validation split is measured at every stop; the test split
    at the best and the last stop of each reading, which are known once the validation is.

    Args:
        config: the run's configuration.
        run: the digest of its version.
        hashes: split -> hash of its content.
        timeline: its stops.
        rows: of its log; a row that is not as the lab writes it counts as not measured.
    """

    def __init__(
        self, config: RunConfig, run: str, hashes: Mapping[str, str], timeline: Timeline, rows: Iterable[Row]
    ) -> None:
        self._config, self._run, self._hashes, self._timeline = config, run, hashes, timeline
        self._tasks = {split: yardstick(config, split) for split in ("validation", "test")}
        self._found = {one.key: one for row in rows if (one := measured_of(row)) is not None}

    @cached_property
    def _keys(self) -> dict[Stop, dict[str, list[str]]]:
        """Stop -> split -> the key of each of its tasks."""
        return {
            stop: {
                split: [row_key(task, [self.reference(stop)], self._hashes[split]) for task in tasks]
                for split, tasks in self._tasks.items()
            }
            for stop in self._timeline.stops
        }

    def reference(self, stop: Stop) -> StopReference:
        """A name for the weights of a stop."""
        return StopReference(run=self._run, reading=stop.reading, step=stop.step)

    def add(self, measured: Measured) -> None:
        """Take a measurement that was made now."""
        self._found[measured.key] = measured

    def missing(self, stop: Stop, picked: Iterable[Stop]) -> list[Task]:
        """What is to be measured of a stop, which may be one of those `picked` for the test split."""
        splits = ("validation", "test") if stop in picked else ("validation",)
        return [
            task
            for split in splits
            for task, key in zip(self._tasks[split], self._keys[stop][split], strict=True)
            if key not in self._found
        ]

    def rows(self, stop: Stop) -> tuple[Measured, ...]:
        """What was measured of a stop, in the order of its tasks."""
        keys = [key for keys in self._keys[stop].values() for key in keys]
        return tuple(self._found[key] for key in keys if key in self._found)

    @property
    def validated(self) -> list[Stop]:
        """The stops whose validation is complete."""
        return [stop for stop in self._timeline.stops if not self.missing(stop, ())]

    def picked(self) -> set[Stop]:
        """The best and the last stop of each reading; none before every stop has its validation."""
        validated = self.validated
        return self.best_and_last(validated) if len(validated) == len(self._timeline.stops) else set()

    def best_and_last(self, stops: Sequence[Stop]) -> set[Stop]:
        """Those of each reading, among stops that have their validation."""
        picked: set[Stop] = set()
        for reading in READINGS:
            if own := sorted((stop for stop in stops if stop.reading == reading), key=lambda stop: stop.step):
                picked |= {min(own, key=self._validation_nll), own[-1]}
        return picked

    def _validation_nll(self, stop: Stop) -> float:
        values = [row.values.get(NLL) for row in self.rows(stop) if row.task.split == "validation"]
        return next(value for value in values if value is not None)


def measured_of(row: Row) -> Measured | None:
    """The measurement in a row of a log; None if there is none, or it is not as the lab writes it."""
    try:
        return parse_record(Measured, row["measured"], Path("a row")) if row["kind"] == MEASURED else None
    except (DamagedError, LookupError):
        return None

"""What one attempt is to do, as the driver and the ledger see it: train a run, or measure finished ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lab.config import MeasurementConfig, RunConfig
from lab.metrics import NLL, find_metric
from lab.results import RESULT, DamagedError, MeasurementResult, RunResult, read_record, read_result
from lab.scheduling.executors.executor import Command
from lab.scheduling.time_left import Timed
from lab.training.kind import kind_of
from lab.version import Version

Say = Callable[[str], None]

# What `value_of` gives.
RUN_VALUE = f"best validation {find_metric(NLL).name} ({find_metric(NLL).unit})"
MEASUREMENT_VALUE = "time taken (s)"


@dataclass(frozen=True)
class Job:
    """A place in the result tree, and what it is to hold.

    Attributes:
        key: the folder below the tree; it names the job in the ledger.
        version: digest of all that its result follows from.
        arm, level, seed: of the run, or of the measurement's subject.
        factors: what its plan varies: `arm`, `seed` and the keys of the levels -> the planned values.
        logdir: the folder.
        config: what its `config.yaml` is to hold.
        run: what a run's weights follow from; None for a measurement.
        wanted: digest of what is to be measured.
        inputs: folders of finished runs that it reads.
        start: the run from whose best stop this one begins, which must have its result before; None if its
            weights are drawn, and of a measurement.
        data_key: under which the cache holds its corpus; empty if that is not known.
    """

    key: str
    version: str
    arm: str
    level: Mapping[str, Any]
    seed: int
    factors: Mapping[str, Sequence[Any]]
    logdir: Path
    config: RunConfig | MeasurementConfig
    wanted: str
    run: Version | None = None
    inputs: tuple[Path, ...] = ()
    start: "Job | None" = None
    data_key: str = ""

    @property
    def command(self) -> Command:
        """What does it."""
        return "measure" if self.run is None else "run"

    @cached_property
    def kind(self) -> str:
        """What runs have in common that could be trained together; empty of a measurement."""
        return kind_of(self.config) if isinstance(self.config, RunConfig) else ""

    @property
    def label(self) -> str:
        """The job in words, such as `dlm unique_tokens=20000 seed=0`."""
        return self.key.removeprefix("runs/").replace("/", " ")

    @cached_property
    def timed(self) -> Timed:
        """What is known of its time before it starts."""
        if isinstance(self.config, RunConfig):
            return Timed.of_run(self.config, (self.arm, repr(self.level)))
        return Timed((self.config.measurement, self.arm, repr(self.level)))

    def result(self, say: Say = lambda _: None) -> RunResult | MeasurementResult | None:
        """Its result, if it is there and is what is wanted.

        Args:
            say: told of a result that is damaged; the job makes it again.
        """
        try:
            if self.run is None:
                measured = read_record(MeasurementResult, self.logdir / RESULT)
                return measured if measured and measured.wanted == self.wanted else None
            trained = read_result(self.logdir)
        except DamagedError as error:
            say(f"{error} It is made again.")
            return None
        current = trained and (trained.run, trained.evaluation) == (self.run.digest(), self.wanted)
        return trained if current else None


def value_of(result: RunResult | MeasurementResult) -> float:
    """The number that a finished trial has: of a run the validation NLL of its best stop, nats/token; of a
    measurement the seconds that it took.
    """
    if isinstance(result, RunResult):
        return result.best().validation[NLL]
    return result.wall_seconds

"""Which steps a run makes: its main run, its stops, and the branches that anneal towards them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from lab.config import RunConfig
from lab.training.schedule import branch_decay, on_grid, total_steps


@dataclass(frozen=True, order=True)
class Stop:
    """A point at which a run is measured.

    Attributes:
        start: the step of the main run at which the work for it begins: the stop itself along the run, the
            start of the decay for an annealed one.
        step: updates that the measured weights have had.
        reading: `along_run`, as the main run is there; `annealed`, with the learning rate decayed.
    """

    start: int
    step: int
    reading: Literal["annealed", "along_run"]


@dataclass(frozen=True)
class Timeline:
    """A run's steps, from its configuration and the number of its windows.

    Attributes:
        total_steps: updates of the main run.
        windows: windows an epoch.
        batch_size: windows a step.
        length: tokens a window.
        stops: in the order in which they come up.
    """

    total_steps: int
    windows: int
    batch_size: int
    length: int
    stops: tuple[Stop, ...]

    def epoch(self, step: int) -> float:
        """Epochs seen after `step` updates."""
        return step * self.batch_size / self.windows

    def tokens_seen(self, step: int) -> int:
        """Tokens seen after `step` updates."""
        return step * self.batch_size * self.length

    def place(self, step: int) -> dict[str, Any]:
        """How far a run is after `step` updates, as its records say it."""
        return {"step": step, "tokens_seen": self.tokens_seen(step), "epoch": self.epoch(step)}

    @property
    def work(self) -> int:
        """Updates in all, those of the branches included."""
        return self.work_to(self.stops)

    @staticmethod
    def work_to(stops: Iterable[Stop]) -> int:
        """Updates that some of the stops take, those of the branches included; the last is along the run."""
        stops = list(stops)
        return max(stop.start for stop in stops) + sum(stop.step - stop.start for stop in stops)


def make_timeline(config: RunConfig, windows: int) -> Timeline:
    """Lay out a run over `windows` windows an epoch.

    Stops lie at total / ratio^j steps, moved to the grid on which runs of other batch sizes stop too. Under
    WSD each is read twice: along the run, and at the end of a branch that leaves the run a little earlier and
    decays. Under a cosine the horizon is fixed, so there is only the reading along the run.

    Raises:
        ValueError: if the total is less than one step.
    """
    training, length = config.training, config.data.length
    total = total_steps(training, length, windows)
    evaluation = config.evaluation
    steps = {
        on_grid(total / evaluation.stop_ratio**j, training.batch_size, total) for j in range(evaluation.stops)
    } - {0}
    stops = [Stop(step, step, "along_run") for step in steps]
    if training.schedule == "wsd":
        stops += [Stop(branch_decay(training, step).start, step, "annealed") for step in steps]
    return Timeline(total, windows, training.batch_size, length, tuple(sorted(stops)))

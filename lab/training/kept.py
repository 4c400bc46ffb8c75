"""What a run's folder keeps of its weights: those of its stops, and checkpoints of the main run."""

import warnings
from collections.abc import Collection
from pathlib import Path

from lab.config import TrainingConfig
from lab.results import DamagedError
from lab.training.checkpoint import Checkpoints, load_arrays, save_arrays, stop_weights_path
from lab.training.engine import Engine
from lab.training.timeline import Stop, Timeline
from lab.training.variables import Arrays
from lab.version import Version

MEGABYTE = 2**20


class KeptWeights:
    """The weights of all stops if together they take at most `kept_megabytes`, and else of the best and last.

    So with the checkpoints: all, if they fit in what is left, and else the last two until the run is done.

    Args:
        logdir: the run's folder.
        version: of the run.
        training: its configuration.
        timeline: its steps.
        engine: whose weights they are.
    """

    def __init__(
        self, logdir: Path, version: Version, training: TrainingConfig, timeline: Timeline, engine: Engine
    ) -> None:
        left = training.kept_megabytes * MEGABYTE - len(timeline.stops) * engine.weight_bytes
        self._all_stops = left >= 0
        checkpoints = timeline.total_steps // training.checkpoint_steps + 1
        self._all_checkpoints = left >= checkpoints * engine.state_bytes
        self._logdir = logdir
        self._checkpoints = Checkpoints(logdir / "checkpoints", version, self._all_checkpoints)

    def _path(self, stop: Stop) -> Path:
        return stop_weights_path(self._logdir, stop.reading, stop.step)

    def has(self, stop: Stop) -> bool:
        """Whether there are weights of a stop, sound or not."""
        return self._path(stop).is_file()

    def has_sound(self, stop: Stop) -> bool:
        """Whether there are weights of a stop that can be measured; a warning says if they are damaged."""
        try:
            return self.has(stop) and bool(self.load_stop(stop))
        except DamagedError as error:
            warnings.warn(f"{error} They are made again.", stacklevel=2)
            return False

    def load_stop(self, stop: Stop) -> Arrays:
        """The weights of a stop."""
        return load_arrays(self._path(stop))

    def save_stop(self, stop: Stop, weights: Arrays) -> None:
        """Keep the weights of a stop."""
        path = self._path(stop)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_arrays(path, weights)

    def load(self, most: int) -> tuple[int, Arrays] | None:
        """Step and state of the newest sound checkpoint up to a step; None if there is none."""
        return self._checkpoints.load(most)

    def save(self, step: int, state: Arrays, needed: Collection[Stop]) -> None:
        """Save the main run, and forget weights of stops that are not needed any more."""
        self._checkpoints.save(step, state)
        self._forget_all_but(needed)

    def finish(self, needed: Collection[Stop]) -> None:
        """Forget what a finished run does not need, unless there is room for it."""
        self._forget_all_but(needed)
        if not self._all_checkpoints:
            self._checkpoints.remove()

    def _forget_all_but(self, needed: Collection[Stop]) -> None:
        if self._all_stops:
            return
        paths = {self._path(stop) for stop in needed}
        for path in stop_weights_path(self._logdir, "any", 0).parent.glob("*.npz"):
            if path not in paths:
                path.unlink()

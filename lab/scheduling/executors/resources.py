"""What runs are computed on, as a user asks for it, and the executor that follows."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from lab.ablation import Cell
from lab.config import RunConfig
from lab.scheduling.executors.executor import Executor
from lab.scheduling.executors.local import COMMAND, STANDBY, LocalExecutor
from lab.scheduling.executors.population_executor import PopulationExecutor
from lab.scheduling.executors.process import STALL_SECONDS
from lab.scheduling.executors.slots import Kind, check_counts, find_devices, make_places, memory_of
from lab.scheduling.places import Places

MOST_RUNS = 1000  # of a population: more is a slip of the keyboard


@dataclass(frozen=True)
class Resources:
    """Where runs go, and what each of them gets.

    Args:
        engine: `local`, this machine, or `ray`, the cluster of `RAY_ADDRESS`, else this machine.
        workers: runs at once; 0: one per core, GPU or TPU chip.
        ranks: processes that train one run together; several need training.parallel.
        per_device: runs that share one GPU.
        devices: GPUs or TPU chips of each process; several need training.parallel.
        stall_seconds: a run without progress for so long is ended.
        population: runs of one kind that a process trains together, under JAX on this machine; 0: as many as
            pay (`fitted`).

    Raises:
        ValueError: if there is no such engine, or the population is not one.
    """

    engine: str = "local"
    workers: int = 0
    ranks: int = 1
    per_device: int = 1
    devices: int = 1
    stall_seconds: float = STALL_SECONDS
    population: int = 0

    def __post_init__(self) -> None:
        if self.engine not in ("local", "ray"):
            raise ValueError(f"`engine` must be one of ['local', 'ray'], but got engine={self.engine!r}.")
        if not 0 <= self.population <= MOST_RUNS:
            raise ValueError(
                f"`population` must be from 0 (as many as pay) to {MOST_RUNS:,}, "
                f"but got population={self.population}."
            )
        if self.population > 1 and (other := self._alone()):
            raise ValueError(f"`population` must be 1 with {other}, but got population={self.population}.")

    def _alone(self) -> str:
        """What of this has each run trained by itself; empty if nothing has."""
        backend = os.environ["KERAS_BACKEND"]
        reasons = {
            f"engine={self.engine}": self.engine != "local",
            f"KERAS_BACKEND={backend}": backend != "jax",
            f"ranks={self.ranks}": self.ranks > 1,
            f"devices={self.devices}": self.devices > 1,
        }
        return next((reason for reason, holds in reasons.items() if holds), "")

    def check(self, cells: Sequence[Cell]) -> None:
        """Refuse several processes or devices for runs that are not parallel, and what no run here can do.

        Raises:
            ValueError: if there are such runs, a number is out of range, this machine has not the devices
                that are asked for, or one of them, where it says so, not the memory that a run takes.
        """
        alone = [cell for cell in cells if cell.config.training.parallel == "none"]
        if self.population > 1 and len(alone) < len(cells):
            raise ValueError(
                "`population` must be 1 unless training.parallel is none, "
                f"but got population={self.population} and {len(cells) - len(alone)} parallel runs."
            )
        for name in ("ranks", "devices"):
            count = getattr(self, name)
            if count > 1 and alone:
                raise ValueError(
                    f"`{name}` must be 1 unless training.parallel is data or model, but got {name}={count} "
                    f"and parallel=none in {len(alone)} runs."
                )
        if self.engine == "local":
            kind = find_devices().kind
            check_counts(kind, self.workers, self.ranks, self.per_device, self.devices)
            require_memory_of(kind, [cell.config for cell in cells], self.ranks * self.devices)

    def fitted(self, cells: Sequence[Cell]) -> "Resources":
        """The same with a population that is a number: the given one, else as many runs as pay.

        On a CPU that is one: two processes train as fast as two runs in one (docs/performance.md).
        """
        if self.population:
            return self
        configs = [cell.config for cell in cells]
        parallel = any(config.training.parallel != "none" for config in configs)
        if self._alone() or parallel or (kind := find_devices().kind) == "cpu":
            return replace(self, population=1)
        from lab.training.packing import population_that_pays

        places = len(make_places(self.workers, 1, self.per_device))
        memory = memory_of(kind)
        share = memory and memory / self.per_device
        return replace(self, population=population_that_pays(configs, places, share))

    def at_once(self) -> int | None:
        """Runs at a time; None if the cluster alone knows.

        Raises:
            ValueError: if a number is out of range or the machine has too few devices.
        """
        if self.engine == "ray":
            return self.workers or None
        return len(make_places(self.workers, self.ranks, self.per_device, self.devices)) * self._population

    @property
    def _population(self) -> int:
        return self.population or 1

    def executor(self, places: Places) -> Executor:
        """Where attempts run.

        Raises:
            ValueError: if a number is out of range, the machine or cluster has too little, or Ray is not
                installed.
        """
        options = asdict(self)
        engine, workers, _ = (options.pop(name) for name in ("engine", "workers", "population"))
        if engine == "ray":
            try:
                from lab.scheduling.executors.ray_executor import RayExecutor
            except ModuleNotFoundError as error:
                raise ValueError(f"engine=ray needs {error.name}: make setup EXTRAS=ray") from None
            return RayExecutor(workers, shared=places.shared, root=places.results, **options)
        if places.shared:
            raise ValueError("`shared` needs engine=ray: local runs leave their results in place.")
        if self._population > 1:
            return PopulationExecutor(
                self.population, workers, per_device=self.per_device, stall_seconds=self.stall_seconds
            )
        return LocalExecutor(workers, COMMAND, STANDBY, **options)


def require_memory_of(kind: Kind, configs: Sequence[RunConfig], devices: int = 1) -> None:
    """Refuse runs that take more memory than a device of this machine has, where that is known.

    Args:
        kind: of the devices.
        configs: of the runs.
        devices: of one run.

    Raises:
        ValueError: as of `require_memory`.
    """
    # Imported here, since a plan that is refused before has no need of tokenizers.
    from lab.training.capacity import require_memory
    from lab.training.devices import Device

    if memory := memory_of(kind):
        for config in configs:
            require_memory(config, devices, Device(0, memory, fused_attention=kind != "cpu"))

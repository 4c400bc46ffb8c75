"""What runs are computed on, as a user asks for it, and the executor that follows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from lab.ablation import Cell
from lab.config import RunConfig
from lab.scheduling.executors.executor import Executor
from lab.scheduling.executors.local import COMMAND, STANDBY, LocalExecutor
from lab.scheduling.executors.process import STALL_SECONDS
from lab.scheduling.executors.slots import Kind, check_counts, find_devices, make_places, memory_of
from lab.scheduling.places import Places


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

    Raises:
        ValueError: if there is no such engine.
    """

    engine: str = "local"
    workers: int = 0
    ranks: int = 1
    per_device: int = 1
    devices: int = 1
    stall_seconds: float = STALL_SECONDS

    def __post_init__(self) -> None:
        if self.engine not in ("local", "ray"):
            raise ValueError(f"`engine` must be one of ['local', 'ray'], but got engine={self.engine!r}.")

    def check(self, cells: Sequence[Cell]) -> None:
        """Refuse several processes or devices for runs that are not parallel, and what no run here can do.

        Raises:
            ValueError: if there are such runs, a number is out of range, this machine has not the devices
                that are asked for, or one of them, where it says so, not the memory that a run takes.
        """
        alone = [cell for cell in cells if cell.config.training.parallel == "none"]
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

    def at_once(self) -> int | None:
        """Runs at a time; None if the cluster alone knows.

        Raises:
            ValueError: if a number is out of range or the machine has too few devices.
        """
        if self.engine == "ray":
            return self.workers or None
        return len(make_places(self.workers, self.ranks, self.per_device, self.devices))

    def executor(self, places: Places) -> Executor:
        """Where attempts run.

        Raises:
            ValueError: if a number is out of range, the machine or cluster has too little, or Ray is not
                installed.
        """
        options = asdict(self)
        engine, workers = options.pop("engine"), options.pop("workers")
        if engine == "ray":
            try:
                from lab.scheduling.executors.ray_executor import RayExecutor
            except ModuleNotFoundError as error:
                raise ValueError(f"engine=ray needs {error.name}: make setup EXTRAS=ray") from None
            return RayExecutor(workers, shared=places.shared, root=places.results, **options)
        if places.shared:
            raise ValueError("`shared` needs engine=ray: local runs leave their results in place.")
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

"""One run on several devices and in several processes (ranks) by `keras.distribution`.

Every rank computes the same run on its part of each batch. Rank 0 alone reads and writes the run's folder,
and passes on what it read; the others leave no trace.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from lab.config import TrainingConfig
from lab.models.layout import DATA_AXIS, MODEL_AXIS, WEIGHT_AXES
from lab.training.ending import LostRankError

Arrays = dict[str, np.ndarray]

START_SECONDS = 120  # for all ranks to find one another
HEARTBEAT_SECONDS = 30  # of silence, after which a rank counts as dead and the others end
SHUTDOWN_SECONDS = 60  # that a rank which is done waits for the others

# What the errors of a broken connection hold: those of CPUs, of GPUs, and of JAX's coordinator.
CONNECTION_WORDS = ("Gloo", "NCCL", "CoordinationService")

BACKEND_FILE = "lab.training.distribution_jax"  # imported only by a run that is parallel

ADDRESSES, COUNT, NUMBER = (
    f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
)


def start_ranks(parallel: str, environment: Mapping[str, str] = os.environ) -> None:
    """Find the other processes of this run, if the launcher's environment says that there are some.

    It must come before any computation. `KERAS_DISTRIBUTION_JOB_ADDRESSES` (that of rank 0 suffices),
    `_NUM_PROCESSES` and `_PROCESS_ID` come first; otherwise several tasks of SLURM, Open MPI or a TPU pod on
    GKE are recognised, though only by a run that is to be parallel: others are runs beside one another.

    Args:
        parallel: `TrainingConfig.parallel`.
        environment: of the process.

    Raises:
        ValueError: if the variables are incomplete or contradict one another, or there are several
            processes and the run is not parallel.
    """
    named = _named_ranks(environment)
    if named is None and (parallel == "none" or _launched_tasks(environment) < 2):
        return
    if named is not None and named[1] == 1:
        return
    if parallel == "none":
        raise ValueError(
            f"training.parallel must be data or model for several processes, but got {COUNT}="
            f"{environment[COUNT]} and parallel=none."
        )
    _require_jax(parallel)
    from lab.training.distribution_jax import connect

    connect(
        *(named or (None, None, None)),
        start_seconds=START_SECONDS,
        heartbeat_seconds=HEARTBEAT_SECONDS,
        shutdown_seconds=SHUTDOWN_SECONDS,
    )


def _named_ranks(environment: Mapping[str, str]) -> tuple[str, int, int] | None:
    """Rank 0's address, the number of processes and this one's; None if Keras's variables are not set."""
    values = {name: environment.get(name, "") for name in (ADDRESSES, COUNT, NUMBER)}
    if not any(values.values()):
        return None
    if values[COUNT] == "1":
        return values[ADDRESSES], 1, 0
    if missing := [name for name, value in values.items() if not value]:
        raise ValueError(f"{', '.join(values)} must be given together, but {', '.join(missing)} is missing.")
    if not (values[COUNT].isdecimal() and values[NUMBER].isdecimal()):
        raise ValueError(
            f"{COUNT} and {NUMBER} must be whole numbers, but got {values[COUNT]!r} and {values[NUMBER]!r}."
        )
    count, number = int(values[COUNT]), int(values[NUMBER])
    addresses = values[ADDRESSES].split(",")
    if len(addresses) not in (1, count) or not all(":" in address for address in addresses):
        raise ValueError(
            f"{ADDRESSES} must hold host:port of rank 0 or of all {count} ranks, "
            f"but got {values[ADDRESSES]!r}."
        )
    if number >= count:
        raise ValueError(f"{NUMBER} must be below {COUNT}={count}, but got {number}.")
    return addresses[0], count, number


def _launched_tasks(environment: Mapping[str, str]) -> int:
    """How many processes the launcher has started, as far as JAX can tell their addresses from it."""
    tasks = [environment.get(name, "") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")]
    hosts = [environment.get(name, "") for name in ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")]
    return max([int(text) for text in tasks if text.isdecimal()] + [len(text.split(",")) for text in hosts])


def _require_jax(parallel: str) -> None:
    if keras.backend.backend() != "jax":
        raise ValueError(
            f"training.parallel={parallel} needs KERAS_BACKEND=jax, but got {keras.backend.backend()}."
        )


@contextmanager
def naming_lost_ranks() -> Iterator[None]:
    """Tell the errors of a broken connection between ranks from others; JAX raises some as ValueErrors.

    Raises:
        LostRankError: in their place.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if any(word in str(error) for word in CONNECTION_WORDS):
            raise LostRankError(f"another rank of the run has ended: {error}") from error
        raise


@contextmanager
def ending_together() -> Iterator[None]:
    """End this process at once if the block fails and there are other ranks.

    Python's way out would wait for the others, and they wait for this one; once its connections are closed,
    they fail too. The exit code is what it would have been; SIGABRT if another rank was lost, which is also
    how JAX ends a process whose group has fallen silent.
    """
    try:
        yield
    except BaseException as error:
        if BACKEND_FILE in sys.modules and sys.modules[BACKEND_FILE].connected():
            _leave(error)
        raise


def _leave(error: BaseException) -> None:
    code = getattr(error, "exit_code", getattr(error, "code", None))
    if not isinstance(code, int):
        traceback.print_exception(error)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if isinstance(error, LostRankError):
        os.kill(os.getpid(), signal.SIGABRT)
    os._exit(code)


@dataclass(frozen=True)
class Ranks:
    """The processes that train one run.

    Attributes:
        number: of this one, from 0.
        count: how many there are.
    """

    number: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one reads and writes the run's folder."""
        return self.number == 0

    def share(self, make: Callable[[], Any]) -> Any:
        """What rank 0 makes, a JSON value, on every rank; the others do not call `make`."""
        if self.count == 1:
            return make()
        from lab.training.distribution_jax import broadcast

        return json.loads(broadcast(json.dumps(make()).encode() if self.first else b""))

    def share_arrays(self, make: Callable[[], Arrays]) -> Arrays:
        """The arrays that rank 0 makes, bit by bit, on every rank."""
        if self.count == 1:
            return make()
        from lab.training.distribution_jax import broadcast

        made = make() if self.first else {}
        kinds = self.share(lambda: {name: (array.dtype.name, array.shape) for name, array in made.items()})
        return {
            name: np.frombuffer(broadcast(made[name].tobytes() if self.first else b""), dtype).reshape(shape)
            for name, (dtype, shape) in kinds.items()
        }

    def require_equal(self, what: str, value: str) -> None:
        """Refuse a rank that has other data or another configuration than rank 0.

        Raises:
            ValueError: with both values.
        """
        expected = self.share(lambda: value)
        if value != expected:
            raise ValueError(
                f"every rank must have the {what} of rank 0, {expected}, but rank {self.number} has {value}."
            )

    def any(self, flag: bool) -> bool:
        """Whether any rank says so; all must ask at the same step."""
        if self.count == 1:
            return flag
        from lab.training.distribution_jax import any_of

        return any_of(flag)


def find_ranks(parallel: str) -> Ranks:
    """The ranks of a run; one that is not parallel is alone, and JAX is not asked."""
    if parallel == "none":
        return Ranks()
    _require_jax(parallel)
    from lab.training.distribution_jax import processes

    return Ranks(*processes())


@dataclass(frozen=True)
class Layout:
    """Where a run is computed.

    Attributes:
        parallel: `TrainingConfig.parallel`.
        data: parts of a batch, each computed by other devices.
        model: parts of the weights, each held by other devices.
        ranks: the processes.
    """

    parallel: str
    data: int
    model: int
    ranks: Ranks

    def own_rows(self, rows: int) -> tuple[int, int]:
        """The first of a micro-batch's rows that this rank feeds, and how many it feeds."""
        shards = min(self.data, self.ranks.count)
        own = rows // shards
        return self.ranks.number * shards // self.ranks.count * own, own

    def describe(self) -> dict[str, Any]:
        """For `result.json`."""
        return {
            "parallel": self.parallel,
            "count": self.data * self.model,
            "data": self.data,
            "model": self.model,
            "processes": self.ranks.count,
        }


def set_layout(config: TrainingConfig, together: int = 1) -> Layout:
    """Set Keras's distribution for the models that are built from now on, and take away an older one.

    Args:
        config: how a run is trained.
        together: rows that belong together: each part of a micro-batch has a multiple of them.

    Raises:
        ValueError: if the devices cannot be laid out as the configuration says, the micro-batch cannot be
            dealt out evenly, or the backend is not JAX.
    """
    keras.distribution.set_distribution(None)
    ranks = find_ranks(config.parallel)
    if config.parallel == "none":
        return Layout("none", 1, 1, ranks)
    from lab.training.distribution_jax import devices

    places, model = devices(), config.model_parallel
    each = len(places) // ranks.count
    if (each % model and model % each) or len(places) % model:
        raise ValueError(
            f"model_parallel must divide a process's {each} devices, or hold those of whole processes and "
            f"divide all {len(places)}, but got model_parallel={model}."
        )
    data = len(places) // model
    rows = config.batch_size // config.accumulation
    if rows % data:
        raise ValueError(
            f"batch_size / accumulation must be a multiple of the {data} parts of the data axis "
            f"({len(places)} devices, model_parallel={model}), but got {rows}."
        )
    if rows // data % together:
        raise ValueError(
            f"`ar_share` must be n / {rows // data}, whole rows of each of a micro-batch's {data} parts, "
            f"but got one of n / {together}."
        )
    keras.distribution.set_distribution(_distribution(config.parallel, places, data, model))
    return Layout(config.parallel, data, model, ranks)


def _distribution(parallel: str, devices: list[Any], data: int, model: int) -> Any:
    # Each rank is given its own rows; Keras could deal out only a `tf.data` pipeline.
    if parallel == "data":
        mesh = keras.distribution.DeviceMesh((data,), [DATA_AXIS], devices)
        return keras.distribution.DataParallel(mesh, auto_shard_dataset=False)
    mesh = keras.distribution.DeviceMesh((data, model), [DATA_AXIS, MODEL_AXIS], devices)
    layouts = keras.distribution.LayoutMap(mesh)
    for path, axes in WEIGHT_AXES.items():
        layouts[path] = axes
    return keras.distribution.ModelParallel(
        layout_map=layouts, batch_dim_name=DATA_AXIS, auto_shard_dataset=False
    )


class Muted:
    """In place of a writer on a rank other than the first: takes any call and does nothing."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: None

    def __enter__(self) -> "Muted":
        return self

    def __exit__(self, *error: object) -> None:
        return None

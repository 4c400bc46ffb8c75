"""Attempts as tasks of a Ray cluster: Ray says where, the driver keeps the ledger and the retries.

A task supervises the attempt's processes on its node as the local executor does on its own machine.
"""

import logging
import math
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock, Timeout

from lab.scheduling.executors import Attempt, Ended
from lab.scheduling.local import COMMAND, spawn_ranks
from lab.scheduling.mirror import Mirror
from lab.scheduling.process import STALL_SECONDS, ProcessGroup
from lab.scheduling.secrets import VARIABLES
from lab.scheduling.slots import Kind, Slot, asked_kind, available_cpus, device_slot

_remote: Any = ray.remote
_resources: Any = ray.cluster_resources  # of the nodes that live, by name

LAB_ROOT = Path(__file__).parents[2]
POLL_SECONDS = 0.1
PUSH_SECONDS = 30.0
PUSH_TRIES, PUSH_PAUSE_SECONDS = 4, 5.0  # of the last copy
ROOM_SECONDS = 1.0
STORE_BYTES = 100 * 2**20  # of a local Ray: only exit codes travel through it
# What decides a run's numbers and speed goes with it; nothing else of the driver's environment does.
CARRIED = ("KERAS_", "JAX_", "XLA_", "TF_", "TORCH_", "LIBTPU_", "NCCL_", "OMP_", "OPENBLAS_")
DEVICE_VARIABLES = {"cuda": "CUDA_VISIBLE_DEVICES", "tpu": "TPU_VISIBLE_CHIPS"}


@dataclass(frozen=True)
class Task:
    """What a node is told of an attempt.

    Args:
        attempt: its paths are absolute.
        command: what the node's Python is given; the attempt's options are added.
        kind: what it computes on.
        cores: cores a process.
        per_device: runs that share one GPU.
        stall_seconds: a run without progress for so long is killed.
        shared: URL of shared storage; empty if the logdir is on a path that all nodes share.
        root: what names in shared storage are relative to.
        variables: environment variables that the driver hands on.
        cwd: the driver's working folder, used where the node has it too.
    """

    attempt: Attempt
    command: tuple[str, ...]
    kind: Kind
    cores: int
    per_device: int
    stall_seconds: float
    shared: str
    root: Path
    variables: Mapping[str, str]
    cwd: Path


class RayExecutor:
    """Attempts on a Ray cluster: the one that `RAY_ADDRESS` names, else one of this machine alone.

    Args:
        workers: most attempts at once; 0 means as many as the cluster has room for.
        command: what a node's Python is given to start a run.
        ranks: most processes of one attempt; all of them run on one node.
        per_device: runs that share one GPU.
        cores: cores a process.
        stall_seconds: a run without progress for so long is killed.
        shared: fsspec URL for results; empty if all nodes share the path of the logdirs.
        root: folder that names in shared storage are relative to.

    Raises:
        ValueError: if a number is out of range, the URL holds a password, or the cluster has no room.
    """

    def __init__(
        self,
        workers: int = 0,
        command: Sequence[str] = COMMAND[1:],
        *,
        ranks: int = 1,
        per_device: int = 1,
        cores: int = 1,
        stall_seconds: float = STALL_SECONDS,
        shared: str = "",
        root: Path = Path("results"),
    ) -> None:
        least = {"workers": 0, "ranks": 1, "per_device": 1, "cores": 1}
        given = {"workers": workers, "ranks": ranks, "per_device": per_device, "cores": cores}
        for name, value in given.items():
            if value < least[name]:
                raise ValueError(f"`{name}` must be >= {least[name]}, but got {name}={value}.")
        if per_device > 1 and ranks > 1:
            raise ValueError(
                "`per_device` must be 1 for runs of several processes, "
                f"but got per_device={per_device} and ranks={ranks}."
            )
        self._workers, self.ranks, self._per_device, self._cores = workers, ranks, per_device, cores
        self._command = tuple(command)
        self._stall_seconds = stall_seconds
        self._shared, self._root = shared, root.absolute()
        self._mirror = Mirror(shared, root) if shared else None
        self._started: list[RayAttempt] = []
        self._ours = _connect()
        self._kind = _kind(_resources())
        self._looked, self._room = time.monotonic(), self._find_room()
        if self._room < 1:
            self.close()
            raise ValueError(f"the Ray cluster must have {self._needs()} for a run, but it has less.")

    def free(self) -> int:
        """How many attempts could start now, by the resources of the nodes that live."""
        if time.monotonic() - self._looked >= ROOM_SECONDS:
            self._looked, self._room = time.monotonic(), self._find_room()
        self._started = [attempt for attempt in self._started if attempt.poll() is None]
        # At least one: if all nodes are gone it waits for the next one.
        return max(0, max(1, self._room) - len(self._started))

    def start(self, attempt: Attempt) -> "RayAttempt":
        """Hand an attempt to the cluster.

        Raises:
            ValueError: if it has more processes than were announced.
        """
        if attempt.ranks > self.ranks:
            raise ValueError(
                f"`ranks` must be at most {self.ranks} in this executor, but got ranks={attempt.ranks}."
            )
        if self._mirror is not None:
            self._mirror.begin(attempt.logdir)
        paths = {name: getattr(attempt, name).absolute() for name in ("config", "logdir", "cache_dir")}
        task = Task(
            replace(attempt, **paths),
            self._command,
            self._kind,
            self._cores,
            self._per_device,
            self._stall_seconds,
            self._shared,
            self._root,
            _carried(os.environ),
            Path.cwd(),
        )
        needs = self._needs()
        options = {"num_cpus": needs.pop("CPU"), "num_gpus": needs.pop("GPU", 0), "resources": needs}
        reference = _remote(max_retries=0, **options)(supervise).remote(task)
        handle = RayAttempt(reference, attempt.logdir, self._mirror)
        self._started.append(handle)
        return handle

    def close(self) -> None:
        """Leave the cluster, or end it if it is ours."""
        if self._ours:
            ray.shutdown()
            self._ours = False

    def _needs(self) -> dict[str, float]:
        """The resources of one attempt, by Ray's names."""
        needs: dict[str, float] = {"CPU": self._cores * self.ranks}
        if self._kind == "cuda":
            needs["GPU"] = self.ranks if self._per_device == 1 else 1 / self._per_device
        if self._kind == "tpu":
            needs["TPU"] = self.ranks
        return needs

    def _find_room(self) -> int:
        has = _resources()
        room = min(math.floor(has.get(name, 0) / amount + 1e-6) for name, amount in self._needs().items())
        return min(room, self._workers) if self._workers else room


class RayAttempt:
    """An attempt on a Ray cluster."""

    def __init__(self, reference: Any, logdir: Path, mirror: Mirror | None) -> None:
        self._reference = reference
        self._logdir = logdir
        self._mirror = mirror
        self._stopped: signal.Signals | None = None
        self._ended: Ended | None = None

    def poll(self) -> Ended | None:
        """None while it runs or waits for a node, then how it ended."""
        if self._ended is None and ray.wait([self._reference], timeout=0)[0]:
            if self._mirror is not None:
                self._mirror.pull(self._logdir)
            self._ended = self._outcome()
        return self._ended

    def stop(self, hard: bool) -> None:
        """Cancel its task: gently, which becomes SIGTERM to its processes, or by killing its supervisor."""
        if self.poll() is None:
            self._stopped = signal.SIGKILL if hard else signal.SIGTERM
            ray.cancel(self._reference, force=hard)

    def _outcome(self) -> Ended:
        try:
            code, cause = ray.get(self._reference)
        except ray.exceptions.OutOfMemoryError:
            return Ended(-signal.SIGKILL, "host_oom")
        except ray.exceptions.RayTaskError as error:
            with (self._logdir / "log.txt").open("a", encoding="utf-8") as log:
                log.write(f"{error}\n")
            return Ended(1)
        except ray.exceptions.RayError:
            return Ended(-self._stopped) if self._stopped else Ended(-signal.SIGKILL, "node_lost")
        return Ended(code, cause)


def supervise(task: Task) -> tuple[int, str]:
    """Run an attempt's processes on this node to their end: exit code and cause, as in `Ended`."""
    attempt, logdir = task.attempt, task.attempt.logdir
    logdir.mkdir(parents=True, exist_ok=True)
    mirror = Mirror(task.shared, task.root) if task.shared else None
    if mirror is not None:
        mirror.pull(logdir)
    processes: list[Any] = []
    with _claimed_cores(task.cores * attempt.ranks) as cpus:
        group = ProcessGroup(processes, logdir, task.stall_seconds)
        try:
            command = [sys.executable, *task.command]
            cwd = task.cwd if task.cwd.is_dir() else None
            for process in spawn_ranks(command, attempt, _slots(task, cpus), cwd):
                processes.append(process)  # one by one: the group must know them if we are interrupted
            ended = _watch(group, mirror, logdir)
        finally:
            group.stop(hard=True)  # if we are told to end in the midst of starting
    if mirror is not None and not _push(mirror, logdir, PUSH_TRIES):
        return 1, ""
    return ended.code, ended.cause


def _push(mirror: Mirror, logdir: Path, tries: int) -> bool:
    """Copy to shared storage, whose own errors of a moment must not end a run; whether it was done."""
    for left in reversed(range(tries)):
        try:
            mirror.push(logdir)
        except Exception:  # whatever the storage's driver raises
            with (logdir / "log.txt").open("a", encoding="utf-8") as log:
                log.write(traceback.format_exc())
            time.sleep(PUSH_PAUSE_SECONDS if left else 0)
        else:
            return True
    return False


def _watch(group: ProcessGroup, mirror: Mirror | None, logdir: Path) -> Ended:
    """Wait for the end. A cancelled task is interrupted: its processes are asked to end, and waited for."""
    pushed = time.monotonic()
    while True:
        try:
            while (ended := group.poll()) is None:
                if mirror is not None and time.monotonic() - pushed >= PUSH_SECONDS:
                    _push(mirror, logdir, tries=1)  # the next one will do
                    pushed = time.monotonic()
                time.sleep(POLL_SECONDS)
            return ended
        except KeyboardInterrupt:
            group.stop(hard=False)


def _slots(task: Task, cpus: tuple[int, ...]) -> list[Slot]:
    """One slot a process: its part of the cores, and the device that Ray gave it."""
    path = os.pathsep.join(filter(None, (str(LAB_ROOT), os.environ.get("PYTHONPATH"))))
    variables = {**task.variables, "PYTHONPATH": path}
    ranks = task.attempt.ranks
    cores = [cpus[rank::ranks] or cpus for rank in range(ranks)]
    if task.kind == "cpu":
        # Without a device of its own a task sees every one that the node has.
        pins = {**variables, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        return [Slot("cpu", own, variables=pins) for own in cores]
    names = os.environ[DEVICE_VARIABLES[task.kind]].split(",")
    slots = [
        device_slot(task.kind, name, own, task.per_device) for name, own in zip(names, cores, strict=True)
    ]
    return [replace(slot, variables={**variables, **slot.variables}) for slot in slots]


@contextmanager
def _claimed_cores(count: int) -> Iterator[tuple[int, ...]]:
    """Cores of this machine that no other attempt has claimed, by locks that end with their holder.

    If too few are left (a node may advertise more than it has), some are shared.
    """
    folder = Path(tempfile.gettempdir(), f"lab-cores-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    cpus, claimed = available_cpus(), list[int]()
    with ExitStack() as stack:
        for cpu in cpus:
            if len(claimed) < count:
                try:
                    stack.enter_context(FileLock(folder / f"{cpu}.lock", timeout=0))
                except Timeout:
                    continue
                claimed.append(cpu)
        others = [cpu for cpu in cpus if cpu not in claimed]
        yield tuple(sorted(claimed + others[: count - len(claimed)]))


def _kind(has: Mapping[str, float]) -> Kind:
    """What runs compute on: what `JAX_PLATFORMS` says, else what the cluster has."""
    return asked_kind() or ("cuda" if has.get("GPU") else "tpu" if has.get("TPU") else "cpu")


def _carried(variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in variables.items() if name.startswith(CARRIED) and name not in VARIABLES
    }


def _connect() -> bool:
    """Join or start a cluster; whether this call did. Its processes inherit no password from us."""
    if ray.is_initialized():
        return False
    ours = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    kept = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    local: dict[str, Any] = {
        "address": "local",
        "_node_ip_address": "127.0.0.1",
        "include_dashboard": False,
        "object_store_memory": STORE_BYTES,
    }
    os.environ.update(ours | os.environ)
    try:
        ray.init(
            **({} if os.environ.get("RAY_ADDRESS") else local),
            log_to_driver=False,
            logging_level=logging.ERROR,
            namespace="lab",
        )
    finally:
        os.environ.update(kept)
    return True

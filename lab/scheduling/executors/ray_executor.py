"""Attempts as tasks of a Ray cluster: Ray says where, the driver keeps the ledger and the retries.

A task supervises one process of an attempt on its node, as the local executor does on its own machine. The
tasks of an attempt of several ranks have a placement group: on one node if there is room, else on several.
"""

import logging
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from filelock import FileLock, Timeout
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from lab.environment import available_cpus
from lab.scheduling.executors.executor import Attempt, Command, Ended
from lab.scheduling.executors.local import COMMAND, spawn_rank
from lab.scheduling.executors.mirror import CONFIG, Mirror, SharedStorageError, Transfer
from lab.scheduling.executors.process import STALL_SECONDS, ProcessGroup, quote, rank_log
from lab.scheduling.executors.ranks import blamed, explained, free_address
from lab.scheduling.executors.slots import Kind, Slot, asked_kind, check_counts, device_slot
from lab.scheduling.ledger.secrets import VARIABLES
from lab.scheduling.logs import read_tail
from lab.scheduling.outcomes import PREEMPTED

_remote: Any = ray.remote
_nodes: Any = ray.nodes
_reserve: Any = placement_group
_own_host: Any = ray.util.get_node_ip_address

LAB_ROOT = Path(__file__).parents[3]
POLL_SECONDS = 0.1
COPY_SECONDS = 30.0  # between two copies of a run at work
BLAME_SECONDS = 2.0  # in which a rank may still say why the others lost it
PUSH_SECONDS = 90.0  # that the first rank has to notice a lost one and to copy what it leaves
ROOM_SECONDS = 1.0
STORE_BYTES = 100 * 2**20  # of a local Ray: only exit codes travel through it
# What decides a run's numbers and speed goes with it; nothing else of the driver's environment does.
CARRIED = ("KERAS_", "JAX_", "XLA_", "TF_", "TORCH_", "LIBTPU_", "NCCL_", "OMP_", "OPENBLAS_")
RESOURCES: Mapping[Kind, str] = {"cuda": "GPU", "tpu": "TPU"}  # as Ray calls them

RankEnd = tuple[Ended, str]  # how a rank ended; the end of its log, if it is not the first


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
        ranks: processes of one attempt, on one node or several.
        per_device: runs that share one GPU.
        devices: GPUs or TPU chips of each process.
        cores: cores a process.
        stall_seconds: a run without progress for so long is killed.
        shared: fsspec URL for results; empty if all nodes share the path of the logdirs.
        root: folder that names in shared storage are relative to.

    Raises:
        ValueError: if a number is out of range, the URL holds a password, or the cluster has no room.
    """

    population = 1

    def __init__(
        self,
        workers: int = 0,
        command: Sequence[str] = COMMAND[1:],
        *,
        ranks: int = 1,
        per_device: int = 1,
        devices: int = 1,
        cores: int = 1,
        stall_seconds: float = STALL_SECONDS,
        shared: str = "",
        root: Path = Path("results"),
    ) -> None:
        if cores < 1:
            raise ValueError(f"`cores` must be >= 1, but got cores={cores}.")
        if not stall_seconds > 0:  # nor NaN
            raise ValueError(f"`stall_seconds` must be > 0, but got stall_seconds={stall_seconds}.")
        self._workers, self.ranks, self._cores = workers, ranks, cores
        self._per_device, self._devices = per_device, devices
        self._command = tuple(command)
        self._stall_seconds = stall_seconds
        self._shared, self._root = shared, root.absolute()
        self._mirror = Mirror(shared, root) if shared else None
        self._started: list[RayAttempt] = []
        self._ours = _connect()
        try:
            self._kind = _kind(_living())
            check_counts(self._kind, workers, ranks, per_device, devices)
            self._looked, self._room = time.monotonic(), self._find_room()
            if self._room < 1:
                raise ValueError(
                    f"the Ray cluster must have {ranks} x {self._needs()} for a run, but it has less."
                )
        except ValueError:
            self.close()
            raise

    def free(self, command: Command = "run") -> int:
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
        task = Task(
            attempt.absolute(),
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
        handle = RayAttempt(lambda: Submitted.of(task, self._needs()), attempt, self._mirror)
        self._started.append(handle)
        return handle

    def close(self) -> None:
        """Leave the cluster, or end it if it is ours."""
        if self._ours:
            ray.shutdown()
            self._ours = False

    def _needs(self) -> dict[str, float]:
        """The resources of one process, by Ray's names."""
        needs: dict[str, float] = {"CPU": self._cores}
        if self._kind != "cpu":
            needs[RESOURCES[self._kind]] = self._devices / self._per_device
        return needs

    def _find_room(self) -> int:
        """How many attempts the nodes that live have room for, each process on one of them."""
        processes = sum(
            min(math.floor(has.get(name, 0) / amount + 1e-6) for name, amount in self._needs().items())
            for has in _living()
        )
        room = processes // self.ranks
        return min(room, self._workers) if self._workers else room


@dataclass(frozen=True)
class Submitted:
    """An attempt's tasks, rank 0 first, and the placement group that they hold if there are several."""

    tasks: tuple[Any, ...]
    group: Any = None

    @classmethod
    def of(cls, task: Task, needs: Mapping[str, float]) -> "Submitted":
        """Hand an attempt's tasks to the cluster; each needs these resources."""
        others = {name: amount for name, amount in needs.items() if name not in ("CPU", "GPU")}
        options = {"num_cpus": needs["CPU"], "num_gpus": needs.get("GPU", 0), "resources": others}
        ranks = task.attempt.ranks
        if ranks == 1:
            return cls((_submit(supervise, options).remote(task),))
        group = _reserve([dict(needs)] * ranks, strategy="PACK")
        places = [PlacementGroupSchedulingStrategy(group, rank) for rank in range(ranks)]
        # Rank 0's node says where the others find it; their tasks start when it has.
        address = _submit(prepare, {"num_cpus": 0, "scheduling_strategy": places[0]}).remote(task)
        return cls(
            tuple(
                _submit(supervise, {**options, "scheduling_strategy": place}).remote(task, rank, address)
                for rank, place in enumerate(places)
            ),
            group,
        )


class RayAttempt:
    """An attempt on a Ray cluster.

    With shared storage, what the run is of must be there before its tasks are submitted, and what they left
    is fetched before the attempt counts as ended. One that was stopped does not wait for storage: what it
    left is there for the next.

    Args:
        submit: hands its tasks to the cluster.
        attempt: what it is to do.
        mirror: shared storage, if results travel that way.
    """

    def __init__(self, submit: Callable[[], Submitted], attempt: Attempt, mirror: Mirror | None) -> None:
        self._submit, self._logdir, self._mirror = submit, attempt.logdir, mirror
        self._offer = Transfer(lambda: mirror.offer(attempt) if mirror else None)
        self._fetch = Transfer(lambda: mirror.pull(attempt.logdir) if mirror else None)
        self._submitted: Submitted | None = None
        self._ends: dict[int, RankEnd] = {}  # by rank
        self._blamed: int | None = None
        self._bad_since = math.inf
        self._stopped: signal.Signals | None = None
        self._ended: Ended | None = None
        self._copied = time.monotonic()
        self.poll()

    def poll(self) -> Ended | None:
        """None while it runs or waits for a node or for shared storage, then how it ended."""
        try:
            if self._ended is None and self._offer.done():
                self._submitted = self._submitted or self._submit()
                if self._all_ended(self._submitted) and (self._stopped or self._fetch.done()):
                    self._ended = self._end()
        except SharedStorageError as error:
            self._note(f"{error}\n")
            self._ended = Ended(1)
        return self._ended

    def stop(self, hard: bool) -> None:
        """Cancel its tasks: gently, which sends SIGTERM to its processes, or by killing their supervisors."""
        if self._ended is None:
            self._stopped = signal.SIGKILL if hard else signal.SIGTERM
            if self._submitted is None:
                self._ended = Ended(-self._stopped)
            else:
                self._cancel(self._submitted.tasks, hard)

    def _all_ended(self, submitted: Submitted) -> bool:
        waiting = {rank: task for rank, task in enumerate(submitted.tasks) if rank not in self._ends}
        ready = ray.wait(list(waiting.values()), num_returns=len(waiting), timeout=0)[0] if waiting else []
        self._ends |= {rank: self._end_of(task) for rank, task in waiting.items() if task in ready}
        if len(self._ends) < len(submitted.tasks):
            self._end_together(submitted)
            self._watch()
            return False
        if self._blamed is None:
            self._blamed = self._blame()
        if submitted.group is not None:
            remove_placement_group(submitted.group)
        return True

    def _end_together(self, submitted: Submitted) -> None:
        """Once a rank has ended badly, end the others, which would wait for it.

        The first is left to notice it by itself where it has to copy what it leaves.
        """
        now = time.monotonic()
        if self._blamed is None:
            rank = self._blame()
            if rank is None:
                return
            self._bad_since = min(self._bad_since, now)
            if not explained(self._ends[rank][0]) and now - self._bad_since < BLAME_SECONDS:
                return
            self._blamed = rank
            self._cancel(submitted.tasks[1:] if self._mirror else submitted.tasks, hard=True)
        elif now - self._bad_since >= PUSH_SECONDS:
            self._cancel(submitted.tasks, hard=True)

    def _blame(self) -> int | None:
        return blamed({rank: ended for rank, (ended, _) in self._ends.items()})

    def _cancel(self, tasks: Sequence[Any], hard: bool) -> None:
        for task in tasks:
            ray.cancel(task, force=hard)  # without effect on one that has ended

    def _watch(self) -> None:
        """Fetch from shared storage how far the run has come; if that fails, the next time will do."""
        due = time.monotonic() - self._copied >= COPY_SECONDS
        if self._mirror is not None and due and not self._stopped:
            with suppress(Exception):
                self._mirror.watch(self._logdir)
            self._copied = time.monotonic()

    def _end_of(self, task: Any) -> RankEnd:
        try:
            return ray.get(task)  # type: ignore[no-any-return]
        except ray.exceptions.OutOfMemoryError:
            return Ended(-signal.SIGKILL, "host_oom"), ""
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, ray.exceptions.RayError):
                return Ended(1), f"{error}\n"
        except ray.exceptions.RayError:
            pass
        if self._stopped or self._blamed is not None:
            return Ended(-(self._stopped or signal.SIGKILL)), ""
        return Ended(-signal.SIGKILL, "node_lost"), ""

    def _end(self) -> Ended:
        rank = self._blamed or 0
        ended, tail = self._ends[rank]
        if rank:
            quote(self._logdir, f"rank {rank}", tail.encode())
        elif tail:
            self._note(tail)
        if tail and self._mirror is not None and not self._stopped:
            with suppress(Exception):  # the next attempt's log goes on from there
                self._mirror.put(self._logdir, "log.txt")
        preempted = any(end.code == PREEMPTED for end, _ in self._ends.values())
        return Ended(PREEMPTED) if self._blamed is None and preempted else ended

    def _note(self, text: str) -> None:
        with (self._logdir / "log.txt").open("a", encoding="utf-8") as log:
            log.write(text)


def prepare(task: Task) -> str:
    """Get ready for the ranks of an attempt on the node of the first: fetch its folder, find it an address.

    Returns:
        Host and port at which the first rank is to wait; on loopback if the others are on this node too.
    """
    if mirror := _mirror(task):
        _pull(mirror, _local(task))
    nodes = placement_group_table(ray.util.get_current_placement_group())["bundles_to_node_id"]
    return free_address(_own_host() if len(set(nodes.values())) > 1 else "127.0.0.1")


def supervise(task: Task, rank: int = 0, address: str = "") -> RankEnd:
    """Run one process of an attempt on this node to its end.

    Args:
        task: of the attempt.
        rank: which of its processes.
        address: where rank 0 waits for the others, if there are any; its folder is ready then.
    """
    attempt = _local(task)
    logdir = attempt.logdir
    logdir.mkdir(parents=True, exist_ok=True)
    mirror = _mirror(task)
    if mirror is not None and rank:  # the first alone reads and writes the folder
        Transfer(lambda: mirror.fetch(logdir, [CONFIG])).finish()
    elif mirror is not None and not address:
        _pull(mirror, attempt)
    log = rank_log(logdir, rank)
    log_start = log.stat().st_size if log.exists() else 0
    processes: list[Any] = []
    with _claimed_cores(task.cores) as cpus:
        # The progress of the run can be seen where the first rank is.
        group = ProcessGroup(processes, logdir, math.inf if rank else task.stall_seconds, first=rank)
        try:
            command = [sys.executable, *task.command]
            cwd = task.cwd if task.cwd.is_dir() else None
            processes.append(spawn_rank(command, attempt, _slot(task, cpus), rank, address, cwd))
            ended = _watch(group, None if rank else mirror, logdir)
        finally:
            group.stop(hard=True)  # if we are told to end in the midst of starting
    if mirror is not None and not rank:
        Transfer(lambda: mirror.push(logdir)).finish()
        shutil.rmtree(logdir, ignore_errors=True)
    return ended, read_tail(log, log_start) if rank else ""


def _pull(mirror: Mirror, attempt: Attempt) -> None:
    """Fetch an attempt's folder, and the runs that it reads."""
    for folder in (attempt.logdir, *attempt.inputs):
        Transfer(partial(mirror.pull, folder)).finish()


def _mirror(task: Task) -> Mirror | None:
    return Mirror(task.shared, _shared_root(task)) if task.shared else None


def _local(task: Task) -> Attempt:
    """The attempt as this node sees it: with shared storage in a folder of the node's own.

    The driver may be on the same machine, and its copy of the folder is not to be written to.
    """
    if not task.shared:
        return task.attempt
    logdir, *inputs = (
        _shared_root(task) / path.relative_to(task.root)
        for path in (task.attempt.logdir, *task.attempt.inputs)
    )
    return replace(task.attempt, config=logdir / CONFIG, logdir=logdir, inputs=tuple(inputs))


def _shared_root(task: Task) -> Path:
    return task.attempt.cache_dir / "shared"


def _watch(group: ProcessGroup, mirror: Mirror | None, logdir: Path) -> Ended:
    """Wait for the end. A cancelled task is interrupted: its processes are asked to end, and waited for."""
    pushed = time.monotonic()
    while True:
        try:
            while (ended := group.poll()) is None:
                if mirror is not None and time.monotonic() - pushed >= COPY_SECONDS:
                    with suppress(Exception):  # the next one will do
                        mirror.push(logdir)
                    pushed = time.monotonic()
                time.sleep(POLL_SECONDS)
            return ended
        except KeyboardInterrupt:
            group.stop(hard=False)


def _slot(task: Task, cpus: tuple[int, ...]) -> Slot:
    """The cores of a process, and the devices that Ray gave to its task."""
    path = os.pathsep.join(filter(None, (str(LAB_ROOT), os.environ.get("PYTHONPATH"))))
    variables = {**task.variables, "PYTHONPATH": path}
    if task.kind == "cpu":
        # Without a device of its own a task sees every one that the node has.
        return Slot("cpu", cpus, variables={**variables, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""})
    names = ray.get_runtime_context().get_accelerator_ids()[RESOURCES[task.kind]]
    slot = device_slot(task.kind, tuple(names), cpus, task.per_device)
    return replace(slot, variables={**variables, **slot.variables})


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


def _submit(function: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """A function as a task that Ray does not try again."""
    return _remote(max_retries=0, **options)(function)


def _living() -> list[dict[str, float]]:
    """What each node that lives has, by Ray's names."""
    return [node["Resources"] for node in _nodes() if node["Alive"]]


def _kind(nodes: Sequence[Mapping[str, float]]) -> Kind:
    """What runs compute on: what `JAX_PLATFORMS` says, else what the cluster has."""
    kinds = [kind for kind, name in RESOURCES.items() if any(has.get(name) for has in nodes)]
    return asked_kind() or (kinds[0] if kinds else "cpu")


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

"""What an attempt's processes are pinned to: cores, and GPUs or TPU chips.

Devices are found without importing a backend, and pins are environment variables: they must hold before one
is imported.
"""

import importlib.util
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from lab.environment import available_cpus, require_backend
from lab.scheduling.executors import child
from lab.scheduling.executors.ranks import ALONE
from lab.scheduling.ledger.secrets import without_secrets

Kind = Literal["cpu", "cuda", "tpu"]

SLOT = "LAB_SLOT"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
DEV = Path("/dev")
KINDS: Mapping[str, Kind] = {"cpu": "cpu", "cuda": "cuda", "gpu": "cuda", "tpu": "tpu"}  # PLATFORMS
# Chips of one process, and how they lie on a host: https://docs.jax.dev, and JAX's own launcher.
TPU_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}
MOST_PROCESSES = 10_000  # at once: more is a slip of the keyboard
PACKED_SHARE = 0.9  # of a GPU's memory, for all that share it; the rest is what each CUDA context takes


@dataclass(frozen=True)
class Slot:
    """Room for one process.

    Args:
        kind: what it computes on.
        cpus: its cores, by number.
        devices: UUIDs of GPUs or numbers of TPU chips; empty on a CPU.
        variables: environment variables that hide everything else from it. They overrule the user's.
        defaults: environment variables that the user's overrule.
    """

    kind: Kind
    cpus: tuple[int, ...]
    devices: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Words for the log."""
        cores = f"cores {','.join(map(str, self.cpus))}"
        return f"{self.kind} {','.join(self.devices)}, {cores}" if self.devices else cores


class Devices(NamedTuple):
    """The devices that runs compute on: their kind and their names, none for a CPU."""

    kind: Kind
    names: tuple[str, ...] = ()


def check_counts(kind: Kind, workers: int, ranks: int, per_device: int, devices: int) -> None:
    """Refuse numbers of places, of processes and of devices that go with no machine.

    Args:
        kind: what runs compute on.
        workers: number of places; 0 means as many as there is room for.
        ranks: processes of one attempt.
        per_device: runs that share one GPU.
        devices: GPUs or TPU chips of each process.

    Raises:
        ValueError: naming the number.
    """
    least = {
        "workers": (workers, 0),
        "ranks": (ranks, 1),
        "per_device": (per_device, 1),
        "devices": (devices, 1),
    }
    for name, (value, bound) in least.items():
        if value < bound:
            also = " (0: as many as there is room for)" if name == "workers" else ""
            raise ValueError(f"`{name}` must be >= {bound}{also}, but got {name}={value}.")
    if (processes := max(1, workers) * ranks * per_device) > MOST_PROCESSES:
        raise ValueError(
            f"`workers` x `ranks` x `per_device` must be at most {MOST_PROCESSES:,} processes at once, "
            f"but got {processes:,}."
        )
    if per_device > 1 and (kind != "cuda" or ranks * devices > 1):
        where = f"on {kind}" if ranks * devices == 1 else "for runs on several devices"
        raise ValueError(f"`per_device` must be 1 {where}, but got per_device={per_device}.")
    if kind == "cpu" and devices > 1:
        raise ValueError(f"`devices` must be 1 on cpu, but got devices={devices}.")
    if kind == "tpu" and devices not in TPU_BOUNDS:
        raise ValueError(f"`devices` must be one of {list(TPU_BOUNDS)} on tpu, but got devices={devices}.")
    if kind == "tpu" and ranks > 1:
        raise ValueError(
            "`ranks` must be 1 on tpu: a process can have all chips of a host (`devices`), and a launcher "
            f"starts the hosts of a slice; but got ranks={ranks}."
        )


def make_places(
    workers: int = 0, ranks: int = 1, per_device: int = 1, devices: int = 1
) -> list[tuple[Slot, ...]]:
    """Deal out this machine: a list of places, each with the slots of one attempt's processes.

    Args:
        workers: number of places; 0 means as many as there are devices, or cores, for.
        ranks: processes of one attempt.
        per_device: runs that share one GPU, each with an equal part of its memory.
        devices: GPUs or TPU chips of each process.

    Raises:
        ValueError: if a number is out of range or the machine has too few devices.
    """
    kind, present = find_devices()
    check_counts(kind, workers, ranks, per_device, devices)
    if kind == "cpu":
        count = workers or max(1, len(available_cpus()) // ranks)
        cores = _deal(available_cpus(), count * ranks)
        slots = [Slot("cpu", tuple(own), variables=_hidden()) for own in cores]
    else:
        names = [name for name in present for _ in range(per_device)]
        room = len(names) // (ranks * devices)
        if not room:
            raise ValueError(
                f"`ranks` x `devices` must be at most {len(names)}, the number of {kind} devices here, "
                f"but got ranks={ranks} and devices={devices}."
            )
        count = min(workers or room, room)
        cores = _deal(available_cpus(), count * ranks)
        own_names = zip(*[iter(names)] * devices, strict=False)
        slots = [
            device_slot(kind, own, tuple(cpus), per_device)
            for own, cpus in zip(own_names, cores, strict=False)
        ]
    return [tuple(slots[i * ranks : (i + 1) * ranks]) for i in range(count)]


def asked_kind() -> Kind | None:
    """What `JAX_PLATFORMS` names first; None if it is not set.

    Raises:
        ValueError: as of `require_backend`.
    """
    require_backend()
    asked = os.environ.get("JAX_PLATFORMS", "").split(",")[0]
    return KINDS[asked] if asked else None


def find_devices() -> Devices:
    """What runs compute on, from `JAX_PLATFORMS` if it is set, else from what this machine has.

    Raises:
        ValueError: if `JAX_PLATFORMS` asks for what the machine has not or what is not installed, and as of
            `require_backend`.
    """
    asked = asked_kind()
    if asked is not None:
        names, said = _names(asked), os.environ["JAX_PLATFORMS"]
        if asked != "cpu" and not names:
            raise ValueError(
                f"JAX_PLATFORMS={said} must name what this machine has, but no {asked} device is here."
            )
        if asked != "cpu" and not _usable(asked):
            raise ValueError(
                f"JAX_PLATFORMS={said} needs a backend that computes on {asked}, and that of "
                f"KERAS_BACKEND={os.environ['KERAS_BACKEND']} here does not: make setup EXTRAS={asked}"
            )
        return Devices(asked, names)
    for kind in ("cuda", "tpu"):
        if _usable(kind) and (names := _names(kind)):
            return Devices(kind, names)
    return Devices("cpu")


def memory_of(kind: Kind) -> float | None:
    """Bytes that one device has, the largest of them, or for a CPU its machine; None if nothing says it."""
    if kind == "cpu":
        import psutil

        return float(psutil.virtual_memory().total)
    if kind == "tpu":
        return None
    said = _nvidia_smi("--query-gpu=memory.total", "--format=csv,noheader,nounits") or ""
    mebibytes = [float(line) for line in said.split() if line.isdecimal()]
    return max(mebibytes) * 2**20 if mebibytes else None


def device_slot(kind: Kind, devices: tuple[str, ...], cpus: tuple[int, ...], per_device: int = 1) -> Slot:
    """A slot that sees these devices only."""
    names = ",".join(devices)
    if kind == "tpu":
        bounds = {"TPU_CHIPS_PER_PROCESS_BOUNDS": TPU_BOUNDS[len(devices)], "TPU_PROCESS_BOUNDS": "1,1,1"}
        return Slot(kind, cpus, devices, {"TPU_VISIBLE_CHIPS": names, **bounds})
    shared = memory_share(per_device) if per_device > 1 else {}
    return Slot(kind, cpus, devices, {"CUDA_VISIBLE_DEVICES": names}, shared)


def memory_share(per_device: int) -> dict[str, str]:
    """The variables that let processes share one GPU.

    JAX takes a fixed part, so that none can starve another. TensorFlow knows no such variable and is told to
    take what it needs, as PyTorch always does.
    """
    shares = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:  # the old name; JAX refuses both at once
        shares["XLA_CLIENT_MEM_FRACTION"] = f"{PACKED_SHARE / per_device:.3f}"
    return shares


def environment(slot: Slot, more: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is alone in its run: the user's without secrets, over it the pins.

    Args:
        slot: what the process is pinned to.
        more: defaults that the user's environment overrules.
    """
    threads = dict.fromkeys(THREADS, str(len(slot.cpus)))
    users = without_secrets(os.environ)
    pins = {child.CPUS: ",".join(map(str, slot.cpus)), child.PARENT: str(os.getpid()), SLOT: slot.name}
    return {**threads, **slot.defaults, **more, **users, **slot.variables, **pins, **ALONE}


def _deal(cpus: Sequence[int], hands: int) -> list[list[int]]:
    return [list(cpus[i::hands]) or [cpus[i % len(cpus)]] for i in range(hands)]


def _hidden() -> dict[str, str]:
    """A run that is asked to compute on the CPU sees no GPU, under any backend."""
    return {"CUDA_VISIBLE_DEVICES": ""} if os.environ.get("JAX_PLATFORMS") == "cpu" else {}


def _usable(kind: Kind) -> bool:
    """Whether the installed backend could use such devices; TensorFlow and PyTorch are believed to."""
    if os.environ.get("KERAS_BACKEND", "jax") != "jax":
        return kind == "cuda"
    if kind == "tpu":
        return importlib.util.find_spec("libtpu") is not None
    plugins = importlib.util.find_spec("jax_plugins")
    return plugins is not None and any(
        path.name.startswith("xla_cuda")
        for folder in plugins.submodule_search_locations or ()
        for path in Path(folder).iterdir()
    )


def _names(kind: Kind) -> tuple[str, ...]:
    """The devices of a kind that this process may use, of which the user may have named some."""
    variable = {"cuda": "CUDA_VISIBLE_DEVICES", "tpu": "TPU_VISIBLE_CHIPS"}.get(kind)
    if variable is None:
        return ()
    if (users := os.environ.get(variable)) is not None:
        return tuple(name for name in re.split(r"[,\s]+", users) if name and name != "-1")
    return tuple(_gpus() if kind == "cuda" else _chips())


def _gpus() -> list[str]:
    """UUIDs as `nvidia-smi -L` lists them (an index can mean another card), else indices."""
    if (said := _nvidia_smi("-L")) is None:
        return [str(i) for i in range(len(list(DEV.glob("nvidia[0-9]*"))))]
    uuids: list[str] = []
    for line in said.splitlines():
        uuid = re.search(r"UUID: ([\w/-]+)", line)
        if line.startswith("GPU "):
            uuids.append(uuid[1] if uuid else str(len(uuids)))
        elif uuid and uuid[1].startswith("MIG-"):
            if uuids and not uuids[-1].startswith("MIG-"):
                uuids.pop()  # a card in parts: its parts are the devices
            uuids.append(uuid[1])
    return uuids


@cache
def _nvidia_smi(*options: str) -> str | None:
    """What the program says, asked once a process; None where there is none, or it fails."""
    command = ["nvidia-smi", *options]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _chips() -> list[str]:
    for folder, pattern in ((DEV, "accel[0-9]*"), (DEV / "vfio", "[0-9]*")):
        if count := len(list(folder.glob(pattern))):
            return [str(i) for i in range(count)]
    return []

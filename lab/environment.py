"""What a number was computed with: processor, threads, Python, packages. Imports no backend."""

import os
import platform
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from lab.code import BACKENDS

PLATFORMS = ("cpu", "cuda", "gpu", "tpu")  # of JAX, which knows them in lower case alone

# The distributions whose version can change a run's numbers.
PACKAGES = (
    "keras",
    "keras-hub",
    "jax",
    "jaxlib",
    "tensorflow",
    "torch",
    "numpy",
    "scipy",
    "tokenizers",
    "optuna",
)


def require_backend() -> None:
    """Refuse a backend that the lab cannot train with or that is not installed, and platforms unknown to it.

    Raises:
        ValueError: naming those that there are, or what installs the one that is asked for.
    """
    backend, platforms = os.environ["KERAS_BACKEND"], os.environ.get("JAX_PLATFORMS", "")
    if backend not in BACKENDS:
        raise ValueError(
            f"`KERAS_BACKEND` must be one of {list(BACKENDS)}, but got KERAS_BACKEND={backend!r}."
        )
    if find_spec(backend) is None:
        extra = " EXTRAS=torch" if backend == "torch" else ""
        raise ValueError(f"KERAS_BACKEND={backend} needs {backend}, which is missing: make setup{extra}")
    if platforms and not set(platforms.split(",")) <= set(PLATFORMS):
        raise ValueError(
            f"`JAX_PLATFORMS` must be of {list(PLATFORMS)}, several with commas alone between them, "
            f"but got JAX_PLATFORMS={platforms!r}."
        )


def versions() -> dict[str, str]:
    """Versions of Python and of each installed package in `PACKAGES`, none of them imported."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as the system says it; its architecture where it says none."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(filter(None, names), platform.processor() or platform.machine())


def available_cpus() -> list[int]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))

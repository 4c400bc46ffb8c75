"""What a number was computed with: processor, threads, Python, packages. Imports no backend."""

import os
import platform
from importlib import metadata
from pathlib import Path

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

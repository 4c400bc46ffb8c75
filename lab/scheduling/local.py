"""Attempts as child processes of the driver, each on its own cores of this machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.scheduling import child
from lab.scheduling.executors import Attempt, Ended
from lab.scheduling.secrets import without_secrets

COMMAND = (sys.executable, "-m", "lab", "run")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def available_cpus() -> list[int]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


class LocalProcess:
    """An attempt in a child process with a session of its own; output goes to `<logdir>/log.txt`."""

    def __init__(self, command: Sequence[str], attempt: Attempt, cpus: Sequence[int]) -> None:
        paths = {"--config": attempt.config, "--logdir": attempt.logdir, "--cache": attempt.cache_dir}
        arguments = [text for option, path in paths.items() for text in (option, str(path))]
        self.cpus = cpus
        with (attempt.logdir / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *arguments],
                env=_environment(attempt, cpus),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> Ended | None:
        """None while it runs."""
        code = self._process.poll()
        return None if code is None else Ended(code)

    def stop(self, hard: bool) -> None:
        """SIGTERM, or SIGKILL if `hard`, to the process and its children."""
        if self.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL if hard else signal.SIGTERM)


class LocalExecutor:
    """Slots on this machine's cores, which are dealt out evenly.

    Args:
        workers: number of slots; 0 means one per core.
        command: what starts a run; `--config`, `--logdir` and `--cache` are added.

    Raises:
        ValueError: if `workers` is negative.
    """

    def __init__(self, workers: int = 0, command: Sequence[str] = COMMAND) -> None:
        if workers < 0:
            raise ValueError(f"`workers` must be >= 0 (0: one per core), but got workers={workers}.")
        cpus = available_cpus()
        self._command = command
        self._slots = [
            cpus[i :: workers or len(cpus)] or [cpus[i % len(cpus)]] for i in range(workers or len(cpus))
        ]
        self._started: list[LocalProcess] = []

    def free(self) -> int:
        """How many attempts could start now."""
        return len(self._free_slots())

    def start(self, attempt: Attempt) -> LocalProcess:
        """Start an attempt in a free slot."""
        process = LocalProcess(self._command, attempt, self._free_slots()[0])
        self._started.append(process)
        return process

    def close(self) -> None:
        """Nothing is kept."""

    def _free_slots(self) -> list[list[int]]:
        self._started = [process for process in self._started if process.poll() is None]
        taken = [process.cpus for process in self._started]
        return [slot for slot in self._slots if not any(slot is cpus for cpus in taken)]


def _environment(attempt: Attempt, cpus: Sequence[int]) -> dict[str, str]:
    """The child's environment: its cores, its parent, a shared compilation cache. What the user set stays."""
    ours = {name: str(len(cpus)) for name in THREADS}
    ours |= compilation_cache(attempt.cache_dir)
    pins = {child.CPUS: ",".join(map(str, cpus)), child.PARENT: str(os.getpid())}
    return {**ours, **without_secrets(os.environ), **pins}


def compilation_cache(cache_dir: Path) -> dict[str, str]:
    """The variables that make processes share what JAX has compiled."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str((cache_dir / "jax").resolve()),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }

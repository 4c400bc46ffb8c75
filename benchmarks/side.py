"""One side of the speed benchmark, in a process of its own.

`python -m benchmarks.side NAME CASE` builds the side. For each line with a number on standard input it then
makes so many updates, the first of which compiles them, and prints a line of JSON.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.sides.case import Case, Updates


@dataclass(frozen=True)
class Side:
    """How a side is started.

    Attributes:
        make: given the case, builds it; imports are its own.
        needs: modules without which it is left out.
        variables: of its environment.
        arms: those that it can compute.
    """

    make: Callable[[Case], Updates]
    needs: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    arms: tuple[str, ...] = ("ar", "dlm")


def _lab(case: Case) -> Updates:
    from lab.training.lean import import_keras
    from lab.training.memory import keep_freed_memory

    keep_freed_memory()
    import_keras()
    from benchmarks.sides.lab_fit import make

    return make(case)


def _jax_loop(case: Case) -> Updates:
    from lab.training.memory import keep_freed_memory

    keep_freed_memory()
    from benchmarks.sides.jax_loop import make

    return make(case)


def _torch(compiled: bool) -> Callable[[Case], Updates]:
    def made(case: Case) -> Updates:
        from benchmarks.sides.torch_loop import make

        return make(case, compiled)

    return made


def _keras_hub(case: Case) -> Updates:
    from benchmarks.sides.keras_hub_gpt2 import make

    return make(case)


def _matmul(backend: str) -> Callable[[Case], Updates]:
    def made(case: Case) -> Updates:
        from benchmarks.sides import matmul

        return {"jax": matmul.make_jax, "torch": matmul.make_torch}[backend](case)

    return made


SIDES: Mapping[str, Side] = {
    "lab, JAX": Side(_lab, (), {"KERAS_BACKEND": "jax"}),
    "lab, TensorFlow": Side(_lab, ("tensorflow",), {"KERAS_BACKEND": "tensorflow"}),
    "lab, PyTorch": Side(_lab, ("torch",), {"KERAS_BACKEND": "torch"}),
    "JAX by hand": Side(_jax_loop, ("optax",)),
    "PyTorch, eager": Side(_torch(False), ("torch",)),
    "PyTorch, compiled": Side(_torch(True), ("torch",)),
    "KerasHub GPT-2, JAX": Side(_keras_hub, ("keras_hub",), {"KERAS_BACKEND": "jax"}, ("ar",)),
    "matrix product, JAX": Side(_matmul("jax")),
    "matrix product, PyTorch": Side(_matmul("torch"), ("torch",)),
}
STARTED = "LAB_BENCH_STARTED"  # when the driver started this process, unix seconds
CPUS = "LAB_BENCH_CPUS"  # the cores that it may use


def _peak_bytes(name: str) -> int:
    """The most memory so far: of the accelerator where there is one, else of the process."""
    modules = sys.modules
    if "PyTorch" in name and modules["torch"].cuda.is_available():
        return int(modules["torch"].cuda.max_memory_allocated())
    if "JAX" in name and modules["jax"].default_backend() != "cpu":
        return int(modules["jax"].devices()[0].memory_stats()["peak_bytes_in_use"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(name: str, case: str) -> None:
    """Build the side and obey standard input until it ends."""
    os.sched_setaffinity(0, {int(core) for core in os.environ[CPUS].split(",")})
    updates = SIDES[name].make(Case(**json.loads(case)))
    started, said = float(os.environ[STARTED]), sys.__stdout__
    assert said is not None
    for line in sys.stdin:
        before = time.perf_counter()
        updates(int(line))
        found = {
            "seconds": time.perf_counter() - before,
            "since_start_s": time.time() - started,
            "peak_bytes": _peak_bytes(name),
        }
        print(json.dumps(found), file=said, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

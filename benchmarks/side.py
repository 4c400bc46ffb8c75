"""One side of the speed benchmark, in a process of its own.

`python -m benchmarks.side NAME CASE` prints a line of JSON once its first update is made. For each line with
a number on standard input it then makes so many updates, and prints another.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.sides.case import Case, Updates


@dataclass(frozen=True)
class Side:
    """How a side is started.

    Attributes:
        make: given the case, builds it; imports are its own.
        needs: modules without which it is left out.
        variables: of its environment.
        arms, dtypes: those that it can compute.
    """

    make: Callable[[Case], Updates]
    needs: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    arms: tuple[str, ...] = ("ar", "dlm")
    dtypes: tuple[str, ...] = ("float32", "bfloat16")


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


def _peak_bytes(before: Mapping[str, Any]) -> int:
    """The most memory so far: of the accelerator where there is one, else of the process."""
    if "torch" in before and before["torch"].cuda.is_available():
        return int(before["torch"].cuda.max_memory_allocated())
    if "jax" in before and before["jax"].default_backend() != "cpu":
        return int(before["jax"].devices()[0].memory_stats()["peak_bytes_in_use"])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(name: str, case: str) -> None:
    """Build the side and obey standard input until it ends."""
    os.sched_setaffinity(0, {int(core) for core in os.environ[CPUS].split(",")})
    updates = SIDES[name].make(Case(**json.loads(case)))
    built = time.time()
    updates(1)
    started = float(os.environ[STARTED])
    said = sys.__stdout__
    assert said is not None
    print(json.dumps({"build_s": built - started, "start_s": time.time() - started}), file=said, flush=True)
    for line in sys.stdin:
        before = time.perf_counter()
        updates(int(line))
        seconds = time.perf_counter() - before
        print(json.dumps({"seconds": seconds, "peak_bytes": _peak_bytes(sys.modules)}), file=said, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

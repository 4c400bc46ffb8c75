"""How fast the lab's training step is, beside what one could have in its place: `make bench`.

Every side is a process of its own, pinned to the same cores. All are started, then they take turns, a second
each, in an order that rotates, so that what the machine does meanwhile falls on all of them. What is compared
is the ratio of two sides within a round. On a GPU too: its memory must hold all sides of a cell.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.side import CPUS, SIDES, STARTED
from benchmarks.sides import matmul
from benchmarks.sides.case import Case
from lab.environment import available_cpus, cpu_model, versions
from lab.evaluation.flops import train_flops_per_token
from lab.files import read_json, write_json
from lab.models.architecture import Architecture
from lab.models.sizes import SIZES

# name: size, vocabulary, tokens a window, windows an update
SHAPES: Mapping[str, tuple[dict[str, int], int, int, int]] = {
    "smoke": (dict(SIZES["0.1m"]), 256, 64, 2),
    "0.3m, 64 x 32": (dict(SIZES["0.3m"]), 256, 64, 32),
    "0.8m, 64 x 32": (dict(SIZES["0.8m"]), 256, 64, 32),
    "256 x 6, 256 x 16": ({"layers": 6, "width": 256, "heads": 4, "ffn_width": 688}, 256, 256, 16),
    "0.3m, 64 x 16": (dict(SIZES["0.3m"]), 256, 64, 16),
    "0.8m, 256 x 32": (dict(SIZES["0.8m"]), 256, 256, 32),
    "3m, 256 x 32": (dict(SIZES["3m"]), 256, 256, 32),
    "10m, 256 x 32": (dict(SIZES["10m"]), 256, 256, 32),
    "25m, 1024 x 32": (dict(SIZES["25m"]), 50_304, 1024, 32),
    "85m, 1024 x 16": (dict(SIZES["85m"]), 50_304, 1024, 16),
    "paper_1b, 2048 x 4": (dict(SIZES["paper_1b"]), 50_304, 2048, 4),
}
CPU_SHAPES = ("0.3m, 64 x 32", "0.8m, 64 x 32", "256 x 6, 256 x 16")
REFERENCE = "PyTorch, compiled"
PRODUCTS = tuple(name for name in SIDES if name.startswith("matrix product"))


@dataclass
class Running:
    """A side in its process."""

    process: "subprocess.Popen[str]"
    updates: int = 1  # of a round

    def ask(self, count: int) -> None:
        """Have it make some updates."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, float]:
        """What it says when they are made."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return dict(json.loads(line))
        raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}; its words are above.")

    def update(self, count: int) -> dict[str, float]:
        """Have it make some updates; what it said of them."""
        self.ask(count)
        return self.answer()


@contextmanager
def running(name: str, case: Case, cores: Sequence[int], cache: Path) -> Iterator[Running]:
    """Start a side on some cores, which compiles at its first update; it ends with the block."""
    threads = str(len(cores))
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), threads),
        **{"JAX_COMPILATION_CACHE_DIR": str(cache / "jax"), "TORCHINDUCTOR_CACHE_DIR": str(cache / "torch")},
        **{"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
        **{"TF_CPP_MIN_LOG_LEVEL": "2", CPUS: ",".join(map(str, cores)), STARTED: str(time.time())},
        **SIDES[name].variables,
    }
    command = [sys.executable, "-m", "benchmarks.side", name, json.dumps(asdict(case))]
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Running(process)
    finally:
        process.kill()
        process.wait()


def measure(
    case: Case, cores: Sequence[int], names: Sequence[str], rounds: int, seconds: float, once: bool
) -> dict[str, Any]:
    """All sides of one cell: their starts, unless they start but once, and their updates in each round."""
    sides: dict[str, dict[str, Any]] = {name: {"rate": []} for name in names}
    with ExitStack() as stack:
        cache = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        here: dict[str, Running] = {}
        for name in names:
            if not once:
                with running(name, case, cores, cache) as cold:  # what it compiles, the next start finds
                    sides[name]["cold_start_s"] = cold.update(1)["since_start_s"]
            here[name] = stack.enter_context(running(name, case, cores, cache))
            if not once:
                sides[name]["warm_start_s"] = here[name].update(1)["since_start_s"]
        if once:
            compile_together(here)
        for side in here.values():
            side.update(2)
            side.updates = max(1, round(seconds / (side.update(2)["seconds"] / 2)))
        for number in range(rounds):
            turn = number % len(names)
            for name in (*names[turn:], *names[:turn]):
                side = here[name]
                said = side.update(side.updates)
                sides[name]["rate"].append(side.updates / said["seconds"])
                sides[name]["peak_bytes"] = said["peak_bytes"]
    return sides


def compile_together(here: Mapping[str, Running]) -> None:
    """The first update of sides that have all been started, where minutes are dear.

    Those that XLA compiles take turns, as on a GPU it times kernels to choose among them.
    """
    others = [side for name, side in here.items() if "JAX" not in name]
    for side in others:
        side.ask(1)
    for name, side in here.items():
        if "JAX" in name:
            side.update(1)
    for side in others:
        side.answer()


def table(cell: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a side: tokens and FLOPs a second, share of the product's rate, ratio to the reference."""
    case = Case(**{name: cell[name] for name in Case.__annotations__})
    architecture = Architecture(vocab_size=case.vocab_size, length=case.length, **case.shape)
    flops = case.tokens * train_flops_per_token(architecture, causal=case.arm == "ar")
    sides = cell["sides"]
    peak = max(
        np.median(sides[name]["rate"]) * matmul.flops(cell["kind"]) for name in PRODUCTS if name in sides
    )
    rows = []
    for name, side in sides.items():
        if name in PRODUCTS:
            continue
        rates = np.array(side["rate"])
        row = {
            "side": name,
            "tokens_per_second": round(float(np.median(rates)) * case.tokens),
            "gflops_per_second": round(float(np.median(rates)) * flops / 1e9, 1),
            "mfu": round(float(np.median(rates)) * flops / peak, 3),
            "peak_mb": round(side["peak_bytes"] / 2**20),
            **{name: round(side[name], 1) for name in ("cold_start_s", "warm_start_s") if name in side},
        }
        if REFERENCE in sides:
            low, middle, high = np.quantile(rates / np.array(sides[REFERENCE]["rate"]), (0.1, 0.5, 0.9))
            row |= {"ratio": round(middle, 3), "ratio_low": round(low, 3), "ratio_high": round(high, 3)}
        rows.append(row)
    return rows


HEADINGS = {
    "side": "side",
    "tokens_per_second": "tokens/s",
    "gflops_per_second": "GFLOP/s",
    "mfu": "MFU",
    "ratio": "of PyTorch compiled",
    "spread": "10 to 90 % of rounds",
    "peak_mb": "memory, MB",
    "cold_start_s": "first update, s",
    "warm_start_s": "compiled before, s",
}


def words(cells: Sequence[Mapping[str, Any]]) -> str:
    """The tables in Markdown, one a cell."""
    text = []
    for cell in cells:
        text += [
            f"**{cell['shape']}, {cell['arm']}, {cell['dtype']}, "
            f"{cell['cores']} core{'s' if cell['cores'] > 1 else ''}**",
            "",
        ]
        rows = [
            {**row, "spread": f"{row['ratio_low']:.2f} to {row['ratio_high']:.2f}"} if "ratio" in row else row
            for row in table(cell)
        ]
        columns = [name for name in HEADINGS if any(name in row for row in rows)]
        text.append("| " + " | ".join(HEADINGS[name] for name in columns) + " |")
        text.append("| " + " | ".join("---" for _ in columns) + " |")
        for row in rows:
            said = (
                f"{value:,}" if isinstance(value := row.get(name, ""), int) else str(value)
                for name in columns
            )
            text.append("| " + " | ".join(said) + " |")
        text.append("")
    return "\n".join(text)


def device_name() -> tuple[str, str]:
    """Whether there is a GPU that the backends would use, and the name of what computes."""
    if os.environ.get("JAX_PLATFORMS", "") != "cpu" and shutil.which("nvidia-smi"):
        said = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
        )
        if said.returncode == 0 and said.stdout.strip():
            return "gpu", said.stdout.splitlines()[0]
    return "cpu", cpu_model()


def cases(shapes: Sequence[str], arms: Sequence[str], dtypes: Sequence[str]) -> Iterator[tuple[str, Case]]:
    """What is to be measured, one shape after the other."""
    for shape, dtype, arm in product(shapes, dtypes, arms):
        if shape not in SHAPES:
            raise typer.BadParameter(
                f"must be one of {list(SHAPES)}, but got {shape!r}.", param_hint="--shape"
            )
        parts, vocab_size, length, batch = SHAPES[shape]
        case = Case(**parts, vocab_size=vocab_size, length=length, batch=batch, arm=arm, dtype=dtype)
        yield shape, case


def installed(names: Sequence[str]) -> list[str]:
    """Those of the sides whose packages are here; says which are left out."""
    here = []
    for name in names:
        if name not in SIDES:
            raise typer.BadParameter(f"must be one of {list(SIDES)}, but got {name!r}.", param_hint="--side")
        if missing := [module for module in SIDES[name].needs if not find_spec(module)]:
            typer.echo(f"left out: {name}, for want of {', '.join(missing)}", err=True)
        else:
            here.append(name)
    return here


def main(
    out: Annotated[Path, typer.Option(help="Folder for speed.json and speed.md.")] = Path("results/speed"),
    shape: Annotated[list[str] | None, typer.Option(help=f"Of {list(SHAPES)}; repeat.")] = None,
    side: Annotated[list[str] | None, typer.Option(help=f"Of {list(SIDES)}; repeat.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="ar or dlm; repeat.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32 or bfloat16; repeat.")] = None,
    cores: Annotated[list[int] | None, typer.Option(help="Numbers of cores; repeat.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side.")] = 9,
    seconds: Annotated[float, typer.Option(min=0.001, help="Of a turn.")] = 1.0,
    once: Annotated[
        bool,
        typer.Option("--once", help="Start each side but once, all together; no starts are told."),
    ] = False,
) -> None:
    """Compare the sides, and write down what came out after each cell; cells that are there stay."""
    kind, device = device_name()
    here = installed(list(dict.fromkeys([*side, *PRODUCTS])) if side else list(SIDES))
    about = {"device": device, "kind": kind, "versions": versions(), "system": platform.platform()}
    path = out / "speed.json"
    cells: list[dict[str, Any]] = read_json(path)["cells"] if path.exists() else []
    chosen = cases(shape or CPU_SHAPES, arm or ("ar", "dlm"), dtype or ("float32",))
    for (name, case), count in product(chosen, cores or (1, 2)):
        able = [each for each in here if case.arm in SIDES[each].arms]
        key = {"shape": name, **asdict(case), "cores": count, "device": device}
        if any(key.items() <= cell.items() for cell in cells):
            continue
        found = measure(case, available_cpus()[:count], able, rounds, seconds, once)
        cells.append({**key, "kind": kind, "sides": found})
        typer.echo(words(cells[-1:]))
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, {**about, "cells": cells})
        (out / "speed.md").write_text(f"{device}\n\n{words(cells)}", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

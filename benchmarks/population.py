"""How fast a process trains several runs together, beside the same runs one after the other.

    JAX_PLATFORMS=cpu python -m benchmarks.population                  # the shape of preset laptop, one core
    python -m benchmarks.population --shape '3m, 256 x 32' --runs 8    # on a GPU, say

All sides are in one process, pinned to one core if it computes on a CPU, as a worker of the lab is. They take
turns; what is compared is the ratio of two sides within a round. Updates are made as a run makes them, with
its draws, its log and its windows: by Keras's loop, or by a population, whose states are put side by side at
the beginning of each turn and apart at its end.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.sides.case import Case, windows
from benchmarks.speed import SHAPES, cases, device_name
from lab.environment import available_cpus, versions
from lab.files import read_json, write_json

ALONE = "one after the other"
Turn = Callable[[int], None]  # makes so many updates of each run, and waits for them


class Runs:
    """Runs that differ in their seed, and how their updates are made at the moment.

    Args:
        case: of each.
        count: how many.
    """

    def __init__(self, case: Case, count: int) -> None:
        from benchmarks.sides.lab_fit import config
        from lab.training.engine import Engine, fit_alone

        self.case = case
        self.configs = [config(case, seed) for seed in range(count)]
        self.fits: list[Any] = [fit_alone] * count
        text = windows(case).reshape(-1)
        self.engines = [
            Engine(chosen, text, case.vocab_size, lambda *given, seed=seed: self.fits[seed](*given))
            for seed, chosen in enumerate(self.configs)
        ]
        self.made = [0] * count

    def update(self, seed: int, count: int) -> None:
        """Make some updates of a run."""
        from benchmarks.sides.lab_fit import LOG_STEPS
        from lab.training.progress import StepLog

        first = self.made[seed]
        log = StepLog(first, 1, LOG_STEPS, self.case.tokens, lambda *_: None, lambda _: None)
        self.engines[seed].fit(first, first + count, [log])
        self.made[seed] += count

    def wait(self) -> None:
        """Until all weights are there."""
        import jax

        jax.block_until_ready([one.learner.trainable_variables[0].value for one in self.engines])


def one_after_the_other(runs: Runs) -> Turn:
    """As many updates by one run as all would make, which spares the others' compilation."""
    from lab.training.engine import fit_alone

    def turn(count: int) -> None:
        runs.fits[0] = fit_alone
        runs.update(0, count * len(runs.engines))
        runs.wait()

    return turn


def together(runs: Runs, how: Any) -> Turn:
    """All runs as a population."""
    from lab.training.kind import kind_of
    from lab.training.population import Member, Population

    population, wanted = Population(len(runs.engines), how), [0]

    def act(member: Member, seed: int) -> int:
        member.kind, member.run = kind_of(runs.configs[seed]), str(seed)
        while True:
            runs.fits[seed] = member.fit
            runs.update(seed, wanted[0])

    for seed in range(len(runs.engines)):
        population.add(Member(lambda member, seed=seed: act(member, seed)))  # type: ignore[misc]

    def turn(count: int) -> None:
        wanted[0] = count
        population.round()
        runs.wait()

    return turn


def main(
    out: Annotated[Path, typer.Option(help="Folder for population.json.")] = Path("results/speed"),
    shape: Annotated[list[str] | None, typer.Option(help=f"Of {list(SHAPES)}; repeat.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="ar or dlm; repeat.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    runs: Annotated[int, typer.Option(min=2, help="Of a population.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each side.")] = 9,
    seconds: Annotated[float, typer.Option(min=0.001, help="Of a turn.")] = 2.0,
) -> None:
    """Compare the sides, and write down what came out after each cell; cells that are there stay."""
    if os.environ.get("JAX_PLATFORMS") == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(available_cpus()[:1]))
    from lab.training.memory import keep_freed_memory

    keep_freed_memory()
    _, device = device_name()
    path = out / "population.json"
    cells: list[dict[str, Any]] = read_json(path)["cells"] if path.exists() else []
    for name, case in cases(shape or ["0.3m, 64 x 16"], arm or ("ar", "dlm"), (dtype,)):
        key = {"shape": name, **asdict(case), "runs": runs, "device": device}
        if any(key.items() <= cell.items() for cell in cells):
            continue
        cells.append({**key, "tokens_per_second": measure(Runs(case, runs), rounds, seconds)})
        typer.echo(words(cells[-1]))
        out.mkdir(parents=True, exist_ok=True)
        write_json(path, {"versions": versions(), "cells": cells})


def measure(runs: Runs, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Side -> tokens/s of all runs together, in each round."""
    turns = {
        ALONE: one_after_the_other(runs),
        "map": together(runs, "map"),
        "vmap": together(runs, "vmap"),
    }
    rates: dict[str, list[float]] = {name: [] for name in turns}
    counts = {}
    for name, turn in turns.items():
        turn(2)
        began = time.perf_counter()
        turn(2)
        counts[name] = max(2, round(2 * seconds / (time.perf_counter() - began)))
    for number in range(rounds):
        order = list(turns)[number % len(turns) :] + list(turns)[: number % len(turns)]
        for name in order:
            began = time.perf_counter()
            turns[name](counts[name])
            rates[name].append(
                counts[name] * len(runs.engines) * runs.case.tokens / (time.perf_counter() - began)
            )
    return rates


def words(cell: Mapping[str, Any]) -> str:
    """A cell in a line a side: tokens/s, and its ratio to the runs one after the other."""
    rates = {name: np.array(values) for name, values in cell["tokens_per_second"].items()}
    lines = [f"{cell['shape']}, {cell['arm']}, {cell['dtype']}, {cell['runs']} runs, {cell['device']}"]
    for name, values in rates.items():
        low, middle, high = np.quantile(values / rates[ALONE], (0.1, 0.5, 0.9))
        lines.append(f"  {name}: {np.median(values):,.0f} tokens/s, {middle:.2f} ({low:.2f} to {high:.2f})")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)

"""The command line: `python -m lab run|ablate|report|data --help`.

What is slow to import is imported inside the command that needs it.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lab.config import RunConfig
    from lab.scheduling.driver import Summary
    from lab.scheduling.plan import Plan

INTERRUPTED = 130
ORPHAN_SECONDS = 10.0  # a killed driver's run needs a moment to end

app = typer.Typer(
    help="Which advantage of a diffusion language model does the work on your corpus?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local variables, a storage URL among them
)

Preset = Annotated[str, typer.Option(help="A file in configs/, by name.")]
Cache = Annotated[Path, typer.Option(help="Folder for tokenized corpora and compiled programs.")]
Data = Annotated[
    list[str], typer.Option(help="Your text in place of the preset's: a file, folder or glob; repeat.")
]
Overrides = Annotated[
    list[str], typer.Option("--set", help="A configuration value: model.width=256; repeat.")
]


@app.command()
def run(
    config: Annotated[
        Path | None, typer.Option(help="A resolved configuration, in place of --preset ...")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A file in configs/, by name; laptop if none is given.")
    ] = None,
    arm: Annotated[
        str | None, typer.Option(help="A corner of the cube, such as ar (the default) or dlm.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Number of the repeat; 0 if none is given.")] = None,
    overrides: Overrides = [],  # noqa: B006
    data: Data = [],  # noqa: B006
    logdir: Annotated[Path | None, typer.Option(help="Default: results/runs/<arm>-<key>.")] = None,
    cache: Cache = Path(".cache"),
) -> None:
    """Train and evaluate one arm at one seed; the same command goes on after a stop."""
    from lab.scheduling import child
    from lab.training.memory import keep_freed_memory

    child.enter()
    keep_freed_memory()
    from lab.training.distribution import ending_together, naming_lost_ranks, start_ranks

    with ending_together(), _clear_errors(), naming_lost_ranks():
        chosen = _run_config(config, preset, arm, seed, overrides, data)
        start_ranks(chosen.training.parallel)
        logdir = logdir or Path("results", "runs", f"{chosen.arm}-{chosen.key()}")
        _train(chosen, logdir, cache)


@app.command()
def ablate(
    name: Annotated[str, typer.Argument(help="A module of ablations/, such as crossover.")],
    preset: Preset = "laptop",
    seeds: Annotated[
        int | None, typer.Option(help="Repeats of each arm; the ablation's own if not given.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Runs at once; 0: the ablation's own, or one per core.")] = 0,
    storage: Annotated[
        str,
        typer.Option(
            envvar="STORAGE", show_envvar=True, help="Optuna database URL; a journal file if not given."
        ),
    ] = "",
    overrides: Overrides = [],  # noqa: B006
    data: Data = [],  # noqa: B006
    results: Annotated[Path, typer.Option(help="Folder for result trees.")] = Path("results"),
    cache: Cache = Path(".cache"),
) -> None:
    """Run what is missing of an ablation, then write its page and print its verdict."""
    with _clear_errors():
        from lab.scheduling.ablation import cells, load_ablation
        from lab.scheduling.plan import Plan

        ablation = load_ablation(name)
        planned = cells(ablation, preset, seeds, _user_layer(overrides, data))
        command = _command(ablation.name, preset, seeds, overrides, data, results)
        plan = Plan(_tree(results, ablation.name, preset), ablation, preset, planned, command)
        _prepare_data(planned, cache)
        summary = _drive(plan, workers or ablation.scale(preset).workers, storage, cache)
        if summary.interrupted:
            typer.echo("stopped; the same command goes on from here", err=True)
            raise typer.Exit(INTERRUPTED)
        for label, reason in summary.failed.items():
            typer.echo(f"failed: {label}: {reason}", err=True)
        _follow_up(plan, cache)
        _print_report(plan.tree)
        if summary.failed:
            raise typer.Exit(1)


@app.command()
def report(path: Annotated[Path, typer.Argument(help="A result tree, or a folder above some.")]) -> None:
    """Write the pages again from the results that exist."""
    with _clear_errors():
        trees = sorted(plan.parent for plan in path.rglob("plan.json"))
        if not trees:
            raise ValueError(f"`path` must hold a plan.json, in it or below it, but got {path}.")
        for tree in trees:
            _print_report(tree)


@app.command()
def data(
    preset: Preset = "laptop",
    data: Data = [],  # noqa: B006
    overrides: Overrides = [],  # noqa: B006
    cache: Cache = Path(".cache"),
) -> None:
    """Say what a corpus holds: documents, unique tokens, bytes per token, duplicates."""
    with _clear_errors():
        from rich.console import Console
        from rich.table import Table

        from lab.config import make_config, read_preset
        from lab.data.dataset import prepare
        from lab.data.summary import describe

        config = make_config(read_preset(preset), _user_layer(overrides, data))
        table = Table("", f"{config.data.corpus} ({preset})")
        for row in describe(prepare(config.data, cache)):
            table.add_row(*map(str, row))
        Console().print(table)


def _run_config(
    config: Path | None,
    preset: str | None,
    arm: str | None,
    seed: int | None,
    overrides: list[str],
    data: list[str],
) -> "RunConfig":
    from lab.arms import arm_values
    from lab.config import load_config, make_config, read_preset

    if config is None:
        layers = [read_preset(preset or "laptop"), arm_values(arm or "ar"), {"seed": seed or 0}]
        return make_config(*layers, _user_layer(overrides, data))
    if any(option not in (None, []) for option in (preset, arm, seed, overrides, data)):
        raise ValueError(
            "--config must stand alone: it holds every value, so no preset, arm, seed, set or data."
        )
    return load_config(config)


def _user_layer(overrides: list[str], data: list[str]) -> dict[str, Any]:
    """The layer of `--data` and `--set`."""
    from lab.config import merge, parse_overrides

    files = {"data": {"corpus": "text", "paths": data}} if data else {}
    return merge(files, parse_overrides(overrides))


def _train(config: "RunConfig", logdir: Path, cache: Path) -> None:
    from lab.scheduling.locks import sole_owner
    from lab.training.distribution import find_ranks
    from lab.training.run import train_run

    ranks = find_ranks(config.training.parallel)
    alone = sole_owner(logdir, "run", wait_seconds=ORPHAN_SECONDS) if ranks.first else nullcontext()
    with alone:
        result = train_run(config, logdir, cache)
    if not ranks.first:
        return
    for reading, stop in result["best"].items():
        typer.echo(
            f"{config.arm} seed {config.seed}: best stop ({reading}) at epoch {stop['epoch']:.1f}, "
            f"test NLL {stop['test']['nll']:.4f} nats/token"
        )
    typer.echo(f"{logdir / 'result.json'}")


def _command(
    name: str, preset: str, seeds: int | None, overrides: list[str], data: list[str], results: Path
) -> str:
    """What to type for the same plan. A storage URL is left out: it may hold a password."""
    parts = ["python", "-m", "lab", "ablate", name, "--preset", preset]
    parts += [] if seeds is None else ["--seeds", str(seeds)]
    parts += [part for path in data for part in ("--data", path)]
    parts += [part for override in overrides for part in ("--set", override)]
    parts += [] if results == Path("results") else ["--results", str(results)]
    return shlex.join(parts)


def _tree(results: Path, ablation: str, preset: str) -> Path:
    """The result tree; a backend other than JAX has one of its own, since results of two never mix."""
    backend = os.environ["KERAS_BACKEND"]
    return results / ablation / (preset if backend == "jax" else f"{preset}-{backend}")


def _prepare_data(planned: list[Any], cache: Path) -> None:
    """Tokenize once, before the runs: what is wrong with the data is said once, and at once."""
    from lab.data.dataset import budget, prepare

    for config in {cell.config.data: None for cell in planned}:
        budget(prepare(config, cache).train, config.unique_tokens, config.length)


def _drive(plan: "Plan", workers: int, storage: str, cache: Path) -> "Summary":
    from rich.console import Console

    from lab.scheduling.driver import drive
    from lab.scheduling.local import LocalExecutor
    from lab.scheduling.progress import RunsProgress

    return drive(plan, LocalExecutor(workers), cache, RunsProgress(Console()), storage)


def _follow_up(plan: "Plan", cache: Path) -> None:
    """Measure what an analysis needs beyond the runs' own results."""
    if plan.ablation.analysis != "inference":
        return
    from rich.console import Console

    from lab.scheduling.local import compilation_cache
    from lab.training.memory import keep_freed_memory

    os.environ.update(compilation_cache(cache) | os.environ)
    keep_freed_memory()
    from lab.scheduling.follow_up import measure_missing

    measure_missing(plan, cache, Console())


def _print_report(tree: Path) -> None:
    from rich.console import Console

    from lab.reporting.report import write_report

    written = write_report(tree)
    Console().print(written.verdict_table)
    typer.echo(f"page: {written.page}")


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Say what a user can get wrong in one message, without a traceback."""
    try:
        yield
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


if __name__ == "__main__":
    sys.exit(app())

"""The command line: `lab run|ablate|measure|generate|eval|harness|export|import|status|report|board|...`.

What is slow to import is imported inside the command that needs it.
"""

import errno
import os
import shutil
import signal
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lab.console import Fitting, make_console, open_streams

if TYPE_CHECKING:
    from lab.config import MeasurementConfig, RunConfig
    from lab.training.population import Member

INTERRUPTED = 130
BASELINE_TOKENS = 1_000_000  # tokens, by `data`: a few seconds

PORTS: dict[str, Any] = {"min": 0, "max": 65535}  # 0 for any that is free

app = typer.Typer(
    help="Which advantage of a diffusion language model does the work on your corpus?",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # its tracebacks print local variables, a storage URL among them
)

Preset = Annotated[str, typer.Option(help="A file in configs/, by name, or a .yaml file of yours.")]
Cache = Annotated[Path, typer.Option(help="Folder for tokenized corpora and compiled programs.")]
Data = Annotated[
    list[str], typer.Option(help="Your text in place of the preset's: a file, folder or glob; repeat.")
]
DATA_VARIABLE = "LAB_DATA"  # for `make`, which hands a name on in it as it stands
DataOrVariable = Annotated[
    list[str],
    typer.Option(
        help="Your text in place of the preset's: a file, folder or glob; repeat. If not given, the paths in "
        f"the variable {DATA_VARIABLE}, quoted as in a shell."
    ),
]
DataKey = Annotated[
    str, typer.Option(hidden=True, help="Under which the cache holds the corpus, for the driver's use.")
]
Overrides = Annotated[
    list[str], typer.Option("--set", help="A configuration value: model.width=256; repeat.")
]
Storage = Annotated[
    str,
    typer.Option(
        envvar="STORAGE",
        show_envvar=True,
        help="Optuna database URL; a journal file if not given. A password belongs into the variable: "
        "options show in the list of processes.",
    ),
]


def _say_version(asked: bool) -> None:
    if asked:
        import lab
        from lab.environment import versions

        packages = ", ".join(f"{name} {version}" for name, version in versions().items())
        typer.echo(f"lab {lab.__version__} ({packages})")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_say_version,
            is_eager=True,
            help="Show its version and those of what it computes with.",
        ),
    ] = False,
) -> None:
    """What may stand before every command."""


def main() -> None:
    """Run the command that was typed, whatever console shows it."""
    open_streams()
    app()


@app.command()
def run(
    config: Annotated[
        Path | None, typer.Option(help="A resolved configuration, in place of --preset ...")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="A file in configs/, by name, or a .yaml file of yours; laptop if none is given."),
    ] = None,
    arm: Annotated[
        str | None, typer.Option(help="A corner of the cube, such as ar (the default) or dlm.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Number of the repeat; 0 if none is given.")] = None,
    overrides: Overrides = [],  # noqa: B006
    data: Data = [],  # noqa: B006
    logdir: Annotated[Path | None, typer.Option(help="Default: results/runs/<arm>-<key>.")] = None,
    cache: Cache = Path(".cache"),
    start: Annotated[
        Path | None,
        typer.Option(help="Folder of the run that training.start_from names: its best stop is begun from."),
    ] = None,
    data_key: DataKey = "",
) -> None:
    """Train and evaluate one arm at one seed; the same command goes on after a stop."""
    from lab.scheduling.executors import child
    from lab.training.memory import keep_freed_memory

    child.enter()
    keep_freed_memory()
    with _exit_code_of_run():
        chosen = _run_config(config, preset, arm, seed, overrides, data)
        _import_keras()
    from lab.training.distribution import ending_together, naming_lost_ranks, start_ranks

    with ending_together(), _exit_code_of_run(logdir=logdir, cache=cache), naming_lost_ranks():
        start_ranks(chosen.training.parallel)
        _train(chosen, logdir, cache, start, data_key)


@app.command()
def measure(
    measurement: Annotated[
        str,
        typer.Argument(
            help="What to measure: ability, code, inference, infilling, memorisation, tasks or yardstick."
        ),
    ] = "",
    run: Annotated[
        Path | None,
        typer.Argument(help="Folder of a finished run; its best stop is measured, by some sets others too."),
    ] = None,
    beside: Annotated[
        list[Path],
        typer.Option("--with", help="A finished run that it is measured with, such as a judge; repeat."),
    ] = [],  # noqa: B006
    overrides: Overrides = [],  # noqa: B006
    config: Annotated[
        Path | None, typer.Option(help="A resolved configuration, in place of all but --logdir.")
    ] = None,
    logdir: Annotated[
        Path | None, typer.Option(help="Default: <run>/../measurements/<run>-<measurement>.")
    ] = None,
    cache: Cache = Path(".cache"),
    data_key: DataKey = "",
) -> None:
    """Measure a finished run as it is; nothing is trained, and what was measured is not measured again."""
    from lab.scheduling.executors import child
    from lab.training.memory import keep_freed_memory

    child.enter()
    keep_freed_memory()
    with _exit_code_of_run(run=run, logdir=logdir, cache=cache):
        _import_keras()
        chosen, folder = _measurement_config(config, logdir, measurement, run, beside, overrides)
        _measure(chosen, folder, cache, data_key)


@app.command()
def generate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    prompt: Annotated[str, typer.Option(help="What the text begins with; free text if it is empty.")] = "",
    infill: Annotated[
        str | None, typer.Option(help="Text with one [MASK], which is filled in; in place of --prompt.")
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(help="To write; what a window has room for if not given, 16 of a gap.", min=1),
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 takes the most likely token.")] = 1.0,
    top_p: Annotated[
        float,
        typer.Option(help="Sample from the most likely tokens that have this share of the probability."),
    ] = 1.0,
    sampler: Annotated[
        str,
        typer.Option(
            help="left_to_right, and of a dense arm ancestral, confidence or blocks:B; by default as the arm "
            "was trained. Text longer than a window needs left_to_right or blocks:B."
        ),
    ] = "",
    passes: Annotated[
        int | None, typer.Option(help="Of a dense arm, for all tokens; one for each if not given.", min=1)
    ] = None,
    stop: Annotated[list[str], typer.Option(help="A string before which the text ends; repeat.")] = [],  # noqa: B006
    candidates: Annotated[
        int | None,
        typer.Option(
            help="For a gap, of an arm that sees the left side alone: it chooses from so many.", min=1
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="Texts, with a line --- between them.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of the sampling.", min=0, max=2**31 - 1)] = 0,
    stop_at: Annotated[str, typer.Option(help="Which stop of the run writes: best or last.")] = "best",
    cache: Cache = Path(".cache"),
) -> None:
    """Write text with a finished run: continue a prompt or fill a gap; a terminal shows every pass."""
    from lab.training.memory import keep_freed_memory

    keep_freed_memory()
    with _clear_errors(run=run, cache=cache):
        if prompt and infill is not None:
            raise ValueError("one of --prompt and --infill must be given, but got both.")
        _import_keras()
        from lab.evaluation.writing import Sampling
        from lab.scheduling.writing import BETWEEN, Order, parse_gap, printable, texts, write_here

        before, after = (prompt, None) if infill is None else parse_gap(infill)
        sampling = Sampling(sampler, passes, temperature, top_p, seed, samples)
        order = Order(before, after, tokens, stop, candidates, sampling)
        console = make_console(highlight=False)
        written = write_here(
            run, stop_at, order, cache, console, lambda note: typer.echo(f"note: {note}", err=True)
        )
        if console.is_terminal:
            console.print(texts(written, console.encoding), soft_wrap=True)
        else:
            text = f"\n{BETWEEN}\n".join(one.whole() for one in written)
            typer.echo(printable(text, console.encoding))


@app.command("eval")
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run; its corpus must be there too.")],
    data: Annotated[list[str], typer.Option(help="The text: a file, folder or glob; repeat.")],
    stop: Annotated[str, typer.Option(help="Which stop of the run is measured: best or last.")] = "best",
    overrides: Annotated[
        list[str],
        typer.Option(
            "--set",
            help="evaluation.test_windows=200 for a sample of the text, say, or data.text_field; repeat.",
        ),
    ] = [],  # noqa: B006
    json_: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
    cache: Cache = Path(".cache"),
) -> None:
    """Measure a finished run on any text: exact NLL, bits/byte, bound, choice, and an n-gram beside it."""
    from lab.training.memory import keep_freed_memory

    keep_freed_memory()
    with _clear_errors(run=run, cache=cache):
        _import_keras()
        import json

        from rich.table import Table

        from lab.config import parse_overrides
        from lab.data.progress import shown_on
        from lab.training.other_text import as_json, describe, measure_other_text

        with shown_on(make_console(stderr=True)):
            result = measure_other_text(run, stop, data, parse_overrides(overrides), cache)
        for note in result.notes:
            typer.echo(f"note: {note}", err=True)
        if json_:
            typer.echo(json.dumps(as_json(run, result), indent=1))
            return
        columns, rows = describe(result)
        table = Table(*columns)
        for row in rows:
            table.add_row(*row)
        make_console().print(Fitting(table))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def harness(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    cache: Cache = Path(".cache"),
) -> None:
    """Measure a finished run by lm-evaluation-harness: --tasks and other options of `lm_eval run` follow."""
    from lab.training.memory import keep_freed_memory

    keep_freed_memory()
    with _clear_errors(run=run, cache=cache):
        from importlib.util import find_spec

        if not find_spec("lm_eval"):
            raise ValueError("lm-evaluation-harness is missing; `make setup EXTRAS=lm-eval` installs it.")
        _import_keras()
        from lab.training.harness import run_harness

        run_harness(run, context.args, cache)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    folder: Annotated[Path, typer.Argument(help="A new folder for the model.")],
    stop: Annotated[str, typer.Option(help="Which of its stops: best, by validation NLL, or last.")] = "best",
    target: Annotated[
        str, typer.Option("--to", help="lab, or qwen3: that class of transformers, for plain AR alone.")
    ] = "lab",
    cache: Cache = Path(".cache"),
) -> None:
    """Write a finished run's model into a folder that travels: weights, tokenizer and model card."""
    with _clear_errors(run=run, folder=folder, cache=cache):
        _import_keras()
        from lab.training.exchange.from_run import export_run

        export_run(run, folder, stop, target, cache)
        typer.echo(f"{folder}")


@app.command("import")
def import_(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="Folder with config.json and safetensors: of the paper, LLaDA, Qwen3, LLaMA."),
    ],
    folder: Annotated[Path, typer.Argument(help="A new folder for the model.")],
    length: Annotated[
        int | None,
        typer.Option(help="Tokens of a window; the longest that the checkpoint says if not given."),
    ] = None,
    mask: Annotated[int | None, typer.Option(help="Id of the mask, in place of the checkpoint's.")] = None,
    start: Annotated[
        int | None, typer.Option(help="Id that starts a causal stream; by default BOS, or else the end's.")
    ] = None,
    end: Annotated[int | None, typer.Option(help="Id that follows a document, likewise.")] = None,
) -> None:
    """Read a checkpoint of another program into the lab's own form; lab.load_model takes it from there."""
    with _clear_errors(checkpoint=checkpoint, folder=folder):
        _import_keras()
        from lab.training.exchange.foreign import Ids, import_checkpoint

        description, missing = import_checkpoint(checkpoint, folder, length, Ids(mask, start, end))
        if missing:
            typer.echo(f"without a tokenizer: {missing}", err=True)
        typer.echo(f"{folder}: {description.origin['which is']}, read as {description.arm}")


@app.command(hidden=True)
def standby(
    cache: Cache = Path(".cache"),
    rehearse: Annotated[
        Path | None, typer.Option(help="A configuration whose kind of run is likely to follow.")
    ] = None,
) -> None:
    """Import what a run needs, then wait for one on standard input. For the driver's use."""
    from lab.code import closure_hash, forget_hashes
    from lab.evaluation.measurements import MODULES
    from lab.scheduling.executors import child
    from lab.scheduling.executors.standby import get_ready, start_afresh, wait_for_order
    from lab.training.lean import import_keras
    from lab.training.memory import keep_freed_memory
    from lab.version import ENGINE

    child.enter()
    keep_freed_memory()
    modules = (ENGINE, "lab.training.measuring", *MODULES.values())
    code = closure_hash(*modules)  # before it is imported, which may be long before the order
    try:
        import_keras()
        get_ready(rehearse, cache)
    except Exception:  # a process that has a log will say why
        code = ""
    if (order := wait_for_order()) is None:
        return
    forget_hashes()
    if closure_hash(*modules) != code:
        start_afresh(order)
    raise typer.Exit(app(order, standalone_mode=False) or 0)


@app.command(hidden=True)
def population(
    places: Annotated[int, typer.Option(help="Most runs at a time.")],
    folder: Annotated[Path, typer.Option(help="Where it shows that it is alive.")],
    reports: Annotated[int, typer.Option(help="Descriptor to which the ends of runs are written.")],
) -> None:
    """Train the runs that come by lines on standard input, several together. For the driver's use."""
    from lab.scheduling.executors import child
    from lab.training.memory import keep_freed_memory

    child.enter()
    keep_freed_memory()
    with _exit_code_of_run(), os.fdopen(reports, "w", encoding="utf-8") as told:
        _import_keras()
        from lab.scheduling.executors.members import Orders, serve

        serve(places, folder, _train_member, Orders(), told)
        shutil.rmtree(folder, ignore_errors=True)  # the driver may have been killed


def _train_member(order: Mapping[str, str], member: "Member") -> int:
    """Train a run of a population; returns its exit code."""
    from lab.config import load_config
    from lab.scheduling.outcomes import PREEMPTED
    from lab.scheduling.single import train_here
    from lab.training.ending import DroppedError

    logdir, cache = Path(order["logdir"]), Path(order["cache"])
    start = Path(order["start"]) if order["start"] else None
    try:
        with _exit_code_of_run(logdir=logdir, cache=cache):
            config = load_config(Path(order["config"]))
            train_here(config, logdir, cache, start, order["data_key"], member)
    except DroppedError:
        return PREEMPTED
    except typer.Exit as ended:
        return ended.exit_code
    return 0


@app.command()
def ablate(
    name: Annotated[
        str, typer.Argument(help="A module of ablations/, such as crossover, or a .py file of yours.")
    ],
    preset: Preset = "laptop",
    seeds: Annotated[
        str,
        typer.Option(
            help="Repeats of each arm; the ablation's own if not given. auto: more, while undecided."
        ),
    ] = "",
    levels: Annotated[
        list[str],
        typer.Option(help="Levels in place of the ablation's: data.unique_tokens=5000,20000; repeat."),
    ] = [],  # noqa: B006
    workers: Annotated[int, typer.Option(help="Runs at once; 0: one per core, GPU or TPU chip.")] = 0,
    tune: Annotated[
        int | None,
        typer.Option(
            help="Tune every arm (those that the ablation tunes), with so many trials each.",
            min=1,
            max=10_000,
        ),
    ] = None,
    per_device: Annotated[int, typer.Option(help="Processes that share one GPU.")] = 1,
    population: Annotated[
        int,
        typer.Option(help="Runs that one process trains together, under JAX; 0: as many as pay, 1 on a CPU."),
    ] = 0,
    devices: Annotated[
        int, typer.Option(help="GPUs or TPU chips of each process; several need training.parallel.")
    ] = 1,
    ranks: Annotated[
        int, typer.Option(help="Processes that train one run together; several need training.parallel.")
    ] = 1,
    engine: Annotated[
        str,
        typer.Option(help="Where runs go: local, or ray (the cluster of RAY_ADDRESS, else this machine)."),
    ] = "local",
    shared: Annotated[
        str, typer.Option(help="With ray: fsspec URL of storage by which results travel between nodes.")
    ] = "",
    stall_seconds: Annotated[
        float, typer.Option(help="End a run that shows no progress for so long.")
    ] = 1800.0,
    tries: Annotated[
        list[str], typer.Option(help="Tries of a run that ends in one way: lost=5; repeat.")
    ] = [],  # noqa: B006
    storage: Storage = "",
    overrides: Overrides = [],  # noqa: B006
    data: DataOrVariable = [],  # noqa: B006
    results: Annotated[Path, typer.Option(help="Folder for result trees.")] = Path("results"),
    cache: Cache = Path(".cache"),
) -> None:
    """Run what is missing of an ablation, then write its page and print its verdict."""
    with _clear_errors(results=results, cache=cache), _requeue_on_notice():
        from lab.ablation import parse_levels, parse_seeds
        from lab.api import Places, Resources, run_ablation
        from lab.config import parse_overrides
        from lab.scheduling.outcomes import PREEMPTED, parse_tries

        ran = run_ablation(
            name,
            preset,
            seeds=parse_seeds(seeds) if seeds else None,
            levels=parse_levels(levels),
            overrides=parse_overrides(overrides),
            data=data or _paths_of_variable(),
            tune=tune,
            resources=Resources(engine, workers, ranks, per_device, devices, stall_seconds, population),
            places=Places(results, cache, storage, shared),
            tries=parse_tries(tries),
            progress=True,
        )
        if ran.summary.interrupted:
            typer.echo("stopped; the same command goes on from here", err=True)
            raise typer.Exit(INTERRUPTED if ran.summary.interrupted == signal.SIGINT else PREEMPTED)
        for label, reason in ran.summary.failed.items():
            typer.echo(f"failed: {label}: {reason}", err=True)
        _print_report(ran.tree)
        _index(results)
        if ran.summary.failed:
            raise typer.Exit(1)


@app.command()
def report(path: Annotated[Path, typer.Argument(help="A result tree, or a folder above some.")]) -> None:
    """Write the pages again from the results that exist."""
    with _clear_errors(path=path):
        from lab.scheduling.status import find_trees

        trees = find_trees(path)
        skipped = [tree for tree in trees if not _printed(tree)]
        if len(trees) > 1:
            typer.echo(f"all of them: {_index(path)}")
        if skipped == trees:
            raise typer.Exit(1)


@app.command()
def status(
    path: Annotated[Path, typer.Argument(help="A result tree, or a folder above some.")] = Path("results"),
    once: Annotated[
        bool, typer.Option("--once", help="Show it once; so it is where no terminal is.")
    ] = False,
) -> None:
    """Show what is queued, running, done and failed, and the time left; Ctrl-C ends it."""
    with _clear_errors(path=path):
        from lab.scheduling.status import show_status

        if not show_status(path, make_console(), once):
            raise typer.Exit(1)


@app.command()
def board(
    path: Annotated[Path, typer.Argument(help="A result tree, or any folder of runs.")] = Path("results"),
    port: Annotated[
        int | None,
        typer.Option(help="On 127.0.0.1, nowhere else; 6006 or the next that is free if not given.", **PORTS),
    ] = None,
) -> None:
    """TensorBoard over every run in a folder, on this machine."""
    with _clear_errors(path=path):
        from lab.tracking.serving import serve_board

        serve_board(path, port)


@app.command()
def dashboard(
    tree: Annotated[Path, typer.Argument(help="A result tree, or a folder that holds one.")] = Path(
        "results"
    ),
    port: Annotated[int, typer.Option(help="On 127.0.0.1, nowhere else.", **PORTS)] = 8080,
    storage: Storage = "",
) -> None:
    """Serve optuna-dashboard over a ledger, read-only, on this machine."""
    with _clear_errors(tree=tree):
        from lab.scheduling.dashboard import serve_dashboard

        serve_dashboard(tree, storage, port, typer.echo)


@app.command()
def data(
    preset: Preset = "laptop",
    data: DataOrVariable = [],  # noqa: B006
    overrides: Overrides = [],  # noqa: B006
    cache: Cache = Path(".cache"),
) -> None:
    """Say what a corpus holds, what it lacks, and how well counting its tokens predicts held-out text."""
    with _clear_errors(cache=cache):
        from rich.table import Table

        from lab.config import make_config, read_preset
        from lab.data.budget import budget
        from lab.data.dataset import prepare
        from lab.data.progress import shown_on
        from lab.data.summary import BASELINE_COLUMNS, describe, describe_baselines
        from lab.evaluation.baselines import measure_baselines
        from lab.evaluation.held_out import require_held_out

        config = make_config(read_preset(preset), _user_layer(overrides, data or _paths_of_variable()))
        table = Table("", f"{config.data.corpus} ({preset})")
        with shown_on(make_console(stderr=True)):
            dataset = prepare(config.data, cache)
        for row in describe(dataset):
            table.add_row(*map(str, row))
        make_console().print(Fitting(table))
        budget(dataset.train, config.data.unique_tokens, config.data.length, config.replicate)
        require_held_out(config, dataset, "evaluation")
        baselines = Table(*BASELINE_COLUMNS)
        for cells in describe_baselines(measure_baselines(config, dataset, cache, BASELINE_TOKENS)):
            baselines.add_row(*cells)
        make_console().print(Fitting(baselines))


@app.command()
def plan(
    config: Annotated[str, typer.Argument(help="A file in configs/, by name, or a .yaml file of yours.")],
    devices: Annotated[int, typer.Option(help="GPUs or TPU chips of all processes together.")] = 1,
    device: Annotated[
        str, typer.Option(help="Which: h100, h200, a100, a100-40, tpu-v4, tpu-v5e, tpu-v5p or tpu-v6e.")
    ] = "h100",
    mfu: Annotated[float, typer.Option(help="Share of the devices' peak FLOP/s that is reached.")] = 0.4,
    model_parallel: Annotated[
        int | None, typer.Option(help="Parts of the weights; the configuration's own if not given.")
    ] = None,
    arm: Annotated[str, typer.Option(help="A corner of the cube, such as ar or dlm.")] = "dlm",
    overrides: Overrides = [],  # noqa: B006
    vocab_size: Annotated[
        int | None, typer.Option(help="Of a tokenizer whose name does not say it.", min=1)
    ] = None,
    peak: Annotated[float | None, typer.Option(help="TFLOP/s of a device that is not listed.")] = None,
    memory: Annotated[float | None, typer.Option(help="GB of a device that is not listed.")] = None,
) -> None:
    """Say what a run asks of so many devices: memory, FLOPs and time; nothing is trained."""
    with _clear_errors():
        from rich.table import Table

        from lab.arms import arm_values
        from lab.config import lay, read_preset
        from lab.training.capacity import describe, plan_capacity
        from lab.training.devices import find_device

        values = lay(read_preset(config), arm_values(arm), _user_layer(overrides, []))
        capacity = plan_capacity(
            values, devices, find_device(device, peak, memory), model_parallel, vocab_size
        )
        table = Table("", f"{config}, {arm}, on {devices} x {device}")
        for row in describe(capacity, mfu):
            table.add_row(*row)
        make_console().print(Fitting(table))


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


def _paths_of_variable() -> list[str]:
    """What `make DATA=` hands on."""
    from lab.data.paths import parse_paths

    return parse_paths(os.environ.get(DATA_VARIABLE, ""))


def _user_layer(overrides: list[str], data: list[str]) -> dict[str, Any]:
    """The layer of `--data` and `--set`."""
    from lab.config import files_layer, merge, parse_overrides

    return merge(files_layer(data), parse_overrides(overrides))


def _train(config: "RunConfig", logdir: Path | None, cache: Path, start: Path | None, data_key: str) -> None:
    from lab.scheduling.single import train_here

    trained = train_here(config, logdir, cache, start, data_key)
    if trained is None:
        return
    result, logdir = trained
    for reading in result.readings:
        best = result.best(reading)
        typer.echo(
            f"{config.arm} seed {config.seed}: best stop ({reading}) at epoch {best.epoch:.1f}, "
            f"test NLL {best.test['nll']:.4f} nats/token"
        )
    typer.echo(f"{logdir / 'result.json'}")


def _measurement_config(
    config: Path | None,
    logdir: Path | None,
    measurement: str,
    run: Path | None,
    beside: list[Path],
    overrides: list[str],
) -> "tuple[MeasurementConfig, Path]":
    """What to measure, and where."""
    from lab.config import load_measurement

    if config is not None:
        if measurement or run or beside or overrides or logdir is None:
            raise ValueError("--config must stand alone but for --logdir and --cache: it holds every value.")
        return load_measurement(config), logdir
    if run is None:
        raise ValueError("`run` must be the folder of a finished run, but none is given.")
    from lab.evaluation.measurements import find_set
    from lab.training.measuring import measurement_of

    find_set(measurement)
    folder = logdir or run.parent / "measurements" / f"{run.name}-{measurement}"
    return measurement_of(measurement, folder, [run, *beside], _user_layer(overrides, [])), folder


def _measure(config: "MeasurementConfig", logdir: Path, cache: Path, data_key: str) -> None:
    from lab.metrics import METRICS
    from lab.scheduling.single import measure_here

    for row in measure_here(config, logdir, cache, data_key).rows:
        settings = " ".join(f"{name}={value}" for name, value in row.task.settings.items())
        values = ", ".join(
            metric.with_errors(row.values)
            for key, metric in METRICS.items()
            if row.values.get(key) is not None
        )
        at = f"step {row.stops[0].step}"
        typer.echo(f"{row.task.measurement} {row.task.split} {at} {settings}: {values}")
    typer.echo(f"{logdir / 'result.json'}")


def _index(root: Path) -> Path:
    """Write the page over all result trees in a folder."""
    from lab.reporting.report import write_index
    from lab.scheduling.status import find_trees

    return write_index(root, find_trees(root))


def _printed(tree: Path) -> bool:
    """Write a tree's page and print its verdict, or say why there is none."""
    try:
        _print_report(tree)
    except ValueError as error:
        typer.echo(f"no page for {tree}: {error}", err=True)
        return False
    return True


def _print_report(tree: Path) -> None:
    from lab.api import report

    written = report(tree)
    make_console().print(Fitting(written.printed))
    typer.echo(f"page: {written.page}")


@contextmanager
def _clear_errors(**places: Path) -> Iterator[None]:
    """Say what a user can get wrong, and what the system refuses, in one message, without a traceback.

    Args:
        places: option -> the path that it was given, for the message.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:  # whoever read our output has gone
            raise
        typer.echo(f"error: {_with_option(error, places)}", err=True)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


class _NoticeError(KeyboardInterrupt):
    """A launcher's notice came where no run is at work; nothing needs to be saved."""


@contextmanager
def _requeue_on_notice() -> Iterator[None]:
    """End a driver with the exit code on which a launcher may start it again, wherever a notice finds it."""
    from lab.scheduling.outcomes import PREEMPTED
    from lab.training.ending import on_notice

    def end(number: signal.Signals) -> None:
        raise _NoticeError

    try:
        with on_notice(end, signal.SIGTERM, signal.SIGUSR1):
            yield
    except _NoticeError:
        typer.echo("stopped; the same command goes on from here", err=True)
        raise typer.Exit(PREEMPTED) from None


def _with_option(error: BaseException, places: Mapping[str, Path | None]) -> str:
    """The error in words; of the system's the path too, and the option that led there."""
    of_system = error if isinstance(error, OSError) else error.__cause__
    if not isinstance(of_system, OSError):
        return str(error)
    said = str(error)
    if error is of_system and error.filename is not None:
        why = "it is no folder" if error.errno == errno.EEXIST else error.strerror
        said = f"cannot go on with {error.filename}: {why}."
    if isinstance(of_system.filename, str | Path):
        path = Path(of_system.filename).absolute()
        for option, place in places.items():
            if place and (path.is_relative_to(place.absolute()) or place.absolute().is_relative_to(path)):
                return f"{said} It is of `{option}`, {place}: give another."
    return said


def _import_keras() -> None:
    """Import Keras, if its backend is there and has the devices that are asked for."""
    from lab.scheduling.executors.slots import find_devices
    from lab.training.lean import import_keras

    find_devices()
    import_keras()


@contextmanager
def _exit_code_of_run(**places: Path | None) -> Iterator[None]:
    """End with the exit code that tells the driver why; an error not of the user's leaves its traceback.

    The last line says it, as that is what the driver shows.

    Args:
        places: as of `_clear_errors`.
    """
    from lab.training.ending import DroppedError, LostRankError

    try:
        yield
    except (typer.Exit, LostRankError, DroppedError):
        raise
    except BaseException as error:
        from lab.scheduling.executors.slots import find_devices
        from lab.scheduling.outcomes import EXIT_CODES, PREEMPTED, Outcome, exit_code_of

        try:
            on_cpu = find_devices().kind == "cpu"
        except ValueError:  # no such device
            on_cpu = True
        code = exit_code_of(error, on_cpu)
        if code == PREEMPTED:
            typer.echo("asked to end; the same command goes on from here", err=True)
        elif isinstance(error, ValueError) or code == EXIT_CODES[Outcome.USER_ERROR]:
            typer.echo(f"error: {_with_option(error, places)}", err=True)
        else:
            traceback.print_exception(error)
            first = next(iter(str(error).splitlines()), "")
            typer.echo(f"error: {type(error).__name__}: {first}", err=True)
        raise typer.Exit(code) from None


if __name__ == "__main__":
    main()

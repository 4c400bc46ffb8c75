"""What the tests of records share: a run's result, made by hand."""

from lab.config import make_config
from lab.results import (
    DataRecord,
    Examples,
    Measured,
    Process,
    RunResult,
    Stop,
    StopReference,
    Task,
    Text,
    VersionRecord,
)

PROCESS = Process(backend="jax", device="cpu", cpu="A Chip", threads=2, versions={"python": "3.11.7"})
DATA = DataRecord(
    hash="a",
    hashes={"train": "a", "validation": "b", "test": "c"},
    corpus="packages",
    packages={"keras": "3.15.1"},
    tokenizer="bytes",
    unique_tokens=960,
    windows=60,
    length=16,
    bytes_per_token=0.99,
    train_tokens=9600,
    documents={"validation": 70, "test": 80},
    seen_tokens={"validation": 0.25, "test": 0.5},
    seen_windows={"validation": 0.125, "test": 0.25},
)


def measured(split, values, reading="annealed", step=10, **more):
    task = Task(measurement="nll", split=split, settings={"windows": 2})
    stop = StopReference(run="run", reading=reading, step=step)
    return Measured(key=f"{split}-{reading}-{step}", task=task, stops=(stop,), values=values, **more)


def stop(step, nll, reading="annealed", test=True):
    """A stop whose NLL on the test split is one more."""
    rows = [measured("validation", {"nll": nll, "parse_rate": None}, reading, step)]
    if test:
        examples = Examples(metric="nll", values=(nll, nll + 2), documents=(0, 3))
        more = {
            "examples": examples,
            "texts": (Text(prompt="a", text="Ä"),),
            "costs": {"flops": 2.0},
            "flops": 3.0,
        }
        rows.append(measured("test", {"nll": nll + 1}, reading, step, **more))
    return Stop(
        reading=reading,
        start=step - 2 if reading == "annealed" else step,
        step=step,
        tokens_seen=64 * step,
        epoch=step / 15,
        train_flops=1e6 * step,
        measured=tuple(rows),
    )


def result(*stops, **changed):
    config = make_config({"training": {"total_steps": 20}})
    values = {
        "config": config,
        "version": VersionRecord(values=config.keyed_values(), code="c0de"),
        "evaluation": "e",
        "process": PROCESS,
        "data": DATA,
        "parameters": 100,
        "train_flops_per_token": 6.0,
        "forward_flops_per_token": 2.0,
        "train_flops": 1e9,
        "evaluation_flops": 1e8,
        "wall_seconds": 2.5,
        "stops": stops or (stop(10, 2.0), stop(20, 3.0)),
    }
    return RunResult(**{**values, **changed})

"""A tiny ablation, its plan in a temporary tree, and a stand-in for the training process."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import optuna
import yaml
from rich.console import Console

import lab.config
from lab.arms import arm_values
from lab.scheduling.ablation import Ablation, Scale, cells
from lab.scheduling.driver import driving
from lab.scheduling.ledger import JOURNAL
from lab.scheduling.local import LocalExecutor
from lab.scheduling.outcomes import TRIES
from lab.scheduling.plan import Plan
from lab.scheduling.progress import RunsProgress

TINY = {
    "data": {"length": 16},
    "model": {"size": "0.1m"},
    "training": {"total_tokens": 1024},
    "evaluation": {"choice_context_tokens": 8, "choice_option_tokens": 8},
}

# Trains nothing: does what `behaviour.json` beside it says for the cell, and leaves a mark for each try.
FAKE_RUN = """
import argparse, errno, json, os, pathlib, signal, sys, time
from lab.scheduling import child
child.enter()
from lab.config import load_config
parser = argparse.ArgumentParser()
for option in ("--config", "--logdir", "--cache"):
    parser.add_argument(option, type=pathlib.Path, required=True)
arguments = parser.parse_args()
config, logdir = load_config(arguments.config), arguments.logdir
here = pathlib.Path(__file__).parent
behaviour = json.loads((here / "behaviour.json").read_text())
name = f"{config.arm}/{config.data.unique_tokens}/{config.seed}"
do = behaviour.get(name, behaviour.get(config.arm, "finish"))
loss = float(config.data.unique_tokens) / 1000 + config.seed
if do == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with (logdir / "tries").open("a") as file:
    file.write(f"{os.getpid()}\\n")
tries = len((logdir / "tries").read_text().split())
if do == "stale once" and tries == 1:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(logdir))
if do == "raise":
    print("x" * 10_000)
    raise RuntimeError("no such luck")
if do == "user error":
    print("error: `width` must be even")
    sys.exit(2)
if do.startswith("exit"):
    print("error: so it went")
    sys.exit(int(do.split()[1]))
if do == "preempted twice" and tries < 3:
    sys.exit(75)
if do == "vanish":
    os._exit(0)
if do == "killed always" or (do == "killed once" and tries == 1):
    os.kill(os.getpid(), signal.SIGKILL)
if do == "checkpoint":
    def save(*_):
        (logdir / "checkpoint").touch()
        sys.exit(75)
    signal.signal(signal.SIGTERM, save)
if do in ("wait", "stubborn", "checkpoint"):
    while not (here / "go").exists() or do == "checkpoint":
        time.sleep(0.02)
if do == "environment":
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    (logdir / "environment.json").write_text(json.dumps({"environment": dict(os.environ), "cpus": cpus}))
key = "0" * 16 if do == "other key" else config.key()
value = float("nan") if do == "not finite" else loss
best = {"annealed": {"validation": {"nll": value}}, "along_run": {"validation": {"nll": loss + 1}}}
(logdir / ".result").write_text(json.dumps({"config_key": key, "best": best}))
(logdir / ".result").replace(logdir / "result.json")
if do == "crash at exit":
    os.abort()
"""

# A driver of its own, to be killed: the plan of `Bench` at four cells.
DRIVER = """
import sys, pathlib
sys.path.insert(0, {tests!r})
from scheduling_bench import Bench
bench = Bench(pathlib.Path({folder!r}))
print("ready", flush=True)
summary = bench.drive(workers=2)
print(summary.interrupted.name if summary.interrupted else "finished", summary.done, flush=True)
"""


def tiny_ablation(**changes):
    declared = {
        "name": "tiny",
        "question": "Does it run?",
        "paper": "none",
        "arms": {arm: arm_values(arm) for arm in ("ar", "dlm")},
        "scales": {"tiny": Scale({"data.unique_tokens": (1000, 2000)}, seeds=1, budget="no time")},
        "metric": "nll",
        "unit": "nats/token",
        "expected": "It does.",
        "contrasts": {"dlm": "ar"},
    }
    return Ablation(**{**declared, **changes})


class Bench:
    """A result tree with the tiny ablation's plan and the fake run."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.presets = self.folder / "configs"
        self.presets.mkdir(exist_ok=True)
        lab.config.PRESETS_DIR = self.presets
        (self.presets / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
        (self.folder / "fake_run.py").write_text(FAKE_RUN, encoding="utf-8")
        if not (self.folder / "behaviour.json").exists():
            self.behave({})
        self.tree = self.folder / "results" / "tiny" / "tiny"
        self.said = io.StringIO()

    @staticmethod
    def quiet():
        """A console that shows nothing."""
        return Console(file=io.StringIO())

    def behave(self, behaviour):
        (self.folder / "behaviour.json").write_text(json.dumps(behaviour), encoding="utf-8")

    def plan(self, seeds=None, overrides=None, ablation=None):
        ablation = ablation or tiny_ablation()
        planned = cells(ablation, "tiny", seeds, overrides)
        return Plan(self.tree, ablation, "tiny", planned, "python -m lab ablate tiny")

    def drive(self, plan=None, workers=2, storage="", tries=TRIES):
        executor = LocalExecutor(workers, (sys.executable, str(self.folder / "fake_run.py")))
        progress = RunsProgress(Console(file=self.said, width=200))
        plan = plan or self.plan()
        with driving(plan, executor, self.folder / "cache", progress, storage, tries) as driver:
            return driver.bring(plan)

    def driver(self):
        """The same in a process of its own."""
        code = DRIVER.format(tests=str(Path(__file__).parent), folder=str(self.folder))
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    def tries(self, cell):
        """The process ids of a cell's tries."""
        path = self.tree / cell.logdir / "tries"
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def value(self, cell):
        """The loss that the fake run reports."""
        return cell.level["data.unique_tokens"] / 1000 + cell.seed


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def trials(tree, name="tiny-tiny"):
    """The ledger as anybody may read it, with stock Optuna."""
    backend = optuna.storages.journal.JournalFileBackend(str(tree / JOURNAL))
    study = optuna.load_study(
        study_name=name,
        storage=optuna.storages.JournalStorage(backend),
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    return study.get_trials()


def alive(pid):
    """Whether a process runs; one that has ended but was not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second if it ends between open and read
        return False

"""Tuning without training: runs in this process whose loss is a known function of their hyper-parameters."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import scheduling_bench
from optuna.storages.journal import JournalFileBackend

from lab.ablation import Scale
from lab.config import load_config
from lab.evaluation.measurements import evaluation_digest, yardstick
from lab.files import read_json
from lab.results import Measured, StopReference, VersionRecord, write_record
from lab.scheduling import driver
from lab.scheduling.executors.executor import Ended
from lab.scheduling.ledger.ledger import JOURNAL
from lab.scheduling.places import Places
from lab.scheduling.plan import UNREAD, DataFacts
from lab.scheduling.tuning.driver import drive_tuned
from lab.scheduling.tuning.tuning import Range, Tuning
from lab.training.timeline import make_timeline

WINDOWS = 64
SPACE = {
    "training.learning_rate": Range(1e-4, 1e-2, log=True),
    "training.weight_decay": Range(0.01, 3.2, log=True),
    "model.attention_dropout": Range(0.0, 0.5, step=0.1),
    "model.mlp_dropout": Range(0.0, 0.5, step=0.1),
}
LONG = {"training": {"total_tokens": 16384}, "evaluation": {"stops": 6}}

# A driver of its own, which dies at its n-th poll of a run, as by SIGKILL.
DYING_DRIVER = """
import pathlib, sys
sys.path.insert(0, {tests!r})
from tuning_bench import TuningBench
TuningBench(pathlib.Path({folder!r})).tune({trials}, workers=3, die_at={die_at})
"""


def true_loss(config):
    """The loss at the last stop: a bowl, lowest at learning rate 2e-3, weight decay 1 and some dropout."""
    rate, decay = config.training.learning_rate, config.training.weight_decay
    dropout = config.model.attention_dropout + config.model.mlp_dropout
    bowl = math.log10(rate / 2e-3) ** 2 + 0.2 * math.log10(decay) ** 2 + (dropout - 0.3) ** 2
    return (2.0 if config.arm.startswith("ar") else 2.5) + bowl + 0.01 * (config.seed % 1000)


def stop_row(config, reading, step, nll):
    """What a run logs of a stop that it has measured."""
    task = next(task for task in yardstick(config, "validation") if task.measurement == "nll")
    reference = StopReference(run="", reading=reading, step=step)
    found = Measured(key=f"{reading}-{step}", task=task, stops=(reference,), values={"nll": nll})
    place = {"step": step, "tokens_seen": step * 512, "epoch": step * 512 / 16 / WINDOWS}
    return {"kind": "measured", **place, "reading": reading, "start": step, "measured": found.to_row()}


class FakeHandle:
    """A run that measures `pace` stops whenever it is looked at."""

    def __init__(self, executor, attempt):
        self._executor, self._logdir = executor, attempt.logdir
        self._config = load_config(attempt.config)
        self._stops = list(make_timeline(self._config, WINDOWS).stops)
        self._code = None
        (attempt.logdir / "metrics.jsonl").unlink(missing_ok=True)
        (attempt.logdir / "log.txt").touch()
        executor.started.append(attempt.logdir)

    def poll(self):
        self._executor.polled()
        if self._code is None and self._config.arm in self._executor.failing:
            self._code = 1
        for _ in range(self._executor.pace):
            if self._code is None:
                self._advance()
        return None if self._code is None else Ended(self._code)

    def stop(self, hard):
        self._code = -9 if self._code is None else self._code

    def _advance(self):
        if not self._stops:
            version = VersionRecord(**read_json(self._logdir / "version.json"))
            made = scheduling_bench.result(
                scheduling_bench.stop(1, true_loss(self._config)),
                config=self._config,
                version=version,
                evaluation=evaluation_digest(self._config, UNREAD.hashes),
            )
            write_record(self._logdir / "result.json", made)
            self._code = 0
            return
        stop = self._stops.pop(0)
        total = make_timeline(self._config, WINDOWS).total_steps
        # Without MLP dropout a run is at its best at an eighth of its steps, and ends early.
        best = total if self._config.model.mlp_dropout else total / 8
        nll = true_loss(self._config) + abs(math.log(stop.step / best)) + (stop.reading == "along_run")
        with (self._logdir / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(stop_row(self._config, stop.reading, stop.step, nll)) + "\n")


class FakeExecutor:
    """Slots for fake runs. Polls are counted, and at one of them the process may die or be interrupted."""

    ranks = 1
    population = 1

    def __init__(self, workers=2, pace=1, failing=(), die_at=0, interrupt_at=0):
        self.workers, self.pace, self.failing = workers, pace, failing
        self._die_at, self._interrupt_at = die_at, interrupt_at
        self._polls, self._handles, self.started = 0, [], []

    def polled(self):
        self._polls += 1
        if self._polls == self._die_at:
            os._exit(9)
        if self._polls == self._interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)

    def free(self, command="run"):
        return self.workers - sum(handle._code is None for handle in self._handles)

    def close(self):
        pass

    def start(self, attempt):
        self._handles.append(FakeHandle(self, attempt))
        return self._handles[-1]


class TuningBench(scheduling_bench.Bench):
    """A result tree whose arms are tuned by fake runs; `executor` is that of the last invocation."""

    def plan(self, trials, seeds=2, tuned=(), arms=None, scale=None, **spec):
        changes = {"tuned": tuned, "scales": {"tiny": scale or Scale({}, seeds=1, budget="no time")}}
        changes |= {"arms": arms} if arms else {}
        plan = super().plan(seeds, LONG, scheduling_bench.tiny_ablation(**changes))
        facts = {cell.config.data: DataFacts(UNREAD.hashes, WINDOWS * 16) for cell in plan.cells}
        return dataclasses.replace(plan, tuning=Tuning(trials, **{"space": SPACE, **spec}), data=facts)

    def tune(self, trials, workers=2, plan=None, storage="", **behaviour):
        self.executor = FakeExecutor(workers, **behaviour)
        progress = driver.RunsProgress(scheduling_bench.Console(file=self.said, width=200))
        driver.POLL_SECONDS = 0.001
        plan = plan or self.plan(trials)
        with driver.driving(
            plan, self.executor, Places(cache=self.folder / "cache", storage=storage), progress
        ) as opened:
            return drive_tuned(plan, opened)

    def die(self, trials, die_at):
        """Tune in a process of its own, which dies."""
        tests = str(Path(__file__).parent)
        code = DYING_DRIVER.format(tests=tests, folder=str(self.folder), trials=trials, die_at=die_at)
        return subprocess.run([sys.executable, "-c", code], check=False).returncode

    def studies(self):
        """The studies of tuning.json by arm."""
        return {study["arm"]: study for study in read_json(self.tree / "tuning.json")["studies"]}

    def outcome(self):
        """All that must not depend on workers, kills and restarts."""
        cells = read_json(self.tree / "plan.json")["cells"]
        return self.studies(), [(cell["arm"], cell["seed"], cell["version"]) for cell in cells]

    def started(self):
        """The runs that the last invocation started, in order: `tuning/ar/trial=000`."""
        return [logdir.relative_to(self.tree).as_posix() for logdir in self.executor.started]

    def stored(self, name):
        """A study as anybody may read it, with stock Optuna."""
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(self.tree / JOURNAL)))
        return optuna.load_study(
            study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler(seed=0)
        )

"""A tiny ablation, its plan in a temporary tree, and a stand-in for the training process."""

import io
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import optuna
import yaml
from rich.console import Console

import lab.config
from lab.ablation import cells
from lab.arms import arm_values
from lab.config import merge
from lab.results import MeasurementResult, StopReference, write_record
from lab.scheduling.driver import driving
from lab.scheduling.executors.local import LocalExecutor
from lab.scheduling.executors.population_executor import PopulationExecutor
from lab.scheduling.ledger.ledger import JOURNAL
from lab.scheduling.measuring import measure_finished
from lab.scheduling.outcomes import TRIES
from lab.scheduling.places import Places
from lab.scheduling.plan import Plan
from lab.scheduling.progress import RunsProgress

sys.path.insert(0, str(Path(__file__).parents[1]))  # for a process of its own that imports this file
from ablation_bench import TINY, tiny_ablation
from result_bench import PROCESS, measured, result, stop

HERE = Path(__file__).parent

# Trains and measures nothing: does what `behaviour.json` beside it says, and leaves a mark for each try.
FAKE_RUN = """
import argparse, errno, json, os, pathlib, signal, sys, time
from lab.scheduling.executors import child
child.enter()
import yaml
parser = argparse.ArgumentParser()
parser.add_argument("command", choices=["run", "measure"])
for option in ("--config", "--logdir", "--cache"):
    parser.add_argument(option, type=pathlib.Path, required=True)
parser.add_argument("--start", type=pathlib.Path)
parser.add_argument("--data-key")
arguments = parser.parse_args()
logdir, training = arguments.logdir, arguments.command == "run"
given = yaml.safe_load(arguments.config.read_text())
config = given if training else given["config"]
here = pathlib.Path(__file__).parent
behaviour = json.loads((here / "behaviour.json").read_text())
arm, seed, budget = config["arm"], config["seed"], config["data"]["unique_tokens"]
names = [f"{arm}/{budget}/{seed}", arm]
names = names if training else [*(f"measure {name}" for name in names), "measure"]
do = next((behaviour[name] for name in names if name in behaviour), "finish")
loss = behaviour.get("losses", {}).get(f"{arm}/{seed}", budget / 1000 + seed)
if do == "stubborn":
    signal.signal(signal.SIGTERM, lambda *_: (logdir / "asked").touch())
if do == "checkpoint":
    def save(*_):
        (logdir / "checkpoint").touch()
        sys.exit(75)
    signal.signal(signal.SIGTERM, save)
with (logdir / "tries").open("a") as file:
    file.write(f"{os.getpid()}\\n")
if arguments.start:
    (logdir / "start").write_text(str(arguments.start))
    assert (arguments.start / "result.json").is_file()
tries = len((logdir / "tries").read_text().split())
if do == "stale once" and tries == 1:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(logdir))
if do == "raise" or (do == "raise once" and tries == 1):
    print("x" * 10_000)
    raise RuntimeError("no such luck")
if do == "user error":
    print("error: `width` must be even")
    sys.exit(2)
if do == "no backend":
    print("error: KERAS_BACKEND=torch: the backend cannot be imported: ImportError: torn")
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
if do == "hang" or (do == "hang once" and tries == 1):
    (logdir / "hung").touch()
    time.sleep(600)
if do == "environment":
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    (logdir / "environment.json").write_text(json.dumps({"environment": dict(os.environ), "cpus": cpus}))
if do in ("wait", "stubborn", "checkpoint") or behaviour.get("wait"):
    while not (here / "go").exists() or do == "checkpoint":
        time.sleep(0.02)
made = json.loads((here / f"{arguments.command}.json").read_text())
if training:
    tree = next(folder for folder in logdir.parents if (folder / "plan.json").is_file())
    cells = json.loads((tree / "plan.json").read_text())["cells"]
    evaluation = next(cell["evaluation"] for cell in cells if tree / cell["logdir"] == logdir)
    version = json.loads((logdir / "version.json").read_text())
    made["config"] = config
    made["version"] = version | ({"code": "other"} if do == "other version" else {})
    made["evaluation"] = "other" if do == "other evaluation" else evaluation
    for row in (row for stop in made["stops"] for row in stop["measured"]):
        row["values"]["nll"] += loss if do != "not finite" else float("nan")
else:
    from lab.config import load_measurement
    from lab.evaluation.measurements import find_set, row_key, rows_digest
    from lab.results import StopReference
    tasks = find_set(given["measurement"]).tasks(load_measurement(arguments.config).config)
    stops = [StopReference(run=s["version"], reading=s["reading"], step=s["step"]) for s in given["stops"]]
    made["measurement"] = given["measurement"]
    made["wanted"] = rows_digest([row_key(task, stops, "") for task in tasks])
    made["stops"] = [stop.model_dump() for stop in stops]
    row = made["rows"][0]
    made["rows"] = [{**row, "task": task.model_dump(), "stops": made["stops"]} for task in tasks]
(logdir / ".result").write_text(json.dumps(made))
(logdir / ".result").replace(logdir / "result.json")
if do == "crash at exit":
    os.abort()
"""

# Trains nothing: starts a process for each run that is ordered, by the command that it is given.
FAKE_POPULATION = """
import json, os, pathlib, select, shutil, subprocess, sys
from lab.scheduling.executors import child
child.enter()
os.environ[child.PARENT] = str(os.getpid())
*command, _, places, _, folder, _, reports = sys.argv[1:]
runs, rest = {}, b""
while True:
    if select.select([0], [], [], 0.02)[0]:
        given = os.read(0, 2**16)
        if not given:
            shutil.rmtree(folder)
            sys.exit()
        *lines, rest = (rest + given).split(b"\\n")
        for order in map(json.loads, lines):
            if order["do"] == "start":
                keys = "config", "logdir", "cache", *(key for key in ("start",) if order[key])
                options = [text for key in keys for text in ("--" + key, order[key])]
                with open(order["log"], "ab") as log:
                    runs[order["run"]] = subprocess.Popen([*command, "run", *options], stdout=log, stderr=log)
            elif order["run"] in runs:
                runs[order["run"]].terminate() if order["do"] == "stop" else runs[order["run"]].kill()
            print(order["do"], flush=True)
        assert len(runs) <= int(places)
    for number, run in list(runs.items()):
        if run.poll() is not None:
            del runs[number]
            os.write(int(reports), json.dumps({"run": number, "code": run.returncode}).encode() + b"\\n")
    pathlib.Path(folder, "progress.json").touch()
"""

# A driver of its own, to be killed: the plan of `Bench` at four cells.
DRIVER = """
import sys, pathlib
sys.path.insert(0, {tests!r})
from scheduling_bench import Bench, starting_ablation
bench = Bench(pathlib.Path({folder!r}))
print("ready", flush=True)
summary = bench.drive(bench.plan({plan}), workers=2)
print(summary.interrupted.name if summary.interrupted else "finished", summary.done, flush=True)
"""


def starting_ablation(**more):
    """The tiny ablation, in which `dlm` starts from `ar`; `more` is laid over an arm."""
    arms = {"ar": arm_values("ar"), "dlm": {**arm_values("dlm"), "training": {"start_from": "ar"}}}
    return tiny_ablation(arms={arm: merge(values, more.get(arm, {})) for arm, values in arms.items()})


def measurement():
    return MeasurementResult(
        measurement="",
        wanted="",
        code="c0de",
        stops=(StopReference(run="", reading="annealed", step=1),),
        tokens_seen=64,
        epoch=1.0,
        process=PROCESS,
        wall_seconds=1.5,
        rows=(measured("test", {"judge_nll": 2.0}),),
    )


class Bench:
    """A result tree with the tiny ablation's plan and the fake run."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.presets = self.folder / "configs"
        self.presets.mkdir(exist_ok=True)
        lab.config.PRESETS_DIR = self.presets
        (self.presets / "tiny.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
        (self.folder / "fake_run.py").write_text(FAKE_RUN, encoding="utf-8")
        (self.folder / "fake_population.py").write_text(FAKE_POPULATION, encoding="utf-8")
        # What the fake lays its own values over: it would take a second to import what makes a record.
        write_record(self.folder / "run.json", result(stop(1, 0.0), stop(2, 1.0, "along_run")))
        write_record(self.folder / "measure.json", measurement())
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

    def executor(self, workers=2, population=1, **options):
        run = (sys.executable, str(self.folder / "fake_run.py"))
        if population == 1:
            return LocalExecutor(workers, run, **options)
        together = (sys.executable, str(self.folder / "fake_population.py"), *run)
        return PopulationExecutor(population, workers, together, run, **options)

    @contextmanager
    def driving(self, plan, workers=2, storage="", tries=TRIES, **options):
        executor = self.executor(workers, **options)
        progress = RunsProgress(Console(file=self.said, width=200))
        with driving(
            plan, executor, Places(cache=self.folder / "cache", storage=storage), progress, tries
        ) as driver:
            yield driver

    def drive(self, plan=None, workers=2, storage="", tries=TRIES, **options):
        plan = plan or self.plan()
        with self.driving(plan, workers, storage, tries, **options) as driver:
            return driver.bring(plan)

    def measure(self, plan, workers=2, storage="", tries=TRIES, **options):
        """Measure the finished runs, as a driver does after it has brought the tree to its plan."""
        with self.driving(plan, workers, storage, tries, **options) as driver:
            return measure_finished(plan, driver)

    def driver(self, plan=""):
        """The same in a process of its own, with these arguments of `plan`."""
        code = DRIVER.format(tests=str(HERE), folder=str(self.folder), plan=plan)
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    def tries(self, cell):
        """The process ids of a cell's tries."""
        path = self.tree / cell.logdir / "tries"
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def value(self, cell):
        """The loss that the fake run reports."""
        return cell.level["data.unique_tokens"] / 1000 + cell.seed


def wait_for(condition, seconds=120.0):
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

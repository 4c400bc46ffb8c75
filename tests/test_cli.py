"""The command line, with stand-ins for what trains, reports and reads data."""

import builtins
import errno
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import typer
import yaml
from ablation_bench import TINY
from result_bench import PROCESS, result, stop
from rich.table import Table
from typer.testing import CliRunner

import lab.__main__
import lab.api
import lab.code
import lab.config
import lab.scheduling.single
from lab.ablation import load_ablation
from lab.arms import arm_values
from lab.config import MeasurementConfig, load_config, make_config
from lab.files import write_json
from lab.results import PLAN, MeasurementResult, PlanRecord, read_record
from lab.scheduling.driver import Summary
from lab.scheduling.tuning.tuning import SPACE
from lab.version import Version

HEAVY = {
    "keras",
    "jax",
    "tensorflow",
    "torch",
    "optuna",
    "numpy",
    "scipy",
    "matplotlib",
    "pydantic",
    "keras_hub",
}


class Calls(list):
    options = None


def stand_in(monkeypatch, name, **attributes):
    module = ModuleType(name)
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def presets(tmp_path, monkeypatch):
    folder = tmp_path / "configs"
    folder.mkdir()
    for name in ("laptop", "smoke"):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    monkeypatch.setattr(lab.config, "PRESETS_DIR", folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STORAGE", raising=False)
    return folder


@pytest.fixture
def trained(presets, monkeypatch):
    """The calls of `train_run`; `options` are what a driver adds to the last."""
    calls = Calls()

    def train_run(config, logdir, cache_dir, notice, start, data_key, member):
        assert not notice.given
        calls.append((config, logdir, cache_dir))
        calls.options = (start, data_key)
        return result(stop(30, 0.23456))

    stand_in(monkeypatch, "lab.training.run", train_run=train_run)
    dataset = SimpleNamespace(hash="hash")
    stand_in(monkeypatch, "lab.data.dataset", prepare=lambda config, cache_dir: dataset)
    return calls


def verdict_of(tree):
    return Table(f"verdict of {tree}", box=None)


@pytest.fixture
def ablated(presets, monkeypatch):
    """What is driven and reported; `summary` is what the driver will say."""
    seen = SimpleNamespace(drives=[], reports=[], indexes=[], prepared=[], measured=[])
    seen.summary, seen.measurements = Summary(done=4), Summary()

    @contextmanager
    def driving(plan, executor, places, progress, tries):
        seen.drives.append((plan, executor, places.cache, places.storage))
        seen.tries = tries
        yield SimpleNamespace(bring=bring)

    def measure_finished(plan, driver):
        seen.measured.append(plan)
        return seen.measurements

    def bring(plan, driver=None):
        assert (plan.tuning is None) == (driver is None)
        plan.write()
        return seen.summary

    def prepare(config, cache_dir):
        seen.prepared.append(config)
        return SimpleNamespace(
            train=range(100_000),
            hash=hashes["train"],
            hashes=hashes,
            key="key",
            left_out="2 .csv were not read",
        )

    hashes = {split: f"hash of {split}" for split in ("train", "validation", "test")}

    def budget(train, unique_tokens, length, replicate):
        if unique_tokens and unique_tokens > len(train):
            raise ValueError(f"`unique_tokens` must be in 1..{len(train)}, but got {unique_tokens}.")
        return train[:unique_tokens]

    monkeypatch.setattr(lab.api, "driving", driving)
    monkeypatch.setattr(lab.api, "drive_tuned", bring)
    monkeypatch.setattr(lab.api, "measure_finished", measure_finished)

    def require_held_out(config, dataset, *sections):
        if config.evaluation.test_windows > 1000:
            raise ValueError(f"the held-out splits must be long enough for the {' and '.join(sections)}")

    stand_in(monkeypatch, "lab.data.budget", budget=budget)
    stand_in(monkeypatch, "lab.data.dataset", prepare=prepare)
    stand_in(monkeypatch, "lab.evaluation.held_out", require_held_out=require_held_out)
    stand_in(
        monkeypatch,
        "lab.data.summary",
        describe=lambda dataset: [("documents", "7")],
        BASELINE_COLUMNS=("counted", "NLL"),
        describe_baselines=lambda counted: [("n-gram", f"of {counted}")],
    )
    stand_in(
        monkeypatch,
        "lab.evaluation.baselines",
        measure_baselines=lambda config, dataset, cache, most: f"{most} at most, {cache}",
    )
    stand_in(
        monkeypatch,
        "lab.reporting.report",
        write_report=lambda tree: (
            seen.reports.append(tree)
            or SimpleNamespace(
                printed=Table(f"verdict of {tree}", box=None), page=tree / "report" / "index.html"
            )
        ),
        write_index=lambda root, trees: seen.indexes.append((root, trees)) or root / "index.html",
    )
    return seen


def invoke(*arguments, **options):
    return CliRunner().invoke(lab.__main__.app, list(arguments), **options)


def test_run_lays_arm_seed_data_and_set_over_the_preset(trained, tmp_path):
    said = invoke(
        *("run", "--preset", "smoke", "--arm", "dlm", "--seed", "3", "--data", "a.txt", "--data", "b"),
        *("--set", "model.width=32 training.learning_rate=1e-2", "--set", "model.heads=1"),
    )
    assert said.exit_code == 0, said.output
    ((config, logdir, cache),) = trained
    expected = make_config(
        TINY,
        arm_values("dlm"),
        {"seed": 3, "data": {"corpus": "text", "paths": ["a.txt", "b"]}},
        {"model": {"width": 32, "heads": 1}, "training": {"learning_rate": 0.01}},
    )
    assert config == expected
    version = Version.of(config, "hash", os.environ["KERAS_BACKEND"], "")
    assert str(logdir) == f"results/runs/dlm-seed=3-{version.digest()}"
    assert str(cache) == ".cache"
    assert "dlm seed 3: best stop (annealed) at epoch 2.0, test NLL 1.2346 nats/token" in said.output


def test_run_defaults_to_ar_on_the_laptop_preset(trained):
    assert invoke("run").exit_code == 0
    assert trained[0][0] == make_config(TINY, arm_values("ar"))


def test_run_and_measure_are_told_what_the_driver_knows(trained, measured, tmp_path):
    config = make_config(TINY, arm_values("dlm"))
    (tmp_path / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    place = ("--config", "config.yaml", "--logdir", "run", "--cache", "c", "--data-key", "abc")
    said = invoke("run", *place, "--start", "runs/ar")
    assert said.exit_code == 0, said.output
    assert trained.options == (Path("runs/ar"), "abc")
    assert invoke("run", *place[:6]).exit_code == 0
    assert trained.options == (None, "")
    (tmp_path / "config.yaml").write_text(asked_of(config).to_yaml(), encoding="utf-8")
    assert invoke("measure", *place).exit_code == 0
    assert measured.data_key == "abc"
    assert "--data-key" not in invoke("run", "--help").output


def test_run_reads_a_resolved_config_as_the_driver_passes_it(trained, tmp_path):
    config = make_config(TINY, arm_values("dlm"), {"seed": 5})
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    said = invoke(
        "run", "--config", str(path), "--logdir", str(tmp_path / "run"), "--cache", str(tmp_path / "c")
    )
    assert said.exit_code == 0, said.output
    assert trained == [(load_config(path), tmp_path / "run", tmp_path / "c")]


@pytest.mark.parametrize("extra", [["--arm", "ar"], ["--seed", "0"], ["--set", "a=1"], ["--data", "x"]])
def test_run_takes_a_config_alone(trained, extra):
    said = invoke("run", "--config", "config.yaml", *extra)
    assert said.exit_code == 2
    assert "--config must stand alone" in said.output
    assert not trained


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "--preset", "huge"],
            "`preset` must be one of ['laptop', 'smoke'] or a .yaml file, but got preset='huge'.",
        ),
        (["run", "--arm", "gpt"], "`arm` must be one of ["),
        (["run", "--set", "model.wdth=3"], "model.wdth: no such key"),
        (["run", "--config", "none.yaml"], "expected a YAML file at none.yaml, but there is none."),
        (["ablate", "cross"], "`ablation` must be one of ["),
        (["ablate", "crossover", "--seeds", "0"], "`seeds` must be >= 1, but got seeds=0."),
        (
            ["ablate", "crossover", "--seeds", "x"],
            "`seeds` must be a whole number or 'auto', but got seeds='x'.",
        ),
        (["ablate", "crossover", "--workers", "-1"], "`workers` must be >= 0"),
        (["ablate", "crossover", "--per-device", "0"], "`per_device` must be >= 1"),
        (
            ["ablate", "crossover", "--population", "-1"],
            "`population` must be from 0 (as many as pay) to 1,0",
        ),
        (["ablate", "crossover", "--population", "1001"], "to 1,000, but got population=1001."),
        (
            ["ablate", "crossover", "--population", "2", "--engine", "ray"],
            "must be 1 with engine=ray, but got",
        ),
        (["ablate", "crossover", "--stall-seconds", "0"], "`stall_seconds` must be > 0"),
        (["ablate", "crossover", "--stall-seconds", "nan"], "`stall_seconds` must be > 0, but got stall_sec"),
        (["ablate", "crossover", "--set", "model.layers=true"], "model.layers: expected a whole number, but"),
        (["run", "--set", "model.layers=true"], "model.layers: expected a whole number, but got true."),
        (
            ["ablate", "crossover", "--preset", "smoke", "--levels", "data.unique_tokens=1e3,1000"],
            "two cells must differ, but 'ar unique_tokens=1000 seed=0' is there twice.",
        ),
        (["ablate", "crossover", "--workers", "1000000000"], "at most 10,000 processes at once"),
        (["ablate", "crossover", "--seeds", "1000000000"], "must be at most 10,000 runs, but got"),
        (["ablate", "crossover", "--seeds", "1e9"], "`seeds` must be a whole number or 'auto'"),
        (["ablate", "crossover", "--levels", "data.unique_tokens=10"], "must fill one window of data.length"),
        (["ablate", "crossover", "--levels", "data.unique_tokens=0x10"], "a whole number, but got '0x10'"),
        (["ablate", "crossover", "--levels", "data.unique_tokens=500,"], "levels must look like"),
        (["ablate", "crossover", "--set", "model.width=1e9"], "nothing makes it fit 1 of these devices."),
        (["run", "--set", "model.width=1e9"], "nothing makes it fit 1 of these devices."),
        (["run", "--set", "evaluation.batch_size=1e12"], "`evaluation.batch_size` must be of sequences that"),
        (
            ["ablate", "crossover", "--set", "training.total_epochs=1e300"],
            "expected a number of at most 2**53",
        ),
        (["run", "--set", "training.total_epochs=1e300"], "expected a number of at most 2**53"),
        (["ablate", "crossover", "--results", "file"], "`results` must be a folder, but "),
        (["board", "nowhere"], "`path` must be a folder of runs, but got nowhere."),
        (["ablate", "crossover", "--engine", "slurm"], "`engine` must be one of ['local', 'ray'], but got"),
        (["ablate", "crossover", "--shared", "s3://x"], "`shared` needs engine=ray: local runs leave"),
        (["ablate", "crossover", "--set", "arm=x"], "an override must not set what crossover varies"),
        (["report", "nowhere"], "nothing has run yet in nowhere: there is no such folder."),
        (["data", "--preset", "huge"], "`preset` must be one of"),
    ],
)
def test_a_users_error_is_one_message_without_a_traceback(trained, ablated, arguments, message):
    Path("file").touch()
    said = invoke(*arguments)
    assert said.exit_code == 2
    assert said.stderr.startswith("error: ")
    assert message in said.stderr
    assert "Traceback" not in said.output
    assert not trained
    assert not ablated.drives
    assert not ablated.prepared or "per_device" in message or "stall" in message or "shared" in message
    assert not Path("results").exists()


WRONG = {
    "KERAS_BACKEND=foo": "`KERAS_BACKEND` must be one of ['jax', 'tensorflow', 'torch'], but got",
    "KERAS_BACKEND=Jax": "`KERAS_BACKEND` must be one of ['jax', 'tensorflow', 'torch'], but got",
    "JAX_PLATFORMS=foo": "`JAX_PLATFORMS` must be of ['cpu', 'cuda', 'gpu', 'tpu']",
    "JAX_PLATFORMS=CPU": "`JAX_PLATFORMS` must be of ['cpu', 'cuda', 'gpu', 'tpu']",
    "JAX_PLATFORMS=tpu": "JAX_PLATFORMS=tpu must name what this machine has, but no tpu device is here.",
}


@pytest.mark.parametrize("command", ["ablate crossover", "run", "measure", "generate r", "eval r --data x"])
@pytest.mark.parametrize("variable", WRONG)
def test_a_backend_that_no_run_could_have_is_refused_once(variable, command, trained, ablated, monkeypatch):
    name, _, value = variable.partition("=")
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("lab.scheduling.executors.slots._names", lambda kind: ())
    said = invoke(*command.split())
    assert (said.exit_code, said.stdout) == (2, ""), said.output
    assert said.stderr.startswith(f"error: {WRONG[variable]}")
    assert len(said.stderr.splitlines()) == 1
    assert not trained
    assert not ablated.prepared
    assert not Path("results").exists()


def test_a_study_that_is_there_is_shown_whatever_the_backend(ablated, monkeypatch):
    assert invoke("ablate", "crossover", "--preset", "smoke").exit_code == 0
    monkeypatch.setenv("KERAS_BACKEND", "foo")
    assert invoke("ablate", "crossover", "--preset", "smoke").exit_code == 2
    assert (invoke("report", "results").exit_code, len(ablated.reports)) == (0, 2)
    assert invoke("status").exit_code == 0


SYSTEM = ("EACCES", "EROFS", "ENOSPC", "EDQUOT", "ENOTDIR", "EISDIR", "ENAMETOOLONG", "EEXIST", "ELOOP")


@pytest.mark.parametrize("name", SYSTEM)
def test_what_the_system_refuses_is_one_line_with_the_path_and_the_option(
    name, trained, ablated, monkeypatch
):
    number = getattr(errno, name)

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), "c/abc/tokens.npy")

    monkeypatch.setattr(sys.modules["lab.data.dataset"], "prepare", refuse)
    stand_in(monkeypatch, "lab.training.run", train_run=refuse)
    why = "it is no folder" if name == "EEXIST" else os.strerror(number)
    told = f"error: cannot go on with c/abc/tokens.npy: {why}. It is of `cache`, c: give another."
    for command in ("ablate crossover", "data", "run --logdir run"):
        said = invoke(*command.split(), "--cache", "c")
        assert (said.exit_code, said.stderr.splitlines()[-1]) == (2, told), command
        assert "Traceback" not in said.stderr
    assert not ablated.drives


def test_a_results_folder_that_fills_up_is_named_with_its_option(ablated, monkeypatch):
    def full(plan, driver=None):
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "out/crossover/smoke/plan.json")
        except OSError as error:
            raise ValueError(f"cannot go on in {plan.tree}: {error}.") from error

    monkeypatch.setattr(lab.api.Plan, "write", lambda plan: full(plan))
    said = invoke("ablate", "crossover", "--preset", "smoke", "--results", "out")
    assert said.exit_code == 2
    assert said.stderr.endswith("plan.json'. It is of `results`, out: give another.\n")


def test_the_last_line_of_a_failed_run_is_its_error_though_jax_adds_notes(presets, monkeypatch):
    def train_run(*_):
        error = RuntimeError("Unable to initialize backend 'cuda': no luck\nmore of it")
        error.add_note("For simplicity, JAX has removed its internal frames.")
        raise error

    stand_in(monkeypatch, "lab.training.run", train_run=train_run)
    said = invoke("run", "--logdir", "run")
    last = said.stderr.splitlines()[-1]
    assert (said.exit_code, last) == (1, "error: RuntimeError: Unable to initialize backend 'cuda': no luck")
    assert "Traceback" in said.stderr


@pytest.mark.parametrize("command", ["dashboard", "board"])
@pytest.mark.parametrize("port", ["80000", "-1", "abc"])
def test_a_port_that_there_is_not_is_refused(command, port, ablated):
    said = invoke(command, "--port", port)
    assert said.exit_code == 2
    assert "Invalid value for '--port'" in said.stderr


def test_two_runs_in_one_logdir_are_refused(trained, tmp_path, monkeypatch):
    code = (
        "import pathlib, sys\nfrom lab.scheduling.ledger.locks import sole_owner\n"
        "with sole_owner(pathlib.Path('run'), 'run'):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, **pipes) as holder:
        assert holder.stdout.readline() == b"held\n"
        monkeypatch.setattr(lab.scheduling.single, "ORPHAN_SECONDS", 0.1)
        said = invoke("run", "--logdir", "run")
        assert said.exit_code == 2
        assert f"run must have one run at a time, but process {holder.pid} is at work there" in said.stderr
        assert not trained
        holder.kill()
    assert invoke("run", "--logdir", "run").exit_code == 0


def test_ablate_plans_drives_and_reports(ablated, tmp_path):
    said = invoke(
        *("ablate", "crossover", "--preset", "smoke", "--seeds", "2", "--workers", "3"),
        *("--set", "training.batch_size=8", "--data", "my text.txt", "--results", "out", "--cache", "c"),
        *("--levels", "data.unique_tokens=500,600"),
    )
    assert said.exit_code == 0, said.output
    ((plan, executor, cache, storage),) = ablated.drives
    assert str(plan.tree) == "out/crossover/smoke"
    assert (plan.ablation, plan.preset, len(plan.cells)) == (load_ablation("crossover"), "smoke", 8)
    assert {cell.config.training.batch_size for cell in plan.cells} == {8}
    assert {cell.config.data.paths for cell in plan.cells} == {("my text.txt",)}
    assert {cell.config.data.unique_tokens for cell in plan.cells} == {500, 600}
    assert (executor.free(), str(cache), storage) == (3, "c", "")
    assert plan.command == (
        "python -m lab ablate crossover --preset smoke --seeds 2 --levels data.unique_tokens=500,600 "
        "--data 'my text.txt' "
        "--set training.batch_size=8 --results out"
    )
    assert read_record(PlanRecord, plan.tree / PLAN).left_out == "2 .csv were not read"
    assert ablated.reports == [plan.tree]
    assert ablated.indexes == [(Path("out"), [plan.tree])]
    outlook, verdict, page = said.stdout.splitlines()
    assert outlook.startswith("crossover (smoke): 8 runs, 3 at once; jax on cpu")
    assert verdict.strip() == "verdict of out/crossover/smoke"
    assert page == "page: out/crossover/smoke/report/index.html"


@pytest.mark.parametrize("name", [b"it's caf\xe9\\", b"new\nline", "it's café".encode()])
def test_the_command_can_be_typed_whatever_the_text_is_called(name, ablated):
    said = invoke("ablate", "crossover", "--preset", "smoke", "--data", os.fsdecode(name))
    assert said.exit_code == 0, said.output
    ((plan, *_),) = ablated.drives
    typed = plan.command.encode()  # as a page is written
    command = ["bash", "-c", b'python() { printf "%s\\0" "$@"; }; ' + typed]
    assert subprocess.run(command, capture_output=True, check=True).stdout.split(b"\0")[-2] == name


def test_what_a_preset_of_ones_own_found_for_an_arm_is_planned(ablated, tmp_path):
    preset = tmp_path / "mine.yaml"
    preset.write_text("base: laptop\narms:\n  dlm:\n    training:\n      clip_norm: 5\n", encoding="utf-8")
    said = invoke("ablate", "crossover", "--preset", str(preset), "--seeds", "2")
    assert said.exit_code == 0, said.output
    ((plan, *_),) = ablated.drives
    assert plan.strong == {"dlm": {"training": {"clip_norm": 5}}}
    assert {cell.config.training.clip_norm for cell in plan.cells if cell.arm == "dlm"} == {5.0}
    invoke("ablate", "crossover", "--preset", str(preset), "--seeds", "2", "--set", "training.clip_norm=2")
    (_, (plan, *_)) = ablated.drives
    assert plan.strong == {}  # what the user sets was not found


def test_ablate_adds_seeds_until_it_is_decided(ablated, monkeypatch):
    decided = iter([False, True])
    monkeypatch.setattr(lab.api, "_decided", lambda plan: next(decided))
    assert invoke("ablate", "crossover", "--preset", "smoke", "--seeds", "auto").exit_code == 0
    (plan,) = ablated.measured  # once, after the last look
    assert (plan.auto, len(plan.cells)) == (True, 5 * 5)
    assert plan.command == "python -m lab ablate crossover --preset smoke --seeds auto"


@pytest.mark.parametrize(("backend", "folder"), [("jax", "smoke"), ("torch", "smoke-torch")])
def test_each_backend_has_its_own_result_tree(backend, folder, ablated, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    monkeypatch.setattr("lab.environment.find_spec", lambda name: object())
    assert invoke("ablate", "crossover", "--preset", "smoke").exit_code == 0
    assert ablated.drives[0][0].tree.as_posix() == f"results/crossover/{folder}"


def test_tune_gives_every_arm_trials_in_a_tree_of_its_own_but_for_what_the_user_sets(ablated):
    said = invoke(
        *("ablate", "crossover", "--preset", "smoke", "--tune", "5"),
        *("--set", "training.weight_decay=0.5"),
    )
    assert said.exit_code == 0, said.output
    plan = ablated.drives[0][0]
    assert plan.tree.as_posix() == "results/crossover/smoke-tuned"
    assert (plan.tuning.trials, set(plan.tuning.space)) == (5, set(SPACE) - {"training.weight_decay"})
    assert plan.command == (
        "python -m lab ablate crossover --preset smoke --tune 5 --set training.weight_decay=0.5"
    )
    assert json.loads((plan.tree / "plan.json").read_text())["tuning"]["trials"] == 5
    assert invoke("ablate", "crossover", "--preset", "smoke", "--tune", "0").exit_code == 2


@pytest.mark.parametrize(("arguments", "trials"), [((), 3), (("--tune", "7"), 7)])
def test_an_ablation_that_tunes_does_so_unasked_in_its_usual_tree(arguments, trials, ablated):
    assert invoke("ablate", "regularization", "--preset", "smoke", *arguments).exit_code == 0
    plan = ablated.drives[0][0]
    assert plan.tree.as_posix() == "results/regularization/smoke"
    assert (plan.tuning.trials, plan.tuning.space) == (trials, SPACE)


def test_ablate_looks_at_each_corpus_before_any_run(ablated):
    assert invoke("ablate", "crossover", "--preset", "smoke").exit_code == 0
    assert [config.unique_tokens for config in ablated.prepared] == [2000, 4000, 8000]
    said = invoke("ablate", "crossover", "--preset", "smoke", "--set", "data.length=20 data.tokenizer=x")
    assert said.exit_code == 0
    ablated.drives.clear()
    ablated.prepared.clear()
    (lab.config.PRESETS_DIR / "gpu.yaml").write_text(yaml.safe_dump(TINY), encoding="utf-8")
    said = invoke("ablate", "crossover", "--preset", "gpu")
    assert (said.exit_code, ablated.drives) == (2, [])
    assert "`unique_tokens` must be in 1..100000, but got 300000" in said.stderr
    many = ("--set", "evaluation.test_windows=2000")
    for name, sections in (("crossover", "evaluation"), ("inference-compute", "evaluation and inference")):
        said = invoke("ablate", name, "--preset", "smoke", *many)
        assert (said.exit_code, ablated.drives) == (2, [])
        assert said.stderr.endswith(f"must be long enough for the {sections}\n")


def test_a_level_is_named_as_the_configuration_reads_it(ablated):
    levels = ("--levels", "data.unique_tokens=1e3")
    assert invoke("ablate", "crossover", "--preset", "smoke", *levels).exit_code == 0
    assert {cell.logdir.split("/")[2] for cell in ablated.drives[0][0].cells} == {"unique_tokens=1000"}


REFUSED = ("evaluation.test_windows=2000", "data.unique_tokens=3", "training.total_tokens=1")


@pytest.mark.parametrize("setting", REFUSED)
def test_refused_settings_move_no_run_and_leave_the_plan(ablated, tmp_path, setting):
    command = ("ablate", "attribution", "--preset", "smoke")
    assert invoke(*command).exit_code == 0
    plan = ablated.drives.pop()[0]
    write_json(plan.logdir(plan.cells[0]) / "version.json", {"values": {}, "code": "another"})
    (plan.logdir(plan.cells[0]) / "metrics.jsonl").write_text("rows")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    said = invoke(*command, "--set", setting)
    assert (said.exit_code, ablated.drives) == (2, []), said.output
    assert said.stderr.startswith("error: ")
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_finished_runs_are_measured_between_the_runs_and_the_report(ablated, monkeypatch):
    def measure_finished(plan, driver):
        assert ablated.drives
        assert not ablated.reports
        ablated.measured.append(plan)
        return Summary(failed={"measurements inference dlm seed=0": "lost"})

    monkeypatch.setattr(lab.api, "measure_finished", measure_finished)
    said = invoke("ablate", "inference-compute", "--preset", "smoke", "--cache", "c")
    assert said.exit_code == 1, said.output
    assert said.stderr == "failed: measurements inference dlm seed=0: lost\n"
    assert [plan.ablation.name for plan in ablated.measured] == ["inference-compute"]
    assert len(ablated.reports) == 1


def test_what_was_tuned_is_measured_as_it_is_after_tuning(ablated, monkeypatch):
    """The plan that the tuning driver made of it holds each arm at its best."""
    ablated.summary.plan = SimpleNamespace(name="at its best")
    assert invoke("ablate", "regularization", "--preset", "smoke").exit_code == 0
    assert ablated.measured == [ablated.summary.plan]


def test_after_a_notice_nothing_is_measured_and_one_while_measuring_ends_the_same_way(ablated):
    ablated.summary = Summary(interrupted=signal.SIGTERM)
    assert invoke("ablate", "crossover", "--preset", "smoke").exit_code == 75
    assert not ablated.measured
    ablated.summary, ablated.measurements = Summary(done=4), Summary(interrupted=signal.SIGINT)
    said = invoke("ablate", "crossover", "--preset", "smoke")
    assert (said.exit_code, said.stderr) == (130, "stopped; the same command goes on from here\n")
    assert not ablated.reports


def test_ray_says_what_to_install(ablated, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "lab.scheduling.executors.ray_executor", raising=False)
    said = invoke("ablate", "crossover", "--preset", "smoke", "--engine", "ray")
    assert said.exit_code == 2
    assert said.stderr == "error: engine=ray needs ray: make setup EXTRAS=ray\n"


def test_ray_gets_the_options_of_the_engine(ablated, monkeypatch):
    made = []

    class RayExecutor:
        def __init__(self, workers, **options):
            made.append({"workers": workers, **options})

    stand_in(monkeypatch, "lab.scheduling.executors.ray_executor", RayExecutor=RayExecutor)
    options = ("--engine", "ray", "--workers", "3", "--per-device", "2", "--shared", "s3://x")
    said = invoke("ablate", "crossover", "--preset", "smoke", *options, "--stall-seconds", "60")
    assert said.exit_code == 0, said.output
    expected = {"workers": 3, "per_device": 2, "devices": 1, "ranks": 1, "stall_seconds": 60.0}
    assert made == [{**expected, "shared": "s3://x", "root": Path("results")}]
    assert isinstance(ablated.drives[0][1], RayExecutor)


def test_the_number_of_tries_can_be_chosen(ablated):
    said = invoke("ablate", "crossover", "--preset", "smoke", "--tries", "lost=5", "--tries", "error=1")
    assert said.exit_code == 0, said.output
    assert (ablated.tries["lost"], ablated.tries["error"], ablated.tries["stalled"]) == (5, 1, 2)


@pytest.mark.skipif(os.environ.get("KERAS_BACKEND", "jax") != "jax", reason="populations are JAX's")
def test_runs_are_trained_together_where_it_is_asked_for(ablated, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    for options, expected in ((), ("LocalExecutor", 1)), (("--population", "3"), ("PopulationExecutor", 3)):
        said = invoke("ablate", "crossover", "--preset", "smoke", *options)
        assert said.exit_code == 0, said.output
        executor = ablated.drives[-1][1]
        assert (type(executor).__name__, executor.population) == expected


@pytest.mark.parametrize("name", ["ranks", "devices"])
def test_several_ranks_or_devices_need_runs_that_are_parallel(name, ablated):
    said = invoke("ablate", "crossover", "--preset", "smoke", f"--{name}", "2")
    assert (said.exit_code, ablated.drives) == (2, [])
    assert f"`{name}` must be 1 unless training.parallel is data or model, but got {name}=2" in said.stderr


def test_several_ranks_are_handed_to_the_executor(ablated):
    options = ("--ranks", "2", "--set", "training.parallel=data")
    assert invoke("ablate", "crossover", "--preset", "smoke", *options).exit_code == 0
    assert ablated.drives[0][1].ranks == 2


@pytest.fixture
def measured(presets, monkeypatch):
    """The calls of `measure_runs`, and of what makes a measurement of folders."""
    calls = SimpleNamespace(measured=[], made=[])

    def measure_runs(config, logdir, cache_dir, notice, data_key):
        calls.measured.append((config, logdir, cache_dir))
        calls.data_key = data_key
        task = {"measurement": "nll", "split": "test", "settings": {"windows": 3}}
        stop = {"run": "r", "reading": "annealed", "step": 10}
        rows = [
            {"key": "k", "task": task, "stops": [stop], "values": {"nll": 1.23456, "bits_per_byte": None}}
        ]
        values = {"measurement": "yardstick", "wanted": "w", "stops": [stop], "tokens_seen": 1, "epoch": 1.0}
        return MeasurementResult(**values, code="c", process=PROCESS, wall_seconds=1.0, rows=rows)

    def measurement_of(measurement, logdir, runs, overrides):
        calls.made.append((measurement, logdir, runs, overrides))
        return f"{measurement} of {runs[0]}"

    made = {"measure_runs": measure_runs, "measurement_of": measurement_of}
    stand_in(monkeypatch, "lab.training.measuring", **made)
    stand_in(monkeypatch, "lab.training.memory", keep_freed_memory=lambda: None)
    return calls


def asked_of(config):
    """A resolved measurement."""
    stop = {"run": "r", "version": "v", "reading": "annealed", "step": 3, "tokens_seen": 5, "epoch": 0.5}
    return MeasurementConfig(measurement="inference", stops=(stop,), config=config)


def test_measure_names_what_is_measured_with_what_where_and_how(measured):
    said = invoke(
        *("measure", "inference", "tree/ar", "--with", "tree/judge", "--with", "tree/other"),
        *("--set", "inference.prompts=8", "--cache", "c"),
    )
    assert said.exit_code == 0, said.output
    folder = Path("tree/measurements/ar-inference")
    runs = [Path("tree/ar"), Path("tree/judge"), Path("tree/other")]
    assert measured.made == [("inference", folder, runs, {"inference": {"prompts": 8}})]
    assert measured.measured == [("inference of tree/ar", folder, Path("c"))]
    row, place = said.stdout.splitlines()
    assert row == "nll test step 10 windows=3: NLL 1.235 nats/token"
    assert place == "tree/measurements/ar-inference/result.json"


def test_measure_reads_a_resolved_measurement_as_the_driver_passes_it(measured, tmp_path):
    config = MeasurementConfig(
        measurement="inference",
        stops=(
            {"run": "r", "version": "v", "reading": "annealed", "step": 3, "tokens_seen": 5, "epoch": 0.5},
        ),
        config=make_config(TINY),
    )
    (tmp_path / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    said = invoke("measure", "--config", "config.yaml", "--logdir", "there", "--cache", "c")
    assert said.exit_code == 0, said.output
    assert measured.measured == [(config, Path("there"), Path("c"))]
    for extra in (["inference"], ["--with", "x"], ["--set", "a=1"], []):
        logdir = ["--logdir", "there"] if extra else []
        said = invoke("measure", "--config", "config.yaml", *logdir, *extra)
        assert said.exit_code == 2
        assert "error: --config must stand alone but for --logdir and --cache" in said.stderr
    assert len(measured.measured) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "`run` must be the folder of a finished run, but none is given."),
        (
            ["speed", "ar"],
            "`measurement` must be one of ['ability', 'code', 'ensemble', 'inference', 'infilling', 'memo",
        ),
        (["--config", "none.yaml", "--logdir", "x"], "expected a YAML file at none.yaml, but there is none."),
    ],
)
def test_measure_says_in_one_line_what_is_wrong(measured, arguments, message):
    said = invoke("measure", *arguments)
    assert said.exit_code == 2
    assert said.stderr.startswith(f"error: {message}")
    assert not measured.measured


def test_standby_does_what_it_is_told(trained, measured, monkeypatch, tmp_path):
    config = make_config(TINY, arm_values("dlm"), {"seed": 5})
    (tmp_path / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    calls = []
    get_ready = lambda rehearse, cache: calls.append((rehearse, cache))  # noqa: E731
    paths = {"config": tmp_path / "config.yaml", "logdir": tmp_path / "run", "cache": tmp_path / "c"}
    order = ["run", *(text for name, path in paths.items() for text in (f"--{name}", str(path)))]
    side = {"get_ready": get_ready, "start_afresh": lambda order: calls.append(order)}
    stand_in(monkeypatch, "lab.scheduling.executors.standby", wait_for_order=lambda: order, **side)
    stand_in(monkeypatch, "lab.training.memory", keep_freed_memory=lambda: None)
    assert invoke("standby", "--cache", "c", "--rehearse", "other.yaml").exit_code == 0
    assert calls == [(Path("other.yaml"), Path("c"))]
    assert trained == [(config, tmp_path / "run", tmp_path / "c")]
    codes = iter(["as it was", "as it is", "changed"])
    monkeypatch.setattr(lab.code, "closure_hash", lambda *modules: next(codes, "changed"))
    assert invoke("standby", "--cache", "c").exit_code == 0
    assert order in calls  # a process that has imported other code is of no use
    calls.clear()
    monkeypatch.setattr(lab.code, "closure_hash", lambda *modules: "")
    asked = asked_of(config)
    (tmp_path / "config.yaml").write_text(asked.to_yaml(), encoding="utf-8")
    order[0] = "measure"
    before = len(trained)
    assert invoke("standby", "--cache", "c").exit_code == 0
    assert measured.measured == [(asked, tmp_path / "run", tmp_path / "c")]
    assert order not in calls
    stand_in(monkeypatch, "lab.scheduling.executors.standby", wait_for_order=lambda: None, **side)
    assert invoke("standby").exit_code == 0  # the driver has gone
    assert (len(trained), len(measured.measured)) == (before, 1)


def test_a_standby_that_cannot_import_keras_leaves_it_to_a_process_with_a_log(monkeypatch):
    calls, order = [], ["run", "--config", "config.yaml"]

    def broken():
        raise ValueError("the backend cannot be imported")

    def start_afresh(order):
        calls.append(order)
        raise typer.Exit

    stand_in(
        monkeypatch,
        "lab.scheduling.executors.standby",
        get_ready=None,
        start_afresh=start_afresh,
        wait_for_order=lambda: order,
    )
    monkeypatch.setattr("lab.training.lean.import_keras", broken)
    assert invoke("standby").exit_code == 0
    assert calls == [order]


@pytest.fixture
def population(tmp_path, monkeypatch):
    """Runs the hidden command with a pipe for its reports: what it said, what it reported, what it served."""
    served = []

    def serve(places, folder, train, orders, reports):
        served.append((places, folder, train))
        reports.write("ended")

    stand_in(monkeypatch, "lab.scheduling.executors.members", Orders=lambda: None, serve=serve)
    stand_in(monkeypatch, "lab.training.memory", keep_freed_memory=lambda: None)
    monkeypatch.chdir(tmp_path)

    def population():
        Path("f").mkdir()
        reported, reports = os.pipe()
        said = invoke("population", "--places", "3", "--folder", "f", "--reports", str(reports))
        with os.fdopen(reported) as file:
            return said, file.read(), served

    return population


def test_a_process_of_a_population_serves_and_is_not_listed(population, monkeypatch):
    monkeypatch.setattr("lab.training.lean.import_keras", lambda: None)
    said, reported, served = population()
    assert (said.exit_code, said.output, reported) == (0, "", "ended")
    assert served == [(3, Path("f"), lab.__main__._train_member)]
    assert not Path("f").exists()
    listed = invoke("--help").output
    assert "ablate" in listed
    assert "Train the runs that come by lines" not in listed


def test_a_process_of_a_population_says_that_its_backend_cannot_be_imported(population, monkeypatch):
    def broken():
        raise ValueError("the backend cannot be imported")

    monkeypatch.setattr("lab.training.lean.import_keras", broken)
    said, *nothing = population()
    assert (said.exit_code, said.stderr) == (2, "error: the backend cannot be imported\n")
    assert nothing == ["", []]
    assert Path("f").exists()  # the driver quotes its log


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        ("", 0, ""),
        ("ValueError('`width` must be even')", 2, "error: `width` must be even\n"),
        ("DivergedError('loss nan')", 3, "error: loss nan\n"),
        ("MemoryError('no room')", 5, "error: MemoryError: no room\n"),
        ("PreemptedError('asked to end')", 75, "asked to end; the same command goes on from here\n"),
        ("DroppedError()", 75, ""),
    ],
)
def test_a_run_of_a_population_ends_with_the_code_of_a_run_alone(
    error, code, told, presets, monkeypatch, capsys
):
    from lab.training import ending

    def train_run(*given):
        seen.append(given)
        if error:
            raise eval(error, vars(ending) | vars(builtins))

    seen, member = [], object()
    stand_in(monkeypatch, "lab.training.run", train_run=train_run)
    config = make_config(TINY, arm_values("dlm"))
    Path("config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    order = {"config": "config.yaml", "logdir": "run", "cache": "c", "start": "runs/ar", "data_key": "abc"}
    assert lab.__main__._train_member(order, member) == code
    assert capsys.readouterr().err.endswith(told)
    ((*given, _, start, key, handed),) = seen
    assert given == [config, Path("run"), Path("c")]
    assert (start, key, handed) == (Path("runs/ar"), "abc", member)


def test_a_run_of_a_population_whose_configuration_is_gone_is_a_users_error(presets, capsys):
    order = {"config": "none.yaml", "logdir": "run", "cache": "c", "start": "", "data_key": ""}
    assert lab.__main__._train_member(order, object()) == 2
    assert capsys.readouterr().err == "error: expected a YAML file at none.yaml, but there is none.\n"


def test_ablate_names_failures_and_exits_1(ablated):
    ablated.summary = Summary(done=3, failed={"dlm seed=0": "exit code 1: no luck"})
    said = invoke("ablate", "crossover", "--preset", "smoke")
    assert said.exit_code == 1
    assert "failed: dlm seed=0: exit code 1: no luck" in said.stderr
    assert "verdict" in said.stdout


def test_a_notice_before_the_first_run_is_for_the_launcher_too(ablated, monkeypatch):
    def prepare(config, cache_dir):
        os.kill(os.getpid(), signal.SIGUSR1)
        raise AssertionError("went on")

    monkeypatch.setattr(sys.modules["lab.data.dataset"], "prepare", prepare)
    said = invoke("ablate", "crossover", "--preset", "smoke")
    assert (said.exit_code, ablated.drives) == (75, [])
    assert said.stderr == "stopped; the same command goes on from here\n"


@pytest.mark.parametrize(("notice", "code"), [("SIGINT", 130), ("SIGTERM", 75), ("SIGUSR1", 75)])
def test_ablate_interrupted_says_how_to_go_on(ablated, notice, code):
    ablated.summary = Summary(interrupted=signal.Signals[notice])
    said = invoke("ablate", "crossover", "--preset", "smoke")
    assert said.exit_code == code
    assert said.stderr == "stopped; the same command goes on from here\n"
    assert not ablated.reports


def test_storage_comes_from_the_environment_and_its_password_is_never_shown(ablated, tmp_path):
    url = "postgresql://me:sesame@127.0.0.1:1/name"
    said = invoke("ablate", "crossover", "--preset", "smoke", env={"STORAGE": url})
    assert ablated.drives[0][3] == url
    assert "sesame" not in said.output
    assert "sesame" not in "".join(path.read_text() for path in tmp_path.rglob("*.json"))


def test_a_failing_storage_does_not_show_its_password(presets, tmp_path):
    command = [
        sys.executable,
        "-m",
        "lab",
        "ablate",
        "crossover",
        "--preset",
        "smoke",
        "--results",
        str(tmp_path),
    ]
    code = (
        "import sys, types, numpy; stand_in = types.ModuleType('lab.data.dataset');"
        "text = numpy.zeros(10**6, int);"
        "stand_in.prepare = lambda *_: types.SimpleNamespace("
        "train=(), validation=text, test=text, tokenizer=types.SimpleNamespace(end_id=1), seen={}, "
        "hashes=dict(train='', validation='', test=''), key='', left_out='');"
        "stand_in.Dataset = object; stand_in.HELD_OUT = ('validation', 'test');"
        "sys.modules['lab.data.dataset'] = stand_in;"
        "import lab.data.budget; lab.data.budget.budget = lambda *_: range(10**6);"
        f"sys.argv = {command[2:]!r}; import lab.__main__; lab.__main__.app()"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={"STORAGE": "postgresql://me:sesame@127.0.0.1:1/name", "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 2, said.stderr
    assert "cannot open the storage postgresql://me:***@127.0.0.1:1/name" in said.stderr
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert b"sesame" not in b"".join([said.stdout.encode(), said.stderr.encode(), *written])


def test_report_writes_every_tree_again(ablated, tmp_path):
    for tree in ("results/b/smoke", "results/a/laptop"):
        (tmp_path / tree).mkdir(parents=True)
        (tmp_path / tree / "plan.json").write_text(json.dumps({}))
    said = invoke("report", "results")
    assert said.exit_code == 0
    trees = [Path("results/a/laptop"), Path("results/b/smoke")]
    assert (ablated.reports, ablated.indexes) == (trees, [(Path("results"), trees)])
    assert said.stdout.endswith("all of them: results/index.html\n")
    said = invoke("report", "results/b")
    assert said.exit_code == 0
    assert (ablated.reports[2:], len(ablated.indexes)) == (trees[1:], 1)  # a page over one tree tells nothing
    assert "all of them" not in said.stdout


@pytest.mark.parametrize(("refused", "code"), [(1, 0), (2, 1)])
def test_a_tree_without_a_page_is_named_and_the_others_are_written(
    refused, code, ablated, tmp_path, monkeypatch
):
    def write_report(tree):
        if tree.name in names[:refused]:
            raise ValueError(f"{tree / 'plan.json'}: not JSON.")
        return write(tree)

    write, names = sys.modules["lab.reporting.report"].write_report, ["damaged", "sound"]
    monkeypatch.setattr(sys.modules["lab.reporting.report"], "write_report", write_report)
    for tree in names:
        (tmp_path / "results" / tree).mkdir(parents=True)
        (tmp_path / "results" / tree / "plan.json").write_text("{")
    said = invoke("report", "results")
    assert said.exit_code == code
    told = [f"no page for results/{name}: results/{name}/plan.json: not JSON." for name in names[:refused]]
    assert said.stderr.splitlines() == told
    assert [tree.name for tree in ablated.reports] == names[refused:]
    assert [trees for _, trees in ablated.indexes] == [[Path("results", name) for name in names]]


def test_status_names_a_damaged_plan_and_exits_1(ablated, tmp_path):
    assert invoke("ablate", "crossover", "--preset", "smoke").exit_code == 0
    assert invoke("status").exit_code == 0
    (tmp_path / "results" / "damaged").mkdir()
    (tmp_path / "results" / "damaged" / "plan.json").write_text("{")
    said = invoke("status")
    assert said.exit_code == 1
    words = " ".join(said.stdout.split())
    assert "results/damaged: results/damaged/plan.json: not JSON" in words
    assert "results/crossover/smoke: 0 of 5 runs done" in words


def test_data_describes_the_corpus(ablated):
    said = invoke("data", "--preset", "smoke", "--data", "a.txt", "--set", "data.length=20")
    assert said.exit_code == 0, said.output
    assert ablated.prepared[0].paths == ("a.txt",)
    assert ablated.prepared[0].length == 20
    assert "documents" in said.output
    assert "7" in said.output
    assert "of 1000000 at most, .cache" in said.output


@pytest.mark.parametrize("command", [["data"], ["ablate", "crossover"]])
def test_make_hands_paths_on_in_a_variable_and_an_option_counts_before_it(command, ablated, monkeypatch):
    monkeypatch.setenv("LAB_DATA", "'my notes'/*.md b.txt")
    for options, paths in (([], ("my notes/*.md", "b.txt")), (["--data", "c d"], ("c d",))):
        said = invoke(*command, "--preset", "smoke", *options)
        assert said.exit_code == 0, said.output
        assert ablated.prepared[-1].paths == paths
    monkeypatch.setenv("LAB_DATA", "it's")
    said = invoke(*command, "--preset", "smoke")
    assert (said.exit_code, said.stderr.startswith("error: `LAB_DATA` must hold")) == (2, True)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("evaluation.test_windows=2000", "the held-out splits must be long enough for the evaluation"),
        ("data.unique_tokens=100001", "`unique_tokens` must be in 1..100000, but got 100001"),
    ],
)
def test_data_describes_a_corpus_that_is_too_small_and_says_what_it_lacks(setting, message, ablated):
    said = invoke("data", "--preset", "smoke", "--data", "a.txt", "--set", setting)
    assert said.exit_code == 2
    assert "documents" in said.stdout
    assert "n-gram" not in said.stdout
    assert said.stderr.startswith(f"error: {message}")


def test_its_version_is_that_of_the_package_and_names_what_computes():
    said = invoke("--version")
    assert said.exit_code == 0
    assert said.stdout.startswith(f"lab {lab.__version__} (python 3.")
    assert "keras " in said.stdout
    assert "jax " in said.stdout


@pytest.mark.parametrize("arguments", [[], ["run"], ["status"]])
def test_a_short_option_asks_for_help_too(arguments):
    assert invoke(*arguments, "-h").stdout == invoke(*arguments, "--help").stdout != ""


def test_a_shell_completes_commands():
    asked = {"_LAB_COMPLETE": "complete_bash", "COMP_WORDS": "lab sta", "COMP_CWORD": "1"}
    said = invoke(env=asked, prog_name="lab")
    assert said.stdout.split() == ["status"]


def test_status_before_any_run_is_no_error(presets):
    said = invoke("status")
    assert (said.exit_code, said.stdout) == (0, "nothing has run yet in results: there is no such folder.\n")


def test_help_needs_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['lab', '--help']\nimport runpy\n"
        "try:\n    runpy.run_module('lab', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print('loaded:', ' '.join(sorted(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text, _, loaded = said.stdout.partition("loaded: ")
    assert all(command in text for command in ("run", "ablate", "measure", "status", "report", "data"))
    assert not HEAVY & set(loaded.split())


def test_a_runs_configuration_is_checked_before_anything_heavy_is_imported(tmp_path):
    code = (
        "import sys, types\nfrom contextlib import nullcontext\n"
        "def start_ranks(parallel):\n    print('loaded:', ' '.join(sorted(sys.modules)))\n    sys.exit(0)\n"
        "stand_in = types.ModuleType('lab.training.distribution')\n"
        "stand_in.start_ranks = start_ranks\n"
        "stand_in.ending_together = stand_in.naming_lost_ranks = nullcontext\n"
        "sys.modules['lab.training.distribution'] = stand_in\n"
        "lean = sys.modules['lab.training.lean'] = types.ModuleType('lab.training.lean')\n"
        "lean.import_keras = lambda: None\n"
        "from lab.__main__ import app\n"
        "app(['run', '--preset', 'smoke', '--logdir', sys.argv[1]], standalone_mode=False)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    loaded = set(said.stdout.partition("loaded: ")[2].split())
    assert "lab.config" in loaded
    assert not (HEAVY - {"pydantic"}) & loaded


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        ("ValueError('`width` must be even')", 2, "error: `width` must be even"),
        ("DivergedError('loss nan')", 3, "error: loss nan"),
        ("PreemptedError('asked to end')", 75, "asked to end; the same command goes on from here"),
        ("MemoryError()", 5, "MemoryError"),
        ("RuntimeError('no luck')", 1, "RuntimeError: no luck"),
        ("SystemExit(0)", 1, "SystemExit: 0"),
    ],
)
def test_a_run_says_by_its_exit_code_why_it_ended(error, code, told, presets, monkeypatch, capsys):
    from lab.training import ending

    def train_run(*_):
        raise eval(error, vars(ending) | vars(builtins))

    stand_in(monkeypatch, "lab.training.run", train_run=train_run)
    said = invoke("run", "--logdir", "run")
    assert (said.exit_code, "Traceback" in said.stderr) == (code, code in (1, 5))
    assert told in said.stderr


def test_export_and_import_hand_on_what_they_are_asked_for(monkeypatch):
    calls = []
    description = SimpleNamespace(arm="dlm", origin={"which is": "a model"})
    monkeypatch.setattr("lab.training.lean.import_keras", lambda: None)
    stand_in(monkeypatch, "lab.training.exchange.from_run", export_run=lambda *given: calls.append(given))

    def import_checkpoint(*given):
        calls.append(given)
        return description, "no tokenizer.json"

    stand_in(
        monkeypatch,
        "lab.training.exchange.foreign",
        Ids=lambda *ids: ids,
        import_checkpoint=import_checkpoint,
    )
    assert invoke("export", "run", "model").stdout == "model\n"
    assert invoke("export", "run", "m", "--stop", "last", "--to", "qwen3", "--cache", "c").exit_code == 0
    said = invoke("import", "theirs", "ours", "--length", "9", "--mask", "1", "--start", "2", "--end", "3")
    assert said.stdout == "ours: a model, read as dlm\n"
    assert said.stderr == "without a tokenizer: no tokenizer.json\n"
    assert calls == [
        (Path("run"), Path("model"), "best", "lab", Path(".cache")),
        (Path("run"), Path("m"), "last", "qwen3", Path("c")),
        (Path("theirs"), Path("ours"), 9, (1, 2, 3)),
    ]


def test_the_harness_is_handed_all_options_of_its_own(monkeypatch):
    calls = []
    monkeypatch.setattr("lab.training.lean.import_keras", lambda: None)
    stand_in(monkeypatch, "lm_eval", __spec__=object())
    stand_in(monkeypatch, "lab.training.harness", run_harness=lambda *given: calls.append(given))
    options = ["--tasks", "a", "b", "--model_args", "draws=3", "-L", "2", "--log_samples"]
    assert invoke("harness", "run", *options[:5], "--cache", "here", *options[5:]).exit_code == 0
    assert calls == [(Path("run"), options, Path("here"))]


def test_without_its_extra_the_harness_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    said = invoke("harness", "run", "--tasks", "mine")
    assert said.exit_code == 2
    expected = "error: lm-evaluation-harness is missing; `make setup EXTRAS=lm-eval` installs it.\n"
    assert said.stderr == said.output == expected


def test_a_checkpoint_that_is_not_there_is_one_line(tmp_path):
    said = invoke("import", str(tmp_path / "none"), str(tmp_path / "model"))
    assert said.exit_code == 2
    assert (
        said.stderr
        == f"error: expected a JSON file at {tmp_path / 'none' / 'config.json'}, but there is none.\n"
    )

"""The command line, with stand-ins for what trains, reports and reads data."""

import builtins
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

import lab.__main__
import lab.config
import lab.scheduling.driver
import lab.scheduling.tuning_driver
import lab.tracking.records
from lab.arms import arm_values
from lab.config import load_config, make_config
from lab.scheduling.ablation import load_ablation
from lab.scheduling.driver import Summary
from lab.scheduling.tuning import SPACE

TINY = {
    "data": {"length": 16},
    "model": {"size": "0.1m"},
    "training": {"total_tokens": 1024},
    "evaluation": {"choice_context_tokens": 8, "choice_option_tokens": 8},
}
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
    """The calls of `train_run`."""
    calls = []

    def train_run(config, logdir, cache_dir, notice):
        assert not notice.given
        calls.append((config, logdir, cache_dir))
        return {"best": {"annealed": {"epoch": 2.0, "test": {"nll": 1.23456}}}}

    stand_in(monkeypatch, "lab.training.run", train_run=train_run)
    return calls


@pytest.fixture
def ablated(presets, monkeypatch):
    """What is driven and reported; `summary` is what the driver will say."""
    seen = SimpleNamespace(drives=[], reports=[], prepared=[], summary=Summary(done=4))

    @contextmanager
    def driving(plan, executor, cache_dir, progress, storage, tries):
        seen.drives.append((plan, executor, cache_dir, storage))
        seen.tries = tries
        yield SimpleNamespace(bring=bring)

    def bring(plan, driver=None):
        assert (plan.tuning is None) == (driver is None)
        plan.write()
        return seen.summary

    def prepare(config, cache_dir):
        seen.prepared.append(config)
        return SimpleNamespace(train=range(100_000), hash="a corpus")

    def budget(train, unique_tokens, length):
        if unique_tokens and unique_tokens > len(train):
            raise ValueError(f"`unique_tokens` must be in 1..{len(train)}, but got {unique_tokens}.")

    monkeypatch.setattr(lab.scheduling.driver, "driving", driving)
    monkeypatch.setattr(lab.scheduling.tuning_driver, "drive_tuned", bring)

    def require_held_out(config, dataset, *sections):
        if config.evaluation.test_windows > 1000:
            raise ValueError(f"the held-out splits must be long enough for the {' and '.join(sections)}")

    stand_in(monkeypatch, "lab.data.budget", budget=budget)
    stand_in(monkeypatch, "lab.data.dataset", prepare=prepare)
    stand_in(monkeypatch, "lab.evaluation.held_out", require_held_out=require_held_out)
    stand_in(monkeypatch, "lab.data.summary", describe=lambda dataset: [("documents", "7")])
    stand_in(
        monkeypatch,
        "lab.reporting.report",
        write_report=lambda tree: (
            seen.reports.append(tree)
            or SimpleNamespace(verdict_table=f"verdict of {tree}", page=tree / "report" / "index.html")
        ),
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
    assert str(logdir) == f"results/runs/dlm-{config.key()}"
    assert str(cache) == ".cache"
    assert "dlm seed 3: best stop (annealed) at epoch 2.0, test NLL 1.2346 nats/token" in said.output


def test_run_defaults_to_ar_on_the_laptop_preset(trained):
    assert invoke("run").exit_code == 0
    assert trained[0][0] == make_config(TINY, arm_values("ar"))


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
        (["run", "--preset", "huge"], "`preset` must be one of ['laptop', 'smoke'], but got preset='huge'."),
        (["run", "--arm", "gpt"], "`arm` must be one of ["),
        (["run", "--set", "model.wdth=3"], "model.wdth: no such key"),
        (["run", "--config", "none.yaml"], "expected a YAML file at none.yaml, but there is none."),
        (["ablate", "cross"], "`ablation` must be one of ["),
        (["ablate", "crossover", "--seeds", "0"], "`seeds` must be >= 1, but got seeds=0."),
        (["ablate", "crossover", "--workers", "-1"], "`workers` must be >= 0"),
        (["ablate", "crossover", "--per-device", "0"], "`per_device` must be >= 1"),
        (["ablate", "crossover", "--stall-seconds", "0"], "`stall_seconds` must be > 0"),
        (["ablate", "crossover", "--engine", "slurm"], "`engine` must be one of ['local', 'ray'], but got"),
        (["ablate", "crossover", "--shared", "s3://x"], "`shared` needs engine=ray: local runs leave"),
        (["ablate", "crossover", "--set", "arm=x"], "an override must not set what crossover varies"),
        (["report", "nowhere"], "`path` must hold a plan.json, in it or below it, but got nowhere."),
        (["data", "--preset", "huge"], "`preset` must be one of"),
    ],
)
def test_a_users_error_is_one_message_without_a_traceback(trained, ablated, arguments, message):
    said = invoke(*arguments)
    assert said.exit_code == 2
    assert said.stderr.startswith("error: ")
    assert message in said.stderr
    assert "Traceback" not in said.output
    assert not trained
    assert not ablated.drives


def test_two_runs_in_one_logdir_are_refused(trained, tmp_path, monkeypatch):
    code = (
        "import pathlib, sys\nfrom lab.scheduling.locks import sole_owner\n"
        "with sole_owner(pathlib.Path('run'), 'run'):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, **pipes) as holder:
        assert holder.stdout.readline() == b"held\n"
        monkeypatch.setattr(lab.__main__, "ORPHAN_SECONDS", 0.1)
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
    assert ablated.reports == [plan.tree]
    assert said.stdout == "verdict of out/crossover/smoke\npage: out/crossover/smoke/report/index.html\n"


@pytest.mark.parametrize(("backend", "folder"), [("jax", "smoke"), ("torch", "smoke-torch")])
def test_each_backend_has_its_own_result_tree(backend, folder, ablated, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
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
    assert [config.unique_tokens for config in ablated.prepared] == [2000, 4000]
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


def test_inference_is_measured_between_the_runs_and_the_report(ablated, monkeypatch):
    calls = []

    def measure_missing(plan, cache, console):
        assert ablated.drives
        assert not ablated.reports
        calls.append((plan.ablation.name, str(cache)))

    stand_in(monkeypatch, "lab.scheduling.follow_up", measure_missing=measure_missing)
    stand_in(monkeypatch, "lab.training.memory", keep_freed_memory=lambda: None)
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.setenv(name, "the user's")
    said = invoke("ablate", "inference-compute", "--preset", "smoke", "--cache", "c")
    assert said.exit_code == 0, said.output
    assert calls == [("inference-compute", "c")]
    assert len(ablated.reports) == 1
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "the user's"
    assert invoke("ablate", "crossover", "--preset", "smoke").exit_code == 0
    assert len(calls) == 1


def test_ray_says_what_to_install(ablated, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "lab.scheduling.ray_executor", raising=False)
    said = invoke("ablate", "crossover", "--preset", "smoke", "--engine", "ray")
    assert said.exit_code == 2
    assert said.stderr == "error: engine=ray needs ray: make setup EXTRAS=ray\n"


def test_ray_gets_the_options_of_the_engine(ablated, monkeypatch):
    made = []

    class RayExecutor:
        def __init__(self, **options):
            made.append(options)

    stand_in(monkeypatch, "lab.scheduling.ray_executor", RayExecutor=RayExecutor)
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


@pytest.mark.parametrize("name", ["ranks", "devices"])
def test_several_ranks_or_devices_need_runs_that_are_parallel(name, ablated):
    said = invoke("ablate", "crossover", "--preset", "smoke", f"--{name}", "2")
    assert (said.exit_code, ablated.drives) == (2, [])
    assert f"`{name}` must be 1 unless training.parallel is data or model, but got {name}=2" in said.stderr


def test_several_ranks_are_handed_to_the_executor(ablated):
    options = ("--ranks", "2", "--set", "training.parallel=data")
    assert invoke("ablate", "crossover", "--preset", "smoke", *options).exit_code == 0
    assert ablated.drives[0][1].ranks == 2


def test_standby_runs_what_it_is_told(trained, monkeypatch, tmp_path):
    config = make_config(TINY, arm_values("dlm"), {"seed": 5})
    (tmp_path / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    calls = []
    get_ready = lambda rehearse, cache: calls.append((rehearse, cache))  # noqa: E731
    order = SimpleNamespace(config=tmp_path / "config.yaml", logdir=tmp_path / "run", cache=tmp_path / "c")
    side = {"get_ready": get_ready, "start_afresh": lambda order: calls.append(order)}
    stand_in(monkeypatch, "lab.scheduling.standby", wait_for_order=lambda: order, **side)
    stand_in(monkeypatch, "lab.training.memory", keep_freed_memory=lambda: None)
    assert invoke("standby", "--cache", "c", "--rehearse", "other.yaml").exit_code == 0
    assert calls == [(Path("other.yaml"), Path("c"))]
    assert trained == [(config, tmp_path / "run", tmp_path / "c")]
    codes = iter(["as it was", "as it is"])
    monkeypatch.setattr(lab.tracking.records, "code_hash", lambda: next(codes))
    assert invoke("standby", "--cache", "c").exit_code == 0
    assert calls[2:] == [order]  # a process that has imported other code is of no use
    stand_in(monkeypatch, "lab.scheduling.standby", wait_for_order=lambda: None, **side)
    monkeypatch.setattr(lab.tracking.records, "code_hash", lambda: "")
    assert invoke("standby").exit_code == 0  # the driver has gone
    assert len(trained) == 2


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
        "import sys, types; stand_in = types.ModuleType('lab.data.dataset');"
        "stand_in.prepare = lambda *_: types.SimpleNamespace("
        "train=(), validation=range(10**6), test=range(10**6), hash='');"
        "stand_in.Dataset = object;"
        "sys.modules['lab.data.dataset'] = stand_in;"
        "import lab.data.budget; lab.data.budget.budget = lambda *_: None;"
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
    assert invoke("report", "results").exit_code == 0
    assert [str(tree) for tree in ablated.reports] == ["results/a/laptop", "results/b/smoke"]
    assert invoke("report", "results/b").exit_code == 0
    assert len(ablated.reports) == 3


def test_data_describes_the_corpus(ablated):
    said = invoke("data", "--preset", "smoke", "--data", "a.txt", "--set", "data.length=20")
    assert said.exit_code == 0, said.output
    assert ablated.prepared[0].paths == ("a.txt",)
    assert ablated.prepared[0].length == 20
    assert "documents" in said.output
    assert "7" in said.output


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
    assert said.stderr.startswith(f"error: {message}")


def test_help_needs_nothing_heavy():
    code = (
        "import sys\nsys.argv = ['lab', '--help']\nimport runpy\n"
        "try:\n    runpy.run_module('lab', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print('loaded:', ' '.join(sorted(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text, _, loaded = said.stdout.partition("loaded: ")
    assert all(command in text for command in ("run", "ablate", "report", "data"))
    assert not HEAVY & set(loaded.split())


def test_a_runs_configuration_is_checked_before_anything_heavy_is_imported(tmp_path):
    code = (
        "import sys, types\nfrom contextlib import nullcontext\n"
        "def start_ranks(parallel):\n    print('loaded:', ' '.join(sorted(sys.modules)))\n    sys.exit(0)\n"
        "stand_in = types.ModuleType('lab.training.distribution')\n"
        "stand_in.start_ranks = start_ranks\n"
        "stand_in.ending_together = stand_in.naming_lost_ranks = nullcontext\n"
        "sys.modules['lab.training.distribution'] = stand_in\n"
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
    said = invoke("run")
    assert (said.exit_code, "Traceback" in said.stderr) == (code, code in (1, 5))
    assert told in said.stderr

"""The lab from Python, with the stand-in for what trains; the snippet of the documentation among it."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ablation_bench import tiny_ablation
from result_bench import result, stop
from scheduling_bench import wait_for

import lab
import lab.api
import lab.config
from lab.ablation import parse_levels
from lab.config import parse_overrides
from lab.registration import Registration
from lab.results import PLAN, PlanRecord, read_record, write_record
from lab.scheduling.executors.local import LocalExecutor
from lab.scheduling.plan import Plan
from lab.sections import pairs

DOCUMENT = Path(__file__).parents[2] / "docs" / "how_it_works.md"


def with_yardstick(one):
    """A stop with what a report takes of every run."""
    more = {"choice_accuracy": 0.5, "option_gap": 0.1}
    rows = [row.model_copy(update={"values": {**row.values, **more}}) for row in one.measured]
    return one.model_copy(update={"measured": tuple(rows)})


@pytest.fixture
def places(bench, monkeypatch):
    """Where a study whose runs are the stand-in leaves its results."""
    command = (sys.executable, str(bench.folder / "fake_run.py"))
    stops = map(with_yardstick, (stop(1, 0.0), stop(2, 1.0, "along_run")))
    write_record(bench.folder / "run.json", result(*stops))
    monkeypatch.setattr(lab.Resources, "executor", lambda self, places: LocalExecutor(2, command))
    monkeypatch.setattr(lab.api, "prepare_data", lambda *_: {})
    return lab.Places(results=bench.folder / "results", cache=bench.folder / "cache")


def run(places, **options):
    return lab.run_ablation(tiny_ablation(), "tiny", places=places, **options)


def test_an_ablation_is_run_and_its_results_come_back_typed_and_nothing_is_printed(bench, places, capfd):
    ran = run(places, seeds=2)
    assert (ran.tree, ran.summary.done, ran.summary.failed) == (bench.tree, 8, {})
    assert capfd.readouterr() == ("", "")
    results = lab.load_results(ran.tree)
    assert [cell.label for cell in results.tree.plan.cells] == [cell.label for cell in bench.plan(2).cells]
    assert [cell.done.config.seed for cell in results.tree.finished] == [0, 0, 1, 1, 0, 0, 1, 1]
    rows = [row for row in results.rows() if row["metric"] == "nll" and row["split"] == "validation"]
    names = ["arm", "data.unique_tokens", "seed", "reading", "step", "epoch", "split", "metric", "value"]
    assert list(rows[0]) == names
    best = {tuple(row.values())[:3]: row["value"] for row in rows if row["reading"] == "annealed"}
    assert best == {
        (cell.arm, cell.level["data.unique_tokens"], cell.seed): bench.value(cell)
        for cell in bench.plan(2).cells
    }
    assert run(places, seeds=2).summary.reused == 8


LOOKS = (3, 4, 6)
RULE = Registration(contrasts=pairs({"dlm": "ar"}), looks=LOOKS)
# Clear from the first look on; clear at the second; never decided.
CLEAR = (0.20, 0.21, 0.19, 0.2, 0.2, 0.2)
LATER = (0.20, 0.33, 0.15, 0.22, 0.2, 0.2)
NOISE = (0.30, -0.30, 0.20, -0.15, 0.3, -0.3)


def auto(bench, places, gains, **options):
    losses = {f"dlm/{seed}": 2 - gain for seed, gain in enumerate(gains)} | {f"ar/{n}": 2 for n in range(6)}
    behaviour = options.pop("behaviour", {})
    bench.behave({"losses": losses, **behaviour})
    ablation = tiny_ablation(primary=RULE, measurements=options.pop("measurements", {}))
    options = {"seeds": "auto", "levels": {"data.unique_tokens": [1000]}, **options}
    return lab.run_ablation(ablation, "tiny", places=places, **options)


def planned(bench):
    return read_record(PlanRecord, bench.tree / PLAN)


def tries(bench):
    return {path.parent.as_posix(): path.read_text() for path in bench.tree.glob("runs/**/tries")}


@pytest.mark.parametrize(("gains", "seeds"), [(CLEAR, 3), (LATER, 4), (NOISE, 6)])
def test_seeds_are_added_look_by_look_while_the_primary_contrast_is_undecided(bench, places, gains, seeds):
    ran = auto(bench, places, gains)
    assert (ran.summary.done, ran.summary.reused, ran.summary.failed) == (2 * seeds, 0, {})
    plan = planned(bench)
    assert (plan.auto, len(plan.cells)) == (True, 2 * seeds)
    assert plan.command.startswith("python -m lab ablate tiny --preset tiny --seeds auto --levels")
    first = tries(bench)
    again = auto(bench, places, gains)
    assert (again.summary.done, again.summary.reused) == (0, 2 * seeds)
    assert (tries(bench), planned(bench)) == (first, plan)
    headline = lab.api.report(ran.tree).summary["headline"]
    assert f"({seeds} seeds; " in headline
    assert ("undecided" in headline) == (gains is NOISE)


def test_stopped_within_a_look_or_between_two_it_decides_the_same(bench, places, monkeypatch):
    with monkeypatch.context() as patch:  # killed as the first look is judged
        patch.setattr(lab.api, "_decided", lambda plan: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            auto(bench, places, LATER)
    assert len(planned(bench).cells) == 6
    # A run of the second look fails, so nothing more is begun.
    failed = auto(bench, places, LATER, behaviour={"dlm/1000/3": "exit 9"}, tries={}).summary
    assert (list(failed.failed), len(planned(bench).cells)) == (["dlm unique_tokens=1000 seed=3"], 8)
    first = tries(bench)
    summary = auto(bench, places, LATER).summary
    assert (summary.done, summary.reused, len(planned(bench).cells)) == (1, 7, 8)
    assert {path for path, text in tries(bench).items() if text != first.get(path)} == {
        path for path in first if "dlm" in path and "seed=3" in path
    }


def test_the_plan_never_falls_behind_the_look_that_was_reached(bench, places, monkeypatch):
    auto(bench, places, LATER)
    written = []
    write = Plan.write
    monkeypatch.setattr(Plan, "write", lambda plan: (written.append(len(plan.cells)), write(plan)))
    auto(bench, places, LATER)
    assert written == [8]


def test_each_look_is_measured_before_it_is_judged_by_it(bench, places, monkeypatch):
    looks, decided = [], lab.api._decided

    def judged(plan):
        looks.append((len(plan.cells), len(lab.load_results(plan.tree).measurements["yardstick"])))
        return decided(plan)

    monkeypatch.setattr(lab.api, "_decided", judged)
    monkeypatch.setattr(lab.api, "_is_judged_by_measuring", lambda plan: True)
    assert auto(bench, places, LATER, measurements={"yardstick": ""}).summary.failed == {}
    assert looks == [(6, 6), (8, 8)]


def test_auto_needs_a_registration(places):
    message = "`seeds` must be a number for tiny, which registers no primary contrast, but got seeds='auto'."
    with pytest.raises(ValueError, match=message):
        run(places, seeds="auto")


def test_progress_is_shown_when_it_is_asked_for(places, capsys):
    run(places, progress=True)
    assert "4/4 runs" in capsys.readouterr().out


def test_what_is_measured_after_the_runs_comes_back_too(places):
    ablation = tiny_ablation(measurements={"yardstick": ""})
    ran = lab.run_ablation(ablation, "tiny", places=places)
    (pairs,) = lab.load_results(ran.tree).measurements.values()
    assert [(cell.arm, result.measurement) for cell, result in pairs] == [
        ("ar", "yardstick"),
        ("dlm", "yardstick"),
    ] * 2


def test_ctrl_c_ends_the_runs_and_returns_and_the_same_call_goes_on(bench, places):
    bench.behave({"ar": "wait", "dlm": "wait"})
    first = bench.plan().cells[0]

    def interrupt():
        try:
            wait_for(lambda: bench.tries(first))
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    summary = run(places).summary
    helper.join()
    assert (summary.interrupted, summary.done) == (signal.SIGINT, 0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    bench.behave({})
    assert run(places).summary.done == 4


def test_it_works_in_a_thread_where_no_signal_can_be_taken(places):
    ran = []
    thread = threading.Thread(target=lambda: ran.append(run(places)))
    thread.start()
    thread.join()
    assert ran[0].summary.done == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resources": lambda: lab.Resources(engine="slurm")}, "`engine` must be one of"),
        ({"resources": lambda: lab.Resources(ranks=2)}, "`ranks` must be 1 unless training.parallel"),
        ({"overrides": lambda: {"model.wdth": 3}}, "model.wdth: no such key"),
        ({"levels": lambda: {"model.width": [3]}}, "`levels` must be of what tiny varies"),
    ],
)
def test_what_is_wrong_is_a_value_error(places, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        run(places, **{name: make() for name, make in options.items()})
    assert not places.results.exists()


def test_the_plan_says_what_to_type_for_it(places):
    overrides = {"training.learning_rate": 0.01, "training": {"schedule": "wsd"}, "data.text_field": "1"}
    ran = run(places, seeds=1, overrides=overrides, levels={"data.unique_tokens": [500, 600]})
    command = lab.load_results(ran.tree).tree.plan.command
    assert command == (
        "python -m lab ablate tiny --preset tiny --seeds 1 --levels data.unique_tokens=500,600 "
        "--set training.learning_rate=0.01 --set training.schedule=wsd --set 'data.text_field=\"1\"' "
        f"--results {places.results}"
    )
    assert parse_levels(["data.unique_tokens=500,600"]) == {"data.unique_tokens": [500, 600]}
    assert parse_overrides(['data.text_field="1"']) == {"data": {"text_field": "1"}}


def test_the_documented_snippet_works(places, bench, monkeypatch, capsys):
    text = DOCUMENT.read_text(encoding="utf-8").partition("## From Python")[2]
    snippet = re.search(r"```python\n(.*?)```", text, re.S)[1]
    monkeypatch.setattr(lab.config, "PRESETS_DIR", DOCUMENT.parents[1] / "configs")
    monkeypatch.chdir(bench.folder)
    names = {}
    exec(compile(snippet, str(DOCUMENT), "exec"), names)
    assert names["run"].summary.done == len(names["results"].tree.finished) > 0
    assert names["table"][0]["arm"] == "ar"
    assert names["page"].is_file()
    assert "nats/token" in capsys.readouterr().out


def test_importing_the_lab_is_fast_and_chooses_the_backend():
    code = (
        "import os, sys\nos.environ.pop('KERAS_BACKEND', None)\nimport lab\n"
        "assert os.environ['KERAS_BACKEND'] == 'jax'\n"
        "print(' '.join(sys.modules))\n"
        "try:\n    lab.nothing\nexcept AttributeError as error:\n    assert 'nothing' in str(error)\n"
        "lab.run_ablation\nassert 'keras' not in sys.modules"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"keras", "jax", "optuna", "numpy", "pydantic", "rich", "lab.api"} & set(said.stdout.split())

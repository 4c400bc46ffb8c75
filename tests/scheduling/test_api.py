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
from lab.results import write_record
from lab.scheduling.executors.local import LocalExecutor

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
        wait_for(lambda: bench.tries(first))
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

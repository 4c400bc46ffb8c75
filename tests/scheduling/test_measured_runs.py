"""Tiny runs are trained and measured by real processes, then measured otherwise, stopped and broken."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from measuring_bench import Tree
from typer.testing import CliRunner

from lab.__main__ import app
from lab.api import load_results, report
from lab.config import load_measurement
from lab.evaluation.measurements import find_set
from lab.reporting.series import after_runs
from lab.results import MeasurementResult, read_record, read_result
from lab.scheduling.status import TreeStatus
from lab.sections import Against, Differences, pairs
from lab.training.measuring import measure_runs, measurement_of

ROOT = Path(__file__).parents[2]
# `lab measure` that gets a signal once so many tasks are done; says at its end how many it has measured.
MEASURE = """
import os, signal, sys
import lab.training.measuring as measuring
real, done, until, number = measuring.measure, [], int(sys.argv[1]), int(sys.argv[2])
def measure(task, arms, dataset):
    if len(done) == until:
        os.kill(os.getpid(), number)
    done.append(task)
    return real(task, arms, dataset)
measuring.measure = measure
from lab.__main__ import app
try:
    app(["measure", *sys.argv[3:]])
finally:
    print("measured", len(done))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Made once by real processes; the tests work on copies."""
    tree = Tree(tmp_path_factory.mktemp("made"))
    tree.write_corpus()
    runs, measured = tree.drive()
    assert (runs.done, runs.failed, measured.done, measured.failed) == (2, {}, 1, {})
    return tree


@pytest.fixture
def tree(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "copy", symlinks=True)
    return Tree(tmp_path / "copy")


def invoke(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def measure(tree, until, number=signal.SIGKILL):
    paths = ("--config", tree.logdir / "config.yaml", "--logdir", tree.logdir, "--cache", tree.cache)
    command = [sys.executable, "-c", MEASURE, until, int(number), *paths]
    return subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, check=False)


def test_finished_runs_are_measured_and_changed_settings_measure_only_what_is_new(made):
    """The whole way: two runs, their measurement, another setting, and back."""
    cell = made.plan().cells[0]
    first, trained, lines = made.rows(), made.trained(), made.lines()
    assert [row.task for row in first] == find_set("inference").tasks(cell.config)
    assert len(lines) == len(first) == 3
    results = [read_result(run) for run in made.run("ar", "judge")]
    judged = [len(row.stops) for row in first]
    assert judged == [2, 2, 1]
    assert [stop.run for stop in first[0].stops] == [found.run for found in results]
    assert all(row.values["judge_nll"] > 0 for row in first[:2])

    runs, measured = made.drive()
    assert (runs.reused, measured.reused, measured.done) == (2, 1, 0)

    runs, measured = made.drive(inference={"choice_items": 5})
    assert (runs.reused, measured.done) == (2, 1)
    assert made.lines()[:3] == lines
    assert len(made.lines()) == 4
    assert made.rows()[:2] == first[:2]
    assert made.rows()[2].task.settings["items"] == 5

    runs, measured = made.drive()
    assert (runs.reused, measured.failed) == (2, {})
    assert made.rows() == first
    assert len(made.lines()) == 4  # nothing was measured
    assert made.trained() == trained


def test_a_measurement_that_was_killed_goes_on_row_by_row(tree):
    expected = tree.rows()
    shutil.copy(tree.logdir / "config.yaml", tree.folder)
    shutil.rmtree(tree.logdir)
    tree.logdir.mkdir()
    shutil.copy(tree.folder / "config.yaml", tree.logdir)
    killed = measure(tree, 2)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tree.logdir / "result.json").exists()
    lines = tree.lines()
    assert len(lines) == 2
    assert json.loads((tree.logdir / "progress.json").read_text())["phase"] == "measure"
    with (tree.logdir / "metrics.jsonl").open("ab") as file:
        file.write(b'{"kind": "measured", "mea')  # as if killed in the midst of a write
    again = measure(tree, 99)
    assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "measured 1"), again.stderr
    assert tree.lines()[:2] == lines
    assert len(tree.lines()) == 3
    assert [row.values for row in tree.rows()] == [row.values for row in expected]


def test_lab_measure_measures_a_run_as_it_is_with_another(tree):
    ar, judge = tree.run("ar", "judge")
    said = invoke("measure", "inference", ar, "--with", judge, "--cache", tree.cache)
    assert said.exit_code == 0, said.output
    folder = ar.parent / "measurements" / "seed=0-inference"
    found = read_record(MeasurementResult, folder / "result.json")
    assert [row.values for row in found.rows] == [row.values for row in tree.rows()]
    assert f"{folder / 'result.json'}" in said.stdout.replace("\n", "")
    assert "judge NLL" in said.stdout


def test_lab_measure_takes_another_yardstick(tree):
    (ar,) = tree.run("ar")
    trained = tree.trained()
    larger = ("--set", "evaluation.test_windows=6")
    said = invoke("measure", "yardstick", ar, *larger, "--cache", tree.cache)
    assert said.exit_code == 0, said.output
    config = load_measurement(ar.parent / "measurements" / "seed=0-yardstick" / "config.yaml")
    assert config.config.evaluation.test_windows == 6
    found = read_record(MeasurementResult, ar.parent / "measurements" / "seed=0-yardstick" / "result.json")
    assert [row.task.settings.get("windows") for row in found.rows] == [6, None, 3]
    best = read_result(ar).best()
    _, choice, _ = found.rows
    assert choice.values["option_gap"] == pytest.approx(best.test["option_gap"], rel=1e-5)
    assert {path: content for path, content in tree.trained().items() if path in trained} == trained


def test_every_stop_is_measured_with_its_own_weights_and_once(tree, monkeypatch):
    (ar,) = tree.run("ar")
    folder, result = tree.folder / "ability", read_result(ar)
    config = measurement_of("ability", folder, [ar], {})
    stops = result.along("annealed")
    assert [stop.step for stop in config.stops] == sorted(
        (stop.step for stop in stops), key=lambda step: step != result.best().step
    )
    found = measure_runs(config, folder, tree.cache)
    # What the run measured itself is taken from it.
    own = sum(len(stop.measured) > 1 for stop in stops)
    assert [row.task.measurement for row in found.rows] == ["nll", "choice", "calibration"] * len(stops)
    assert len((folder / "metrics.jsonl").read_bytes().splitlines()) == 3 * len(stops) - 2 * own
    assert own >= 1
    judged = result.with_rows(found.rows)
    assert all(
        {"nll", "choice_true_nll", "nll_calibrated"} <= set(stop.test) for stop in judged.along("annealed")
    )
    assert judged.along("along_run") == result.along("along_run")

    monkeypatch.setattr("lab.training.measuring._measured_in_run", lambda folder: {})
    anew = measure_runs(config, tree.folder / "anew", tree.cache)
    assert [row.key for row in anew.rows] == [row.key for row in found.rows]
    for row in anew.rows:
        if row.task.measurement == "nll":
            (stop,) = (stop for stop in stops if result.reference(stop) == row.stops[0])
            assert row.values["nll"] == pytest.approx(stop.test.get("nll", row.values["nll"]), rel=1e-5)
    assert len({row.values["nll"] for row in anew.rows if row.task.measurement == "nll"}) == 2


def write_questions(path, *options):
    rows = [{"context": f"{number} aaa", "options": options, "answer": 1} for number in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def measured_lines(folder):
    return len((folder / "metrics.jsonl").read_bytes().splitlines())


def test_lab_measure_asks_the_questions_of_a_file(tree):
    (ar,) = tree.run("ar")
    trained, folder = tree.trained(), ar.parent / "measurements" / "seed=0-tasks"
    path = write_questions(tree.folder / "a.jsonl", "b", "cc")

    def ask(path, *more):
        return invoke("measure", "tasks", ar, "--set", f"tasks.files=[{path}]", *more, "--cache", tree.cache)

    said = ask(path)
    assert said.exit_code == 0, said.output
    line = said.stdout.splitlines()[0]
    assert re.match(r"task test step \d+ form=choice: task accuracy \d+\.0 ± \d+\.\d %, task acc", line), line
    assert "questions 3" in line
    moved = path.rename(tree.folder / "b.jsonl")
    assert ask(moved).stdout.splitlines()[0] == line
    assert measured_lines(folder) == 1  # a file that moved is not measured anew
    write_questions(moved, "b", "dd")
    assert ask(moved).exit_code == 0
    assert measured_lines(folder) == 2
    assert {path: content for path, content in tree.trained().items() if path in trained} == trained
    for file, more, message in (
        (tree.folder / "none.jsonl", (), "`tasks.files` must exist, but there is no file"),
        (moved, ("--set", "tasks.form=blimp"), "b.jsonl, line 1: expected the field 'sentence_good'"),
        (write_questions(tree.folder / "c.jsonl", "b", "x" * 17), (), "but 0 of 3 have"),
    ):
        wrong = ask(file, *more)
        assert wrong.exit_code == 2
        assert (wrong.stderr.startswith("error: "), "Traceback" in wrong.stderr) == (True, False)
        assert message in wrong.stderr


def test_an_ablation_that_asks_for_tasks_besides_trains_nothing(tree):
    """Two tasks of every run; its pages compare by the first, and show both."""
    trained = tree.trained()
    first = write_questions(tree.folder / "a.jsonl", "b", "cc")
    more = {"name": "other", "files": [str(write_questions(tree.folder / "b.jsonl", "d", "eee", "f"))]}
    sections = (
        Differences(contrasts=pairs({"ar": "judge"}), metrics=("task_accuracy", "task_nll")),
        Against(x="num_draws", metrics=("task_nll",), measurement="task"),
    )
    asked = {
        "measurements": {"tasks": ""},
        "sections": sections,
        "tasks": {"files": [str(first)], "more": [more]},
    }
    runs, measured = tree.drive(**asked)
    assert (runs.reused, runs.done, measured.done, measured.failed) == (2, 0, 2, {})
    assert {path: content for path, content in tree.trained().items() if path in trained} == trained
    tree.plan(**asked).write()
    first.unlink()  # a page needs no file
    results = load_results(tree.tree)
    for cell, result in results.measurements["tasks"]:
        assert [row.task.settings for row in result.rows] == [
            {"form": "choice"},
            {"name": "other", "form": "choice"},
        ]
        assert cell.done.best().test["task_nll"] == result.rows[0].values["task_nll"]
    assert len(results.measurements["tasks"]) == 2
    series = after_runs(results.tree).series["task"]
    assert [(one.arm, one.variant) for one in series] == [
        (arm, variant) for arm in ("ar", "judge") for variant in ("choice", "other")
    ]
    page = report(tree.tree).page.read_text(encoding="utf-8")
    assert "NLL of right answers" in page
    assert all(job.state == "done" for job in TreeStatus(tree.tree).jobs())


def forget_result(tree):
    (tree.run("ar")[0] / "result.json").unlink()


def damage_result(tree):
    (tree.run("ar")[0] / "result.json").write_text("{")


def forget_weights(tree):
    for path in (tree.run("ar")[0] / "checkpoints").rglob("*.npz"):
        path.unlink()


def change_version(tree):
    path = tree.run("judge")[0] / "version.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 9'))


def change_corpus(tree):
    (tree.folder / "corpus" / "1.txt").write_text("not what it was " * 20)


def change_nothing(tree):
    pass


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (forget_result, (), "seed=0 must be the folder of a finished run, but it has no result.json"),
        (damage_result, (), "result.json: not JSON"),
        (forget_weights, (), "expected the weights of a stop at .*, but there are none: they were not kept"),
        (change_version, (), "judge/seed=0 must hold the run [0-9a-f]{16}, but it holds [0-9a-f]{16}"),
        (
            change_corpus,
            (),
            "the corpus that it was trained on, whose hash is [0-9a-f]{16}, but got [0-9a-f]{16}",
        ),
        (
            change_nothing,
            ("--set", "model.width=32 factors.draws=4 seed=3"),
            r"measured as it was trained, but got other values of model.width, factors.draws, seed\.",
        ),
        (
            change_nothing,
            ("--set", "data.validation_share=0.3"),
            "must be measured on the corpus that it was trained on",
        ),
        (change_nothing, ("--set", "inference.prompts=100000"), "held-out splits must be long enough"),
        (change_nothing, ("--set", "inference.speed=1"), "inference.speed: no such key"),
    ],
)
def test_lab_measure_says_what_is_wrong_in_one_message(tree, spoil, options, message):
    ar, judge = tree.run("ar", "judge")
    spoil(tree)
    paths = json.dumps([str(tree.folder / "corpus")]).replace(" ", "")
    there = ("--set", f"data.paths={paths}")  # of the copy
    said = invoke("measure", "inference", ar, "--with", judge, *there, *options, "--cache", tree.cache)
    assert said.exit_code == 2
    assert said.stderr.startswith("error: ")
    assert len(said.stderr.splitlines()) <= 2, said.stderr
    assert re.search(message, said.stderr), said.stderr


def test_a_corpus_that_moved_is_found_where_it_is_now(tree, made):
    """The measurement's configuration says where; the run's own still says where it was."""
    ar, judge = tree.run("ar", "judge")
    moved = tree.folder / "moved"
    (tree.folder / "corpus").rename(moved)
    there = ("--set", f"data.paths=[{moved}]")
    said = invoke("measure", "inference", ar, "--with", judge, *there, "--cache", tree.folder / "new cache")
    assert said.exit_code == 0, said.output


def test_notice_ends_a_measurement_as_it_ends_a_run(tree):
    (tree.logdir / "metrics.jsonl").unlink()
    ended = measure(tree, 1, signal.SIGTERM)
    assert ended.returncode == 75, ended.stderr
    assert ended.stderr.splitlines()[-1] == "asked to end; the same command goes on from here"
    assert len(tree.lines()) == 1

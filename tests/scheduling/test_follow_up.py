"""Which runs are measured after training, by which judges; with stand-ins for networks and measuring."""

import io
import json
from types import SimpleNamespace

import pytest
from rich.console import Console

from lab.evaluation.inference_file import tasks
from lab.scheduling import follow_up
from lab.scheduling.ablation import cells, load_ablation
from lab.scheduling.follow_up import judges_of, measure_missing
from lab.scheduling.plan import Plan

BEST = {"annealed": {"validation": {"nll": 1.0}}}


class Inferences:
    """A planned tree of `inference-compute` at preset smoke, its runs finished by decree."""

    def __init__(self, folder, monkeypatch):
        ablation = load_ablation("inference-compute")
        self.plan = Plan(folder / "tree", ablation, "smoke", cells(ablation, "smoke"), "command")
        self.measured, self.fail_at, self.said = [], None, io.StringIO()
        dataset = SimpleNamespace(tokenizer=SimpleNamespace(vocab_size=257))
        monkeypatch.setattr(follow_up, "prepare", lambda *_: dataset)
        monkeypatch.setattr(follow_up, "load_finished", lambda logdir, size: SimpleNamespace(scorer=logdir))
        monkeypatch.setattr(follow_up, "measure_inference", self.measure)
        for cell in self.plan.cells:
            self.finish(cell)

    def finish(self, cell):
        logdir = self.plan.logdir(cell)
        logdir.mkdir(parents=True, exist_ok=True)
        (logdir / "result.json").write_text(json.dumps({"config_key": cell.key, "best": BEST}))

    def lose(self, arm, seed=None):
        for cell in self.plan.cells:
            if cell.arm == arm and seed in (None, cell.seed):
                (self.plan.logdir(cell) / "result.json").unlink()

    def measure(self, arm, judges, dataset, file, advance):
        name = self.name(arm.scorer)
        self.measured.append((name, [self.name(judge) for judge in judges], len(file.missing)))
        for task in file.missing:
            if name == self.fail_at and task.kind == "choice":
                raise KeyboardInterrupt
            file.add(task.values)
            advance(task)

    def name(self, logdir):
        return logdir.relative_to(self.plan.tree / "runs").as_posix()

    def run(self):
        self.measured.clear()
        measure_missing(self.plan, "cache", Console(file=self.said))
        return self.measured


@pytest.fixture
def inferences(tmp_path, monkeypatch):
    return Inferences(tmp_path, monkeypatch)


def test_every_arm_but_the_judge_is_measured_by_the_judge_of_the_other_seed(inferences):
    found = {name: judges for name, judges, _ in inferences.run()}
    assert found == {
        f"{arm}/seed={seed}": [f"judge/seed={1 - seed}"]
        for arm in ("ar", "dlm", "any_order_ar")
        for seed in (0, 1)
    }
    assert "dlm seed=1: inference measured" in inferences.said.getvalue()


def test_a_second_time_nothing_is_left(inferences):
    inferences.run()
    assert inferences.run() == []


def test_after_a_kill_only_what_is_missing_is_measured(inferences):
    inferences.fail_at = "dlm/seed=0"
    with pytest.raises(KeyboardInterrupt):
        inferences.run()
    assert [name for name, *_ in inferences.measured] == ["ar/seed=0", "dlm/seed=0"]
    inferences.fail_at = None
    first, *rest = inferences.run()
    dlm = next(cell.config for cell in inferences.plan.cells if cell.arm == "dlm")
    choices = sum(task.kind == "choice" for task in tasks(dlm))
    assert first == ("dlm/seed=0", ["judge/seed=1"], choices)
    assert len(rest) == 4


def test_unfinished_runs_are_passed_over_and_measured_when_they_are_there(inferences):
    inferences.lose("dlm", 1)
    assert len(inferences.run()) == 5
    inferences.finish(next(c for c in inferences.plan.cells if (c.arm, c.seed) == ("dlm", 1)))
    assert [name for name, *_ in inferences.run()] == ["dlm/seed=1"]


def test_the_only_judge_judges_its_own_seed_too(inferences):
    inferences.lose("judge", 1)
    assert {judges[0] for _, judges, _ in inferences.run()} == {"judge/seed=0"}


def test_another_judge_means_another_measurement(inferences):
    inferences.lose("judge", 1)
    inferences.run()
    inferences.finish(next(c for c in inferences.plan.cells if (c.arm, c.seed) == ("judge", 1)))
    again = [name for name, *_ in inferences.run()]
    assert again == ["ar/seed=0", "dlm/seed=0", "any_order_ar/seed=0"]  # seed 1 keeps judge 0


def test_without_a_judge_nothing_is_measured_and_it_is_said(inferences):
    inferences.lose("judge")
    assert inferences.run() == []
    said = inferences.said.getvalue()
    assert "dlm seed=1: no judge is finished, so nothing is measured" in said
    assert said.count("no judge") == 6


def test_with_three_seeds_two_judges_each():
    ablation = load_ablation("inference-compute")
    planned = cells(ablation, "smoke", seeds=3)
    for cell in planned:
        if cell.arm != "judge":
            assert [judge.seed for judge in judges_of(cell, planned)] == [
                s for s in range(3) if s != cell.seed
            ]


def test_a_tree_with_a_driver_is_left_alone(inferences, monkeypatch):
    def taken(folder, what):
        raise ValueError(f"{folder} must have one {what} at a time")

    monkeypatch.setattr(follow_up, "sole_owner", taken)
    with pytest.raises(ValueError, match="must have one driver at a time"):
        inferences.run()
    assert not inferences.measured


def test_a_terminal_gets_a_bar(inferences):
    console = Console(file=inferences.said, force_terminal=True, width=100)
    measure_missing(inferences.plan, "cache", console)
    assert "100%" in inferences.said.getvalue()

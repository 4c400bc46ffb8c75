import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from fake_cube import FakeCube
from fake_trees import FakeSweep

from lab.reporting import components
from lab.reporting.tree import read_tree
from lab.sections import Differences, pairs


def test_the_variance_of_a_run_is_half_that_of_a_difference_pooled_over_arms():
    assert components.rounding_component([(2.0, 2.1), (3.0, 2.9), (1.0, 1.2)]) == pytest.approx(0.1)
    assert components.rounding_component([]) is None
    runs = 0.03 * np.random.default_rng(0).normal(size=(4000, 2))
    assert components.rounding_component(runs.tolist()) == pytest.approx(0.03, rel=0.05)


@dataclass
class FakeDocuments(FakeSweep):
    """Two arms whose windows differ by document: the DLM is better on the first, of two windows."""

    arms: tuple[str, ...] = ("ar", "dlm")
    by_seed: bool = True  # a held-out sample for each seed

    def result(self, arm, budget, seed):
        made = super().result(arm, budget, seed).model_dump(mode="json")
        for row in (row for stop in made["stops"] for row in stop["measured"]):
            if self.by_seed:
                row["task"]["settings"]["sample"] = seed
                made["data"]["hash"] = f"data{seed}"
            if row["examples"] and arm == "dlm":
                shifts = (0.06, 0.06, 0.0, -0.06)
                values = zip(row["examples"]["values"], shifts, strict=True)
                row["examples"]["values"] = [value - shift for value, shift in values]
        return type(super().result(arm, budget, seed)).model_validate(made)


@pytest.fixture
def documents(tmp_path):
    def make(**values):
        sections = (Differences(contrasts=pairs({"dlm": "ar"})),)
        return FakeDocuments(tmp_path / "tree", sections=sections, **values).write()

    return make


def test_each_component_is_shown_once_beside_the_documents_that_it_rests_on(documents):
    content = components.write(read_tree(documents().path))
    ((row,),) = (table.rows for table in content.tables)
    # The gains are 0.15, 0.18 and 0.21; by document they differ by -0.06, 0 and 0.06.
    assert row["replicate"] == pytest.approx(0.03)
    assert row["documents"] == pytest.approx(0.06 / math.sqrt(3))
    assert (row["held_out_documents"], row["effective_documents"]) == (3, pytest.approx(16 / 6))
    assert row["rounding"] is None
    (table,) = content.tables
    assert "from their number; it is part of it as far as seeds do not share them." in table.caption
    assert "Rounding" not in [heading for heading, *_ in table.headings]
    assert content.certain == (
        "A seed's gain varies by 0.030 nats/token: of its variance at most 100 % from documents.",
    )


def test_documents_that_all_seeds_draw_windows_of_are_no_part_of_what_varies(documents):
    tree = documents()
    for arm in tree.arms:
        for seed in tree.seeds:
            tree.edit(arm, tree.budgets[0], seed, lambda result: result["data"]["documents"].update(test=3))
    content = components.write(read_tree(tree.path))
    assert "it is not part of it, as all seeds share them." in content.tables[0].caption
    assert content.certain == ("A seed's gain varies by 0.030 nats/token.",)


def one_sample(result):
    for row in (row for stop in result["stops"] for row in stop["measured"]):
        row["task"]["settings"]["sample"] = 0


def test_documents_that_all_seeds_share_are_beside_the_spread_and_not_in_it(documents):
    tree = documents(by_seed=False)
    for arm in tree.arms:
        for seed in tree.seeds:
            tree.edit(arm, tree.budgets[0], seed, one_sample)
    content = components.write(read_tree(tree.path))
    assert "it is not part of it, as all seeds share them." in content.tables[0].caption
    assert content.certain == ("A seed's gain varies by 0.030 nats/token.",)


def test_the_documents_are_those_of_the_metric(documents):
    """Problems of files are the same for all seeds, though windows are not."""

    def solve(result):
        passed = {"ar": [0.0, 0.5, 0.5, 1.0], "dlm": [0.5, 0.5, 0.5, 1.0]}[result["config"]["arm"]]
        passed = [value - 0.1 * result["config"]["seed"] for value in passed[:1]] + passed[1:]
        for stop in result["stops"]:
            rows = [row for row in stop["measured"] if row["task"]["split"] == "test"]
            if rows:
                examples = {"metric": "pass_at_1", "values": passed, "documents": [5, 7, 8, 9]}
                task = {"measurement": "code", "split": "test", "settings": {"form": "humaneval"}}
                own = {"values": {"pass_at_1": sum(passed) / 4}, "task": task, "examples": examples}
                stop["measured"].append({**rows[0], **own, "key": "code"})

    tree = documents(metric="pass_at_1")
    for arm in tree.arms:
        for seed in tree.seeds:
            tree.edit(arm, tree.budgets[0], seed, solve)
    content = components.write(read_tree(tree.path))
    ((row,),) = (table.rows for table in content.tables)
    assert (row["held_out_documents"], row["effective_documents"]) == (4, 4)
    assert row["documents"] is not None
    assert "it is not part of it, as all seeds share them." in content.tables[0].caption
    assert "from documents" not in content.certain[0]


def test_a_metric_without_examples_has_no_documents(documents):
    (row,) = components.write(read_tree(documents(metric="option_gap").path)).tables[0].rows
    assert (row["documents"], row["held_out_documents"], row["effective_documents"]) == (None, None, None)


def test_a_level_that_an_arm_has_alone_with_one_seed_says_nothing_of_the_others(documents):
    tree = documents(alone=(40_000,), budgets=(20_000, 80_000))
    for seed in tree.seeds[1:]:
        tree.fail("ar", 40_000, seed, "lost")
    assert "it is part of it as far as" in components.write(read_tree(tree.path)).tables[0].caption


def test_one_seed_has_no_spread_and_nothing_compared_no_components(documents, fake_sweep):
    content = components.write(read_tree(documents(seeds=(1,)).path))
    assert content.tables[0].rows[0]["replicate"] is None
    assert "one seed cannot tell whether it is part of it." in content.tables[0].caption
    assert content.certain == ("One seed says nothing of the spread over seeds.",)
    assert components.write(read_tree(fake_sweep(sections=()).path)) is None


def test_the_gain_of_a_factorial_and_every_level_have_a_row(tmp_path, fake_tree):
    cube = FakeCube(tmp_path / "attribution").write()
    found = components.write(read_tree(cube.path)).tables[0].rows
    assert (found[0]["arm"], found[0]["against"]) == ("dlm", "ar")
    tree = read_tree(fake_tree().path)
    (table,) = components.write(tree).tables
    assert [row["level"] for row in table.rows] == [f"unique_tokens={n}" for n in (20_000, 80_000, 320_000)]
    assert table.group == "level"


def test_a_twin_stands_beside_the_run_of_its_arm_level_and_seed():
    def run(arm, seed):
        return SimpleNamespace(arm=arm, level={"data.unique_tokens": 1000}, seed=seed)

    plain, other, twin, alone = run("ar", 0), run("ar", 1), run("ar", 0), run("dlm", 0)
    assert components.twins(SimpleNamespace(finished=[other, plain], twins=[twin, alone])) == [(plain, twin)]


def test_rounding_is_shown_of_a_difference_where_runs_have_twins(documents, monkeypatch):
    tree = read_tree(documents().path)
    monkeypatch.setattr(components, "twins", lambda tree: [(tree.finished[0], tree.finished[1])])
    content = components.write(tree)
    # AR's seeds 0 and 1 are 0.01 apart: sd 0.01 / sqrt(2) of a run, and 0.01 of a difference of two.
    (row,) = content.tables[0].rows
    assert row["rounding"] == pytest.approx(0.01)
    assert content.tables[0].caption.endswith("Rounding: part of it, from 1 twin run, pooled over arms.")
    assert content.certain[0].endswith("at most 100 % from documents and 11 % from rounding.")

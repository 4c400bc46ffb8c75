import pytest

from lab.reporting.replicates import Replicates, replicates_of
from lab.reporting.tree import read_tree
from lab.results import DataRecord


def own(result):
    """Give a run a subset and a held-out sample of its seed."""
    seed = result["config"]["seed"]
    result["data"]["hash"] += f"-{seed}"
    for row in (row for stop in result["stops"] for row in stop["measured"]):
        row["task"]["settings"]["sample"] = seed


def whole(result):
    result["config"]["data"]["unique_tokens"] = None


@pytest.mark.parametrize(
    ("changes", "budgets", "expected"),
    [
        ((), (20_000,), Replicates(own_tokens=False, own_held_out=False)),
        ((own,), (20_000,), Replicates(own_tokens=True, own_held_out=True)),
        # All budgets must: at 80,000 the seeds share their tokens.
        ((own,), (20_000, 80_000), Replicates(own_tokens=False, own_held_out=False)),
        ((whole,), (20_000,), Replicates(own_tokens=False, own_held_out=False, share=1.0)),
    ],
)
def test_what_seeds_have_of_their_own_is_read_from_their_records(fake_tree, changes, budgets, expected):
    tree = fake_tree(budgets=budgets)
    for change in changes:
        for arm in tree.arms:
            for seed in tree.seeds:
                tree.edit(arm, 20_000, seed, change)
    assert replicates_of(read_tree(tree.path).cells) == expected


def test_one_seed_has_nothing_to_differ_from(fake_tree):
    tree = fake_tree(budgets=(20_000,), seeds=(0,))
    for arm in tree.arms:
        tree.edit(arm, 20_000, 0, own)
    nothing = Replicates(own_tokens=False, own_held_out=False)
    assert replicates_of(read_tree(tree.path).cells) == nothing
    assert replicates_of([]) == nothing


@pytest.mark.parametrize(("share", "limited"), [(None, False), (0.5, False), (0.51, True)])
def test_more_than_half_of_the_split_limits_what_is_claimed(share, limited):
    assert Replicates(own_tokens=True, own_held_out=True, share=share).limited == limited


def test_the_share_is_of_the_largest_budget(fake_tree, monkeypatch):
    monkeypatch.setattr(DataRecord, "train_tokens", 200_000, raising=False)
    assert replicates_of(read_tree(fake_tree(budgets=(20_000, 80_000)).path).cells).share == 0.4

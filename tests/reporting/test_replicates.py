import pytest
from fake_trees import DOCUMENTS

from lab.reporting.replicates import Replicates, replicates_of
from lab.reporting.tree import read_tree


def fixed(result):
    """Give a run the subset and the held-out sample that all seeds share."""
    result["config"]["data"]["subset"] = "fixed"
    for row in (row for stop in result["stops"] for row in stop["measured"]):
        row["task"]["settings"]["sample"] = 0


def whole(result):
    result["config"]["data"]["unique_tokens"] = None


@pytest.mark.parametrize(
    ("changes", "budgets", "own"),
    [
        ((), (20_000,), (True, True)),
        ((fixed,), (20_000,), (False, False)),
        # All budgets must: at 20,000 the seeds share their tokens.
        ((fixed,), (20_000, 80_000), (False, False)),
        ((whole,), (20_000,), (False, True)),
    ],
)
def test_what_seeds_have_of_their_own_is_read_from_their_records(fake_tree, changes, budgets, own):
    tree = fake_tree(budgets=budgets)
    for change in changes:
        for arm in tree.arms:
            for seed in tree.seeds:
                tree.edit(arm, 20_000, seed, change)
    found = replicates_of(read_tree(tree.path).cells)
    assert (found.own_tokens, found.own_held_out) == own


def test_what_files_ask_is_the_same_for_every_seed(fake_tree):
    """Their tasks name no sample."""

    def ask(result):
        for row in (row for stop in result["stops"] for row in stop["measured"]):
            if row["task"]["measurement"] == "choice":
                row["task"]["settings"].pop("sample")

    tree = fake_tree(budgets=(20_000,))
    for arm in tree.arms:
        for seed in tree.seeds:
            tree.edit(arm, 20_000, seed, ask)
    cells = read_tree(tree.path).cells
    assert [replicates_of(cells, key).own_held_out for key in ("nll", "choice_accuracy")] == [True, False]


def test_one_seed_has_nothing_to_differ_from(fake_tree):
    found = replicates_of(read_tree(fake_tree(budgets=(20_000,), seeds=(0,)).path).cells)
    assert not found.own_tokens
    assert not found.own_held_out
    assert not found.known
    assert replicates_of([]) == Replicates(own_tokens=False, own_held_out=False, known=False)


def test_a_level_of_which_an_arm_finished_one_seed_says_nothing(fake_tree):
    """Nor does a budget that AR has alone."""
    tree = fake_tree(budgets=(20_000, 80_000), alone=(40_000,))
    tree.fail("ar", 40_000, 1, "lost")
    for arm in tree.arms:
        tree.fail(arm, 80_000, 1, "lost")
    found = replicates_of(read_tree(tree.path).cells)
    assert (found.own_tokens, found.own_held_out, found.known) == (True, True, True)
    for arm in tree.arms:
        tree.edit(arm, 20_000, 1, fixed)
        tree.edit(arm, 20_000, 0, fixed)
    found = replicates_of(read_tree(tree.path).cells)
    assert (found.own_tokens, found.own_held_out, found.known) == (False, False, True)


def test_arms_may_train_on_other_data(fake_tree):
    def other(result):
        result["data"]["hash"] = "0ther"
        for row in (row for stop in result["stops"] for row in stop["measured"]):
            row["task"]["settings"]["sample"] += 100

    tree = fake_tree(budgets=(20_000,))
    for seed in tree.seeds:
        tree.edit("dlm", 20_000, seed, other)
    found = replicates_of(read_tree(tree.path).cells)
    assert (found.own_tokens, found.own_held_out) == (True, True)


@pytest.mark.parametrize(("share", "limited"), [(None, False), (0.5, False), (0.51, True)])
def test_more_than_half_of_the_split_limits_what_is_claimed(share, limited):
    assert Replicates(own_tokens=True, own_held_out=True, share=share).limited == limited


def test_what_is_expected_in_common_follows_from_what_is_drawn_of(fake_tree):
    found = replicates_of(read_tree(fake_tree(budgets=(20_000, 80_000)).path).cells)
    assert found.share == pytest.approx(80_000 / 1_000_000)  # of the largest budget
    assert found.documents == pytest.approx(len(set(DOCUMENTS)) / 80)


@pytest.mark.parametrize(
    ("own_held_out", "documents", "own", "same"),
    [
        (True, None, True, False),
        (True, 0.7, True, False),
        (True, 1.0, False, True),
        (False, 0.7, False, False),
        (False, 1.0, False, False),
    ],
)
def test_seeds_that_draw_windows_of_all_documents_share_these(own_held_out, documents, own, same):
    found = Replicates(own_tokens=True, own_held_out=own_held_out, documents=documents)
    assert (found.own_documents, found.same_documents) == (own, same)


@pytest.mark.parametrize("by_seed", [False, True])
def test_documents_are_those_of_the_metric(fake_tree, by_seed):
    """Problems are drawn of others than windows are, of which no number is recorded."""

    def solve(result):
        rows = result["stops"][-1]["measured"]
        settings = {"sample": result["config"]["seed"]} if by_seed else {"form": "humaneval"}
        task = {"measurement": "code", "split": "test", "settings": settings}
        examples = {"metric": "pass_at_1", "values": [0.5, 0.0], "documents": [0, 1]}
        own = {"key": "code", "task": task, "values": {"pass_at_1": 0.25}, "examples": examples}
        rows.append({**rows[-1], **own})

    tree = fake_tree(budgets=(20_000,), arms=("dlm",))  # best at its last stop
    for seed in tree.seeds:
        tree.edit("dlm", 20_000, seed, solve)
    cells = read_tree(tree.path).cells
    assert replicates_of(cells, "pass_at_1").documents is None
    assert replicates_of(cells, "pass_at_1").own_held_out == by_seed
    assert replicates_of(cells, "bits_per_byte").documents is None
    assert replicates_of(cells).documents is not None

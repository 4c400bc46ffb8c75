import pytest
from fake_trees import set_nll

from lab.reporting.report import write_report
from lab.reporting.sections import interaction
from lab.reporting.tree import read_tree
from lab.sections import Interaction

TOKENS = "data.unique_tokens"
SMALL, LARGE = 20_000, 80_000


@pytest.fixture
def tree(fake_tree):
    """A larger budget moves AR's best stop two doublings down, by 0.6, and the DLM not at all."""
    return fake_tree(budgets=(SMALL, LARGE), seeds=(0, 1, 2), readings=("annealed",))


def written(tree, **changes):
    section = {"arm": "ar", "reference": "dlm", "key": TOKENS, "level": LARGE, "reference_level": SMALL}
    return interaction.write(Interaction(**section | changes), read_tree(tree.path), "interaction")


def shift(tree, arm, budget, by_seed):
    """Make an arm's last stop the best, of a test NLL that is 1.03 and as much higher as is said."""
    for seed, value in zip(tree.seeds, by_seed, strict=True):
        tree.edit(arm, budget, seed, lambda result, value=value: set_nll(result, 8, 1.0 + value))


def test_the_difference_is_of_what_each_gains_by_seed(tree):
    content = written(tree)
    best, end = content.tables[0].rows
    assert best["arm_by_seed"] == pytest.approx({"0": 0.6, "1": 0.6, "2": 0.6})
    assert best["reference_by_seed"] == pytest.approx({"0": 0.0, "1": 0.0, "2": 0.0})
    assert best["more_by_seed"] == pytest.approx({"0": 0.6, "1": 0.6, "2": 0.6})
    # At the end AR has overfitted by 0.4 a doubling, on two doublings fewer.
    assert end["more_mean"] == pytest.approx(2 * (0.3 + 0.4))
    assert (best["stop"], end["stop"]) == ("best stop", "end")


FROM = "rom 20,000 unique tokens to 80,000 unique tokens"


@pytest.mark.parametrize(
    ("ar", "says"),
    [
        ((0.3, 0.31, 0.32), f"F{FROM} AR gains more than DLM in NLL at the end of training, by 0.310"),
        (
            (-0.3, -0.31, -0.32),
            f"F{FROM} AR gains less than DLM in NLL at the end of training, by 0.310",
        ),
        ((0.1, -0.3, 0.35), f"Whether AR gains more than DLM f{FROM} is undecided in NLL at the end of"),
        ((0.002, 0.001, -0.001), f"F{FROM} AR gains as much as DLM in NLL at the end of training: +0.001"),
    ],
)
def test_the_headline_says_which_gains_more(tree, ar, says):
    for arm, own in (("ar", ar), ("dlm", (0, 0, 0))):
        shift(tree, arm, SMALL, own)
        shift(tree, arm, LARGE, (0, 0, 0))
    content = written(tree, at=("end",))
    assert content.headline.startswith(says)
    assert content.tables[0].rows[0]["more_by_seed"] == pytest.approx(dict(zip("012", ar, strict=True)))
    assert content.verdict[0].startswith("From 20,000 unique tokens to 80,000 unique tokens AR gains")
    assert content.certain[0].startswith("Paired over 3 seeds by plain t tests; p-values are not corrected")


def test_what_all_four_runs_of_a_seed_share_and_what_an_arm_is_worse_by_drops_out(tree):
    before = written(tree).tables[0].rows[0]["more_by_seed"]
    tree.seed_shift = {"ar": 0.5, "dlm": -0.7}
    tree.dlm_start += 0.2
    tree.write()
    assert written(tree).tables[0].rows[0]["more_by_seed"] == pytest.approx(before)


def test_only_seeds_with_all_four_runs_count(tree):
    tree.fail("dlm", LARGE, 1, "lost")
    row = written(tree).tables[0].rows[0]
    assert [*row["arm_by_seed"]] == ["0", "1", "2"]
    assert [*row["more_by_seed"]] == ["0", "2"]
    for seed in (0, 2):
        tree.fail("dlm", LARGE, seed, "lost")
    content = written(tree)
    assert content.headline.endswith("is not compared: no seed has it of both arms at both levels.")
    assert content.tables[0].rows[0]["more_mean"] is None


def test_documents_make_an_error_of_the_difference_of_differences(tree):
    def louder(result):
        for row in result["stops"][8]["measured"]:
            if row.get("examples"):
                row["examples"]["values"][3] += 1

    def error():
        return written(tree, at=("end",)).tables[0].rows[0]["more_document_error"]

    assert error() == pytest.approx(0, abs=1e-9)
    for seed in tree.seeds:
        tree.edit("ar", LARGE, seed, louder)
    # Of three documents, one is 1 worse: sqrt(1/3 / 3).
    assert error() == pytest.approx(1 / 3)
    for seed in tree.seeds:
        tree.edit("dlm", LARGE, seed, louder)
    assert error() == pytest.approx(0, abs=1e-9)  # it is so for both
    for seed in tree.seeds:
        tree.edit("dlm", SMALL, seed, louder)
    assert error() == pytest.approx(1 / 3)


def test_a_level_that_is_not_planned_is_said_to_be_missing(tree):
    content = written(tree, reference_level=5)
    assert content.title == written(tree).title
    assert content.headline == (
        "What AR and DLM gain from 5 unique tokens to 80,000 unique tokens is not compared: "
        "no run of AR at 5 unique tokens or DLM at 5 unique tokens is planned."
    )
    assert (content.tables, content.certain) == ((), ())
    section = Interaction(arm="ar", reference="dlm", key=TOKENS, level=LARGE, reference_level=5)
    tree.sections = (section,)
    report = write_report(tree.write().path)
    assert report.summary["headline"] == content.headline


def test_other_held_out_text_is_refused(tree):
    def other(result):
        result["data"]["hashes"]["test"] = "0ther"

    for arm in tree.arms:
        for seed in tree.seeds:
            tree.edit(arm, LARGE, seed, other)
    with pytest.raises(
        ValueError, match=r"runs at both levels of data.unique_tokens must have the same held-out text"
    ):
        written(tree)

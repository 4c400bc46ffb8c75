import pytest
from fake_measurements import fake_inference
from fake_trees import set_nll

from lab.reporting.sections import quantity
from lab.reporting.tree import read_tree
from lab.sections import Quantity

CROSSING = Quantity(names=("crossing",), reference="ar")
MATCH = Quantity(names=("match_ratio",), measurement="generation", reference="ar")
DLM_ONLY = MATCH.model_copy(update={"arms": ("dlm",)})
PASSES = "DLM passes the best of AR"


def told(section, tree):
    """The section, and the cells of its first table, the small part of each after a space."""
    content = quantity.write(section, read_tree(tree.path), "quantity")
    cells = [[" ".join(filter(None, cell[:2])) for cell in cells] for _, cells in content.tables[0].cells]
    return content, cells


def test_every_budget_is_told_and_tabulated(fake_tree):
    content, cells = told(CROSSING, fake_tree())
    assert content.verdict == (
        f"{PASSES} after 145 epochs at 20,000 unique tokens.",
        "DLM never passes the best of AR within the run at 80,000 unique tokens.",
        "DLM never passes the best of AR within the run at 320,000 unique tokens.",
    )
    assert (content.headline, content.terms) == ("", ("crossing",))
    assert content.certain == (
        "Over 2 seeds.",
        "Medians with the lowest and highest seed; a seed that does not get there counts as later.",
    )
    headings = [heading for heading, *_ in content.tables[0].headings]
    assert headings == ["Level", "Arm", "Seeds", "Epoch", "FLOPs"]
    first = ["20,000 unique tokens", "DLM passes AR's best", "2 of 2", "145 137 to 152", "1.5 × 10¹³"]
    assert (cells[0], cells[1][2:]) == (first, ["0 of 2", "never", "–"])


def test_more_than_three_sentences_are_left_to_the_table(fake_tree):
    content, cells = told(Quantity(names=("crossing", "equal_tokens"), reference="ar"), fake_tree())
    assert content.verdict == ()
    assert [row[1] for row in cells[2:4]] == ["DLM passes AR's best", "DLM passes AR at equal tokens"]
    assert [row[3].split()[0] for row in cells] == ["145", "never", "never", "33.3", "42", "never"]


def test_the_other_reading_has_a_table_of_its_own(fake_tree):
    tree = fake_tree(budgets=(20_000,))
    tree.edit("dlm", 20_000, 0, lambda result: set_nll(result, 17, 1.0))  # its last stop along the run
    content, _ = told(CROSSING, tree)
    main, other = content.tables
    assert (main.name, main.title) == ("quantity", "")
    assert (other.name, other.title) == ("quantity_along_run", "Stops along one run")
    assert main.rows[0]["epoch_high"] == pytest.approx(2**7.25)
    assert other.rows[0]["reading"] == "along_run"
    assert other.rows[0]["epoch_high"] < 2**7.2
    assert len(content.verdict) == 1
    alone, _ = told(CROSSING, fake_tree(budgets=(20_000,), readings=("along_run",)))
    assert [table.name for table in alone.tables] == ["quantity"]


@pytest.mark.parametrize(
    ("seeds", "shift", "said", "cells"),
    [
        ((0,), 0.0, "after 152 epochs", ["1 of 1", "152"]),
        ((0, 1), 0.2, "in 1 of 2 seeds", ["1 of 2", "in some seeds"]),
        # The median is known where most seeds get there.
        ((0, 1, 2), 0.09, "in 2 of 3 seeds", ["2 of 3", "208 152 to later"]),
    ],
)
def test_one_seed_and_some_seeds(fake_tree, seeds, shift, said, cells):
    tree = fake_tree(budgets=(20_000,), seeds=seeds, seed_shift={"ar": 0.0, "dlm": shift})
    content, found = told(CROSSING, tree)
    assert content.verdict == (f"{PASSES} {said} at 20,000 unique tokens.",)
    assert content.certain[0] == f"Over {len(seeds)} seed{'s' * (len(seeds) > 1)}."
    assert found[0][2:4] == cells


def test_a_tie_passes_nothing(fake_tree):
    tree = fake_tree(budgets=(20_000,), seeds=(0,))
    best = tree.ar_nll(320_000, 20_000, 0)
    tree.edit("dlm", 20_000, 0, lambda result: [set_nll(result, place, best) for place in range(9)])
    assert told(CROSSING, tree)[0].verdict[0].startswith("DLM never passes the best of AR within the run")


def test_from_the_first_stop_on_and_not_for_good(fake_tree):
    tree = fake_tree(budgets=(20_000,), dlm_start=2.0)
    content, cells = told(CROSSING, tree)
    assert content.verdict == (f"{PASSES} from the first stop on at 20,000 unique tokens.",)
    assert cells[0][3] == "≤ 1"
    tree.edit("dlm", 20_000, 1, lambda result: set_nll(result, 5, 9.0))
    content, cells = told(CROSSING, tree)
    assert content.verdict == (f"{PASSES} from the first stop on at 20,000 unique tokens, but not for good.",)
    assert cells[0][3] == "≤ 1 not for good"
    # One seed of two: the median is only a bound. Of three it is known, and the lowest is the bound.
    tree.edit("dlm", 20_000, 1, lambda result: [set_nll(result, place, 9.0) for place in range(8)])
    assert told(CROSSING, tree)[0].verdict[0].startswith(f"{PASSES} after at most ")


def test_of_a_median_that_is_known_the_lowest_seed_may_be_a_bound(fake_tree):
    tree = fake_tree(budgets=(20_000,), seeds=(0, 1, 2), seed_shift={"ar": 0.0, "dlm": 0.0})
    tree.edit("ar", 20_000, 0, lambda result: set_nll(result, 0, 0.1))
    tree.edit("ar", 20_000, 2, lambda result: set_nll(result, 6, 0.1))
    content, cells = told(Quantity(names=("onset",), arms=("ar",)), tree)
    assert content.verdict == ("AR overfits after 16 epochs at 20,000 unique tokens.",)
    assert cells[0][3] == "16 ≤ 1 to 64"


def test_where_nothing_finished_nothing_is_compared(fake_tree):
    tree = fake_tree(budgets=(20_000, 80_000))
    for seed in tree.seeds:
        tree.fail("ar", 20_000, seed, "lost")
    content, cells = told(CROSSING, tree)
    assert content.verdict[0] == "DLM and AR are not compared at 20,000 unique tokens: no seed has both."
    assert [row[3] for row in cells] == ["not known", "never"]
    assert told(Quantity(names=("onset",), arms=("ar",)), tree)[0].verdict == (
        "AR has no finished run at 20,000 unique tokens.",
        "AR overfits after 16 epochs at 80,000 unique tokens.",
    )


def test_an_arm_whose_best_stop_is_its_last_does_not_overfit(fake_tree):
    content, cells = told(Quantity(names=("onset",)), fake_tree(budgets=(20_000,)))
    assert content.verdict == (
        "AR overfits after 16 epochs at 20,000 unique tokens.",
        "DLM never overfits within the run at 20,000 unique tokens.",
    )
    assert [row[1::2] for row in cells] == [
        ["AR begins to overfit", "16"],
        ["DLM begins to overfit", "never"],
    ]
    assert content.terms == ("onset",)


def test_the_best_level_is_told_seed_by_seed(fake_tree):
    tree = fake_tree(seeds=(0, 1, 2))
    tree.edit("ar", 80_000, 1, lambda result: set_nll(result, 6, 0.1))
    content, cells = told(Quantity(names=("best_level",)), tree)
    # The DLM gives the same at each budget: of equals the first counts.
    assert content.verdict == (
        "AR is best at 320,000 unique tokens in 2 of 3 seeds and at 80,000 unique tokens in 1 of 3 seeds.",
        "DLM is best at 20,000 unique tokens in every seed.",
    )
    assert [heading[0] for heading in content.tables[0].headings] == ["Arm", "Seeds", "Level"]
    assert cells[1] == ["DLM is best at", "3 of 3", "20,000 unique tokens in every seed"]
    tree.fail("ar", 320_000, 2, "lost")  # seed 2 has no best of all levels
    assert told(Quantity(names=("best_level",)), tree)[0].verdict[0] == (
        "AR is best at 320,000 unique tokens in 1 of 2 seeds and at 80,000 unique tokens in 1 of 2 seeds."
    )
    by_gap, _ = told(Quantity(names=("best_level",), metric="option_gap", arms=("ar",)), tree)
    assert by_gap.verdict == ("AR is best at 320,000 unique tokens in every seed.",)
    bound, _ = told(Quantity(names=("best_level",), metric="nelbo", arms=("ar",)), tree)
    assert bound.verdict == ("AR is best nowhere, as no finished run measured it.",)


def test_the_multiple_of_the_flops_is_told(tmp_path):
    content, cells = told(MATCH, fake_inference(tmp_path))
    # 2.5 - 0.2 log2 T + shift = 2 at T = 2 ** (2.5 + 5 shift).
    assert content.verdict == (
        "DLM (ancestral) matches AR's judge NLL with 5.66 [2.39 to 13.4] times its FLOPs.",
        "DLM (confidence) matches AR's judge NLL with 5.66 [2.39 to 13.4] times its FLOPs.",
        "any-order AR (left to right) does not match AR's judge NLL at any compute measured.",
    )
    assert content.headline == content.verdict[0]
    assert content.tables[0].headings[-1][:2] == ("× FLOPs", "per token")
    assert [row[-1] for row in cells] == ["5.66 2.39 to 13.4", "5.66 2.39 to 13.4", "never"]
    assert content.tables[0].rows[0]["by_seed"]["1"] == {"flops_ratio": pytest.approx(8.0)}
    assert content.certain[2].startswith("DLM and any-order AR were still improving when their runs ended")


def test_a_match_at_most_in_some_seeds_or_only_in_passing(tmp_path):
    content, cells = told(DLM_ONLY, fake_inference(tmp_path, ar_judge_nll=3.0))
    assert content.verdict[0] == "DLM (ancestral) matches AR's judge NLL with at most 1 times its FLOPs."
    assert [row[-1] for row in cells] == ["≤ 1", "≤ 1"]
    # At 16 passes 1.9, 2.0 and 1.8.
    content, cells = told(DLM_ONLY, fake_inference(tmp_path, slope=0.15, ar_judge_nll=1.85))
    assert content.verdict[0] == "DLM (ancestral) matches AR's judge NLL in 1 of 3 seeds."
    assert cells[0][-1] == "in some seeds"
    tree = fake_inference(tmp_path)

    def touched(row):
        nll = 1.9 if row.task.settings.get("steps") == 2 else 2.3
        return row.model_copy(update={"values": row.values | {"judge_nll": nll}})

    tree.measure("dlm", 0, rows=tuple(map(touched, tree.rows("dlm", 0))))
    tree.measurement("dlm", 1).unlink()
    tree.measurement("dlm", 2).unlink()
    content, cells = told(MATCH, tree)
    never = "DLM (ancestral) does not match AR's judge NLL at any compute measured"
    assert content.verdict[0] == f"{never}, only in passing in 1 of 1 seeds."
    assert cells[0][-1] == "not for good"
    assert content.warnings == (
        "Trained but not measured: dlm seed 1 and dlm seed 2. The same command measures what is missing.",
    )


def test_choices_match_where_accuracy_reaches_the_references(tmp_path):
    """0.4 + 0.05 log2 m = 0.55 at m = 8: 80 FLOPs against 10. Exactly scored, one amount suffices."""
    section = DLM_ONLY.model_copy(update={"metric": "choice_accuracy", "measurement": "choice"})
    content, _ = told(section, fake_inference(tmp_path))
    assert content.verdict == (
        "DLM (exact chain rule) matches AR's choice accuracy with at most 6 times its FLOPs.",
        "DLM (Monte Carlo draws) matches AR's choice accuracy with 8 times its FLOPs.",
    )
    assert content.tables[0].headings[-1][:2] == ("× FLOPs", "per item")


def test_a_match_at_each_level_is_with_the_reference_there(tmp_path):
    tree = fake_inference(tmp_path, budgets=(20_000, 40_000), samplers=("ancestral",))
    content, _ = told(DLM_ONLY, tree)
    # The AR of 40,000 unique tokens is 0.1 better: half a doubling more.
    assert [row["geometric_mean"] for row in content.tables[0].rows] == pytest.approx([2**2.5, 2**3])
    assert "matches AR's judge NLL at 40,000 unique tokens with 8 [" in content.verdict[1]


def test_a_match_needs_the_reference_measured(tmp_path):
    tree = fake_inference(tmp_path)
    for seed in tree.seeds:
        tree.fail("ar", 20_000, seed, "lost")
    content = quantity.write(MATCH, read_tree(tree.path), "quantity")
    assert content.headline == "Nothing is compared with AR: too little was measured."
    assert (content.tables, content.verdict, content.certain) == ((), (content.headline,), ())


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"names": ("match_ratio",), "reference": "ar"}, r"must have that name alone and a `measurement`"),
        (
            {"names": ("match_ratio", "onset"), "reference": "ar", "measurement": "choice"},
            r"must have that name alone and a `measurement`",
        ),
        ({"names": ("crossing", "onset")}, r"a Quantity of \['crossing'\] must name the `reference` arm"),
    ],
)
def test_a_quantity_names_all_that_it_needs(wanted, said):
    with pytest.raises(ValueError, match=said):
        Quantity(**wanted)


def test_runs_that_differ_are_not_compared(fake_tree):
    tree = fake_tree()
    tree.edit("dlm", 80_000, 1, lambda result: result.update(parameters=7))
    with pytest.raises(ValueError, match=r"runs at 80,000 unique tokens must have the same number of param"):
        told(CROSSING, tree)
    loose = CROSSING.model_copy(update={"matched": ("data",)})
    assert len(told(loose, tree)[0].verdict) == 3

from fake_trees import overfit_at_the_end, set_nll
from report_pages import read_page

from lab.reporting.crossover import words
from lab.reporting.crossover.findings import analyse
from lab.reporting.report import write_report
from lab.reporting.results import read_tree


def analysed(tree):
    return analyse(read_tree(tree.path))


def test_the_headline_names_every_budget_with_its_winner(fake_tree):
    tree = fake_tree(seed_shift={"ar": 0.0, "dlm": -0.04})  # corrected p: 0.084, 0.059, 0.037
    assert words.headline(analysed(tree)) == (
        "The diffusion model (DLM) wins provisionally at 20,000 unique tokens within this run length; "
        "the autoregressive model (AR) wins at 320,000 unique tokens within this run length; "
        "the autoregressive model (AR) wins provisionally at 80,000 unique tokens within this run length."
    )


def test_an_arm_that_was_still_improving_is_told_and_only_there(fake_tree):
    tree = fake_tree()
    small, _, large = analysed(tree).budgets
    assert (
        "The DLM (2 of 2 seeds) was still improving when its run ended, so this is for this many tokens. The "
        "DLM is better by 0.165 nats/token: DLM wins (provisional) within this run length, as all seeds agree"
    ) in words.found(small)
    assert "The AR (2 of 2 seeds) and the DLM (2 of 2 seeds) were still improving" in words.found(large)
    for budget in tree.budgets:
        for seed in tree.seeds:
            tree.edit("dlm", budget, seed, overfit_at_the_end)
    assert words.headline(analysed(tree)) == (
        "The diffusion model (DLM) wins provisionally at 20,000 unique tokens; "
        "the autoregressive model (AR) wins at 80,000 unique tokens; "
        "the autoregressive model (AR) wins at 320,000 unique tokens within this run length."
    )
    assert "improving" not in words.found(analysed(tree).budgets[0])


def test_a_crossover_is_told_in_epochs_and_flops(fake_tree):
    small, middle, large = analysed(fake_tree()).budgets
    text = words.crossing_sentence(small)
    assert (
        "falls below the AR's best after 145 epochs (seeds: 137 to 152) and 1.5 × 10¹³ training FLOPs" in text
    )
    assert "9.4 times what the AR's best stop cost" in text
    assert "does not fall below the AR's best within the run; below the AR's value at the same moment: 4" in (
        words.crossing_sentence(middle)
    )
    assert words.crossing_sentence(large).endswith("within the run.")
    assert words.crossing_short(large.below_best) == "none in the run"


def test_below_from_the_first_stop_is_told_as_a_bound(fake_tree):
    small = analysed(fake_tree(dlm_start=2.0)).budgets[0]
    assert small.below_best.from_first_stop
    assert words.crossing_short(small.below_best) == "by the first stop"
    assert "from the first stop on" in words.crossing_sentence(small)


def test_below_from_the_first_stop_but_not_at_every_later_one_is_told(fake_tree):
    tree = fake_tree(dlm_start=2.0)

    tree.edit("dlm", 20_000, 1, lambda result: set_nll(result, 5, 9.0))
    small = analysed(tree).budgets[0]
    assert small.below_best.from_first_stop
    said = words.crossing_sentence(small)
    assert said == (
        "Its validation NLL lies below the AR's best at the first stop already. "
        "It does not stay below at every later stop."
    )
    cell = read_page(write_report(tree.path)).tables[0][1][7]
    assert cell == "by the first stop not for good"


def test_the_table_says_how_many_seeds_cross_and_whether_they_stay(fake_tree):
    tree = fake_tree(seeds=(0, 1, 2), seed_shift={"ar": 0.0, "dlm": 0.09})

    def cells():
        return [row[7] for row in read_page(write_report(tree.path)).tables[0][1:4]]

    assert cells()[0] == "208 epochs 152 to 208 2 of 3 seeds"
    assert cells()[1] == "none in the run"
    tree.edit("dlm", 20_000, 0, lambda result: (set_nll(result, 8, 9.0), set_nll(result, 7, 1.0)))
    assert cells()[0].endswith("2 of 3 seeds not for good")
    page = read_page(write_report(tree.path)).text
    assert "from there on" not in page
    assert "The point from which" not in page
    assert "there the DLM first falls below the AR's best stop" in page


def test_some_seeds_may_cross_and_others_not(fake_tree):
    tree = fake_tree(dlm_start=4.15, seed_shift={"ar": 0.0, "dlm": 0.2})
    small = analysed(tree).budgets[0]
    assert words.crossing_short(small.below_best) == "in 1 of 2 seeds"
    assert "in 1 of 2 seeds (at 152 to 152 epochs) and not within the run" in words.crossing_sentence(small)
    three = analysed(fake_tree(seeds=(0, 1, 2), seed_shift={"ar": 0.0, "dlm": 0.09})).budgets[0]
    assert "In 1 of 3 seeds it does not within the run." in words.crossing_sentence(three)


def test_the_uncertainty_names_comparisons_seeds_and_windows(fake_tree):
    two = words.uncertainty(analysed(fake_tree()))
    assert "paired over 2 seeds" in two
    assert "corrected (Holm) for 3 comparisons" in two
    assert "12.7 standard errors" in two
    assert "2 seeds do so in 30 % of comparisons" in two
    assert "about 0.89 of 3 would be provisional by chance" in two
    assert "error of 0.071 nats/token" in two
    one = words.uncertainty(analysed(fake_tree(seeds=(0,))))
    assert "decides nothing" in one
    assert "Holm" not in one


def test_what_is_left_out_is_counted_and_named(fake_tree):
    tree = fake_tree()
    assert words.left_out(analysed(tree)) == ""
    tree.fail("dlm", 80_000, 1, "out of memory")
    (tree.logdir("ar", 320_000, 0) / "result.json").unlink()
    assert words.left_out(analysed(tree)) == (
        "Of 12 planned runs, 1 failed and 1 are missing. Only seeds that both arms finished are compared. "
        "Left out: seed 1 with 80,000 unique tokens and seed 0 with 320,000 unique tokens."
    )
    assert "one seed has no spread" in words.found(analysed(tree).budgets[1])


def test_without_any_pair_nothing_is_claimed(fake_tree):
    tree = fake_tree(budgets=(20_000,), seeds=(0,))
    tree.fail("dlm", 20_000, 0, "out of memory")
    crossover = analysed(tree)
    assert words.headline(crossover) == "It is undecided at 20,000 unique tokens."
    assert "nothing is compared" in words.found(crossover.budgets[0])
    assert words.crossing_sentence(crossover.budgets[0]) == ""
    assert words.crossing_short(crossover.budgets[0].below_best) == "not known"
    assert words.uncertainty(crossover).startswith("No seed was finished by both arms")

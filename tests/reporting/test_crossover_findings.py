import math

import pytest

from lab.reporting.crossover.findings import Crossing, CrossingSummary, analyse, first_below
from lab.reporting.results import read_tree
from lab.results import Stop


def analysed(tree):
    return analyse(read_tree(tree.path))


def stops_at(*tokens):
    places = [{"step": t, "tokens_seen": t, "epoch": t / 100, "train_flops": 6.0 * t} for t in tokens]
    return [Stop(reading="annealed", start=0, measured=(), **place) for place in places]


def test_a_crossing_is_interpolated_linearly_in_log_tokens():
    found = first_below(stops_at(100, 200, 800), [0.3, 0.1, -0.1])
    assert found.tokens_seen == pytest.approx(400)  # halfway from 200 to 800 in the logarithm
    assert found.epoch == pytest.approx(4.0)
    assert found.train_flops == pytest.approx(2400)
    assert (found.from_first_stop, found.holds) == (False, True)


def test_no_crossing_below_from_the_first_stop_and_touching_zero():
    assert first_below(stops_at(100, 200), [0.3, 0.1]) is None
    assert first_below(stops_at(100, 200), [0.3, 0.0]) is None
    first = first_below(stops_at(100, 200), [-0.3, -0.1])
    assert (first.tokens_seen, first.from_first_stop, first.holds) == (100, True, True)


def test_a_crossing_that_is_taken_back_says_so():
    assert first_below(stops_at(100, 200, 400), [0.1, -0.1, 0.1]).holds is False


def crossing(epoch):
    return None if epoch is None else Crossing(epoch * 100.0, epoch, epoch * 600.0, False, True)


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ([4.0, 8.0], 6.0),
        ([9.0, 4.0, 5.0], 5.0),
        ([4.0, 5.0, None], 5.0),  # the run without a crossing counts as later than every other
        ([4.0, None], None),
        ([4.0, None, None], None),
        ([None, None], None),
        ([], None),
    ],
)
def test_the_median_counts_a_run_without_a_crossing_as_beyond_it(epochs, expected):
    summary = CrossingSummary({seed: crossing(epoch) for seed, epoch in enumerate(epochs)})
    assert summary.median("epoch") == expected
    known = [epoch for epoch in epochs if epoch is not None]
    assert summary.range("epoch") == ((min(known), max(known)) if known else None)


def test_the_known_crossover_is_recovered(fake_tree):
    tree = fake_tree()
    small, middle, large = analysed(tree).budgets
    for seed in tree.seeds:
        # The AR's best is 2.7 at 16 epochs; the DLM falls by 0.2 per doubling of the tokens from 20,000 on.
        best = tree.ar_nll(16 * 20_000, 20_000, seed)
        doublings = (tree.dlm_nll(20_000, 20_000, seed) - best) / 0.2
        found = small.below_best.by_seed[seed]
        assert found.tokens_seen == pytest.approx(20_000 * 2**doublings)
        assert found.epoch == pytest.approx(2**doublings, rel=1e-6)
        assert found.train_flops == pytest.approx(20_000 * 2**doublings * 5.3e6)
    assert small.below_best.median("epoch") == pytest.approx((2**7.25 + 2**7.1) / 2)
    assert middle.below_best.by_seed == large.below_best.by_seed == {0: None, 1: None}
    # At 80,000 it falls below the AR's own, risen value between 128 and 256 times 20,000 tokens.
    at = middle.below_current.by_seed[0].tokens_seen
    assert tree.dlm_nll(at, 80_000, 0) == pytest.approx(tree.ar_nll(at, 80_000, 0))


def test_gains_are_paired_best_stops_on_the_test_split(fake_tree):
    tree = fake_tree()
    small, _, large = analysed(tree).budgets
    assert dict(small.gain.by_seed) == pytest.approx({0: 0.15, 1: 0.18})
    assert large.gain.mean == pytest.approx(-1.05 + 0.015)
    assert (small.verdict.winner, small.verdict.evidence) == (1, "seed spread")
    assert large.verdict.winner == -1
    stops = small.best_stops("ar")
    assert [stop.epoch for stop in stops] == [16.0, 16.0]
    assert stops[0].test["nll"] == pytest.approx(2.73)


def test_p_values_are_corrected_for_the_number_of_budgets(fake_tree):
    budgets = analysed(fake_tree(seeds=(0, 1, 2))).budgets
    raw = sorted(budget.gain.p_value for budget in budgets)
    adjusted = sorted(budget.adjusted_p for budget in budgets)
    assert adjusted[0] == pytest.approx(3 * raw[0])
    assert adjusted[1] == pytest.approx(max(3 * raw[0], 2 * raw[1]))
    assert budgets[2].verdict.evidence == "test"


def test_annealed_is_the_headline_and_along_run_stands_in_where_it_is_alone(fake_tree):
    crossover = analysed(fake_tree())
    assert (crossover.headline, list(crossover.readings)) == ("annealed", ["annealed", "along_run"])
    assert crossover.readings["along_run"][0].best_stops("ar")[0].test["nll"] == pytest.approx(2.81)
    alone = analysed(fake_tree(readings=("along_run",)))
    assert (alone.headline, list(alone.readings)) == ("along_run", ["along_run"])


def test_a_failed_run_takes_its_seed_out_of_both_arms(fake_tree):
    tree = fake_tree(seeds=(0, 1, 2))
    tree.fail("dlm", 20_000, 1, "out of memory")
    small, middle, _ = analysed(tree).budgets
    assert (small.seeds, small.left_out) == ((0, 2), (1,))
    assert [cell.seed for cell in small.runs("ar")] == [0, 2]
    assert set(small.gain.by_seed) == set(small.below_best.by_seed) == {0, 2}
    assert middle.seeds == (0, 1, 2)


def test_a_budget_without_a_pair_of_seeds_is_undecided(fake_tree):
    tree = fake_tree()
    for seed in tree.seeds:
        tree.fail("dlm", 20_000, seed, "out of memory")
    small = analysed(tree).budgets[0]
    assert (small.gain, small.verdict.winner, small.seeds) == (None, 0, ())
    assert len(small.runs("ar")) == 2


def test_one_seed_decides_nothing(fake_tree):
    budgets = analysed(fake_tree(seeds=(3,))).budgets
    assert {(budget.verdict.winner, budget.verdict.evidence) for budget in budgets} == {(0, "too few seeds")}
    assert math.isclose(budgets[0].below_best.median("epoch"), 2 ** (7.25 - 0.15 * 3), rel_tol=1e-6)


def test_an_ablation_without_levels_is_one_budget_named_by_its_data(fake_tree):
    tree = fake_tree(budgets=(20_000,))
    tree.replan(lambda plan: [cell.update(level={}) for cell in plan["cells"]])
    (budget,) = analysed(tree).budgets
    assert budget.name == "20,000 unique tokens"


def test_no_finished_run_or_no_such_arm_is_an_error(fake_tree):
    tree = fake_tree(budgets=(20_000,), seeds=(0,))
    for arm in ("ar", "dlm"):
        (tree.logdir(arm, 20_000, 0) / "result.json").unlink()
    with pytest.raises(ValueError, match=r"a report needs a finished run, but none of 2 in .*laptop is"):
        analysed(tree)
    tree.replan(lambda plan: plan.update(cells=plan["cells"][:1]))
    with pytest.raises(ValueError, match=r"needs the arms ar and dlm, but .* plans \['ar'\]"):
        analysed(tree)

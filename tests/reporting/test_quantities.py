import math

import pytest

from lab.metrics import find_metric
from lab.reporting import quantities
from lab.reporting.quantities import Reached, SeedPlaces, compute_to_reach, first_below
from lab.reporting.series import Point, Series, runs_of
from lab.reporting.tree import read_tree
from lab.results import Measured, Task

NLL, GAP = find_metric("nll"), find_metric("option_gap")


def points(values, tokens=(100, 200, 800), metric="nll"):
    """Stops of an epoch of 100 tokens, or amounts of as many FLOPs; seed -> the metric at each."""
    task = Task(measurement="generation", split="test")
    return tuple(
        Point(
            {"epoch": at / 100, "tokens_seen": float(at), "train_flops": 6.0 * at, "flops": at},
            {seed: {metric: own[place]} for seed, own in values.items() if place < len(own)},
            rows={
                seed: Measured(key="", task=task, stops=(), values={}, costs={"flops": at}) for seed in values
            },
        )
        for place, at in enumerate(tokens)
    )


def series(values, tokens=(100, 200, 800), metric="nll"):
    return Series("dlm", {}, points(values, tokens, metric), ())


def differences(*values):
    return list(zip(points({0: [0] * 3}), values, strict=True))


def compute(values, flops=(1.0, 2.0, 4.0, 8.0)):
    return series(values, flops, "judge_nll")


def at(epoch, **values):
    return Reached({"epoch": epoch, "tokens_seen": 100 * epoch, "train_flops": 600 * epoch}, **values)


def found(*epochs):
    return SeedPlaces({s: e and at(e) for s, e in enumerate(epochs)}, quantities.PLACE_UNITS)


def test_a_crossing_is_interpolated_linearly_in_log_tokens():
    # Halfway from 200 to 800 in the logarithm; epochs and FLOPs are those of these tokens.
    reached = first_below(differences(0.3, 0.1, -0.1))
    assert reached.at == pytest.approx({"tokens_seen": 400, "epoch": 4, "train_flops": 2400})
    assert (reached.from_first, reached.holds) == (False, True)


def test_no_crossing_below_from_the_first_stop_touching_zero_and_taken_back():
    assert first_below(differences(0.3, 0.2, 0.1)) is None
    assert first_below(differences(0.3, 0.2, 0.0)) is None
    first = first_below(differences(-0.3, -0.1, -0.1))
    assert (first.at["tokens_seen"], first.from_first, first.holds) == (100, True, True)
    assert first_below(differences(0.1, -0.1, 0.1)).holds is False
    assert first_below(differences(-0.1, 0.1, -0.1)).holds is False


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        ([4.0, 8.0], 6.0),
        ([9.0, 4.0, 5.0], 5.0),
        ([4.0, 5.0, None], 5.0),  # a seed that does not get there counts as later than every other
        ([4.0, None], None),
        ([4.0, None, None], None),
        ([None, None], None),
        ([], None),
    ],
)
def test_the_median_counts_a_seed_that_never_crosses_as_beyond_the_run(epochs, expected):
    made = found(*epochs)
    assert made.median("epoch") == expected
    known = [epoch for epoch in epochs if epoch is not None]
    assert made.range("epoch") == ((min(known), max(known)) if known else None)
    assert made.every_seed == (len(known) == len(epochs) > 0)


def test_the_known_crossover_is_recovered_in_epochs_tokens_and_flops(fake_tree):
    fake = fake_tree()
    tree = read_tree(fake.path)
    crossings, equal = {}, {}
    for level in tree.levels:
        ar, dlm = (runs_of(tree, arm, level) for arm in ("ar", "dlm"))
        budget = level["data.unique_tokens"]
        bar = ar.at("best", "validation").values("nll")
        crossings[budget] = quantities.crossing(dlm.along, bar, NLL)
        equal[budget] = quantities.equal_tokens(dlm.along, ar.along, NLL)
    for seed in fake.seeds:
        # The AR's best is 2.7 at 16 epochs; the DLM falls by 0.2 per doubling of the tokens from 20,000 on.
        best = fake.ar_nll(16 * 20_000, 20_000, seed)
        tokens = 20_000 * 2 ** ((fake.dlm_nll(20_000, 20_000, seed) - best) / 0.2)
        assert crossings[20_000].by_seed[seed].at == pytest.approx(
            {"tokens_seen": tokens, "epoch": tokens / 20_000, "train_flops": tokens * 5.3e6}
        )
    assert crossings[20_000].median("epoch") == pytest.approx((2**7.25 + 2**7.1) / 2)
    assert crossings[20_000].holds
    assert crossings[80_000].by_seed == crossings[320_000].by_seed == {0: None, 1: None}
    # At 80,000 it falls below the AR's own, risen value, which is no crossing of its best.
    tokens = equal[80_000].by_seed[0].at["tokens_seen"]
    assert fake.dlm_nll(tokens, 80_000, 0) == pytest.approx(fake.ar_nll(tokens, 80_000, 0))
    assert equal[320_000].reached == []


def test_equal_tokens_are_taken_at_the_stops_and_seeds_that_both_have():
    arm = series({0: [4.0, 2.0, 2.0], 1: [1.0, 1.0, 1.0]}, (100, 200, 800))
    other = series({0: [3.0, 5.0, 3.0], 2: [9.0, 9.0, 9.0]}, (100, 400, 800))
    made = quantities.equal_tokens(arm, other, NLL)
    assert list(made.by_seed) == [0]
    # 1 worse at 100, 1 better at 800: halfway in the logarithm, whatever the arm does at 200.
    assert made.by_seed[0].at["tokens_seen"] == pytest.approx(math.sqrt(100 * 800))
    assert quantities.equal_tokens(arm, series({0: [1.0]}, (300,)), NLL).by_seed == {}


def test_where_higher_is_better_an_arm_passes_by_rising():
    arm = series({0: [0.1, 0.3, 0.5], 1: [0.1, 0.2, 0.2], 3: [0.1, 0.2, 0.2]}, metric="option_gap")
    made = quantities.crossing(arm, {0: 0.4, 1: 0.4, 2: 0.0}, GAP)
    assert made.by_seed[0].at["tokens_seen"] == pytest.approx(400)
    assert made.by_seed[1] is None
    assert set(made.by_seed) == {0, 1}  # which both have


def test_a_seed_without_the_metric_is_left_out():
    arm = series({0: [3.0, 2.0, 1.0]})
    assert quantities.crossing(arm, {0: 0.4}, GAP).by_seed == {}
    assert quantities.equal_tokens(arm, arm, GAP).by_seed == {}
    assert quantities.onset(arm, GAP).by_seed == {}


def test_overfitting_begins_at_the_best_stop_unless_that_is_the_last():
    arm = series({0: [3.0, 2.0, 2.5], 1: [3.0, 2.0, 1.0], 2: [1.0, 2.0, 2.5], 3: [3.0, 2.0, 2.0]})
    made = quantities.onset(arm, NLL)
    assert [one and one.at["epoch"] for one in made.by_seed.values()] == [2.0, None, 1.0, 2.0]
    assert [one.from_first for one in made.by_seed.values() if one] == [False, True, False]
    gap = quantities.onset(series({0: [0.1, 0.3, 0.2]}, metric="option_gap"), GAP)
    assert gap.by_seed[0].at["epoch"] == 2.0


def test_each_seed_is_read_to_its_own_end():
    """With `training.patience` one run ends earlier than another, which goes on to its own best stop."""
    arm = series({0: [3.0, 2.5], 1: [3.0, 2.0, 1.0], 2: [3.0, 2.0, 2.5], 3: [3.0]})
    assert [one and one.at["epoch"] for one in quantities.onset(arm, NLL).by_seed.values()] == [
        None,
        None,
        2.0,
        None,
    ]
    crossings = quantities.crossing(arm, dict.fromkeys(range(4), 1.5), NLL).by_seed
    assert crossings == {0: None, 1: at(4.0), 2: None, 3: None}
    reference = series({0: [2.0, 3.0, 3.0], 1: [2.0, 1.5, 1.5], 2: [2.0, 1.5]})
    equal = quantities.equal_tokens(arm, reference, NLL).by_seed
    assert {seed: one and one.at["tokens_seen"] for seed, one in equal.items()} == pytest.approx(
        {0: 100 * 2 ** (2 / 3), 1: 400.0, 2: None}
    )
    assert [point.at["tokens_seen"] for point in arm.common] == [100]


FALLING = [(1.0, 4.0), (2.0, 3.0), (4.0, 2.0), (8.0, 1.95)]
IN_PASSING = [(1.0, 4.0), (2.0, 2.0), (4.0, 3.7), (16.0, 2.5)]  # at 2 FLOPs lower than ever after


@pytest.mark.parametrize(
    ("amounts", "target", "expected"),
    [
        *[(FALLING, *pair) for pair in [(5.0, 1.0), (3.0, 2.0), (2.5, 2 * 2**0.5), (2.0, 4.0), (1.9, None)]],
        *[
            (IN_PASSING, *pair)
            for pair in [(4.0, 1.0), (3.5, 4 * 4 ** (0.2 / 1.2)), (2.5, 16.0), (2.0, None)]
        ],
    ],
)
def test_compute_to_reach_a_target_for_good_is_log_linear(amounts, target, expected):
    reached = compute_to_reach(amounts, target)
    assert reached == (expected if expected is None else pytest.approx(expected))


def test_a_match_is_a_multiple_of_the_references_flops_with_a_geometric_mean():
    judge = find_metric("judge_nll")
    reference = compute({seed: [2.0] for seed in range(3)}, flops=(2.0,))
    # 3 - log2(flops): 2 at 2 FLOPs, as many as the reference has; others a doubling later and earlier.
    curves = {seed: [3.0 + move - step for step in range(4)] for seed, move in enumerate((0, 1, -0.5))}
    made = quantities.match_ratio(compute(curves), reference, judge)
    assert {s: one.at["flops_ratio"] for s, one in made.by_seed.items()} == pytest.approx(
        {0: 1.0, 1: 2.0, 2: 2**-0.5}
    )
    assert made.mean == pytest.approx(2 ** (0.5 / 3))
    spread = math.sqrt(((1 / 6) ** 2 + (5 / 6) ** 2 + (2 / 3) ** 2) / 2)
    half = 4.302653 * spread / math.sqrt(3)  # the t quantile of two degrees of freedom
    assert made.interval == pytest.approx((2 ** (0.5 / 3 - half), 2 ** (0.5 / 3 + half)), rel=1e-5)


def test_a_match_in_passing_never_and_from_the_first_amount():
    judge = find_metric("judge_nll")
    reference = compute({seed: [2.0] for seed in range(4)}, flops=(1.0,))
    curves = {0: [3.0, 1.9, 3.0, 2.5], 1: [3.0, 3.0, 3.0, 3.0], 2: [2.0, 1.0, 1.0, 1.0]}
    made = quantities.match_ratio(compute(curves), reference, judge)
    assert (made.by_seed[0], made.by_seed[1], made.in_passing) == (None, None, (0,))
    assert (made.by_seed[2].at["flops_ratio"], made.from_first) == (1.0, 1)
    assert (made.mean, made.interval) == (None, None)  # some seeds miss it
    bound = quantities.match_ratio(compute({2: curves[2], 3: [3.0, 3.0, 2.0, 1.0]}), reference, judge)
    assert (bound.mean, bound.interval) == (pytest.approx(2.0), None)  # one is only known to be less
    assert found(4.0).interval is None

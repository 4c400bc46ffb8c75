import gc
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from lab.reporting.effects import CUBE, EFFECTS, FACTORS, effects, residual_bootstrap
from lab.reporting.statistics import Verdict, holm
from lab.results import Examples

EXPERIMENTS = 500
NO_SPREAD = Verdict("undecided", reason="no spread")
WEIGHTS = np.array([effect.weights for effect in EFFECTS])
# How often 500 experiments may miss a true rate of 95 %: 3.3 standard errors, one in 1,000 for each rate.
ALLOWED = 3.3 * math.sqrt(0.95 * 0.05 / EXPERIMENTS)


def corners(value) -> np.ndarray:
    """(8, 1): a function of the three levels at each corner."""
    return np.array([[value(*levels)] for levels in CUBE], dtype=float)


def by_name(found) -> dict[tuple[str, str], float]:
    return {(effect.kind, effect.name): made.mean for effect, made in zip(EFFECTS, found, strict=True)}


def shapley(values) -> list[float]:
    means = by_name(effects(values, range(values.shape[1])))
    return [means["shapley", factor] for factor in FACTORS]


def test_effects_of_a_known_cube_are_recovered():
    """y = 5 + 2a - b + 3ab + 6abc over 0/1 levels: each number below was worked out by hand."""
    means = by_name(effects(corners(lambda a, b, c: 5 + 2 * a - b + 3 * a * b + 6 * a * b * c), [0]))
    expected = {
        ("gain", "all three"): 10,
        ("shapley", "order"): 2 + 3 / 2 + 6 / 3,
        ("shapley", "compute"): -1 + 3 / 2 + 6 / 3,
        ("shapley", "draws"): 6 / 3,
        ("main", "order"): 2 + 3 / 2 + 6 / 4,
        ("main", "compute"): -1 + 3 / 2 + 6 / 4,
        ("main", "draws"): 6 / 4,
        ("interaction", "order × compute"): 3 / 2 + 6 / 4,
        ("interaction", "order × draws"): 6 / 4,
        ("interaction", "compute × draws"): 6 / 4,
        ("interaction", "order × compute × draws"): 6 / 4,
    }
    assert means == pytest.approx(expected)


def test_shapley_values_are_the_means_over_the_six_orders_of_switching_on():
    values = np.random.default_rng(1).normal(size=(8, 1))
    table = {levels: values[i, 0] for i, levels in enumerate(CUBE)}
    totals = np.zeros(3)
    for permutation in itertools.permutations(range(3)):
        levels = [0, 0, 0]
        for factor in permutation:
            before = table[tuple(levels)]
            levels[factor] = 1
            totals[factor] += table[tuple(levels)] - before
    assert shapley(values) == pytest.approx(totals / 6)


def test_shapley_values_add_up_to_the_gain_for_each_seed():
    values = 1e3 * np.random.default_rng(2).normal(size=(8, 5))
    gain, *rest = effects(values, range(5))
    for seed in range(5):
        parts = sum(
            made.by_seed[seed]
            for effect, made in zip(EFFECTS[1:], rest, strict=True)
            if effect.kind == "shapley"
        )
        assert abs(parts - gain.by_seed[seed]) < 1e-9
        assert gain.by_seed[seed] == values[-1, seed] - values[0, seed]


def test_shapley_is_the_main_effect_and_a_third_of_the_three_way_interaction():
    means = by_name(effects(np.random.default_rng(3).normal(size=(8, 1)), [0]))
    third = means["interaction", "order × compute × draws"] / 3
    for factor in FACTORS:
        assert means["shapley", factor] == pytest.approx(means["main", factor] + third)


def test_factors_that_act_alike_get_the_same():
    order, compute, _ = shapley(corners(lambda a, b, c: (a + b) ** 2 + c * (a + b) - 7 * c))
    assert order == pytest.approx(compute)


def test_a_factor_that_changes_nothing_gets_nothing():
    found = effects(
        corners(lambda a, b, c: math.exp(a) / 3 + math.sqrt(2 + b) * a) @ np.ones((1, 3)), range(3)
    )
    of_draws = ["draws" in effect.factors for effect in EFFECTS]
    draws = [made for made, is_of in zip(found[1:], of_draws[1:], strict=True) if is_of]
    assert len(draws) == 5
    assert all((made.mean, made.p_value, made.verdict) == (0, None, NO_SPREAD) for made in draws)


def test_equal_effects_at_all_seeds_decide_nothing_and_are_not_counted():
    """Accuracies are multiples of one item, so three seeds may well have the same effect."""
    values = 0.5 + corners(lambda a, b, c: 0.1 * a) @ np.ones((1, 3))
    values[1] += [0.01, 0.02, -0.01]
    gain, *rest = effects(values, range(3))
    assert (gain.mean, gain.interval, gain.bootstrap_interval) == (pytest.approx(0.1), None, None)
    assert (gain.p_value, gain.verdict) == (None, NO_SPREAD)
    # Every effect but the gain has the corner that varies; all ten are tested.
    assert sum(effect.adjusted_p is not None for effect in rest) == 10
    still = effects(corners(lambda a, b, c: a + b) @ np.ones((1, 3)), range(3))
    assert {effect.verdict for effect in still} == {NO_SPREAD}
    assert all(effect.adjusted_p is None for effect in still)


def test_effects_are_linear():
    first, second = np.random.default_rng(4).normal(size=(2, 8, 2))
    one, two, both = (
        np.array([effect.mean for effect in effects(values, [0, 1])])
        for values in (first, second, 2 * first - 3 * second)
    )
    assert both == pytest.approx(2 * one - 3 * two)


def test_what_all_arms_of_a_seed_share_changes_neither_effect_nor_interval():
    values = np.random.default_rng(5).normal(size=(8, 3))
    for plain, moved in zip(
        effects(values, range(3)), effects(values + np.array([0, 7, -40]), range(3)), strict=True
    ):
        assert moved.mean == pytest.approx(plain.mean)
        assert moved.interval == pytest.approx(plain.interval)
        assert moved.bootstrap_interval == pytest.approx(plain.bootstrap_interval)


def test_the_t_interval_and_test_are_scipys():
    values = np.random.default_rng(6).normal(size=(8, 4))
    for effect, made in zip(EFFECTS, effects(values, range(4)), strict=True):
        test = stats.ttest_1samp(np.array(effect.weights) @ values, 0)
        assert made.p_value == pytest.approx(test.pvalue)
        assert made.interval == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_holm_counts_the_ten_effects_and_not_the_gain():
    values = np.random.default_rng(7).normal(size=(8, 3))
    gain, *rest = effects(values, range(3))
    assert (len(rest), gain.adjusted_p) == (10, None)
    smallest = min(rest, key=lambda effect: effect.p_value)
    assert smallest.adjusted_p == pytest.approx(min(1, 10 * smallest.p_value))


def test_verdicts_follow_the_corrected_tests():
    noise = 0.01 * np.random.default_rng(8).normal(size=(8, 3))
    gain, *rest = effects(corners(lambda a, b, c: a + 0.01 * b) + noise, range(3), margin=0.05)
    assert gain.verdict == Verdict("differs", 1)
    for made in rest:
        assert (made.verdict.kind == "differs") == (made.adjusted_p < 0.05)
        assert not made.moderated  # though there are ten
    found = {
        effect.name: made for effect, made in zip(EFFECTS[1:], rest, strict=True) if effect.kind == "main"
    }
    assert {name: made.verdict for name, made in found.items()} == {
        "order": Verdict("differs", 1),
        "compute": Verdict("equivalent", within_margin=True),
        "draws": Verdict("equivalent", within_margin=True),
    }
    assert found["compute"].p_value < 0.05 < found["compute"].adjusted_p
    assert {made.verdict.kind for made in effects(noise, range(3))} == {"undecided"}  # without a margin


def test_the_error_of_an_effect_is_that_of_the_same_effect_by_document():
    windows = np.random.default_rng(13).normal(size=(8, 2, 6))
    documents = (0, 0, 1, 2, 3, 3)
    examples = [
        {
            seed: Examples(metric="nll", values=tuple(own), documents=documents)
            for seed, own in enumerate(corner)
        }
        for corner in windows.tolist()
    ]
    found = effects(windows.mean(axis=2), [0, 1], examples=examples)
    for effect, made in zip(EFFECTS, found, strict=True):
        by_window = np.einsum("c,csw->sw", effect.weights, windows)
        means = np.array([[own[np.equal(documents, n)].mean() for n in range(4)] for own in by_window])
        squares = means.var(axis=1, ddof=1) / 4
        assert made.document_error == pytest.approx(math.sqrt(squares.mean()))
    assert effects(np.zeros((8, 1)), [0])[0].document_error is None


def test_one_seed_has_effects_and_no_uncertainty():
    for effect in effects(np.arange(8.0)[:, None], [3]):
        assert (effect.interval, effect.bootstrap_interval, effect.p_value) == (None, None, None)
        assert effect.verdict == Verdict("undecided", reason="too few seeds")
        assert list(effect.by_seed) == [3]


def test_two_seeds_and_seeds_without_spread_have_finite_intervals():
    values = np.random.default_rng(9).normal(size=(8, 2))
    assert np.isfinite(residual_bootstrap(values, WEIGHTS)).all()
    same = np.repeat(values[:, :1], 3, axis=1) + np.arange(3)
    assert residual_bootstrap(same, WEIGHTS) == pytest.approx(np.stack([WEIGHTS @ same.mean(axis=1)] * 2, 1))


def test_the_same_values_give_the_same_bootstrap():
    values = np.random.default_rng(10).normal(size=(8, 3))
    assert (residual_bootstrap(values, WEIGHTS) == residual_bootstrap(values, WEIGHTS)).all()


@pytest.mark.parametrize(("shape", "seeds"), [((7, 3), 3), ((8, 3), 2), ((8, 0), 0)])
def test_another_shape_is_refused(shape, seeds):
    with pytest.raises(ValueError, match=r"`values` must be 8 corners by one or more seeds, but got shape"):
        effects(np.zeros(shape), range(seeds))


def simulated(seeds: int, errors) -> dict[str, np.ndarray]:
    """Share of 500 made-up experiments in which each interval holds the truth, by contrast.

    Each corner has a value of its own, each seed a level that all its corners share, and each run an error.
    """
    generator = np.random.default_rng(seeds)
    truth = generator.normal(size=8)
    held: dict[str, list[np.ndarray]] = {"t": [], "bootstrap": []}
    for _ in range(EXPERIMENTS):
        level = 3 * generator.normal(size=seeds)
        values = truth[:, None] + level + errors(generator, (8, seeds))
        boxes = residual_bootstrap(values, WEIGHTS, resamples=999, generator=generator)
        by_seed = WEIGHTS @ values
        reach = stats.t.ppf(0.975, seeds - 1) * stats.sem(by_seed, axis=1)
        true = WEIGHTS @ truth
        held["t"].append(np.abs(by_seed.mean(axis=1) - true) <= reach)
        held["bootstrap"].append((boxes[:, 0] <= true) & (true <= boxes[:, 1]))
    return {name: np.mean(rows, axis=0) for name, rows in held.items()}


def normal(generator, shape):
    return generator.normal(size=shape)


def uneven(generator, shape):
    """The spread of one corner is five times, of another three times, that of the rest."""
    return generator.normal(size=shape) * np.array([5, 1, 1, 3, 1, 1, 1, 1])[:, None]


def moving_factor(generator, shape):
    """Seeds move the effect of `compute` as much as single runs vary."""
    signs = np.array([2 * levels[1] - 1 for levels in CUBE])
    return generator.normal(size=shape) + signs[:, None] * generator.normal(size=shape[1])


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("errors", [normal, uneven])
def test_both_intervals_cover_as_they_say(seeds, errors):
    """The t interval covers 95 %; the bootstrap, with few residuals, up to 3 points more or 2 less."""
    covered = simulated(seeds, errors)
    assert np.abs(covered["t"] - 0.95).max() < ALLOWED
    assert covered["bootstrap"].min() > 0.93 - ALLOWED
    assert covered["bootstrap"].max() < 0.98 + ALLOWED
    assert abs(covered["bootstrap"].mean() - 0.95) < 0.02


def test_a_factor_that_seeds_move_is_covered_by_the_t_interval_alone():
    """Why the verdicts rest on the paired t: the assumption of the bootstrap that can fail, made to fail."""
    covered = simulated(3, moving_factor)
    compute = [(effect.kind, effect.name) for effect in EFFECTS].index(("main", "compute"))
    assert np.abs(covered["t"] - 0.95).max() < ALLOWED
    assert covered["bootstrap"][compute] < 0.8


def test_the_percentile_bootstrap_over_three_seeds_covers_75_percent():
    """Why `scipy.stats.bootstrap` over the seeds is not what is printed."""
    samples = np.random.default_rng(11).normal(size=(EXPERIMENTS, 3))
    interval = stats.bootstrap(
        (samples,), np.mean, axis=1, n_resamples=999, method="percentile", rng=np.random.default_rng(12)
    ).confidence_interval
    covered = np.mean((interval.low <= 0) & (interval.high >= 0))
    assert abs(covered - 0.75) < 3.3 * math.sqrt(0.75 * 0.25 / EXPERIMENTS)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("order", [0, 100])
def test_holm_keeps_the_chance_of_any_false_effect_to_5_percent(seeds, order, monkeypatch):
    """Whether nothing is true or `order` is, in which case its own two effects do not count."""
    # statsmodels collects garbage at each call, which takes longer than all else here.
    monkeypatch.setattr(gc, "collect", lambda: 0)
    generator = np.random.default_rng(20 + seeds)
    additive = corners(lambda a, b, c: order * a)
    false = [not order or effect.name != "order" for effect in EFFECTS[1:]]
    wrong = 0
    for _ in range(EXPERIMENTS):
        values = additive + generator.normal(size=(8, seeds)) + 3 * generator.normal(size=seeds)
        adjusted = holm(stats.ttest_1samp(WEIGHTS[1:] @ values, 0, axis=1).pvalue.tolist())
        wrong += min(p for p, is_false in zip(adjusted, false, strict=True) if is_false) < 0.05
    assert wrong / EXPERIMENTS < 0.05 + ALLOWED

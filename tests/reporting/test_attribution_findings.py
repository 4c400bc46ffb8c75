import itertools

import pytest
from fake_cube import FakeCube

from lab.arms import CORNERS
from lab.reporting.attribution.effects import CUBE
from lab.reporting.attribution.findings import BESIDE, CONTROLS, CORNER_ARMS, analyse
from lab.reporting.results import read_tree


@pytest.fixture
def cube(tmp_path):
    """Analyse a made-up tree after a change to it: `cube(lambda tree: tree.fail(...), noise=0)`."""

    def make(change=lambda tree: None, **values):
        tree = FakeCube(tmp_path / "results" / "attribution" / "laptop", **values).write()
        change(tree)
        return analyse(read_tree(tree.path))

    return make


def test_corner_arms_stand_in_the_order_of_the_effects():
    assert tuple(CORNERS[arm] for arm in CORNER_ARMS) == CUBE


def test_a_control_lies_on_an_edge_of_the_factor_draws():
    for control, (start, end) in CONTROLS.items():
        assert CORNERS[start][:2] == CORNERS[end][:2]
        assert (CORNERS[start][2], CORNERS[end][2]) == (0, 1)
        assert BESIDE[control] in (start, end)


def test_the_effects_of_the_made_up_tree_are_found(cube):
    """Without errors of runs: NLL parts a, b, c, ac, ab, abc, signs turned as a gain is a fall."""
    found = cube(noise=0.0)
    best = found.attributions["annealed", "best", "nll"]
    expected = {
        "order": 0.12 + 0.04 + 0.02 - 0.01,
        "compute": -0.06 + 0.02 - 0.01,
        "draws": 0.1 + 0.04 - 0.01,
    }
    assert {e.contrast.name: e.mean for e in best.shapley} == pytest.approx(expected)
    assert best.gain.mean == pytest.approx(sum(expected.values())) == pytest.approx(0.25)
    end = found.attributions["annealed", "end", "nll"]
    # At the end the AR's NLL has risen by 0.02 x 5 ^ 2 and the DLM's by 0.02.
    assert end.gain.mean == pytest.approx(0.25 + 0.5 - 0.02)


def test_metrics_are_oriented_and_in_their_units(cube):
    found = cube(noise=0.0)
    gain = {name: found.attributions["annealed", "best", name].gain.mean for name in METRIC_KEYS}
    assert gain["choice_accuracy"] == pytest.approx(100 * 0.2 * gain["nll"])
    assert gain["option_gap"] == pytest.approx(0.5 * gain["nll"])


METRIC_KEYS = ("nll", "choice_accuracy", "option_gap")


def test_every_metric_stop_and_reading_is_attributed_and_adds_up(cube):
    found = cube()
    places = itertools.product(("annealed", "along_run"), ("best", "end"), METRIC_KEYS)
    assert set(found.attributions) == set(places)
    for attribution in found.attributions.values():
        assert abs(sum(e.mean for e in attribution.shapley) - attribution.gain.mean) < 1e-9
        assert len(attribution.effects) == 10


def test_only_seeds_that_all_eight_corners_finished_count(cube):
    def change(tree):
        tree.fail("suffix_frozen", 20_000, 1, "lost")
        tree.fail("ar_masked_frozen", 20_000, 2, "lost")

    found = cube(change)
    assert (found.seeds, found.left_out) == ((0, 2), (1,))
    assert list(found.attributions["annealed", "best", "nll"].gain.by_seed) == [0, 2]
    assert found.unfinished() == {"suffix_frozen": (1,)}
    assert [cell.seed for cell in found.runs("dlm")] == [0, 2]
    assert {step.seeds for step in found.steps if step.control == "ar_masked_frozen"} == {(0,)}


def test_without_a_corner_nothing_is_attributed_and_the_runs_remain(cube):
    def change(tree):
        for seed in tree.seeds:
            tree.fail("any_order_ar", 20_000, seed, "lost")

    found = cube(change)
    assert (found.headline, found.attributions, found.steps, found.seeds) == (None, {}, (), ())
    assert len(found.runs("dlm")) == 3


def test_the_two_halves_of_a_control_add_up_to_its_edge(cube):
    found = cube(noise=0.0)
    steps = [s for s in found.steps if (s.reading, s.stop, s.metric.key) == ("annealed", "best", "nll")]
    gains = {(step.start, step.end): step.gain for step in steps}
    assert gains["ar", "ar_masked_frozen"] == pytest.approx(0.03)
    assert gains["ar_masked_frozen", "ar_masked"] == pytest.approx(0.1 - 0.03)
    assert gains["dlm_frozen", "dlm_complementary"] == pytest.approx(0.06)
    assert gains["dlm_complementary", "dlm"] == pytest.approx(0.1 + 0.08 - 0.03 - 0.06)


def test_the_window_error_weighs_every_corner(cube):
    found = cube()
    best = found.attributions["annealed", "best", "nll"]
    assert best.window_error(best.gain) == pytest.approx(0.05 * 2**0.5)
    assert best.window_error(best.effects[-1]) == pytest.approx(0.05 * 8**0.5 / 4)
    accuracy = found.attributions["annealed", "best", "choice_accuracy"]
    assert accuracy.window_error(accuracy.gain) is None


def test_arms_stand_in_order_with_controls_behind_their_corners(cube):
    arms = cube(arms=(*reversed(CORNERS), "dlm_complementary", "ar_masked_frozen")).arms
    assert arms[:3] == ("ar", "ar_masked", "ar_masked_frozen")
    assert arms[-3:] == ("dlm_frozen", "dlm_complementary", "dlm")


@pytest.mark.parametrize(
    ("change_result", "message"),
    [
        (
            lambda result: result["version"].update(code="other"),
            r"same code hash, but got .* other for dlm seed 1",
        ),
        (
            lambda result: result.update(parameters=7),
            r"same number of parameters, but got .* 7 for dlm seed 1",
        ),
        (
            lambda result: result["data"].update(hash="other"),
            r"same data hash, but got .* other for dlm seed 1",
        ),
    ],
)
def test_arms_that_differ_are_refused(cube, change_result, message):
    def change(tree):
        tree.edit("dlm", 20_000, 1, change_result)

    with pytest.raises(ValueError, match=message):
        cube(change)


def test_other_seeds_of_one_arm_are_refused(cube):
    def change(tree):
        tree.replan(lambda plan: plan["cells"].pop(3 * tree.arms.index("dlm") + 2))

    with pytest.raises(ValueError, match=r"must have the same seeds, but got .*'dlm': \[0, 1\]"):
        cube(change)


def test_a_plan_without_a_corner_is_refused(cube):
    with pytest.raises(ValueError, match=r"needs the eight corners, but .* does not plan dlm\."):
        cube(arms=tuple(arm for arm in CORNERS if arm != "dlm"))


def test_more_than_one_level_is_refused(cube, monkeypatch):
    monkeypatch.setattr(FakeCube, "level", lambda self, budget: {"data.unique_tokens": budget})
    with pytest.raises(ValueError, match=r"needs one level, but .* plans unique_tokens=10000; unique"):
        cube(budgets=(10_000, 20_000))


def test_no_finished_run_is_refused(cube):
    def change(tree):
        for arm, seed in itertools.product(tree.arms, tree.seeds):
            tree.fail(arm, 20_000, seed, "lost")

    with pytest.raises(ValueError, match=r"needs a finished run"):
        cube(change)

import itertools

import pytest
from fake_cube import BEST, FakeCube

from lab.ablation import load_ablation
from lab.arms import CORNERS
from lab.reporting import drawing
from lab.reporting.sections import differences, factorial
from lab.reporting.tree import read_tree
from lab.sections import Factorial

_, *CONTROLS, _ = load_ablation("attribution").sections
METRICS = ("nll", "choice_accuracy", "option_gap")
FACTORS = ("order", "compute", "draws")
EDGES = (("ar", "ar_masked_frozen", "ar_masked"), ("dlm_frozen", "dlm_complementary", "dlm"))
REFUSED = "The gain is not attributed: it needs"


@pytest.fixture
def cube(tmp_path):
    """Make a written tree: `cube(noise=0.1)`."""

    def make(**values):
        return FakeCube(tmp_path / "attribution" / "laptop", **values).write()

    return make


def written(tree, **section):
    return factorial.write(Factorial(**section), read_tree(tree.path), "factorial")


def drop(tree, arm):
    for seed in tree.seeds:
        tree.fail(arm, 20_000, seed, "NaN in the training loss")


def mean_test(tree, arm):
    return sum(tree.best_nll(arm, seed) + 0.03 for seed in tree.seeds) / len(tree.seeds)


def test_the_known_parts_are_recovered(cube):
    """Worked out by hand: NLL = 2.2 − 0.12 a + 0.06 b − 0.1 c − 0.08 ac − 0.04 ab + 0.03 abc."""
    shares, steps, effects, _ = written(cube(noise=0.0), at=("best",)).tables
    (row,) = shares.rows
    assert row["gain_mean"] == pytest.approx(0.25)
    assert [row[f"{name}_mean"] for name in FACTORS] == pytest.approx([0.17, -0.05, 0.13])
    assert (row["interaction"], row["largest_mean"]) == ("order × draws", pytest.approx(0.08 / 2 - 0.03 / 4))
    found = {(row["kind"], row["effect"]): row["best_mean"] for row in effects.rows}
    assert len(found) == 11
    assert found["main", "order"] == pytest.approx(0.17 + 0.03 / 4 / 3)
    assert found["interaction", "order × compute × draws"] == pytest.approx(-0.03 / 4)
    order = [(row["given"], row["reference"], row["arm"]) for row in steps.rows if row["factor"] == "order"]
    assert order == [
        ("", "ar", "order_frozen"),
        ("draws", "ar_masked", "any_order_ar"),
        ("compute", "suffix_frozen", "dlm_frozen"),
        ("compute and draws", "suffix_denoiser", "dlm"),
    ]
    gains = [0.12, 0.2, 0.16, 0.21, -0.06, -0.06, -0.02, -0.05, 0.1, 0.1, 0.18, 0.15]
    assert [row["best_mean"] for row in steps.rows] == pytest.approx(gains)


def test_parts_add_up_to_the_gain_of_each_metric_stop_and_reading(cube):
    shares, steps, *tables = written(cube(), metrics=METRICS).tables
    names = [f"factorial_{metric}" for metric in METRICS]
    assert [table.name for table in tables] == [*names, *(f"{name}_along_run" for name in names)]
    places = list(itertools.product(METRICS, ("best", "end")))
    assert [(row["metric"], row["stop"]) for row in shares.rows] == places
    for row in shares.rows:
        for seed, gain in row["gain_by_seed"].items():
            assert sum(row[f"{name}_by_seed"][seed] for name in FACTORS) == pytest.approx(gain)
    for factor, place in itertools.product(FACTORS, ("best", "end")):
        own = [row[f"{place}_by_seed"] for row in steps.rows if row["factor"] == factor]
        for seed, share in shares.rows[place == "end"][f"{factor}_by_seed"].items():
            alone, one, other, last = (step[int(seed)] for step in own)
            assert alone / 3 + (one + other) / 6 + last / 3 == pytest.approx(share)
    for table, place in itertools.product(tables, ("best", "end")):
        gain, *ten = table.rows
        parts = [row[f"{place}_mean"] for row in ten if row["kind"] == "shapley"]
        assert sum(parts) == pytest.approx(gain[f"{place}_mean"])
        smallest = min(ten, key=lambda row: row[f"{place}_p_value"])
        assert smallest[f"{place}_adjusted_p"] == pytest.approx(10 * smallest[f"{place}_p_value"])
        assert (len(ten), gain[f"{place}_adjusted_p"]) == (10, None)
    nll, accuracy = tables[0].rows[0], tables[1].rows[0]
    # All windows of the tree differ alike between arms.
    assert nll["best_document_error"] == pytest.approx(0, abs=1e-12)
    assert accuracy["best_document_error"] is None
    # Shown: the mean, the two intervals below it; a share in percentage points.
    ends = [
        f"{nll[f'best_{kind}_low']:+.3f} to {nll[f'best_{kind}_high']:+.3f}"
        for kind in ("interval", "bootstrap")
    ]
    assert tables[0].cells[0][1][1][:2] == (f"{nll['best_mean']:+.3f}", "\n".join(ends))
    assert shares.cells[2][1][2][:2] == (f"{100 * accuracy['best_mean']:+.1f}", "better")


def test_only_seeds_that_all_eight_corners_finished_count(cube):
    tree = cube()
    tree.fail("suffix_frozen", 20_000, 1, "lost")
    tree.fail("ar_masked_frozen", 20_000, 2, "lost")
    content = written(tree)
    assert content.summary == {"seeds": [0, 2], "attributed": True}
    assert list(content.tables[0].rows[0]["gain_by_seed"]) == ["0", "2"]
    assert content.certain[0].startswith(
        "Paired over 2 seeds that all eight corners finished (1 left out) by plain t tests; two seeds say"
    )
    tree.fail("ar", 20_000, 0, "lost")
    tree.fail("dlm", 20_000, 2, "lost")
    content = written(tree)
    assert content.headline == f"{REFUSED} a seed that all eight corners finished, and there is none."
    assert (content.summary, content.tables) == ({"seeds": [], "attributed": False}, ())
    drop(tree, "any_order_ar")
    assert written(tree).headline == f"{REFUSED} all eight corners, and no run of any_order_ar has finished."


def test_a_corner_or_a_metric_of_one_that_is_absent_and_several_levels_are_refused(cube, monkeypatch):
    with pytest.raises(ValueError, match=r"needs the eight corners, but .* does not plan dlm\."):
        written(cube(arms=tuple(arm for arm in CORNERS if arm != "dlm")))
    message = r"attribution of 'nelbo' needs it of all eight corners, but it was not measured of ar, "
    with pytest.raises(ValueError, match=message):
        written(cube(), metrics=("nelbo",))
    monkeypatch.setattr(FakeCube, "level", lambda self, budget: {"data.unique_tokens": budget})
    with pytest.raises(
        ValueError, match=r"needs one level, but .* plans unique_tokens=10000; unique_tokens=2"
    ):
        written(cube(budgets=(10_000, 20_000)))


def test_corners_that_differ_are_refused_unless_it_is_not_asked(cube):
    tree = cube()
    tree.edit("dlm", 20_000, 1, lambda result: result.update(parameters=7))
    tree.edit("dlm_complementary", 20_000, 1, lambda result: result["data"].update(hash="of no corner"))
    with pytest.raises(ValueError, match=r"same number of parameters, but got .* 7 for dlm seed 1"):
        written(tree)
    assert written(tree, matched=("data", "held_out", "stops")).summary["attributed"]
    for seed in tree.seeds:
        tree.edit("ar", 20_000, seed, without_examples)
    gain = written(tree, matched=()).tables[0].rows[0]
    assert (gain["gain_document_error"], gain["gain_p_value"] is None) == (None, False)


def without_examples(result):
    for row in (row for stop in result["stops"] for row in stop["measured"]):
        row["examples"] = None


def test_gain_parts_and_largest_interaction_are_told(cube):
    content = written(cube(noise=1e-4))
    assert content.headline.replace("\u00a0", " ") == (
        "From AR to DLM the test NLL at the best stop falls by 0.250 nats/token (2.280 to 2.030). By Shapley "
        "value any-order modelling brings 0.170 (68 %), super-dense compute costs 0.050 (−20 %) and Monte "
        "Carlo augmentation brings 0.130 (52 %)."
    )
    assert content.verdict == (
        "Decided by the corrected tests: any-order modelling, super-dense compute and Monte Carlo "
        "augmentation. The whole gain is +0.250 [+0.250 to +0.250] nats/token.",
        "The largest interaction is order × draws, +0.032 [+0.032 to +0.033]: better, by less than the "
        "margin.",
    )
    assert content.certain[0].endswith(
        "corrected (Holm) for the 10 of a metric and stop, the gain and the 95 % intervals are not."
    )
    shares = written(cube(), metrics=("choice_accuracy",), at=("end",))
    assert (
        "test choice accuracy at the end of training rises by 14.5 percentage points (65.0 to 79.6). By"
        in shares.headline
    )


def test_a_share_that_averages_both_signs_is_said_to(cube):
    parts = {"a": 0.3, "b": 0.2, "c": -0.1, "ab": -0.8}
    content = written(tree := cube(noise=0.01, parts=parts))
    gain = {arm: mean_test(tree, "ar") - mean_test(tree, arm) for arm in CORNERS}
    alone, last = gain["order_frozen"], gain["dlm"] - gain["suffix_denoiser"]
    assert (alone, last) == pytest.approx((-0.3, 0.5), abs=0.02)
    assert content.headline.count("of both signs") == 2
    assert f"costs {-alone:.3f} alone and brings {last:.3f} given the other two" in content.verdict[-1]
    assert content.verdict[-1].startswith("Any-order modelling costs ")
    assert "super-dense compute costs " in content.verdict[-1]
    assert "Monte Carlo" not in content.verdict[-1]
    (row, *_) = (row for row in content.tables[1].cells)
    assert row[0] == "Any-order modelling"
    assert row[1][0][:2] == ("neither", "AR → order_frozen")
    assert row[1][1][:2] == (f"−{-alone:.3f}", "better in 0 of 3 seeds")
    (waterfall,) = content.pictures[0].panels
    texts = [text.get_text() for text in waterfall.axes[0].texts]
    assert ["of both signs)" in text for text in texts] == [True, True, False, False, False]
    tree.edit("order_frozen", 20_000, 1, lower_by_one)
    other = written(tree)  # one seed gains by order alone
    assert "of both signs), super-dense" not in other.headline
    assert other.headline.count("of both signs") == 1


def lower_by_one(result):
    rows = [row for stop in result["stops"] for row in stop["measured"]]
    for row in (row for row in rows if "nll" in row["values"]):
        row["values"]["nll"] -= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"noise": 1.0}, "rises by 0.048 nats/token (2.156 to 2.205), which is undecided. By Shapley"),
        ({"seeds": (0,)}, "brings 0.182 (undecided), super-dense compute costs 0.060 (undecided)"),
        (
            {"noise": 0.1},
            "brings 0.214 (97\u00a0%, undecided), super-dense compute costs 0.093 (−42\u00a0%, undec",
        ),
        (
            {"parts": {"a": 0.3}},
            "any-order modelling costs 0.295, super-dense compute costs 0.005 (equivalent)",
        ),
    ],
)
def test_only_what_its_test_decides_is_told_without_doubt(cube, values, expected):
    content = written(cube(**values))
    assert expected in content.headline
    row = content.tables[0].rows[0]
    decided = [row[f"{name}_undecided_because"] == "" for name in FACTORS]
    assert content.verdict[0].startswith("Decided by" if any(decided) else "None of the three is decided.")
    assert content.headline.split("By Shapley")[1].count("(") >= decided.count(False)
    assert {"verdict", "interval", "holm"} <= set(content.terms)


def test_a_corner_that_was_still_improving_limits_what_is_said_of_the_best_stop(cube, monkeypatch):
    monkeypatch.setitem(BEST, "order_frozen", 8)
    content = written(tree := cube())
    assert "(2.279 to 2.032) within this run length. By Shapley" in content.headline
    assert content.certain[2].startswith("† order_frozen was still improving")
    assert "within" not in written(tree, at=("end",)).headline


def test_the_two_halves_of_a_control_add_up_to_its_edge(cube):
    tree = cube()
    for section, (start, middle, end) in zip(CONTROLS, EDGES, strict=True):
        tables = differences.write(section, read_tree(tree.path), "differences_1").tables
        assert tables[0].name == "differences_1_nll"
        first, second = tables[0].rows
        assert [(row["reference"], row["arm"]) for row in (first, second)] == [(start, middle), (middle, end)]
        for seed in tree.seeds:
            nll = [tree.best_nll(arm, seed) for arm in (start, middle, end)]
            assert first["best_by_seed"][str(seed)] == pytest.approx(nll[0] - nll[1])
            assert second["best_by_seed"][str(seed)] == pytest.approx(nll[1] - nll[2])
    drop(tree, "ar_masked_frozen")
    assert differences.write(CONTROLS[0], read_tree(tree.path), "differences_1").headline == (
        "ar_masked_frozen and AR are not compared in NLL: no seed has it of both. ar_masked and "
        "ar_masked_frozen are not compared in NLL: no seed has it of both."
    )
    assert written(tree).summary["attributed"]


def test_bars_lead_from_ar_to_dlm_and_each_panel_of_interactions_has_all_corners(cube):
    content = written(tree := cube(), metrics=METRICS)
    (waterfall,) = content.pictures[0].panels
    bars = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in waterfall.axes[0].patches]
    assert (bars[0][0], bars[-1][1]) == pytest.approx((mean_test(tree, "ar"), mean_test(tree, "dlm")))
    assert [before[1] for before in bars[:-1]] == pytest.approx([after[0] for after in bars[1:]])
    _, interactions, effects = content.pictures
    assert (len(interactions.panels), len(effects.panels)) == (3, len(METRICS))
    for panel in interactions.panels:
        thin = [line for line in panel.axes[0].get_lines() if line.get_linewidth() < 2]
        heights = sorted(y for line in thin for y in line.get_ydata())
        assert heights == pytest.approx(sorted(mean_test(tree, arm) for arm in CORNERS))
    for panel in (waterfall, interactions.panels[0], effects.panels[0]):
        assert drawing.render(panel, "svg").startswith(b"<?xml")
    (waterfall,) = written(cube(noise=1.0)).pictures[0].panels
    texts = [text.get_text() for text in waterfall.axes[0].texts]
    assert [text.endswith("\n(undecided)") for text in texts] == [True, True, True, False, True]

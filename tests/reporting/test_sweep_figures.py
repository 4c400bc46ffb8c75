import pytest

from lab.reporting import drawing
from lab.reporting.results import read_tree
from lab.reporting.sweep import figures
from lab.reporting.sweep.findings import analyse


def analysed(tree):
    return analyse(read_tree(tree.path))


def texts(ax):
    return [text.get_text() for text in ax.texts]


def many_arms(count):
    names = tuple(f"ar_mask{place}" for place in range(count))
    return {
        "arms": ("ar", *names, "dlm"),
        "contrasts": dict.fromkeys(names, "ar"),
        "gains": {name: place / 100 for place, name in enumerate(names)},
    }


def test_dots_stand_at_the_seeds_and_the_interval_around_their_mean(fake_sweep):
    tree = fake_sweep()
    sweep = analysed(tree)
    best, _ = figures.draw_all(sweep)["test_nll"].axes
    row = tree.arms.index("ar_mask30")
    assert best.get_yticklabels()[row].get_text() == "ar_mask30"
    lines = [line for line in best.get_lines() if set(line.get_ydata()) == {row}]
    dots, mean, whisker = lines
    expected = [2.73 + 0.01 * seed - 0.2 - tree.gain_shift[seed] for seed in tree.seeds]
    assert list(dots.get_xdata()) == pytest.approx(expected)
    assert mean.get_xdata()[0] == pytest.approx(sum(expected) / 3)
    (contrast,) = [c for c in sweep.levels[0].contrasts if c.arm.arm == "ar_mask30"]
    low, high = contrast.at["best"].gain.interval
    assert list(whisker.get_xdata()) == pytest.approx([2.74 - high, 2.74 - low])


def test_where_seeds_are_missing_the_dotted_line_is_of_those_that_both_finished(fake_sweep):
    tree = fake_sweep()
    tree.fail("ar_mask30", 20_000, 2, "lost")
    sweep = analysed(tree)
    best, _ = figures.draw_all(sweep)["test_nll"].axes
    dotted = {round(sum(y for _, y in path) / 2): path[0][0] for path in best.collections[0].get_segments()}
    row = tree.arms.index("ar_mask30")
    assert dotted[row] == pytest.approx(2.735)  # seeds 0 and 1: 2.73 and 2.74
    assert dotted[row + 1] == dotted[0] == pytest.approx(2.74)  # all three
    (contrast,) = [c for c in sweep.levels[0].contrasts if c.arm.arm == "ar_mask30"]
    low, high = contrast.at["best"].gain.interval
    whisker = [line for line in best.get_lines() if set(line.get_ydata()) == {row}][-1]
    # The gap between dotted line and whisker is the interval of the gain.
    assert list(whisker.get_xdata()) == pytest.approx([dotted[row] - high, dotted[row] - low])


def test_no_panel_of_curves_has_more_than_seven_arms(fake_sweep):
    (level,) = analysed(fake_sweep(**many_arms(13))).levels
    panels = figures.panels(level)
    assert [len(panel.arms) for panel in panels] == [5, 5, 3, 1]
    assert [panel.reference and panel.reference.arm for panel in panels] == ["ar", "ar", "ar", None]
    drawn = [arm.arm for panel in panels for arm in panel.arms]
    assert drawn == [f"ar_mask{place}" for place in range(13)] + ["dlm"]


def test_arms_that_share_a_panel_differ_in_colour_and_a_mere_reference_is_ink(fake_sweep):
    (level,) = analysed(fake_sweep(**many_arms(6))).levels
    colours = figures.colours(level)
    assert len({colours[f"ar_mask{place}"] for place in range(6)}) == 6
    assert colours["ar"] == drawing.INK


def test_each_row_of_curves_has_three_axes_and_one_name_per_arm(fake_sweep):
    tree = fake_sweep()
    axes = figures.draw_all(analysed(tree))["validation_nll"].axes
    assert [ax.get_xlabel() for ax in axes] == 2 * ["Epochs", "Training FLOPs", "Training time (s)"]
    names = [name.split(" ")[0] for ax in axes for name in texts(ax)]
    assert sorted(names) == sorted([*tree.arms[:5], "dlm", "dlm_passes2"])
    assert axes[0].get_title(loc="left") == "Compared with ar"


def test_an_arm_that_overfits_is_cut_and_its_name_says_where_it_ends(fake_sweep):
    tree = fake_sweep(best_epoch=4.0)
    axes = figures.draw_all(analysed(tree))["validation_nll"].axes
    end = sum(tree.ar_nll(5_120_000, 20_000, seed) for seed in tree.seeds) / 3
    assert axes[0].get_ylim()[1] < end
    assert f"ar ↑{end:.1f}" in texts(axes[2])


def test_names_keep_apart_and_a_crowd_above_moves_no_name_below(fake_sweep):
    ax = drawing.new_figure(4, 3).add_subplot()
    ax.set_ylim(0, 1)
    labels = [drawing.Label(0, y, str(y), drawing.INK) for y in (0.05, 0.97, 0.98, 5.0)]
    drawing.place_labels(ax, labels, apart=0.1)
    heights = {text.get_text(): text.xy[1] for text in ax.texts}
    assert heights == pytest.approx({"0.05": 0.05, "0.97": 0.75, "0.98": 0.85, "5.0 ↑5.0": 0.95})


def test_long_ticks_are_fewer_where_a_panel_is_narrow():
    ticks = {}
    for narrow in (False, True):
        ax = drawing.new_figure(4, 3).add_subplot()
        ax.plot([1e11, 3e13], [0, 1])
        drawing.log_axis(ax, "FLOPs", narrow=narrow)
        ticks[narrow] = [text.get_text() for text in ax.get_xticklabels()]
    assert ticks[True] == ["$10^{11}$", "$10^{12}$", "$10^{13}$"]
    assert r"$3 \times 10^{12}$" in ticks[False]


def test_the_same_results_give_the_same_bytes(fake_sweep):
    sweep = analysed(fake_sweep())
    first, second = figures.draw_all(sweep), figures.draw_all(sweep)
    for name in first:
        for kind in ("svg", "png"):
            assert drawing.render(first[name], kind) == drawing.render(second[name], kind)


def test_a_tree_with_holes_levels_and_no_metrics_is_drawn(fake_sweep):
    tree = fake_sweep(budgets=(20_000, 80_000))
    for seed in tree.seeds:
        tree.fail("dlm", 20_000, seed, "lost")
        tree.fail("ar", 80_000, seed, "lost")
    for arm in tree.arms[1:]:
        for seed in tree.seeds:
            (tree.logdir(arm, 80_000, seed) / "metrics.jsonl").unlink()
    drawn = figures.draw_all(analysed(tree))
    for figure in drawn.values():
        assert drawing.render(figure, "svg").startswith(b"<?xml")
    assert texts(drawn["test_nll"].axes[0]) == ["no finished run"]
    assert texts(drawn["validation_nll"].axes[-1])[0] == "not known"
    assert drawn["test_nll"].axes[2].get_title() == "unique_tokens=80000, at the best stop"


def test_a_sweep_of_which_a_level_has_no_finished_run_is_drawn(fake_sweep):
    tree = fake_sweep(budgets=(20_000, 80_000), arms=("ar", "dlm"), contrasts={"dlm": "ar"}, seeds=(0,))
    for arm in tree.arms:
        tree.fail(arm, 80_000, 0, "lost")
    for figure in figures.draw_all(analysed(tree)).values():
        assert drawing.render(figure, "svg").startswith(b"<?xml")

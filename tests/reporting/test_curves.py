import json

import pytest
from fake_trees import overfit_at_the_end

from lab.reporting import drawing
from lab.reporting.sections import curves
from lab.reporting.tree import read_tree
from lab.sections import Curves

AR, DLM = drawing.COLOURS["ar"], drawing.COLOURS["dlm"]
BOTH = Curves(against={"dlm": "ar"}, marks=("best", "crossing", "equal_tokens"))


def written(section, tree):
    return curves.write(section, read_tree(tree.path), "curves")


def axes(section, tree):
    return [panel.axes[0] for panel in written(section, tree).pictures[0].panels]


def lines(ax, colour, **wanted):
    """Its lines of a colour, such as those of a line style."""
    found = [line for line in ax.lines if line.get_color() == colour]
    return [line for line in found if all(getattr(line, f"get_{k}")() == v for k, v in wanted.items())]


def uprights(ax):
    """Line style -> where an upright line stands."""
    return {line.get_linestyle(): line.get_xdata()[0] for line in lines(ax, drawing.INK)}


def texts(ax):
    return [text.get_text() for text in ax.texts]


def title(ax):
    return ax.get_title("left") or ax.get_title()


def test_a_panel_for_each_level_and_a_picture_for_each_axis(fake_tree):
    tree = fake_tree()
    content = written(Curves(x=("tokens_seen", "train_flops", "epoch")), tree)
    assert [picture.name for picture in content.pictures] == [
        "curves_nll_tokens_seen",
        "curves_nll_train_flops",
        "curves_nll_epoch",
    ]
    assert content.pictures[0].title == "Surprise at held-out text against tokens seen"
    panels = [panel.axes[0] for panel in content.pictures[2].panels]
    assert [title(ax) for ax in panels] == [f"{budget:,} unique tokens" for budget in tree.budgets]
    (curve,) = lines(panels[1], DLM, linewidth=2)
    assert curve.get_xdata()[-1] == 64.0
    mean = sum(tree.dlm_nll(5_120_000, 80_000, seed) for seed in tree.seeds) / 2
    assert curve.get_ydata()[-1] == pytest.approx(mean)
    assert panels[1].get_xlabel() == "Epochs"
    assert panels[1].get_ylabel() == "Validation NLL (nats/token)"
    flops = lines(content.pictures[1].panels[0].axes[0], DLM, linewidth=2)[0].get_xdata()
    assert flops[-1] == pytest.approx(5_120_000 * 5.3e6)


def test_arms_are_drawn_in_groups_of_at_most_six_beside_their_reference(fake_sweep):
    many = tuple(f"ar_mask{number}" for number in range(1, 14))
    tree = fake_sweep(
        seeds=(0,),
        arms=("ar", *many, "dlm", "dlm_passes2"),
        contrasts=dict.fromkeys(many, "ar") | {"dlm_passes2": "dlm"},
        gains=dict.fromkeys((*many, "dlm_passes2"), 0.1),
    )
    groups = axes(Curves(against=tree.contrasts), tree)
    assert [title(ax) for ax in groups] == 3 * ["Beside AR"] + ["Beside DLM"]
    drawn = [{text.partition(" ↑")[0] for text in texts(ax)} for ax in groups]
    assert [len(names) for names in drawn] == [6, 6, 4, 2]
    assert all("AR" in names for names in drawn[:3])
    assert set(many) <= set.union(*drawn)
    named = axes(Curves(panels={"Noise": ("ar", "ar_mask1"), "Passes": ("dlm", "dlm_passes2")}), tree)
    assert [title(ax) for ax in named] == ["Noise", "Passes"]
    assert [len(texts(ax)) for ax in axes(Curves(), tree)] == [len(tree.arms)]


def test_the_crossing_stands_where_the_quantity_says(fake_tree):
    small, middle, large = axes(BOTH, fake_tree())
    assert uprights(small) == pytest.approx({"-": (2**7.25 + 2**7.1) / 2, ":": 33.3254}, rel=1e-5)
    # The best is never passed, yet what is seen to cross is marked; nothing says that it does not.
    assert uprights(middle) == pytest.approx({":": 41.98736}, rel=1e-5)
    assert uprights(large) == {}
    for ax in (small, middle, large):
        assert not any("none" in text for text in texts(ax))
        (dotted,) = lines(ax, AR, linestyle=":")
        assert dotted.get_ydata()[0] == pytest.approx(min(lines(ax, AR, linewidth=2)[0].get_ydata()))
        assert dotted.get_xdata()[1] == ax.get_xlim()[1]
    flops = axes(BOTH.model_copy(update={"x": ("train_flops",)}), fake_tree(budgets=(20_000,)))[0]
    assert uprights(flops)["-"] == pytest.approx(20_000 * 5.3e6 * (2**7.25 + 2**7.1) / 2)
    assert uprights(axes(Curves(against={"dlm": "ar"}), fake_tree(budgets=(20_000,)))[0]) == {}


def test_a_crossing_of_one_among_several_arms_is_not_drawn_nor_told(fake_sweep):
    tree = fake_sweep(seeds=(0,))
    section = Curves(against={"ar_mask10": "ar", "dlm": "ar"}, marks=("crossing", "equal_tokens", "best"))
    content = written(section, tree)
    assert uprights(content.pictures[0].panels[0].axes[0]) == {}
    assert "upright" not in content.pictures[0].caption
    assert "Dashed" not in content.pictures[0].caption
    assert content.pictures[0].caption.count("◆ is a best stop.") == 1
    alone = written(section.model_copy(update={"against": {"dlm": "ar"}}), tree)
    assert "The upright line is where an arm first passes the best" in alone.pictures[0].caption
    assert "The dotted upright line is where an arm first passes" in alone.pictures[0].caption


def test_best_stops_and_the_onset_of_overfitting_are_marked(fake_tree):
    section = Curves(marks=("best", "onset"), x=("epoch", "seconds"))
    (ax,) = axes(section, fake_tree(budgets=(20_000,)))
    marks = {
        (line.get_marker(), line.get_color()): line.get_xdata()[0]
        for line in ax.lines
        if line.get_marker() in ("D", "v")
    }
    assert marks == {("D", AR): 16.0, ("D", DLM): 256.0, ("v", AR): 16.0}  # the DLM does not overfit
    content = written(section, fake_tree(budgets=(20_000,)))
    assert "▼ is where overfitting begins." in content.pictures[0].caption
    assert "▼" not in content.pictures[1].caption
    assert not any(line.get_marker() == "v" for line in content.pictures[1].panels[0].axes[0].lines)


def test_the_other_reading_is_dashed_where_there_is_room(fake_tree, fake_sweep):
    tree = fake_tree(budgets=(20_000,))
    content = written(BOTH, tree)
    (dashed,) = lines(content.pictures[0].panels[0].axes[0], DLM, linestyle="--")
    mean = sum(tree.dlm_nll(5_120_000, 20_000, seed) for seed in tree.seeds) / 2
    assert dashed.get_ydata()[-1] == pytest.approx(mean + 0.08)
    assert "Dashed: stops along one run." in content.pictures[0].caption
    alone = written(BOTH, fake_tree(budgets=(20_000,), readings=("along_run",)))
    assert "Dashed" not in alone.pictures[0].caption
    # Of the groups of a sweep, those of two arms have room.
    many, few = axes(Curves(against=fake_sweep().contrasts), sweep := fake_sweep())
    assert [len(lines(ax, DLM, linestyle="--")) for ax in (many, few)] == [0, 1]
    assert "Dashed" in written(Curves(against=sweep.contrasts), sweep).pictures[0].caption


def test_an_arm_that_overfits_steeply_is_cut_and_its_label_says_where_it_ends(fake_tree):
    tree = fake_tree(best_epoch=4.0)
    ax, *_ = axes(BOTH, tree)
    end = sum(tree.ar_nll(5_120_000, 20_000, seed) for seed in tree.seeds) / 2
    best = sum(tree.ar_nll(80_000, 20_000, seed) for seed in tree.seeds) / 2
    low, high = ax.get_ylim()
    assert low < best < tree.dlm_nll(20_000, 20_000, 0) < high < end
    assert f"AR ↑{end:.1f}" in texts(ax)
    assert "DLM" in texts(ax)


def test_training_time_needs_a_known_speed(fake_tree):
    section = Curves(x=("seconds",))
    tree = fake_tree(budgets=(20_000,), seeds=(0,))
    (ax,) = axes(section, tree)
    assert lines(ax, AR, linewidth=2)[0].get_xdata()[-1] == pytest.approx(5_120_000 / 3e4)
    (tree.logdir("ar", 20_000, 0) / "metrics.jsonl").unlink()
    (ax,) = axes(section, tree)
    assert lines(ax, AR) == []
    assert "speed not known: AR" in texts(ax)
    row = json.dumps({"kind": "train", "tokens_per_second": 0.0})
    (tree.logdir("dlm", 20_000, 0) / "metrics.jsonl").write_text(row + "\n")
    (ax,) = axes(section, tree)
    assert (list(ax.lines), texts(ax)) == ([], ["speed not known"])


def test_arms_without_a_finished_run_or_without_the_metric_are_named(fake_tree):
    tree = fake_tree(budgets=(20_000, 80_000), seeds=(0,))
    assert not any("no finished run" in text for ax in axes(BOTH, tree) for text in texts(ax))
    for arm, budget in (("ar", 20_000), ("ar", 80_000), ("dlm", 80_000)):
        tree.fail(arm, budget, 0, "lost")
    some, none = axes(BOTH, tree)
    assert "no finished run: AR" in texts(some)
    assert uprights(some) == {}
    assert texts(none) == ["no finished run"]
    bound = axes(Curves(metric="nelbo", marks=("best", "onset")), fake_tree(budgets=(20_000,)))[0]
    assert "not measured: AR" in texts(bound)
    assert bound.get_ylabel() == "Validation NELBO, a bound (nats/token)"


def test_where_each_arm_is_best_is_told_for_few_arms_and_levels(fake_tree, fake_sweep):
    assert written(BOTH, fake_tree()).verdict == (
        "With 20,000 unique tokens AR is best after 16 epochs and DLM after 256 epochs (the last stop).",
        "With 80,000 unique tokens AR is best after 16 epochs and DLM after 64 epochs (the last stop).",
        "With 320,000 unique tokens AR is best after 16 epochs (the last stop) and DLM after 16 epochs (the "
        "last stop).",
    )
    tree = fake_tree(budgets=(20_000,))
    tree.edit("dlm", 20_000, 0, overfit_at_the_end)  # seed 1 goes on improving
    assert written(BOTH, tree).verdict == (
        "With 20,000 unique tokens AR is best after 16 epochs and DLM after 192 epochs.",
    )
    assert written(BOTH, fake_tree(budgets=(20_000, 40_000, 80_000, 160_000))).verdict == ()
    assert written(BOTH.model_copy(update={"marks": ()}), fake_tree()).verdict == ()
    tree = fake_sweep(arms=("ar", "dlm"), contrasts={"dlm": "ar"}, best_epoch=1.0)
    assert written(Curves(), tree).verdict == (
        "AR is best after 1 epoch and DLM after 256 epochs (the last stop).",
    )
    assert written(Curves(), fake_sweep()).verdict == ()  # six arms


@pytest.mark.parametrize(
    ("budget", "crossing", "at_equal_tokens"),
    [(20_000, True, True), (80_000, False, True), (320_000, False, False)],
)
def test_the_caption_names_no_line_that_is_not_there(budget, crossing, at_equal_tokens, fake_tree):
    caption = written(BOTH, fake_tree(budgets=(budget,))).pictures[0].caption
    assert ("The upright line is where" in caption) == crossing
    assert ("The dotted upright line is where" in caption) == at_equal_tokens

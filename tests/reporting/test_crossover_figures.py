import struct

import pytest

from lab.reporting import drawing
from lab.reporting.crossover import figures
from lab.reporting.crossover.findings import analyse
from lab.reporting.results import read_tree


def analysed(tree):
    return analyse(read_tree(tree.path))


def lines_of(ax, colour):
    return [line for line in ax.get_lines() if line.get_color() == colour]


def test_curves_are_the_seeds_means_and_the_crossover_stands_where_it_was_found(fake_tree):
    tree = fake_tree()
    crossover = analysed(tree)
    panel = figures.draw_all(crossover)["validation_nll"].axes[0]
    (curve,) = [line for line in lines_of(panel, figures.COLOURS["dlm"]) if line.get_linewidth() == 2]
    assert curve.get_xdata()[-1] == 256.0
    mean = sum(tree.dlm_nll(5_120_000, 20_000, seed) for seed in tree.seeds) / 2
    assert curve.get_ydata()[-1] == pytest.approx(mean)
    (mark,) = lines_of(panel, drawing.INK)
    assert mark.get_xdata()[0] == pytest.approx(crossover.budgets[0].below_best.median("epoch"))
    assert any("crossover\n145 epochs" in text.get_text() for text in panel.texts)


def test_panels_share_their_axis_and_one_without_a_crossover_says_so(fake_tree):
    small, middle, large = figures.draw_all(analysed(fake_tree()))["validation_nll"].axes
    assert small.get_ylim() == middle.get_ylim() == large.get_ylim()
    for panel in (middle, large):
        assert lines_of(panel, drawing.INK) == []
        assert "crossover: none in the run" in [text.get_text() for text in panel.texts]


def test_an_ar_that_overfits_steeply_is_cut_and_its_label_says_where_it_ends(fake_tree):
    tree = fake_tree(best_epoch=4.0)
    panel = figures.draw_all(analysed(tree))["validation_nll"].axes[0]
    end = sum(tree.ar_nll(5_120_000, 20_000, seed) for seed in tree.seeds) / 2
    assert panel.get_ylim()[1] < end
    assert f"AR ↑{end:.1f}" in [text.get_text() for text in panel.texts]


def test_the_same_results_give_the_same_bytes(fake_tree):
    crossover = analysed(fake_tree())
    first, second = figures.draw_all(crossover), figures.draw_all(crossover)
    for name in first:
        svg = drawing.render(first[name], "svg")
        assert svg == drawing.render(second[name], "svg")
        assert b"<dc:date>" not in svg
    png = drawing.render(first["choice"], "png")
    assert png == drawing.render(second["choice"], "png")
    assert struct.unpack(">II", png[16:24])[0] == round(3 * 3.4 * drawing.DPI)


def test_a_tree_with_holes_one_reading_and_four_budgets_is_drawn(fake_tree):
    tree = fake_tree(budgets=(20_000, 40_000, 80_000, 160_000), readings=("along_run",))
    for seed in tree.seeds:
        tree.fail("ar", 20_000, seed, "lost")
        tree.fail("dlm", 20_000, seed, "lost")
        tree.fail("dlm", 80_000, seed, "lost")
    for figure in figures.draw_all(analysed(tree)).values():
        assert drawing.render(figure, "svg").startswith(b"<?xml")

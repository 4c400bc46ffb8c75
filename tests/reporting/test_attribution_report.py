import csv
import io
import itertools
import json
import re

import pytest
from fake_cube import BEST, FakeCube
from report_pages import Page
from rich.console import Console

from lab.reporting import drawing
from lab.reporting.attribution import figures, words
from lab.reporting.attribution.findings import analyse
from lab.reporting.report import write_report
from lab.reporting.results import read_tree


@pytest.fixture
def cube_tree(tmp_path):
    """Make a written tree: `cube_tree(noise=0.1)`."""

    def make(**values):
        return FakeCube(tmp_path / "results" / "attribution" / "laptop", **values).write()

    return make


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a complete tree, to be read only."""
    return write_report(FakeCube(tmp_path_factory.mktemp("attribution")).write().path)


def headline(tree) -> str:
    return words.headline(analyse(read_tree(tree.path)))


def read(report) -> Page:
    return Page(report.page.read_text(encoding="utf-8"))


def drop(tree, arm):
    for seed in tree.seeds:
        tree.fail(arm, 20_000, seed, "NaN in the training loss")


def test_the_sentence_quotes_the_gain_and_its_parts(cube_tree):
    assert headline(cube_tree(noise=1e-4)).replace("\u00a0", " ") == (
        "From AR to DLM the test NLL at the best stop falls by 0.250 nats/token (2.280 to 2.030); by Shapley "
        "value, any-order modelling brings 0.170 (68 %), super-dense compute costs 0.050 (−20 %) and Monte "
        "Carlo augmentation brings 0.130 (52 %), each beyond chance by the corrected test."
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"noise": 0.1}, "none of them beyond chance by the corrected test."),
        ({"parts": {"a": -0.3, "ab": 0.01}}, "of which only any-order modelling is beyond chance"),
        ({"parts": {"a": 0.3}}, "the test NLL at the best stop rises by 0."),
        ({"seeds": (0,)}, "from one seed, which has no spread to judge by; the sum of these parts cannot"),
    ],
)
def test_the_sentence_says_what_is_beyond_chance(cube_tree, values, expected):
    assert expected in headline(cube_tree(**values))


def test_an_undecided_gain_is_said_to_be_undecided_and_its_parts_parts_of_it(cube_tree):
    found = analyse(read_tree(cube_tree(noise=1.0).path))
    text = words.headline(found)
    assert re.search(
        r"by \d\.\d{3} nats/token \(\d\.\d{3} to \d\.\d{3}\), which is undecided; by Shapley", text
    )
    assert text.endswith("; the sum of these parts cannot be told from 0.")
    assert "%" not in text
    texts = [label.get_text() for label in figures.draw_all(found)["waterfall"].axes[0].texts]
    assert any(text.endswith("than AR\n(undecided)") for text in texts)
    clear = headline(cube_tree(noise=1e-4))
    assert "undecided" not in clear
    assert "sum of these parts" not in clear


def test_a_corner_that_was_still_improving_is_marked_and_told(cube_tree, monkeypatch):
    monkeypatch.setitem(BEST, "order_frozen", 8)
    tree = cube_tree()
    assert headline(tree).endswith(
        "; what is said of order_frozen, still improving when its run ended, holds within this run length."
    )
    page = read(write_report(tree.path))
    assert (
        "order_frozen (3 of 3 seeds) was still improving when its run ended, so this is for this" in page.text
    )
    corners = next(table for table in page.tables if table[0][0] == "Arm")
    marks = {row[0]: "last stop; 3 of 3 seeds" in " ".join(row) for row in corners[1:]}
    assert [arm for arm, marked in marks.items() if marked] == ["order_frozen"]


def test_page_and_summary_hold_the_same_numbers(report):
    text = " ".join(read(report).text.replace("−", "-").split())
    summary = json.loads((report.page.parent / "summary.json").read_text())
    assert len(summary["effects"]) == 2 * 2 * 3 * 11
    for row in summary["effects"]:
        for name in ("mean", "interval_low", "interval_high", "bootstrap_low", "bootstrap_high"):
            assert f"{row[name]:+.3f}" in text
    for row in summary["corners"]:
        assert f"{row['best_nll']:.3f} ± {row['best_nll_standard_deviation']:.3f}" in text
        assert f"{row['end_nll']:.3f} ± {row['end_nll_standard_deviation']:.3f}" in text
    for row in summary["controls"]:
        if row["reading"] == "annealed":
            assert f"{row['gain']:+.3f}" in text
    assert summary["headline"] in read(report).text


def test_controls_stand_beside_their_corners_and_in_the_caveats(cube_tree):
    page = read(write_report(cube_tree(noise=0.0).path))
    corners = next(table for table in page.tables if table[0][0] == "Arm")
    names = [row[0].strip("└ ") for row in corners[1:]]
    assert names[2] == "ar_masked_frozen"
    assert names[names.index("dlm_frozen") + 1] == "dlm_complementary"
    assert "From ar to ar_masked_frozen the NLL falls by 0.030" in page.text
    assert "from dlm_complementary to dlm it falls by 0.090" in page.text


def test_a_missing_corner_is_said_and_the_table_remains(cube_tree):
    tree = cube_tree()
    drop(tree, "any_order_ar")
    report = write_report(tree.path)
    page = read(report)
    said = "The gain is not attributed: it needs all eight corners, and no run of any_order_ar has finished."
    assert report.summary["headline"] == said
    assert report.summary["effects"] == []
    assert (
        "Of 30 planned runs, 3 failed and 0 are missing. The corner table shows what there is." in page.text
    )
    corners = next(table for table in page.tables if table[0][0] == "Arm")
    shown = {row[0]: row for row in corners[1:]}
    assert shown["any_order_ar"][4] == "0 of 3"
    assert re.search(r"2\.\d{3} ±", shown["dlm"][6])
    assert not (report.page.parent / "waterfall.svg").exists()
    assert "failed: NaN in the training loss" in page.text


def test_corners_without_a_common_seed_are_said(cube_tree):
    tree = cube_tree(seeds=(0, 1))
    tree.fail("ar", 20_000, 0, "lost")
    tree.fail("dlm", 20_000, 1, "lost")
    assert "there is none (unfinished: ar seed 0 and dlm seed 1)." in headline(tree)


def test_left_out_seeds_are_named(cube_tree):
    tree = cube_tree()
    tree.fail("ar", 20_000, 1, "lost")
    page = read(write_report(tree.path))
    assert (
        "Only seeds that all eight corners finished count: 0, 2. Left out: seed 1, for want of ar"
        in page.text
    )
    assert "With two seeds it reaches 9 standard deviations" in page.text


def test_a_failed_control_leaves_the_corners_complete(cube_tree):
    tree = cube_tree()
    drop(tree, "dlm_complementary")
    report = write_report(tree.path)
    assert "All eight corners are complete." in read(report).text
    assert "Its control has no finished run that counts." in read(report).text
    assert report.summary["attributed"]


def test_one_seed_makes_a_page_without_intervals(cube_tree):
    page = read(write_report(cube_tree(seeds=(0,)).path))
    assert "It has no spread, so it decides nothing" in page.text
    assert "too few seeds" in page.text


def test_csv_holds_every_effect_of_every_seed(report):
    folder = report.page.parent
    rows = list(csv.DictReader(io.StringIO((folder / "effects_by_seed.csv").read_text())))
    assert len(rows) == 2 * 2 * 3 * 11 * 3
    effects = list(csv.DictReader(io.StringIO((folder / "effects.csv").read_text())))
    place = ("reading", "stop", "metric", "kind", "effect")
    for row in effects:
        values = [float(r["value"]) for r in rows if all(r[name] == row[name] for name in place)]
        assert float(row["mean"]) == pytest.approx(sum(values) / 3)
    corners = list(csv.DictReader(io.StringIO((folder / "corners.csv").read_text())))
    assert len(corners) == 2 * 10


def test_writing_twice_gives_the_same_bytes(cube_tree):
    tree = cube_tree()
    folder = write_report(tree.path).page.parent
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_report(tree.path)
    assert first == {path.name: path.read_bytes() for path in folder.iterdir()}
    drawn = {"waterfall", "interactions", "effects", "curves"}
    assert {name.removesuffix(".svg") for name in first if name.endswith(".svg")} == drawn


def test_the_page_needs_no_network(report):
    page = read(report)
    assert not {"script", "link", "iframe", "object"} & page.tags
    for link in page.links:
        assert link.startswith("data:image/svg+xml;base64,") or (report.page.parent / link).is_file()


def test_the_terminal_table_fits_80_columns(report):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report.verdict_table)
    text = console.export_text()
    assert "…" not in text
    for expected in (
        "Shapley value",
        "Main effect",
        "order × compute × draws",
        "better",
        "worse",
        "undecided",
    ):
        assert expected in text


def test_the_bars_lead_from_ar_to_dlm(cube_tree):
    cube = analyse(read_tree(cube_tree().path))
    (ax,) = figures.draw_all(cube)["waterfall"].axes
    bars = [(bar.get_y(), bar.get_y() + bar.get_height()) for bar in ax.patches]
    assert len(bars) == 3
    ends = [stop.test["nll"] for stop in cube.stops("ar", "annealed", "best")]
    assert bars[0][0] == pytest.approx(sum(ends) / 3)
    for before, after in itertools.pairwise(bars):
        assert before[1] == pytest.approx(after[0])
    ends = [stop.test["nll"] for stop in cube.stops("dlm", "annealed", "best")]
    assert bars[-1][1] == pytest.approx(sum(ends) / 3)


def test_the_interaction_plot_shows_all_eight_corners_in_each_panel(cube_tree):
    cube = analyse(read_tree(cube_tree(noise=0.0).path))
    for ax in figures.draw_all(cube)["interactions"].axes:
        thin = [line for line in ax.get_lines() if line.get_linewidth() < 2]
        heights = sorted(y for line in thin for y in line.get_ydata())
        corners = sorted(
            sum(stop.test["nll"] for stop in cube.stops(arm, "annealed", "best")) / 3
            for arm in cube.arms
            if arm not in ("ar_masked_frozen", "dlm_complementary")
        )
        assert heights == pytest.approx(corners)


def test_curves_of_a_tree_with_holes_say_what_is_missing(cube_tree):
    tree = cube_tree(readings=("along_run",))
    drop(tree, "order_frozen")
    drop(tree, "any_order_ar")
    drawn = figures.draw_all(analyse(read_tree(tree.path)))
    assert list(drawn) == ["curves"]
    texts = [text.get_text() for ax in drawn["curves"].axes for text in ax.texts]
    assert "no finished run: order_frozen, any_order_ar" in texts
    assert drawing.render(drawn["curves"], "svg").startswith(b"<?xml")

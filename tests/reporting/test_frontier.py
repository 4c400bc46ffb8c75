"""Text at equal entropy, over a made-up tree whose frontiers are straight lines."""

import pytest
from fake_measurements import fake_inference

from lab.reporting.report import write_report
from lab.reporting.sections import against, frontier
from lab.reporting.sections.frontier import nll_at
from lab.reporting.tree import read_tree
from lab.sections import Against, Frontier

SECTION = Frontier(reference="ar")
CLOSE = {0: 0.0, 1: 0.001, 2: -0.001}  # what seeds move the DLM's judge NLL by


def written(tree):
    return frontier.write(SECTION, read_tree(tree.path), "frontier")


def rows(content, arm="dlm"):
    return [row for row in content.tables[0].rows if row["arm"] == arm]


def change_entropy(tree, arm, seed, by, budget=20_000):
    """Move the entropy of all that one seed of an arm wrote."""
    made = [
        row.model_copy(update={"values": {**row.values, "entropy": row.values["entropy"] + by}})
        if row.task.measurement == "generation"
        else row
        for row in tree.rows(arm, seed, budget)
    ]
    tree.measure(arm, seed, budget, rows=tuple(made))


def test_the_judge_nll_at_an_entropy_by_hand():
    points = [(3.0, 5.0), (1.0, 2.0), (2.0, 3.0)]  # of three temperatures, in any order
    # A quarter of the way from 2 to 3 and from 3 to 5; half of that from 1 to 2.
    expected = {2.25: 3.5, 1.5: 2.5, 1.0: 2.0, 2.0: 3.0, 3.0: 5.0}
    assert {entropy: nll_at(points, entropy) for entropy in expected} == pytest.approx(expected)
    assert [nll_at(points, entropy) for entropy in (0.999, 3.001)] == [None, None]
    assert [nll_at([(2.0, 3.0)], entropy) for entropy in (2.0, 2.1)] == [3.0, None]


def test_arms_are_compared_at_the_references_entropy_and_not_at_a_temperature(tmp_path):
    tree = fake_inference(tmp_path)
    content = written(tree)
    (row,) = rows(content)
    # At temperatures 1 and 2 the DLM has entropies 1.8 and 2.3, judge NLLs 1.7 and 2.3: at 2.0 that is 1.94.
    assert row["judge_nll_by_seed"] == pytest.approx({"0": 1.94, "1": 2.04, "2": 1.84})
    assert row["gain_by_seed"] == pytest.approx({"0": 0.06, "1": -0.04, "2": 0.16})
    assert row["temperature_1_gain"] == pytest.approx(0.3)  # which is five times that
    assert (row["variant"], row["seeds"], row["seeds_that_reach"]) == ("ancestral", 3, 3)
    assert row["gain_adjusted_p"] == pytest.approx(row["gain_p_value"])  # of one test
    assert content.headline == (
        "DLM (ancestral) against AR is undecided in judge NLL at AR's entropy: a gain of "
        "+0.060 nats/token [−0.188 to +0.308]."
    )
    assert "Any-order AR (left to right)" in content.verdict[1]
    points = [(row["arm"], row["temperature"], row["entropy"]) for row in content.tables[1].rows]
    assert points[:4] == [("real text", None, 2.1), ("ar", 0.5, 1.5), ("ar", 1.0, 2.0), ("ar", 2.0, 2.5)]
    assert {row["variant"] for row in content.tables[1].rows if row["arm"] == "dlm"} == {"ancestral"}


@pytest.mark.parametrize(
    ("entropy", "told"),
    [
        (1.8, "DLM (ancestral) writes better than AR in judge NLL at AR's entropy, by 0.060 nats/token "),
        (1.5, "DLM (ancestral) writes worse than AR in judge NLL at AR's entropy, by 0.300 nats/token "),
        (
            1.75,
            "DLM (ancestral) draws level with AR in judge NLL at AR's entropy: a gain of 0.000 ",
        ),
    ],
)
def test_a_verdict_is_one_of_the_pages_words(entropy, told, tmp_path):
    entropies = {"ar": 2.0, "dlm": entropy, "any_order_ar": 1.2}
    content = written(fake_inference(tmp_path, shift=CLOSE, entropies=entropies))
    assert content.headline.startswith(told)
    assert ("within the margin of 0.050" in content.headline) == (entropy == 1.75)


def test_beyond_what_its_temperatures_give_an_arm_is_not_compared(tmp_path):
    tree = fake_inference(tmp_path)
    outside = "that lies outside what the temperatures tried give."
    any_order = f"Any-order AR (left to right) is not comparable at AR's entropy: in 3 of 3 seeds {outside}"
    content = written(tree)
    assert content.verdict[1] == any_order
    (row,) = rows(content, "any_order_ar")
    assert (row["seeds_that_reach"], row["gain_mean"], row["gain_verdict"]) == (0, None, None)
    assert content.tables[0].cells[1][1][-1][0] == "not comparable"
    change_entropy(tree, "dlm", 1, 1.0)  # 2.3, 2.8 and 3.3: all above 2.0
    content = written(tree)
    assert content.verdict[0] == (
        f"DLM (ancestral) is not comparable at AR's entropy: in 1 of 3 seeds {outside}"
    )
    (row,) = rows(content)
    assert row["judge_nll_by_seed"] == {"0": pytest.approx(1.94), "1": None, "2": pytest.approx(1.84)}
    assert (row["seeds_that_reach"], row["gain_mean"]) == (2, None)


def test_each_level_has_the_entropy_of_its_own_reference(tmp_path):
    tree = fake_inference(tmp_path, budgets=(20_000, 40_000))
    for seed in tree.seeds:
        change_entropy(tree, "ar", seed, 0.1, 40_000)
    found = rows(written(tree))
    # AR's judge NLL is 2.0 and 1.9; the DLM has 1.94 at entropy 2.0, and 2.06 at 2.1.
    assert [row["gain_mean"] for row in found] == pytest.approx([0.06, -0.16])
    assert [row["level"] for row in found] == ["unique_tokens=20000", "unique_tokens=40000"]
    assert " in judge NLL at AR's entropy at 20,000 unique tokens: a gain of " in written(tree).headline


def test_the_figure_has_a_line_for_each_arm_and_real_text_as_a_point(tmp_path):
    content = written(fake_inference(tmp_path))
    (panel,) = content.pictures[0].panels
    (ax,) = panel.axes
    drawn = {
        tuple(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))
        for line in ax.lines
        if len(line.get_xdata()) == 3
    }
    expected = [(1.5, 1.4), (2.0, 2.0), (2.5, 2.6)], [(1.3, 1.1), (1.8, 1.7), (2.3, 2.3)]
    for line in expected:
        assert any(sum(one, ()) == pytest.approx(sum(line, ())) for one in drawn)
    assert len(drawn) == 3
    (star,) = [line for line in ax.lines if line.get_marker() == "*"]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == pytest.approx((2.1, 1.8))
    (dotted,) = [line for line in ax.lines if list(line.get_ydata()) == [0, 1]]
    assert list(dotted.get_xdata()) == pytest.approx([2.0, 2.0])
    told = [text.get_text() for text in ax.texts]
    assert {"real text", "AR", "DLM", "any-order AR", "0.5", "1", "2"} <= set(told)
    assert ax.get_xlabel() == "Entropy within a text (nats/token)"


def test_text_of_which_no_entropy_is_known_is_not_compared(tmp_path):
    tree = fake_inference(tmp_path, temperatures=(1.0,), entropies={})
    content = written(tree)
    assert content.headline == "No text is compared with AR's: no seed has the entropy of both."
    assert (content.pictures, content.tables, content.certain) == ((), (), ())
    text = Against(x="flops", metrics=("judge_nll",), measurement="generation", reference="ar")
    assert against.write(text, read_tree(tree.path), "against").tables[0].rows


def test_other_sections_show_temperature_1_alone(tmp_path):
    text = Against(x="flops", metrics=("judge_nll",), measurement="generation", reference="ar")
    tables = []
    for name, temperatures in (("one", (1.0,)), ("three", (0.5, 1.0, 2.0))):
        tree = fake_inference(tmp_path / name, temperatures=temperatures)
        tables.append(against.write(text, read_tree(tree.path), "against").tables[0].rows)
    assert tables[0] == tables[1]


def test_the_page_begins_with_it_and_says_why_a_single_point_misleads(tmp_path):
    report = write_report(fake_inference(tmp_path).path)
    section = report.summary["sections"][0]
    assert (section["kind"], section["title"]) == ("frontier", "Text at equal entropy")
    page = report.page.read_text(encoding="utf-8")
    assert "A judge NLL alone misleads: less varied text" in page
    assert "DLM (ancestral) against AR is undecided in judge NLL at AR&#39;s entropy" in page
    assert "entropy of the token frequencies within a text" in page

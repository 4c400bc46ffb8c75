import json

import pytest
from fake_trees import overfit_at_the_end, set_nll
from report_pages import read_page

from lab.registration import Registration
from lab.reporting import primary
from lab.reporting.primary import EXPLORATORY, is_decided
from lab.reporting.report import write_report
from lab.reporting.tree import read_tree
from lab.sections import Contrast, Curves, Differences, over_best, pairs

pytestmark = pytest.mark.usefixtures("no_pictures")
BEFORE = "registered before the runs"
RULE = Registration(contrasts=pairs({"ar_mask30": "ar"}))


def written(tree):
    return primary.write(read_tree(tree.path))


def test_the_page_begins_with_the_primary_contrast_and_its_verdict(fake_sweep):
    tree = fake_sweep(primary=RULE)
    report = write_report(tree.path)
    # Gains of 0.19, 0.20 and 0.21: t(0.993, 2) = 8.39 times their error, 0.0058, to each side.
    sentence = f"ar_mask30 is better than AR in NLL by 0.200 [0.152 to 0.248] nats/token (3 seeds; {BEFORE})."
    assert report.summary["headline"] == sentence
    html = report.page.read_text(encoding="utf-8")
    assert html.index(f'<p class="headline">{sentence}</p>') < html.index("Primary contrasts")
    assert html.index('<h2 id="primary-contrasts">') < html.index('<h2 id="differences">')
    (row,) = report.summary["primary"]["tables"]["primary"]
    assert (row["verdict"], row["seeds"]) == ("differs", 3)
    assert row["by_seed"] == pytest.approx({"0": 0.19, "1": 0.20, "2": 0.21})
    assert row["p_value"] < row["p_level"] == pytest.approx(0.01396, abs=1e-5)
    assert (report.page.parent / "primary.csv").is_file()
    page = read_page(report)
    assert "Look 1 of 5, at 3 seeds, decided it." in page.text
    assert (
        f"Rule {report.summary['primary']['hash']}: ar_mask30 against AR, by NLL at the best stop"
        in page.text
    )
    assert "looks at 3, 5, 8, 12 and 16 seeds" in page.text


def test_other_sections_keep_what_they_found_and_are_marked_as_looked_at_besides(fake_sweep):
    tree = fake_sweep(
        primary=RULE, sections=(Differences(contrasts=pairs({"dlm": "ar"}), note="Beside."), Curves())
    )
    html = write_report(tree.path).page.read_text(encoding="utf-8")
    assert html.count(f"Beside. {EXPLORATORY}") == html.count(EXPLORATORY) == 1
    assert "DLM is better than AR in NLL" in html
    tree = fake_sweep(sections=(Differences(contrasts=pairs({"dlm": "ar"})),))
    report = write_report(tree.path)
    assert EXPLORATORY not in report.page.read_text(encoding="utf-8")
    assert report.summary["primary"] is None


@pytest.mark.parametrize(
    ("gain", "seeds", "margin", "sentence", "where"),
    [
        (
            -0.2,
            3,
            0.05,
            "ar_mask30 is worse than AR in NLL by 0.200 [0.152 to 0.248] nats/token (3 seeds; ",
            "Look 1 of 5, at 3 seeds, decided it.",
        ),
        (
            0.0,
            3,
            0.15,
            "ar_mask30 is equivalent to AR in NLL within 0.150 nats/token: a gain of 0.000 "
            "[−0.034 to +0.034 at 97.2 %] nats/token (3 seeds; ",  # t(0.986, 2) = 5.85 times 0.0058
            "Look 1 of 5, at 3 seeds, decided it.",
        ),
        (
            0.0,
            3,
            0.02,
            "ar_mask30 against AR is undecided in NLL: a gain of 0.000 [−0.048 to +0.048] nats/token "
            "(3 seeds; the next look needs 2 more; ",
            "leaves it undecided; the next is at 5 seeds: SEEDS=auto adds them.",
        ),
        (
            0.01,
            4,
            0.02,
            "ar_mask30 against AR is undecided in NLL: a gain of +0.010 [−0.038 to +0.058] nats/token "
            "(3 seeds; the next look needs 1 more; ",
            "leaves it undecided; the next is at 5 seeds",
        ),
        (
            0.2,
            2,
            0.05,
            "ar_mask30 against AR is undecided in NLL: the first look is at 3 seeds, of which both have 2 (",
            "No look was taken yet; the first is at 3 seeds.",
        ),
        (
            0.1,
            3,
            0.5,
            "ar_mask30 is better than AR in NLL by 0.100 [0.052 to 0.148] nats/token, which is within the "
            "margin of 0.500 nats/token (3 seeds; ",
            "decided it.",
        ),
    ],
)
def test_each_verdict_has_its_sentence(fake_sweep, gain, seeds, margin, sentence, where):
    tree = fake_sweep(
        seeds=tuple(range(seeds)),
        gains={"ar_mask10": 0.0, "ar_mask30": gain, "ar_mask90": 0.0, "dlm_passes2": 0.1},
        primary=RULE.model_copy(update={"margin": margin}),
    )
    content = written(tree)
    assert content.headline == f"{sentence}{BEFORE})."
    assert where in content.verdict[-1]
    assert is_decided(read_tree(tree.path)) == ("undecided" not in content.headline)


def test_the_last_look_is_said_to_be_the_last(fake_sweep):
    rule = RULE.model_copy(update={"looks": (3,), "margin": 0.01, "contrasts": pairs({"ar_mask10": "ar"})})
    content = written(fake_sweep(primary=rule))
    assert "(3 seeds; the last look; registered" in content.headline
    assert content.verdict == ("Look 1 of 1, at 3 seeds, is the last and leaves it undecided.",)


def test_levels_are_named_and_many_contrasts_counted(fake_tree):
    tree = fake_tree(seeds=(0, 1, 2), primary=Registration(contrasts=pairs({"dlm": "ar"})))
    content = written(tree)
    assert content.headline.startswith("Of 3 primary contrasts ")
    assert content.headline.endswith(f" ({BEFORE}).")
    assert content.verdict == ("Look 1 of 5, at 3 seeds, decided the last of them.",)
    assert content.tables[0].rows[0]["level"] == "unique_tokens=20000"  # the table tells each
    first = written(
        fake_tree(seeds=(0, 1, 2), primary=Registration(contrasts=pairs({"dlm": "ar"}), levels="first"))
    )
    assert first.headline.startswith("DLM is better than AR in NLL at 20,000 unique tokens by")
    assert len(first.tables[0].rows) == 1


def test_a_seed_that_one_arm_lacks_ends_the_looks_and_is_named(fake_sweep):
    rule = RULE.model_copy(update={"margin": 0.01, "contrasts": pairs({"ar_mask10": "ar"})})
    tree = fake_sweep(primary=rule, seeds=tuple(range(5)))
    tree.fail("ar", 20_000, 3, "lost")
    left = f"(3 seeds; the next look needs 2 more without a gap: seed 3 of AR is missing; {BEFORE})."
    assert written(tree).headline.endswith(left)
    tree.fail("ar", 20_000, 1, "lost")
    few = "the first look is at 3 seeds, of which both have 1 without a gap: seed 1 of AR is missing"
    assert f"{few} ({BEFORE})." in written(tree).headline
    tree.fail("ar_mask10", 20_000, 1, "lost")
    assert "seed 1 of ar_mask10 and AR is missing" in written(tree).headline


def test_the_next_look_waits_for_the_contrast_with_the_fewest_seeds(fake_sweep):
    rule = RULE.model_copy(update={"margin": 0.01, "contrasts": pairs({"ar_mask10": "ar", "dlm": "ar"})})
    tree = fake_sweep(primary=rule, seeds=tuple(range(5)))
    for seed in (3, 4):
        tree.fail("dlm", 20_000, seed, "lost")
    content = written(tree)
    left = "(3 seeds; the next look needs 2 more without a gap: seed 3 of DLM is missing;"
    assert f"a gain of 0.000 [−0.069 to +0.069] nats/token {left}" in content.headline
    assert content.verdict[0].startswith("Look 1 of 5, at 3 seeds, leaves 2 of 2 undecided")
    tree.fail("dlm", 20_000, 2, "lost")
    first, second = (
        f"the first look is at 3 seeds, of which {have} 2 without a gap: seed 2 of DLM is missing ({BEFORE})."
        for have in ("all contrasts have", "both have")
    )
    headline = written(tree).headline
    assert headline.index(first) < headline.index(second)


def test_arms_that_are_alike_but_for_rounding_are_not_equivalent(fake_sweep):
    none = dict.fromkeys(("ar_mask10", "ar_mask30", "ar_mask90", "dlm_passes2"), 0.0)
    content = written(fake_sweep(primary=RULE, gains=none, gain_shift=(0.0, 5e-16, -5e-16)))
    (row,) = content.tables[0].rows
    assert len(set(row["by_seed"].values())) == 3
    assert (row["verdict"], row["p_value"], row["equivalence_p"]) == ("undecided", None, None)


def test_a_verdict_on_an_arm_that_was_still_improving_holds_within_its_run_length(fake_sweep, fake_tree):
    rule = RULE.model_copy(update={"contrasts": pairs({"dlm": "ar"})})
    tree = fake_sweep(primary=rule, seeds=(0, 1, 2, 3))
    assert f" nats/token, within this run length (3 seeds; {BEFORE})." in written(tree).headline
    for seed in (0, 1, 2):  # the look is at three seeds, and the fourth is none of them
        tree.edit("dlm", 20_000, seed, overfit_at_the_end)
    assert "run length" not in written(tree).headline
    tree = fake_sweep(primary=rule.model_copy(update={"place": "end"}))
    assert "run length" not in written(tree).headline
    some = pairs({"ar_mask10": "ar", "ar_mask30": "ar", "dlm": "ar"})
    headline = written(fake_sweep(primary=rule.model_copy(update={"contrasts": some}))).headline
    assert headline.endswith(f"; some within this run length ({BEFORE}).")
    headline = written(fake_tree(primary=rule, seeds=(0, 1, 2))).headline
    assert headline.endswith(f"; all within this run length ({BEFORE}).")


def test_where_the_best_stop_is_the_last_nothing_is_compared_and_no_seeds_are_added(fake_sweep):
    tree = fake_sweep(primary=Registration(contrasts=over_best(("dlm",)), place="end"))
    content = written(tree)
    assert content.headline == (
        "DLM against DLM at the best stop is undecided in NLL at the end: the best stop is the last in every "
        f"seed, so there is nothing to compare (3 seeds; {BEFORE})."
    )
    assert content.verdict == ("Look 1 of 5, at 3 seeds, found nothing to compare.",)
    assert [row["verdict"] for row in content.tables[0].rows] == ["undecided"]
    assert len(content.certain) == 1  # the rule, and nothing of intervals
    assert is_decided(read_tree(tree.path))
    tree.edit("dlm", 20_000, 2, lambda result: set_nll(result, 8, 5.0))
    assert "nothing to compare" not in written(tree).headline
    assert not is_decided(read_tree(tree.path))
    tree = fake_sweep(primary=Registration(contrasts=over_best(("dlm",)), place="end"), seeds=(0, 1))
    assert "of which both have 2" in written(tree).headline
    assert not is_decided(read_tree(tree.path))


def test_contrasts_with_nothing_to_compare_are_counted_and_the_others_judged(fake_sweep):
    arms = ("ar", "ar_mask10", "dlm")
    tree = fake_sweep(primary=Registration(contrasts=over_best(arms), place="end"))
    content = written(tree)  # AR's gains are all the same
    assert content.headline == (
        f"Of 3 primary contrasts 3 are undecided, 1 with nothing to compare ({BEFORE})."
    )
    assert content.verdict[0].startswith(
        "Look 1 of 5, at 3 seeds, leaves 3 of 3 undecided, 1 with nothing to compare; the next is at 5 seeds"
    )
    assert not is_decided(read_tree(tree.path))
    for arm in ("ar", "ar_mask10"):
        for seed in range(3):
            tree.edit(arm, 20_000, seed, lambda result, seed=seed: set_nll(result, 8, 5 + 0.05 * seed))
    content = written(tree)
    assert "2 show a difference and 1 are undecided, 1 with nothing to compare" in content.headline
    assert content.verdict == ("Look 1 of 5, at 3 seeds, decided all that can be compared.",)
    assert is_decided(read_tree(tree.path))


@pytest.mark.parametrize(
    ("first", "warning", "when"),
    [
        (
            None,
            "The rule was registered when results were there already",
            "registered when results were there",
        ),
        (
            RULE,
            "The rule was changed after results were there. At first it was",
            "by a rule changed when results were there",
        ),
    ],
)
def test_a_rule_that_came_after_results_is_said_to_have(fake_sweep, first, warning, when):
    tree = fake_sweep(primary=RULE.model_copy(update={"margin": 0.01}))

    def late(plan):
        plan["registration"]["after_results"] = first is None
        if first:
            plan["registration"]["first"] = json.loads(first.at_levels("nll", [{}]).model_dump_json())

    tree.replan(late)
    report = write_report(tree.path)
    assert any(text.startswith(warning) for text in report.summary["warnings"])
    assert f"(3 seeds; {when})." in report.summary["headline"]
    assert warning in read_page(report).text


def test_intervals_are_marked_where_the_number_of_seeds_followed_from_the_results(fake_sweep):
    tree = fake_sweep(primary=RULE)
    assert "by which more seeds may still be added" in written(tree).certain[0]
    tree.replan(lambda plan: plan.update(auto=True))
    assert written(tree).certain[0] == (
        "Intervals are at the level of their look, 98.6 %, after a sequential stop."
    )


def test_a_contrast_across_levels_names_both(fake_tree):
    level = {"data.unique_tokens": 20_000}
    across = Contrast(arm="ar", reference="ar", level={"data.unique_tokens": 80_000}, reference_level=level)
    content = written(fake_tree(seeds=(0, 1, 2), primary=Registration(contrasts=(across,))))
    said = (
        "AR at 80,000 unique tokens against AR at 20,000 unique tokens is undecided in NLL: a gain of +0.600"
    )
    assert content.headline.startswith(said)


def test_a_contrast_across_stops_names_both(fake_tree):
    rule = Registration(contrasts=over_best(("ar",)), levels="first", place="end")
    content = written(fake_tree(seeds=(0, 1, 2), primary=rule))
    said = "AR against AR at the best stop is undecided in NLL at the end at 20,000 unique tokens: a gain of"
    assert content.headline.startswith(f"{said} −1.600")
    assert (
        "AR against AR at the best stop at 20,000 unique tokens, by NLL at the end of" in content.certain[-1]
    )


def test_without_a_registration_nothing_is_decided(fake_sweep):
    tree = fake_sweep()
    assert written(tree) is None
    with pytest.raises(ValueError, match="must have a registration, but nothing is registered"):
        is_decided(read_tree(tree.path))

from dataclasses import replace

import pytest

from lab.metrics import find_metric
from lab.reporting import words
from lab.reporting.replicates import Replicates
from lab.reporting.statistics import Verdict, estimate, judge_together, moderated

NLL, ACCURACY = find_metric("nll"), find_metric("choice_accuracy")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (words.plain(5_120_000), "5,120,000"),
        (words.plain(152.2), "152"),
        (words.plain(0.0625), "0.0625"),
        (words.scientific(1.61e13), "1.6 × 10¹³"),
        (words.scientific(9.99e9), "1.0 × 10¹⁰"),
        (words.scientific(0), "0"),
        (words.signed(-0.25), "−0.250"),
        (words.signed(0.25), "+0.250"),
        (words.p_value(0.0004), "p < 0.001"),
        (words.p_value(0.0584), "p = 0.058"),
        (words.p_value(0.0496), "p = 0.0496"),
        (words.p_value(0.05004), "p = 0.05004"),
        (words.p_value(0.049999), "p = 0.049999"),
        (words.p_value(0.0505), "p = 0.051"),
        (words.p_value(0.05), "p = 0.050"),
        (words.percent(0.0808), "8.1 %"),
        (words.percent(0.2952), "30 %"),
        (words.percent(1e-6), "less than 0.01 %"),
        (words.percent(0.994), "99 %"),
        (words.percent(0.997), "more than 99 %"),
        (words.percent(1.0), "100 %"),
        (words.duration(7.4), "7 s"),
        (words.duration(125), "2 min 05 s"),
        (words.duration(3784), "1 h 03 min"),
        (words.join(["a"]), "a"),
        (words.join(["a", "b", "c"]), "a, b and c"),
        (words.some(list("abcdefg")), "a, b, c, d, e, f and g"),
        (words.some(list("abcdefgh")), "a, b, c, d, e, f and 2 more"),
        (words.counts([3, 3], "seed"), "3 seeds"),
        (words.counts([3, 1], "seed"), "1 to 3 seeds"),
        (words.difference(-0.0004, NLL), "0.000"),
        (words.difference(-0.0215, ACCURACY), "−2.1"),
        (words.amount(-0.1654, NLL), "0.165 nats/token"),
        (words.amount(-0.0215, ACCURACY), "2.1 percentage points"),
        (words.amount(0.5, find_metric("distinct")), "0.500"),
        (words.capital("test NLL"), "Test NLL"),
        (words.capital("size=0.1m, noise"), "size=0.1m, noise"),
        (words.arm_name("any_order_ar"), "any-order AR"),
        (words.arm_name("dlm_k4"), "dlm_k4"),
        (words.variant_name("blocks:8"), "blocks of 8"),
        (words.direction(NLL), "Lower is better."),
        (words.direction(ACCURACY), "Higher is better."),
        (words.topic(ACCURACY), "Choice accuracy on held-out text"),
    ],
)
def test_numbers_for_reading(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ({"data.unique_tokens": 10_000}, " at 10,000 unique tokens"),
        ({"data.unique_tokens": None, "model.size": "0.1m"}, " at the whole corpus, size=0.1m"),
        ({}, ""),
    ],
)
def test_levels_for_reading(level, expected):
    assert words.at_level(level) == expected
    assert words.level_words(level) == expected.removeprefix(" at ")


def test_levels_say_once_what_they_share():
    tokens, size = "data.unique_tokens", "model.size"
    levels = [{tokens: budget, size: "0.1m"} for budget in (10_000, 30_000)]
    assert words.levels_words(levels) == "size=0.1m, 10,000 and 30,000 unique tokens"
    levels = [{tokens: 10_000, size: size_} for size_ in ("0.1m", "0.3m", "0.8m")]
    assert words.levels_words(levels) == "10,000 unique tokens, size=0.1m, 0.3m and 0.8m"
    levels = [{tokens: None}, {tokens: 5}]
    assert words.levels_words(levels) == "the whole corpus and 5 unique tokens"
    levels = [{tokens: 5, size: "0.1m"}, {tokens: 6, size: "0.3m"}]
    assert words.levels_words(levels) == "5 unique tokens, size=0.1m and 6 unique tokens, size=0.3m"


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict("differs", 1), "better"),
        (Verdict("differs", -1, within_margin=True), "worse, by less than the margin"),
        (Verdict("equivalent", within_margin=True), "equivalent"),
        (Verdict("undecided", reason="too few seeds"), "undecided"),
        (Verdict("undecided", reason="tests"), "undecided"),
    ],
)
def test_a_verdict_is_better_worse_equivalent_or_undecided(verdict, expected):
    assert words.verdict_words(verdict) == expected
    assert words.kind_words(verdict) == expected.split(",")[0]


def gain(*values, error=0.0707):
    return estimate(dict(enumerate(values)), document_error=error, margin=0.05)


def test_only_what_is_shown_to_be_within_the_margin_is_said_to_be():
    assert words.within_margin(gain(0.01, 0.02, 0.03), NLL) == ", within the margin of 0.050 nats/token"
    less = ", less than the margin of 0.050 nats/token"
    assert words.within_margin(gain(0.02, 0.0201, 0.0199), NLL) == less
    assert words.within_margin(gain(0.1, 0.0, -0.1), NLL) == ""
    assert words.within_margin(replace(gain(0.01, 0.02, 0.03), margin=None), NLL) == ""


def test_the_words_of_a_page_are_those_of_its_estimates():
    family = [gain(0.01 * n, 0.02, 0.03) for n in range(6)]
    assert words.terms_of([None, *family]) == ["verdict", "interval", "holm"]
    assert words.terms_of(moderated(family)) == ["verdict", "interval", "holm", "moderated"]


def test_a_size_is_read_in_its_own_direction_with_its_interval():
    made = gain(-0.1, -0.2, -0.3)  # 0.2 +- 4.303 x 0.1 / sqrt(3)
    assert words.sized(made, NLL, sign=False) == "0.200 [−0.048 to 0.448]"
    assert words.sized(made, NLL, unit=True) == "−0.200 nats/token [−0.448 to +0.048]"
    assert words.sized(made, ACCURACY, sign=False) == "20.0 [−4.8 to 44.8]"
    assert words.sized(gain(-0.1), NLL) == "−0.100"


def test_an_equivalent_one_has_the_interval_that_its_tests_look_at():
    level = gain(0.01, 0.02, 0.03)  # 0.02 +- 2.92 x 0.01 / sqrt(3)
    assert words.sized(level, NLL) == "+0.020 [+0.003 to +0.037 at 90 %]"
    assert words.sized(replace(level, margin=None), NLL) == "+0.020 [−0.005 to +0.045]"


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        (
            moderated([gain(0.1, 0.2, 0.4)] * 14),
            "Paired over 3 seeds by moderated t tests, as enough contrasts share what they say of the spread;"
            " p-values are corrected (Holm) for the 14 of a metric and stop, the 95 % intervals are not.",
        ),
        (
            judge_together([gain(0.14, 0.2, 0.26), gain(0.29, 0.3, 0.31), *[gain(-0.03, 0.03, 0.01)] * 5]),
            "Paired over 3 seeds by moderated t tests, as enough contrasts share what they say of the spread;"
            " by plain ones 1 of the 2 that differ would;"
            " p-values are corrected (Holm) for the 7 of a metric and stop, the 95 % intervals are not.",
        ),
        (
            [gain(0.1, 0.2, 0.4)],
            "Paired over 3 seeds by plain t tests; p-values are not corrected, as each metric and stop has "
            "one comparison.",
        ),
        (
            [gain(0.1, 0.2), gain(0.1, 0.2, 0.4), gain(0.3)],
            "Paired over 1 to 3 seeds by plain t tests; two seeds say little of their own spread; "
            "1 comparison without spread is undecided; p-values are corrected (Holm) for the 2 of a metric "
            "and stop, the 95 % intervals are not.",
        ),
        (
            [gain(0.1, 0.2, 0.4), gain(0.2, 0.2, 0.2), gain(0.0, 0.0, 0.0)],
            "Paired over 3 seeds by plain t tests; 2 comparisons without spread are undecided; p-values are "
            "not corrected, as each metric and stop has one comparison.",
        ),
        (
            [gain(0.3)] * 3,
            "Paired over 1 seed; one seed has no spread to judge by, so nothing is decided.",
        ),
        (
            [gain(0.2, 0.2), gain(0.1, 0.1)],
            "Paired over 2 seeds; equal seeds leave no spread to judge by, so nothing is decided.",
        ),
        (
            [gain(0.2, 0.2), gain(0.1)],
            "Paired over 1 to 2 seeds; one seed has no spread and equal seeds leave no spread to judge by, "
            "so nothing is decided.",
        ),
    ],
)
def test_seeds_and_tests_are_counted_and_what_has_no_spread_is_told(family, expected):
    assert words.paired(family) == expected


def test_an_interval_at_another_level_is_called_by_it():
    family = [replace(gain(0.1, 0.2, 0.4), alpha=0.0123)] * 2
    assert words.paired(family).endswith("the 98.8 % intervals are not.")


@pytest.mark.parametrize(
    ("replicates", "expected"),
    [
        (
            Replicates(own_tokens=True, own_held_out=True),
            "Intervals cover the choice of unique tokens, the choice of held-out windows and the randomness "
            "of training.",
        ),
        (
            Replicates(own_tokens=True, own_held_out=True, share=0.6),
            "Intervals cover the choice of unique tokens, the choice of held-out windows and the randomness "
            "of training; two seeds are expected to have 60 % of their unique tokens in common; as a "
            "budget takes more than half of the training split, verdicts are about this "
            "text alone.",
        ),
        (
            Replicates(own_tokens=True, own_held_out=False),
            "Intervals cover the choice of unique tokens and the randomness of training: all seeds share the "
            "same held-out windows, whose number of documents gives each gain a standard error of about "
            "0.071 to 0.141 nats/token.",
        ),
        (
            Replicates(own_tokens=True, own_held_out=True, share=0.6, documents=0.7),
            "Intervals cover the choice of unique tokens, the choice of held-out windows and the randomness "
            "of training; two seeds are expected to have 60 % of their unique tokens and 70 % of their "
            "held-out documents in common; as a budget takes more than half of the training split, verdicts "
            "are about this text alone.",
        ),
        (
            Replicates(own_tokens=True, own_held_out=True, documents=1.0),
            "Intervals cover the choice of unique tokens, the choice of held-out windows and the randomness "
            "of training: all seeds share the same held-out documents, whose number gives each gain a "
            "standard error of about 0.071 to 0.141 nats/token.",
        ),
        (
            Replicates(own_tokens=False, own_held_out=True),
            "Intervals cover the choice of held-out windows and the randomness of training: all seeds share "
            "the same unique tokens.",
        ),
        (
            Replicates(own_tokens=False, own_held_out=False),
            "Intervals cover the randomness of training alone: all seeds share the same unique tokens and "
            "held-out windows, whose number of documents gives each gain a standard error of about 0.071 to "
            "0.141 nats/token.",
        ),
    ],
)
def test_the_scope_says_what_intervals_cover_and_what_seeds_share(replicates, expected):
    assert words.scope(replicates, [gain(0.1, 0.2), gain(0.1, error=0.1414)], NLL) == expected


def test_one_seed_says_nothing_of_what_seeds_share():
    alone = Replicates(own_tokens=False, own_held_out=False, share=0.6, known=False)
    assert words.scope(alone, [gain(0.1)], NLL) == "One seed says nothing of what seeds share."


def test_the_scope_tells_no_error_that_is_not_known():
    nothing = Replicates(own_tokens=False, own_held_out=False)
    assert words.scope(nothing, [gain(0.1, error=None)], NLL).endswith("held-out windows.")
    assert words.scope(nothing, [gain(0.1)], find_metric("judge_nll")).count("held-out prompts") == 1
    assert words.scope(nothing, [gain(0.1, error=None)], find_metric("train_nll")).endswith(
        "training windows."
    )
    items = words.scope(nothing, [gain(0.1, error=0.0212)], ACCURACY)
    assert items.endswith("gives each gain a standard error of about 2.1 percentage points.")


def test_what_could_have_been_decided_is_told():
    assert words.decidable(0.2, NLL) == (
        "With these seeds the smallest gain that this table decides in 4 of 5 cases is about 0.200 "
        "nats/token."
    )


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ({"AR": (0, 3)}, ""),
        (
            {"AR": (0, 3), "DLM": (3, 3)},
            "† DLM was still improving when its run ended: verdicts hold within this run length.",
        ),
        (
            {"AR": (1, 3), "DLM": (3, 3)},
            "† AR (1 of 3 seeds) and DLM were still improving when their runs ended: verdicts hold within "
            "this run length.",
        ),
    ],
)
def test_arms_that_were_still_improving_are_named(arms, expected):
    assert words.improving(arms) == expected

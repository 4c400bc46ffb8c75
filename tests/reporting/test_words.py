import pytest

from lab.metrics import find_metric
from lab.reporting import words
from lab.reporting.statistics import paired_difference


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
        (words.duration(7.4), "7 s"),
        (words.duration(125), "2 min 05 s"),
        (words.duration(3784), "1 h 03 min"),
        (words.join(["a"]), "a"),
        (words.join(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_for_reading(text, expected):
    assert text == expected


def gain(*values, error=0.05):
    arms = dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0)
    return paired_difference(*arms, *2 * [dict.fromkeys(range(len(values)), error)])


def test_the_rate_of_provisional_winners_is_told_for_these_seeds_and_this_many_comparisons():
    text = words.uncertainty([gain(0.1, 0.2, 0.4)] * 14)
    assert "corrected (Holm) for 14 comparisons; the 95 % intervals are not corrected." in text
    assert "With no true difference 3 seeds do so in 8.1 % of comparisons. This rate is for each" in text
    assert "if no arm differed, about 1.1 of 14 would be provisional by chance." in text
    mixed = words.uncertainty([gain(0.1, 0.2), gain(0.1, 0.2, 0.4), gain(0.3)])
    assert "With no true difference 2 seeds do so in 30 % and 3 seeds do so in 8.1 % of comparisons." in mixed
    assert "about 0.38 of 2 would" in mixed
    assert "12.7 standard errors" in mixed
    alone = words.uncertainty([gain(0.1, 0.2, 0.4)])
    assert "3 seeds do so in 8.1 % of comparisons. Verdicts are about" in alone


def test_comparisons_without_spread_are_told_and_not_counted():
    text = words.uncertainty([gain(0.1, 0.2, 0.4), gain(0.2, 0.2, 0.2), gain(0.0, 0.0)])
    assert "corrected (Holm) for 1 comparison;" in text
    assert "2 comparisons have the same difference at every seed, which leaves no spread" in text
    assert "12.7" not in text


def test_the_scope_names_what_the_seeds_share_and_what_the_window_error_neglects():
    text = words.uncertainty([gain(0.1, 0.2), gain(0.1, 0.3, error=0.1)])
    assert "about these unique tokens and these held-out windows, which all seeds share" in text
    assert "a further standard error of 0.071 to 0.141 nats/token from the number of windows" in text
    assert "independent although several come from one document, which makes it too small" in text
    assert "at most" not in text
    prompts = words.uncertainty([gain(0.1, 0.2)], metric=find_metric("judge_nll"))
    assert "windows" not in prompts
    assert "error of 0.071 nats/token from the number of prompts" in prompts

import pytest

from lab.reporting import words


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
        (words.duration(7.4), "7 s"),
        (words.duration(125), "2 min 05 s"),
        (words.duration(3784), "1 h 03 min"),
        (words.join(["a"]), "a"),
        (words.join(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_for_reading(text, expected):
    assert text == expected

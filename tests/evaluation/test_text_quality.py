import numpy as np
import pytest

from lab.evaluation.text_quality import distinct_ngrams, parse_rate, repetition, unigram_entropy


def test_distinct_ngrams_by_hand():
    texts = np.array([[1, 2, 1, 2, 3], [1, 2, 3, 4, 5]])
    # 12, 21, 12, 23 and 12, 23, 34, 45
    assert distinct_ngrams(texts, 2) == 5 / 8
    assert distinct_ngrams(texts, 5) == 1
    assert distinct_ngrams(np.zeros((10, 8), int), 4) == 1 / 50


def test_repetition_by_hand():
    texts = np.array([[1, 2, 1, 2, 3], [1, 2, 3, 4, 5], [7, 7, 7, 7, 7]])
    np.testing.assert_allclose(repetition(texts, 2), [1 / 4, 0, 3 / 4])


def test_entropy_within_a_text_by_hand():
    texts = np.array([[1, 2, 1, 2], [1, 2, 3, 4], [7, 7, 7, 7], [5, 5, 5, 6]])
    fourth = -0.75 * np.log(0.75) - 0.25 * np.log(0.25)
    np.testing.assert_allclose(unigram_entropy(texts), [np.log(2), np.log(4), 0, fourth])
    assert not np.signbit(unigram_entropy(texts)).any()


@pytest.mark.parametrize("measure", [distinct_ngrams, repetition])
def test_texts_shorter_than_an_ngram_are_refused(measure):
    with pytest.raises(ValueError, match=r"texts must hold at least n=4 tokens, but got length 3\."):
        measure(np.zeros((2, 3), int))


@pytest.mark.parametrize(
    "line",
    [
        "x = f(1)[2:3]",
        "    return x",
        "if x:",
        "elif y and z:",
        "else:",
        "except (A, B) as error:",
        "finally:",
        "while True: break",
        "@cached",
        "async def f(a, *, b=1):",
        "case {'a': 1}:",
        r"pattern = '\d'",
        "x is 1",
    ],
)
def test_valid_lines(line):
    assert parse_rate([f"cut\n{line}\ncut"]) == (1, 1)


@pytest.mark.parametrize("line", ["foo bar", "x = (", "if x", "def f(:", "a\0b", "elif:", "))", "'''doc"])
def test_invalid_lines(line):
    assert parse_rate([f"cut\n{line}\ncut"]) == (1, 0)


@pytest.mark.parametrize("line", ["[" * 194, "-" * 4000 + "1"])
def test_a_line_that_is_nested_too_deep_is_invalid(line):
    assert parse_rate([f"cut\n{line}\ncut"]) == (1, 0)


def test_only_whole_lines_that_are_not_blank_or_comments_count():
    assert parse_rate(["(((\nx = 1\n\n   \n# note )\ny = (\n((("]) == (2, 1)
    assert parse_rate(["no end of line", "one\nonly", ""]) == (0, 0)

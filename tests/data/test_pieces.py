import random

import pytest

from lab.data.corpora import Document
from lab.data.pieces import cut_text, cut_words, pieces_of


def text_of(seed, characters=3000, alphabet="abcé \n"):
    letters = random.Random(seed)
    return "".join(letters.choice(alphabet) for _ in range(characters))


@pytest.mark.parametrize("alphabet", ["ab", "ab ", "aé 文\n", "a\r\n", " \n", "abcdefghijklmnopqrst \t\n"])
@pytest.mark.parametrize("characters", [1, 7, 100, 2999, 3000])
def test_pieces_joined_are_the_text_and_each_is_within_its_sizes(alphabet, characters):
    text = text_of(0, alphabet=alphabet)
    pieces = list(cut_text([text], characters))
    assert list(cut_text([text[:500], text[500:1234], text[1234:]], characters)) == pieces
    assert "".join(pieces).encode() == text.encode()
    *whole, last = pieces
    assert all(characters <= len(piece) <= 2 * characters for piece in whole)
    assert 0 < len(last) < 2.1 * characters + 1
    assert len(whole) == 0 or 10 * len(last) >= characters


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("abcd\nefgh\nij", ["abcd\n", "efgh\n", "ij"]),
        ("ab\ncdef\nhi", ["ab\ncdef\n", "hi"]),  # the first line break from the fourth character on
        ("abc\ndefg", ["abc\n", "defg"]),  # which may be the fourth itself
        ("abcdefg\nhij", ["abcdefg\n", "hij"]),  # as far as the eighth
        ("abcdefgh\nijkl", ["abcd", "efgh\n", "ijkl"]),  # and no farther
        ("abcde fgh\nij", ["abcde ", "fgh\n", "ij"]),  # else white space
        ("ab cdefghij klmn", ["ab c", "defghij ", "klmn"]),  # else there
        ("ab\r\ncd\r\nef\r\n", ["ab\r\n", "cd\r\n", "ef\r\n"]),
        ("abcd", ["abcd"]),
        ("", [""]),
    ],
)
def test_a_piece_ends_at_a_line_break_else_at_white_space_else_there(text, pieces):
    assert list(cut_text([text], 4)) == list(cut_text(text, 4)) == pieces or not text


@pytest.mark.parametrize(("rest", "joins"), [(9, True), (10, False)])
def test_a_rest_below_a_tenth_joins_the_piece_before(rest, joins):
    lengths = [len(piece) for piece in cut_text(["x" * (300 + rest)], 100)]
    assert lengths == ([100, 100, 100 + rest] if joins else [100, 100, 100, rest])


def test_pieces_are_named_by_document_and_number_and_hold_text():
    assert list(pieces_of(Document("a.txt", "one\n\n\n\n\ntwo\n"), 4)) == [
        Document("a.txt#1", "one\n"),
        Document("a.txt#3", "two\n"),
    ]


@pytest.mark.parametrize("characters", [0, 12, 100])
def test_a_document_that_is_not_cut_is_as_it_was(characters):
    document = Document("a.txt", "one two\nsix\n")
    assert list(pieces_of(document, characters)) == [document]


@pytest.mark.parametrize("run", [" ", "\n", "\xa0", "a", "漢", "7", '"', "_", "=-", "\u3000", "🙂", "²"])
@pytest.mark.parametrize("before", ["", "word ", "word" * 300 + " "])
def test_no_run_of_one_kind_is_longer_than_a_tokenizer_can_be_trained_on(run, before):
    from tokenizers.pre_tokenizers import ByteLevel

    text = f"{before}{run * 20_000} word"
    pieces = list(cut_words(text))
    assert "".join(pieces) == text
    words = [
        span for piece in pieces for _, span in ByteLevel(add_prefix_space=False).pre_tokenize_str(piece)
    ]
    assert max(end - start for start, end in words) <= 4096


def test_a_text_of_words_stays_whole():
    numbers = random.Random(0)
    words = ("".join(numbers.choice("aé漢") for _ in range(numbers.randrange(1, 2047))) for _ in range(200))
    for text in (" ".join(words), "", "=" * 2047, "a" * 2047 + " " * 2047):
        assert list(cut_words(text)) == [text]

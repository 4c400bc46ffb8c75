import random
from itertools import pairwise

import pytest

from lab.data.parts import in_parts
from lab.data.tokenizers import ByteTokenizer, train_bpe


def texts():
    letters = random.Random(0)
    for alphabet in ("ab \n", "aé漢 \n\t", "a \n\n\r\x1c\u2028\xa0", "a", " \n", "a'1! "):
        yield "".join(letters.choice(alphabet) for _ in range(3000))
    yield ""


def chunks(text, size):
    data = text.encode()
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_parts_joined_are_the_text_and_each_but_the_last_ends_behind_a_word(size):
    for text in texts():
        parts = list(in_parts(chunks(text, size)))
        assert "".join(parts) == text
        for part, after in pairwise(parts):
            assert not part[-1].isspace()
            assert after[0] in " \n"


def test_a_text_of_one_chunk_is_one_part():
    assert list(in_parts([b"one two\nsix\n"])) == ["one two\nsix\n"]


def test_parts_hold_a_few_chunks():
    parts = list(in_parts(chunks("word " * 1000, 50)))
    assert len(parts) > 90
    assert max(map(len, parts)) <= 100


def test_what_parts_give_is_what_the_whole_gives():
    bpe = train_bpe("bpe:270", ["the theme of the thesis, \n\n  they're 123 a'a !!"] * 9)
    for text in texts():
        parts = list(in_parts(chunks(text, 70)))
        assert [word for part in parts for word in part.split()] == text.split()
        for tokenizer in (ByteTokenizer(), bpe):
            assert tokenizer.takes_parts
            ids = [index for part in tokenizer.encode_batch(parts) for index in part.tolist()]
            assert ids == tokenizer.encode(text).tolist()


def test_what_is_no_utf_8_is_refused():
    with pytest.raises(UnicodeDecodeError):
        list(in_parts([b"good ", b"\xff bad"]))

import codecs

import numpy as np
import pytest

from lab.data.characters import decode_behind, decode_whole
from lab.data.tokenizers import ByteTokenizer, train_bpe

TEXT = "a漢字🙂é: größer 🙂\n"
BYTES, BPE = ByteTokenizer(), train_bpe("bpe:260", ["größer 漢字 🙂🙂🙂 é\n" * 9])
TOKENIZERS = pytest.mark.parametrize("tokenizer", [BYTES, BPE], ids=["bytes", "bpe"])


def bytes_of(tokenizer, ids):
    """What ids stand for, one by one, said in another way than `decode` does."""
    if tokenizer is BYTES:
        return bytes(ids.tolist())
    whole = TEXT.encode()
    return whole[: int(tokenizer.byte_lengths[ids].sum())]


@TOKENIZERS
def test_a_text_cut_anywhere_is_what_pythons_own_decoder_has_whole(tokenizer):
    ids = tokenizer.encode(TEXT)
    cut = 0
    for end in range(len(ids) + 1):
        expected = codecs.getincrementaldecoder("utf-8")().decode(bytes_of(tokenizer, ids[:end]))
        assert decode_whole(tokenizer, ids[:end]) == expected
        cut += tokenizer.decode(ids[:end]) != expected
    assert cut == 13 if tokenizer is BYTES else cut >= 5  # so many tokens end inside a character
    assert decode_whole(tokenizer, [*ids[:2], tokenizer.end_id]) == "a"  # no text goes on behind an end


@pytest.mark.parametrize(
    "data",
    [
        *(b"\xff", b"a\x80", b"\xe6\xbc\xa2\xbc", b"\xc0", b"\xf4\x90", b"\xf5\x80"),
        *("x\ufffd".encode(), b"\xe6\xbcA", b"\xe6\xe6\xbc", b"\xf0\x9f\x99", b"\xe6\xbc\xe6", b"\xf0\x80"),
        *(b"", b"\xc3", b"\xe0\xa0", b"\xe0\x80", b"\x80" * 9, b"\xf0\x9f\x99\x82\xf0"),
    ],
)
def test_only_what_may_become_a_character_is_left_out(data):
    """Bytes that cannot are U+FFFD at the end too, and one that was written stays."""
    expected = codecs.getincrementaldecoder("utf-8")(errors="replace").decode(data)
    assert decode_whole(BYTES, np.frombuffer(data, np.uint8)) == expected


def test_half_a_surrogate_pair_never_becomes_a_character():
    """For which Python's decoder still waits."""
    assert decode_whole(BYTES, [0x41, 0xED, 0xA0]) == "A\ufffd\ufffd"


@TOKENIZERS
def test_what_is_added_completes_the_character_before_it(tokenizer):
    ids = tokenizer.encode(TEXT)
    for border in range(len(ids) + 1):
        before = decode_whole(tokenizer, ids[:border])
        assert before + decode_behind(tokenizer, ids[:border], ids[border:]) == TEXT
        assert decode_behind(tokenizer, ids, ids[:0]) == ""

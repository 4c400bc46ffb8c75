import numpy as np

from lab.data.documents import documents_of
from lab.data.tokenizers import ByteTokenizer


def test_a_document_is_what_lies_before_its_end():
    tokens = np.array([*b"end of one", 256, *b"two", 256, *b"thr"])
    assert list(documents_of(tokens, ByteTokenizer())) == ["end of one", "two"]
    assert list(documents_of(tokens[-3:], ByteTokenizer())) == []

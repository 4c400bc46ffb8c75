import numpy as np

from lab.data.dataset import Dataset
from lab.data.summary import describe
from lab.data.tokenizers import ByteTokenizer


def test_every_figure_is_shown():
    splits = ("train", "validation", "test")
    statistics = {
        "documents": dict(zip(splits, (101, 102, 103), strict=True)),
        "tokens": dict(zip(splits, (1004, 1005, 1006), strict=True)),
        "bytes": dict(zip(splits, (1, 1, 1), strict=True)),
        "bytes_per_token": 0.987,
        "byte_coverage": 0.95,
        "exact_duplicates_removed": 107,
        "near_duplicate_groups": 108,
        "near_duplicate_documents": 109,
    }
    array = np.zeros(1, np.uint16)
    shown = describe(Dataset(array, array, array, ByteTokenizer(), "0123456789abcdef", statistics))
    text = "\n".join(f"{label}: {value}" for label, value in shown)
    for expected in (
        "0123456789abcdef",
        "bytes (257 ids)",
        "documents, test: 103",
        "unique tokens, train: 1,004",
    ):
        assert expected in text
    for expected in (
        "bytes/token: 0.987",
        "95.00%",
        "removed: 107",
        "near-duplicate groups: 108 (109 documents)",
    ):
        assert expected in text

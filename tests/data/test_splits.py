import hashlib

import pytest

from lab.data.deduplication import UniqueText
from lab.data.splits import split_of, split_texts


def unique(number, group=None):
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return UniqueText(number, digest, group or digest)


def test_shares_are_those_asked_for():
    splits = split_texts([unique(number) for number in range(4000)], 0.1, 0.3)
    # Binomial: 4 standard errors of the share at n = 4000.
    assert len(splits["validation"]) / 4000 == pytest.approx(0.1, abs=4 * (0.1 * 0.9 / 4000) ** 0.5)
    assert len(splits["test"]) / 4000 == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 4000) ** 0.5)
    assert sum(map(len, splits.values())) == 4000


def test_a_group_never_straddles_and_adding_documents_moves_none():
    few = [unique(number, group=f"group {number % 40}") for number in range(200)]
    splits = split_texts(few, 0.2, 0.2)
    of_group = {}
    for split, documents in splits.items():
        for number in documents:
            assert of_group.setdefault(number % 40, split) == split
    more = split_texts([unique(number + 1000) for number in range(100)] + few, 0.2, 0.2)
    for split, documents in splits.items():
        assert set(documents) <= set(more[split])


def test_raising_the_validation_share_takes_from_train_alone():
    for group in map(str, range(500)):
        before, after = split_of(group, 0.1, 0.1), split_of(group, 0.2, 0.1)
        assert after == before or (before, after) == ("train", "validation")


def test_a_split_may_get_no_document():
    splits = split_texts([unique(1), unique(2, "g"), unique(3, "g")], 0.1, 0.1)
    assert sorted(map(len, splits.values())) == [0, 0, 3]

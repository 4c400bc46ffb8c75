"""Documents to train, validation and test by a hash of content, each group of them on one side."""

import hashlib
from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports scipy, which a run that finds its data in the cache does not need
    from lab.data.deduplication import UniqueText

SPLITS = ("train", "validation", "test")


def split_of(group: str, validation_share: float, test_share: float) -> str:
    """The split of a group of documents, such as near duplicates.

    Args:
        group: the digest that names the group.
        validation_share: chance of validation, in (0, 0.5).
        test_share: chance of test, in (0, 0.5).

    Returns:
        `train`, `validation` or `test`: a pure function of the arguments, so that adding documents moves
        no other group.
    """
    # Hashed again, so that the split is independent of the documents' order, which the digest itself gives.
    place = int(hashlib.sha256(f"split:{group}".encode()).hexdigest()[:16], 16) / 2**64
    if place < test_share:
        return "test"
    return "validation" if place < test_share + validation_share else "train"


def split_texts(
    texts: "Iterable[UniqueText]", validation_share: float, test_share: float
) -> "dict[str, array[int]]":
    """The numbers of the texts of each split, in the order given; a split may get none."""
    splits = {split: array("q") for split in SPLITS}
    for text in texts:
        splits[split_of(text.group, validation_share, test_share)].append(text.number)
    return splits

"""Exact duplicates removed; near duplicates found, so that a split can keep them on one side."""

import hashlib
import re
import zlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from datasketch import MinHash, MinHashLSH
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lab.data.corpora import Document

# The field's usual setting: sets of 5-word shingles, near duplicates from a Jaccard similarity of 0.8
# (Lee et al. 2022, "Deduplicating training data makes language models better", arXiv:2107.06499, NearDup).
SHINGLE_WORDS = 5
JACCARD_THRESHOLD = 0.8

_PERMUTATIONS = 128  # the similarity's standard error at 0.8 is sqrt(0.8 x 0.2 / 128) = 0.035
# 25 bands of 5: a pair at 0.8 meets in some band with probability 1 - (1 - 0.8**5)**25 > 0.9999.
_BANDS = (25, 5)
_CHUNK = 1 << 14  # shingles sketched at once: 8 MB of permuted hashes
_MULTIPLIER = np.uint32(0x01000193)  # odd, so a bijection on 32 bits (the FNV prime)


class UniqueDocument(NamedTuple):
    """A document with the sha256 (hex) of its content and of its near-duplicate group's first content."""

    document: Document
    digest: str
    group: str


def deduplicate(documents: Iterable[Document]) -> list[UniqueDocument]:
    """One document of each content, in the order of their digests.

    Names and order of the input decide nothing. Content counts as equal if it differs only in line ends,
    in white space before them, or at the end of the text. Texts without spaces between words (Chinese,
    Japanese) have few shingles; there only almost equal texts are found near.

    Returns:
        The documents by rising digest. Those of one `group` are near duplicates, directly or by a chain.
    """
    unique: dict[str, Document] = {}
    for document in sorted(documents, key=lambda document: (document.text, document.name)):
        unique.setdefault(content_digest(document.text), document)
    digests = sorted(unique)
    labels = _near_duplicate_labels([unique[digest].text for digest in digests])
    first: dict[int, str] = {}
    for digest, label in zip(digests, labels, strict=True):
        first.setdefault(label, digest)
    return [UniqueDocument(unique[d], d, first[label]) for d, label in zip(digests, labels, strict=True)]


def content_digest(text: str) -> str:
    """The sha256 of a text whose line ends are normalised, in hex."""
    lines = re.sub(r"[ \t]+$", "", re.sub(r"\r\n?", "\n", text), flags=re.MULTILINE)
    return hashlib.sha256(lines.rstrip().encode()).hexdigest()


def _near_duplicate_labels(texts: list[str]) -> list[int]:
    """One label a text, equal for those that a chain of near duplicates joins."""
    permutations = MinHash(_PERMUTATIONS, scheme="affine32").permutations
    sketches = [_sketch(text, permutations) for text in texts]
    index = MinHashLSH(num_perm=_PERMUTATIONS, params=_BANDS)
    for position, sketch in enumerate(sketches):
        index.insert(position, sketch)
    pairs = [
        (position, other)
        for position, sketch in enumerate(sketches)
        for other in index.query(sketch)
        if other < position and sketch.jaccard(sketches[other]) >= JACCARD_THRESHOLD
    ]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs), np.int8), (rows, columns)), shape=(len(texts), len(texts)))
    return connected_components(graph, directed=False)[1].tolist()


def _sketch(text: str, permutations: np.ndarray) -> MinHash:
    sketch = MinHash(permutations=permutations, num_perm=_PERMUTATIONS, scheme="affine32", hashfunc=int)
    shingles = _shingles(text)
    for start in range(0, len(shingles), _CHUNK):
        sketch.update_batch(shingles[start : start + _CHUNK].tolist())
    return sketch


def _shingles(text: str) -> np.ndarray:
    """The hashes of a text's runs of words, (n,) uint32, each once; a shorter text is one run."""
    words = np.array([zlib.crc32(word.encode()) for word in text.split()], dtype=np.uint32)
    size = min(SHINGLE_WORDS, len(words))
    shingles = np.zeros(len(words) - size + 1, dtype=np.uint32)
    for offset in range(size):
        shingles = shingles * _MULTIPLIER + words[offset : offset + len(shingles)]
    return np.unique(shingles)

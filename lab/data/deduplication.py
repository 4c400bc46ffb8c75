"""Exact duplicates removed; near duplicates grouped, so that a split can keep them on one side."""

import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from datasketch import MinHash
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lab.data.text_store import TextStore

# The field's usual setting: sets of 5-word shingles, near duplicates from a Jaccard similarity of 0.8
# (Lee et al. 2022, "Deduplicating training data makes language models better", arXiv:2107.06499, NearDup).
SHINGLE_WORDS = 5
JACCARD_THRESHOLD = 0.8

_PERMUTATIONS = 128  # the similarity's standard error at 0.8 is sqrt(0.8 x 0.2 / 128) = 0.035
# 25 bands of 5: a pair at 0.8 meets in some band with probability 1 - (1 - 0.8**5)**25 > 0.9999.
_BANDS = (25, 5)
_CHUNK = 1 << 14  # shingles sketched at once: 8 MB of permuted hashes
_MULTIPLIER = np.uint32(0x01000193)  # odd, so a bijection on 32 bits (the FNV prime)


class UniqueText(NamedTuple):
    """A text of a store, with the sha256 (hex) of its content and of its near-duplicate group's first one."""

    number: int
    digest: str
    group: str


def deduplicate(texts: Iterable[str], store: TextStore) -> list[UniqueText]:
    """Keep one text of each content, and tell them in the order of their digests.

    The order of the input decides nothing. Content counts as equal if it differs only in line ends, in white
    space before them, or at the end of the text; of these the first by its characters is kept. Texts without
    spaces between words (Chinese, Japanese) have few shingles; there only almost equal texts count as near.

    In memory are, for each text kept, its digest and its sketch of 512 bytes, about 1 kB in all.

    Args:
        texts: read once.
        store: gets them; still empty.

    Returns:
        The texts by rising digest. Those of one `group` are near duplicates, directly or by a chain.
    """
    numbers: dict[str, int] = {}
    sketches = bytearray()
    permutations = MinHash(_PERMUTATIONS, scheme="affine32").permutations
    for text in texts:
        digest = content_digest(text)
        if digest not in numbers:
            numbers[digest] = len(numbers)
            store.append(text)
            sketches += _sketch(text, permutations).hashvalues.tobytes()
        elif text < store.read(numbers[digest]):  # of the same words, so of the same sketch
            store.replace(numbers[digest], text)
    labels = _near_duplicate_labels(np.frombuffer(sketches, np.uint32).reshape(-1, _PERMUTATIONS))
    first: dict[int, str] = {}
    ordered = sorted(numbers.items())
    for digest, number in ordered:
        first.setdefault(labels[number], digest)
    return [UniqueText(number, digest, first[labels[number]]) for digest, number in ordered]


def content_digest(text: str) -> str:
    """The sha256 of a text whose line ends are normalised, in hex."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    if " \n" in lines or "\t\n" in lines:  # looked for first, as most texts have none and the pattern is slow
        lines = re.sub(r"[ \t]+$", "", lines, flags=re.MULTILINE)
    return hashlib.sha256(lines.rstrip().encode()).hexdigest()


def _near_duplicate_labels(sketches: np.ndarray) -> list[int]:
    """One label a sketch, equal for those that a chain of near duplicates joins.

    Locality-sensitive hashing: two sketches are compared if they are equal in some band. (datasketch's own
    index keeps a table of sets for each band, some 10 kB a text.)

    Args:
        sketches: (n, _PERMUTATIONS) uint32.
    """
    labels = np.arange(len(sketches))
    bands, rows = _BANDS
    for start in range(0, bands * rows, rows):
        pairs = [
            pair
            for bucket in _buckets(sketches[:, start : start + rows])
            for pair in _near_pairs(bucket, sketches, labels)
        ]
        if pairs:
            left, right = np.concatenate(pairs, axis=1)
            graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=2 * (len(sketches),))
            labels = connected_components(graph, directed=False)[1][labels]
    return labels.tolist()


def _buckets(band: np.ndarray) -> Iterator[np.ndarray]:
    """The numbers of the rows that are equal, of two or more each."""
    order = np.lexsort(band.T)
    edges = np.flatnonzero((band[order[1:]] != band[order[:-1]]).any(axis=1)) + 1
    starts, ends = np.append(0, edges), np.append(edges, len(order))
    several = np.flatnonzero(ends - starts > 1)
    return (order[starts[index] : ends[index]] for index in several)


def _near_pairs(bucket: np.ndarray, sketches: np.ndarray, labels: np.ndarray) -> Iterator[np.ndarray]:
    """The labels, as columns of two, that similar sketches of a bucket join.

    What is joined already is not compared: a bucket of copies of one text takes one comparison a text.
    """
    own = labels[bucket]
    for place, number in enumerate(bucket):
        others = place + 1 + np.flatnonzero(own[place + 1 :] != own[place])
        if others.size:
            equal = np.mean(sketches[bucket[others]] == sketches[number], axis=1)
            joined = np.unique(own[others[equal >= JACCARD_THRESHOLD]])
            yield np.stack([np.full_like(joined, own[place]), joined])
            own[np.isin(own, joined)] = own[place]


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

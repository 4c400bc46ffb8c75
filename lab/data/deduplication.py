"""Exact duplicates removed; what belongs together grouped, so that a split can keep it on one side.

Near duplicates belong together, unless the corpus itself says what does.
"""

import hashlib
import re
import tempfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, reduce
from itertools import chain, zip_longest
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from datasketch import MinHash
from numpy.lib.stride_tricks import sliding_window_view
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lab.data.parts import PART
from lab.data.text_store import Texts, TextStore

# The field's usual setting: sets of 5-word shingles, near duplicates from a Jaccard similarity of 0.8
# (Lee et al. 2022, "Deduplicating training data makes language models better", arXiv:2107.06499, NearDup).
SHINGLE_WORDS = 5
JACCARD_THRESHOLD = 0.8
# A word is in r shingles: of n, one other word replaces r, which leaves a similarity of (n - r) / (n + r). A
# text of fewer than so many times r is too short to compare.
_LEAST_SHINGLES = round((1 + JACCARD_THRESHOLD) / (1 - JACCARD_THRESHOLD))

# Of scripts without spaces between words each character counts as a word: Thai to Tibetan, Myanmar, Khmer,
# those of southern China and Indonesia, kana, Han, Yi, and the punctuation that stands among them.
_SPACELESS = (
    "\u0e00-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\u2e80-\u2fff\u3001-\u312f"
    "\u3190-\ua4cf\ua980-\ua9ff\uaa60-\uaadf\uf900-\ufaff\ufe30-\ufe4f\uff01-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
_SPACELESS_RUNS = re.compile(f"[{_SPACELESS}]+")
_UNITS = re.compile(f"[{_SPACELESS}]|[^\\s{_SPACELESS}]+")
# Longer ones, too few for a shingle, are no words, but one long line, base64 say. There so many characters
# from each place on count as a word: what is compared are strings of 20, which few letters do not make alike.
_LONGEST_WORDS = 128
_WINDOW = 16

_PERMUTATIONS = 128  # the similarity's standard error at 0.8 is sqrt(0.8 x 0.2 / 128) = 0.035
# 25 bands of 5: a pair at 0.8 meets in some band with probability 1 - (1 - 0.8**5)**25 > 0.9999.
_BANDS = (25, 5)
_BATCH_WORDS = 1 << 16  # of texts that are sketched together
# With how many of its bucket a sketch is compared, first with those that are equal in another band too.
# A larger bucket has what many texts share, such as a template: the time must not grow by its square.
_NEIGHBOURS = 1 << 9
_MULTIPLIER = np.uint32(0x01000193)  # odd, so a bijection on 32 bits (the FNV prime)
# Of what names a band: equal ones have equal names, others with a chance of 2^-64.
_POWERS = np.array([pow(0x9E3779B97F4A7C15, place, 1 << 64) for place in range(_BANDS[1])], np.uint64)
_DIGEST = 32  # bytes of a sha256
_SPACES = bytes.maketrans(b"\x1c\x1d\x1e\x1f", b"    ")  # to `str.split` they are space, not to `bytes.split`


class UniqueText(NamedTuple):
    """A text of a store, with the sha256 (hex) of its content and of its group's first one."""

    number: int
    digest: str
    group: str


class UniqueTexts:
    """Texts of a store by rising digest, in groups: of near duplicates, directly or by a chain, say.

    Args:
        numbers: (n,) int, of the texts in the store.
        digests: their sha256, joined.
        groups: (n,) int, the place of the first text of each one's group.
        kept: (all texts of the store,) int, the number of the text that was kept of each one's content.
        short: how many are too short to compare: a copy in which one word is another, of text without spaces
            one character, is no near duplicate.
    """

    def __init__(
        self, numbers: np.ndarray, digests: bytes, groups: np.ndarray, kept: np.ndarray, short: int = 0
    ) -> None:
        self._numbers, self._digests, self._groups = numbers, digests, groups
        self.kept, self.short = kept, short

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[UniqueText]:
        for place, number in enumerate(self._numbers):
            yield UniqueText(int(number), self._digest(place), self._digest(self._groups[place]))

    def _digest(self, place: int) -> str:
        return self._digests[place * _DIGEST : (place + 1) * _DIGEST].hex()

    @property
    def group_sizes(self) -> np.ndarray:
        """(g,) int, how many texts each group has."""
        return np.unique(self._groups, return_counts=True)[1]


def deduplicate(
    texts: Iterable[str | Iterable[str]], store: TextStore, groups: Sequence[str] = ()
) -> UniqueTexts:
    """Keep one text of each content, and tell them in the order of their digests.

    The order of the input decides nothing. Content counts as equal if it differs only in line ends, in white
    space before them, or at the end of the text; of these the first by its characters is kept. The words of
    text without spaces are its characters (`_words`).

    In memory are some 100 bytes a text, its digest among them; sketches, of 700 bytes, are on disk.

    Args:
        texts: read once; a long one may come in parts (lab/data/parts.py).
        store: gets them; still empty.
        groups: the name of each text's group, read after the texts; those of equal content have one name.
            Empty where near duplicates are the groups.
    """
    digests = bytearray()
    for text in texts:
        hasher = hashlib.sha256()
        store.append(_digested((text,) if isinstance(text, str) else text, hasher))
        digests += hasher.digest()
    numbers, distinct, kept = _one_of_each(np.frombuffer(digests, f"S{_DIGEST}"), store)
    short = 0
    if groups:
        labels = np.array(groups)[numbers]
    else:
        labels, short = _near_duplicate_labels(Texts(store, array("q", numbers.tobytes())), store.folder)
    _, first, group = np.unique(labels, return_index=True, return_inverse=True)
    return UniqueTexts(numbers, distinct, first[group], kept, short)


def content_digest(text: str) -> str:
    """The sha256 of a text whose line ends are normalised, in hex."""
    hasher = hashlib.sha256()
    list(_digested((text,), hasher))
    return hasher.hexdigest()


def _one_of_each(digests: np.ndarray, store: TextStore) -> tuple[np.ndarray, bytes, np.ndarray]:
    """The numbers of one text of each content, (n,) int by rising digest, and their digests, joined; and of
    every text which one that is, (all,) int.
    """
    order = np.argsort(digests, kind="stable")
    ascending = digests[order]
    starts = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1])[: len(order)])
    numbers = order[starts]
    ends = np.append(starts[1:], len(order))
    for place in np.flatnonzero(ends - starts > 1):
        copies = order[starts[place] : ends[place]]
        numbers[place] = reduce(lambda one, other: _first(store, one, other), copies)
    kept = np.empty_like(order)
    kept[order] = np.repeat(numbers, ends - starts)
    return numbers, ascending[starts].tobytes(), kept


def _digested(parts: Iterable[str], hasher: "hashlib._Hash") -> Iterator[str]:
    """The parts of a text, whose content has been digested when all are taken."""
    for part in parts:
        lines = part.replace("\r\n", "\n").replace("\r", "\n")
        if " \n" in lines or "\t\n" in lines:
            lines = "\n".join(line.rstrip(" \t") for line in lines.split("\n"))
        # White space at the end of a part is at the end of its text.
        hasher.update(lines.rstrip().encode())
        yield part


def _first(store: TextStore, one: int, other: int) -> int:
    """Which of two texts comes first by its characters, whose order is that of their bytes."""
    for left, right in zip_longest(store.chunks(one), store.chunks(other), fillvalue=b""):
        if left != right:
            return one if left < right else other
    return one


def _near_duplicate_labels(texts: Texts, folder: Path) -> tuple[np.ndarray, int]:
    """One label a text, (n,) int, equal for those that a chain of near duplicates joins; how many are short.

    Locality-sensitive hashing: two sketches are compared if they are equal in some band. (datasketch's own
    index keeps a table of sets for each band, some 10 kB a text.)
    """
    labels = np.arange(len(texts))
    short = array("b")
    if len(texts) < 2:
        return labels, 0
    with ExitStack() as stack:
        file, *bands = (stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in range(1 + _BANDS[0]))
        for block in _sketches(texts, short):
            file.write(block.tobytes())
            parts = block[:, : _BANDS[0] * _BANDS[1]].reshape(-1, *_BANDS)
            for band, keys in zip(bands, (parts * _POWERS).sum(axis=2).T, strict=True):
                band.write(keys.tobytes())
        file.flush()
        sketches = np.memmap(file, np.uint32, "r", shape=(len(texts), _PERMUTATIONS))
        following = _read_keys(bands[0])
        for band in [*bands[1:], bands[0]]:
            keys, following = following, _read_keys(band)
            buckets = _buckets(keys, following, labels)
            pairs = [pair for bucket in buckets for pair in _near_pairs(bucket, sketches, labels)]
            if pairs:
                left, right = np.concatenate(pairs, axis=1)
                graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=2 * (len(texts),))
                labels = connected_components(graph, directed=False)[1][labels]
    return labels, sum(short)


def _read_keys(band: BinaryIO) -> np.ndarray:
    band.seek(0)
    return np.frombuffer(band.read(), np.uint64)


def _buckets(keys: np.ndarray, following: np.ndarray, labels: np.ndarray) -> Iterator[np.ndarray]:
    """The numbers of the texts of equal keys, ordered by another band's, but where all are joined already."""
    order = np.lexsort((following, keys))
    equal = keys[order[1:]] == keys[order[:-1]]
    edges = np.flatnonzero(~equal) + 1
    apart = np.flatnonzero(equal & (labels[order[1:]] != labels[order[:-1]]))
    edges = np.concatenate([[0], edges, [len(order)]])
    for bucket in np.unique(np.searchsorted(edges, apart, side="right")):
        yield order[edges[bucket - 1] : edges[bucket]]


def _near_pairs(bucket: np.ndarray, sketches: np.ndarray, labels: np.ndarray) -> Iterator[np.ndarray]:
    """The labels, as columns of two, that similar sketches of a bucket join.

    What is joined already is not compared: a bucket of copies of one text takes one comparison a text.
    """
    own = labels[bucket]
    for place, number in enumerate(bucket):
        following = own[place + 1 : place + 1 + _NEIGHBOURS]
        others = np.flatnonzero(following != own[place])
        if not others.size:
            continue
        equal = sketches[bucket[place + 1 + others]] == sketches[number]
        similar = equal.sum(axis=1, dtype=np.uint8) >= JACCARD_THRESHOLD * _PERMUTATIONS
        joined = np.unique(following[others[similar]])
        if joined.size:
            yield np.stack([np.full_like(joined, own[place]), joined])
            following[np.isin(following, joined)] = own[place]


def _sketches(texts: Texts, short: "array[int]") -> Iterator[np.ndarray]:
    """The sketches of texts in their order, (n, _PERMUTATIONS) uint32, some texts at a time.

    Args:
        texts: n of them.
        short: gets 1 for each that is too short to compare (`_LEAST_SHINGLES`), else 0.
    """
    runs: list[np.ndarray] = []
    begun: list[bool] = []
    size = 0
    open_row = np.empty((0, _PERMUTATIONS), np.uint32)  # of a text that goes on
    for parts in texts.in_parts("comparing texts"):
        length = 0
        for place, (words, span) in enumerate(_runs(parts)):
            if size >= _BATCH_WORDS:
                rows = _joined(open_row, runs, begun)
                yield rows[:-1]
                open_row, runs, begun, size = rows[-1:], [], [], 0
            runs.append(words)
            begun.append(place == 0)
            size += len(words)
            length += len(words) - SHINGLE_WORDS + 1 - _LEAST_SHINGLES * span * (place == 0)
        short.append(length < 0)
    yield _joined(open_row, runs, begun)


def _joined(open_row: np.ndarray, runs: list[np.ndarray], begun: list[bool]) -> np.ndarray:
    """One row for each text that runs of words are of."""
    minima = np.concatenate([open_row, _minima(runs)])
    return np.minimum.reduceat(minima, np.flatnonzero([True] * len(open_row) + begun), axis=0)


def _runs(parts: Iterable[str]) -> Iterator[tuple[np.ndarray, int]]:
    """The hashes of a text's words, (n,) uint32, in runs that overlap so that each shingle lies in one.

    Beside each run: how many shingles a word, or a character of text without spaces, is in.
    """
    parts = iter(parts)
    head, count = [], 0
    for part in parts:
        if words := len(part.split()):
            head.append(part)
        count += words
        if count >= SHINGLE_WORDS:
            break
    hashes_of, width = _words("".join(head))
    span = SHINGLE_WORDS + width - 1
    units = np.empty(0, np.uint32)
    short = True
    for part in chain(head, parts):
        # A part without spaces may be the whole of a large file.
        step = max(1, len(part)) if hashes_of is _word_hashes else PART
        for start in range(0, len(part), step):
            hashes = hashes_of(part[start : start + step])
            units = np.concatenate([units, hashes]) if units.size else hashes
            if len(units) >= span:
                yield (_combined(sliding_window_view(units, width)) if width > 1 else units), span
                units, short = units[1 - span :], False
    if short:
        yield (units if units.size else np.zeros(1, np.uint32)), span


def _words(text: str) -> tuple[Callable[[str], np.ndarray], int]:
    """What counts as a word of a text, which its beginning says: where there are spaces, what they part.

    Returns:
        What hashes a part's words, (n,) uint32, or its characters; and how many of these are a word.
    """
    words = text.split()
    if not text.isascii() and sum(map(len, _SPACELESS_RUNS.findall(text))) > len(words):
        return _unit_hashes, 1
    if len(words) < SHINGLE_WORDS and sum(map(len, words)) > _LONGEST_WORDS * len(words):
        return _character_hashes, _WINDOW
    return _word_hashes, 1


def _word_hashes(text: str) -> np.ndarray:
    return _hashed(
        text.encode().translate(_SPACES).split() if text.isascii() else map(str.encode, text.split())
    )


def _unit_hashes(text: str) -> np.ndarray:
    return _hashed(map(str.encode, _UNITS.findall(text)))


def _hashed(words: Iterable[bytes]) -> np.ndarray:
    return np.fromiter(map(zlib.crc32, words), np.uint32)


def _character_hashes(text: str) -> np.ndarray:
    return _mixed(np.frombuffer("".join(text.split()).encode("utf-32-le"), np.uint32))


def _minima(runs: list[np.ndarray]) -> np.ndarray:
    """The least permuted hashes of the shingles of each run of words, (runs, _PERMUTATIONS) uint32.

    As datasketch's `MinHash(scheme="affine32")`, of many texts at once and of arrays.
    """
    hashes, starts = _shingles(runs)
    hashes = _mixed(hashes)
    permuted = np.empty_like(hashes)
    minima = np.empty((_PERMUTATIONS, len(runs)), np.uint32)
    for row, factor, term in zip(minima, *_permutations(), strict=True):
        np.multiply(hashes, factor, out=permuted)
        permuted += term
        np.minimum.reduceat(permuted, starts, out=row)
    return minima.T


@cache
def _permutations() -> np.ndarray:
    """(2, _PERMUTATIONS) uint32: the factors and the terms."""
    return MinHash(_PERMUTATIONS, scheme="affine32").permutations


def _mixed(hashes: np.ndarray) -> np.ndarray:
    """MurmurHash3's finalizer, by which `affine32` begins."""
    hashes = (hashes ^ (hashes >> 16)) * np.uint32(0x85EBCA6B)
    hashes = (hashes ^ (hashes >> 13)) * np.uint32(0xC2B2AE35)
    return hashes ^ (hashes >> 16)


def _shingles(runs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of runs of SHINGLE_WORDS words, (n,) uint32; a shorter run is one shingle.

    Returns:
        The hashes, and (runs,) int, where those of each run begin.
    """
    sizes = np.array([len(run) for run in runs])
    words = np.concatenate(runs)
    ends = np.cumsum(sizes)
    firsts = ends - sizes
    padded = np.append(words, np.zeros(SHINGLE_WORDS - 1, np.uint32))
    windows = sliding_window_view(padded, SHINGLE_WORDS)
    shingles = _combined(windows)
    for size in range(1, SHINGLE_WORDS):
        places = firsts[sizes == size]
        shingles[places] = _combined(windows[places, :size])
    # Not those that would reach across the end of a run, but for its first.
    across = ends[:, None] - np.arange(1, SHINGLE_WORDS)
    kept = np.ones(len(words), bool)
    kept[across[across > firsts[:, None]]] = False
    counts = np.maximum(sizes - SHINGLE_WORDS + 1, 1)
    return shingles[kept], np.cumsum(counts) - counts


def _combined(windows: np.ndarray) -> np.ndarray:
    """The hash of each row of hashes of words."""
    combined = np.zeros(len(windows), np.uint32)
    for words in windows.T:
        combined = combined * _MULTIPLIER + words
    return combined

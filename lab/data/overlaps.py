"""Which held-out tokens the training split holds too, as parts of strings of 32 bytes.

A corpus repeats itself, licences and boilerplate say, where no document is a near duplicate of another. Text
that a model may have seen word for word measures memory: windows of nothing else are left out of what is
measured (lab/data/held_out.py).
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lab.data.tokenizers import Tokenizer

SPAN = 32  # bytes, a power of 2: longer than the common phrases of code, half a window of the laptop's
# Of a held-out split only so many bytes are looked at, and drawn of. Documents are in the order of their
# digest, so that the first ones are a random sample.
LOOKED_AT = 1 << 24
_CHUNK = 1 << 16  # bytes of text hashed at once: 0.5 MB of hashes, which a core's cache holds
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, its bits well mixed (those of the golden ratio)
_MOST_BITS = 28  # of the bitmap's index: 32 MB
_PARTITION = 1 << 20  # hashes of held-out text that are looked up at once, at most
_PLACED = np.dtype([("hash", np.uint64), ("place", np.int32)])

Document = Iterable[bytes]  # a text a chunk at a time


def seen_tokens(
    train: Iterable[Document],
    held_out: Mapping[str, Iterable[Document]],
    tokens: Mapping[str, np.ndarray],
    tokenizer: Tokenizer,
    folder: Path | None = None,
) -> dict[str, np.ndarray]:
    """Which tokens of the held-out splits lie in strings of SPAN bytes that a training document holds too.

    A token is seen if all its bytes are; an end, which has none, is. The training texts are read once, a
    chunk at a time. Strings are told apart by 64 bits of their hash: of 16 million in a gigabyte one is taken
    for seen by chance with a probability of 1e-3.

    Args:
        train: the documents of the training split.
        held_out: split -> its documents, of which the first LOOKED_AT bytes are looked at.
        tokens: split -> (n,) its ids.
        tokenizer: what made them. Where its `byte_lengths` do not add up to a document, they are scaled to.
        folder: where there is room for 12 bytes for each byte looked at, and 8 for each that occurs.

    Returns:
        Split -> (m,) bool, m <= n: of the tokens that were looked at.
    """
    data, ends = zip(*map(_first, held_out.values()), strict=True)
    edges = np.cumsum([0, *map(len, data)])
    begins = np.zeros(edges[-1], bool)  # whether a string that occurs begins at a byte
    with ExitStack() as stack:
        known = _Known(int(edges[-1]), folder, stack)
        for start, one, one_ends in zip(edges, data, ends, strict=False):
            known.add(int(start), one, one_ends)
        known.look_for(train)
        for places in known.found():
            begins[places] = True
    del known, data
    covered = map(_covered, np.split(begins, edges[1:-1]))
    return {
        split: _by_token(bytes_seen, one_ends, tokens[split], tokenizer)
        for split, bytes_seen, one_ends in zip(held_out, covered, ends, strict=True)
    }


def seen_windows(seen: np.ndarray, length: int) -> float:
    """The share of all windows of `length` tokens that are wholly seen; 0 where there is none.

    Args:
        seen: (m,) bool.
        length: L, tokens a window.
    """
    unseen = counts_before(~seen)
    return float((unseen[length:] == unseen[:-length]).mean()) if len(seen) >= length else 0.0


def counts_before(flags: np.ndarray) -> np.ndarray:
    """How many of (n,) flags are set before each place, and in all: (n + 1,) int32."""
    counts = np.zeros(len(flags) + 1, np.int32)
    np.cumsum(flags, out=counts[1:])
    return counts


def _first(documents: Iterable[Document]) -> tuple[np.ndarray, np.ndarray]:
    """The first LOOKED_AT bytes of documents, (n,) uint8, and the place after each, where none is cut."""
    data = bytearray()
    ends, size = [], 0
    for document in documents:
        for chunk in document:
            data += chunk[: LOOKED_AT - len(data)]
            size += len(chunk)
        ends.append(size)
        if size >= LOOKED_AT:
            break
    return np.frombuffer(data, np.uint8), np.array(ends, np.int64)


def _blocks(documents: Iterable[Document]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Documents joined, cut into blocks that overlap, so that each string begins in one, and ends in each."""
    waiting, ends = bytearray(), list[int]()
    for document in documents:
        for chunk in document:
            for start in range(0, len(chunk), _CHUNK):
                waiting += chunk[start : start + _CHUNK]
                if len(waiting) >= _CHUNK + SPAN:
                    yield np.frombuffer(bytes(waiting), np.uint8), np.array(ends, np.int64)
                    done = len(waiting) - SPAN + 1
                    del waiting[:done]
                    ends = [end - done for end in ends if end > done]
        ends.append(len(waiting))
    yield np.frombuffer(waiting, np.uint8), np.array(ends, np.int64)


def _string_hashes(data: np.ndarray) -> np.ndarray:
    """The hash of the SPAN bytes from each place on: sum of b_i M^(SPAN - 1 - i) modulo 2^64.

    Twice as long a string's is M^width times its first half's, plus that of the second.
    """
    hashes, width = data.astype(np.uint64), 1
    while width < SPAN:
        longer = hashes[:-width] * np.uint64(pow(_MULTIPLIER, width, 1 << 64))
        longer += hashes[width:]
        hashes, width = longer, 2 * width
    return hashes


def _inside(count: int, ends: np.ndarray) -> np.ndarray:
    """Whether the string from each of `count` places on lies within one text: (count,) bool."""
    inside = np.ones(count, bool)
    for before in range(1, SPAN):
        across = ends - before
        inside[across[(across >= 0) & (across < count)]] = False
    return inside


class _Known:
    """The hashes of strings of held-out text, each with its place, and those that may occur in other text.

    A bitmap of upper bits, which mix all bytes, leaves few of the latter. Both are kept in files, a range of
    hashes in each, so that memory holds one range at a time.

    Args:
        count: how many there will be at most.
        folder: where the files are.
        stack: closes them.
    """

    def __init__(self, count: int, folder: Path | None, stack: ExitStack) -> None:
        self._range_bits = max(0, count // _PARTITION).bit_length()

        def files() -> list[BinaryIO]:
            made = range(1 << self._range_bits)
            return [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in made]

        self._placed, self._candidates = files(), files()
        bits = max(3, min(_MOST_BITS, (16 * count).bit_length()))
        self._shift = np.uint64(64 - bits)
        self._bitmap = np.zeros(1 << bits - 3, np.uint8)

    def add(self, start: int, data: np.ndarray, ends: np.ndarray) -> None:
        """Take the strings within texts, whose first byte has the place `start`."""
        inside = _inside(max(0, len(data) - SPAN + 1), ends)
        for block in range(0, len(inside), _CHUNK):
            hashes = _string_hashes(data[block : block + _CHUNK + SPAN - 1])
            placed = np.empty(len(hashes), _PLACED)
            placed["hash"], placed["place"] = hashes, np.arange(start + block, start + block + len(hashes))
            placed = placed[inside[block : block + _CHUNK]]
            placed = placed[np.argsort(placed["hash"])]
            byte, bit = self._bit(placed["hash"])
            first = np.flatnonzero(np.append(True, byte[1:] != byte[:-1])[: len(byte)])
            if len(first):
                self._bitmap[byte[first]] |= np.bitwise_or.reduceat(bit, first)
            self._write(self._placed, placed, placed["hash"])

    def look_for(self, documents: Iterable[Document]) -> None:
        """Keep the hashes of those strings of documents that may be known."""
        for data, ends in _blocks(documents):
            hashes = _string_hashes(data)
            byte, bit = self._bit(hashes)
            may_be_known = self._bitmap[byte] & bit != 0
            hashes = np.sort(hashes[may_be_known & _inside(len(hashes), ends)])
            self._write(self._candidates, hashes, hashes)

    def found(self) -> Iterator[np.ndarray]:
        """The places of the strings that occur, a range of hashes at a time."""
        for placed_file, file in zip(self._placed, self._candidates, strict=True):
            placed_file.seek(0)
            placed = np.frombuffer(placed_file.read(), _PLACED)
            if not len(placed):
                continue
            placed = placed[np.argsort(placed["hash"])]
            known = np.ascontiguousarray(placed["hash"])
            occur = np.zeros(len(known) + 1, bool)
            file.seek(0)
            while chunk := file.read(8 * _CHUNK):
                hashes = np.frombuffer(chunk, np.uint64)
                place = np.searchsorted(known, hashes)
                occur[place[known[np.minimum(place, len(known) - 1)] == hashes]] = True
            yield placed["place"][occur[np.searchsorted(known, known)]]

    def _bit(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which byte of the bitmap each hash has its bit in, and that byte if it has no other."""
        place = (hashes >> self._shift).view(np.int64)
        return place >> 3, np.left_shift(np.uint8(1), place.astype(np.uint8) & np.uint8(7))

    def _write(self, files: Sequence[BinaryIO], records: np.ndarray, hashes: np.ndarray) -> None:
        """Append records, by rising hash, to the files of their ranges."""
        ranges = [number << 64 - self._range_bits for number in range(len(files))]
        starts = np.searchsorted(hashes, np.array(ranges, np.uint64)).tolist()
        for file, start, end in zip(files, starts, [*starts[1:], len(hashes)], strict=True):
            if end > start:
                file.write(records[start:end].tobytes())


def _covered(begins: np.ndarray) -> np.ndarray:
    """Which bytes lie in a string of SPAN bytes, of those where one begins: (n,) bool."""
    covered, width = begins.copy(), 1
    while width < SPAN:
        covered[width:] |= covered[:-width].copy()
        width *= 2
    return covered


def _by_token(covered: np.ndarray, ends: np.ndarray, tokens: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Which tokens have no byte that is not covered: (m,) bool, of those whose bytes were looked at.

    Args:
        covered: (n,) bool, by byte.
        ends: (d,) the place after each text.
        tokens: ids, the texts' first.
        tokenizer: what made them.
    """
    tokens = tokens[: len(covered) + len(ends)]
    token_ends = np.concatenate([after[is_end] for _, is_end, after in _sizes(tokens, tokenizer)])[
        : len(ends)
    ]
    # A last text without its end was cut: its lengths are taken as they are.
    scale = np.ones(len(ends))
    token_sizes, sizes = np.diff(token_ends, prepend=0), np.diff(ends, prepend=0)
    scale[: len(token_ends)] = sizes[: len(token_ends)] / np.maximum(token_sizes, 1)
    first, first_token = np.append(0, ends[:-1]), np.append(0, token_ends)[: len(ends)]
    seen, reached = [], 0
    for text, _, after in _sizes(tokens, tokenizer):
        text = np.minimum(text, len(ends) - 1)
        last = first[text] + np.rint((after - first_token[text]) * scale[text]).astype(np.int64)
        last = last[: np.searchsorted(last, len(covered), side="right")]
        edges = np.append(reached, last)
        bare = counts_before(~covered[reached : edges[-1]])[edges - reached]
        seen.append(bare[1:] == bare[:-1])
        reached = int(edges[-1])
        if len(last) < len(text):
            break
    return np.concatenate(seen)


def _sizes(tokens: np.ndarray, tokenizer: Tokenizer) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of some tokens at a time: the number of each one's text, whether it ends it, and the bytes up to it."""
    texts = size = 0
    for start in range(0, len(tokens), _CHUNK):
        some = np.asarray(tokens[start : start + _CHUNK])
        is_end = some == tokenizer.end_id
        text = texts + counts_before(is_end)
        after = size + np.cumsum(tokenizer.byte_lengths[some], dtype=np.int64)
        yield text[:-1], is_end, after
        texts, size = int(text[-1]), int(after[-1])

"""Which held-out tokens the training split holds too, as parts of strings of 32 bytes.

A corpus repeats itself, licences and boilerplate say, where no document is a near duplicate of another. Text
that a model may have seen word for word measures memory: windows of nothing else are left out of what is
measured (lab/data/held_out.py).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from lab.data.tokenizers import Tokenizer

SPAN = 32  # bytes, a power of 2: longer than the common phrases of code, half a window of the laptop's
# Of a held-out split only so many bytes are looked at, and drawn of. Documents are in the order of their
# digest, so that the first ones are a random sample.
LOOKED_AT = 1 << 24
_CHUNK = 1 << 21  # bytes of training text hashed at once: some 100 MB with what it takes besides
_MULTIPLIER = 0x9E3779B97F4A7C15  # odd, its bits well mixed (those of the golden ratio)
_MOST_BITS = 27  # of the bitmap's index: 128 MB


class _Texts(NamedTuple):
    """Texts joined, and cut at a size.

    Attributes:
        data: (n,) uint8, their bytes.
        ends: (d,) int64, the place after each text, where none is cut.
    """

    data: np.ndarray
    ends: np.ndarray


def seen_tokens(
    train: Iterable[str],
    held_out: Mapping[str, Iterable[str]],
    tokens: Mapping[str, np.ndarray],
    tokenizer: Tokenizer,
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

    Returns:
        Split -> (m,) bool, m <= n: of the tokens that were looked at.
    """
    texts = {split: _first(documents) for split, documents in held_out.items()}
    known = np.sort(np.concatenate([_hashes(one) for one in texts.values()]))
    known = known[np.diff(known, prepend=~known[:1]) != 0]  # each once
    known = known[_occur(known, train)]
    return {
        split: _by_token(_by_byte(one.data, one.ends, known), one.ends, tokens[split], tokenizer)
        for split, one in texts.items()
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


def _first(documents: Iterable[str]) -> _Texts:
    """The first LOOKED_AT bytes of documents."""
    parts, size = [], 0
    for text in documents:
        parts.append(text.encode())
        size += len(parts[-1])
        if size >= LOOKED_AT:
            break
    return _join(parts, LOOKED_AT)


def _chunks(documents: Iterable[str]) -> Iterator[_Texts]:
    """Documents a few at a time; a long one in parts that overlap, so that each string is in one of them."""
    parts, size = [], 0
    for text in documents:
        data = text.encode()
        for start in range(0, len(data), _CHUNK):
            parts.append(data[start : start + _CHUNK + SPAN - 1])
            size += len(parts[-1])
            if size >= _CHUNK:
                yield _join(parts)
                parts, size = [], 0
    yield _join(parts)


def _join(parts: list[bytes], most: int | None = None) -> _Texts:
    data = np.frombuffer(b"".join(parts)[:most], np.uint8)
    return _Texts(data, np.cumsum([len(part) for part in parts], dtype=np.int64))


def _string_hashes(data: np.ndarray) -> np.ndarray:
    """The hash of the SPAN bytes from each place on: sum of b_i M^(SPAN - 1 - i) modulo 2^64.

    Twice as long a string's is M^width times its first half's, plus that of the second.
    """
    hashes, width = data.astype(np.uint64), 1
    while width < SPAN:
        hashes = hashes[:-width] * np.uint64(pow(_MULTIPLIER, width, 1 << 64)) + hashes[width:]
        width *= 2
    return hashes


def _inside(count: int, ends: np.ndarray) -> np.ndarray:
    """Whether the string from each of `count` places on lies within one text: (count,) bool."""
    across = (ends[:, None] - np.arange(1, SPAN)).ravel()
    inside = np.ones(count, bool)
    inside[across[(across >= 0) & (across < count)]] = False
    return inside


def _hashes(texts: _Texts) -> np.ndarray:
    """The hashes of the strings within texts."""
    hashes = _string_hashes(texts.data)
    return hashes[_inside(len(hashes), texts.ends)]


def _occur(known: np.ndarray, documents: Iterable[str]) -> np.ndarray:
    """Which hashes, ascending, are those of a string of a document: (n,) bool."""
    # A bitmap of their upper bits, which mix all bytes, leaves few to be searched for.
    bits = min(_MOST_BITS, (16 * len(known)).bit_length())
    shift = np.uint64(64 - bits)
    bitmap = np.zeros(1 << bits, bool)
    bitmap[known >> shift] = True
    occur = np.zeros(len(known), bool)
    for texts in _chunks(documents):
        hashes = _hashes(texts)
        hashes = np.sort(hashes[bitmap[hashes >> shift]])  # in order they are looked up faster
        place, there = _look_up(hashes, known)
        occur[place[there]] = True
    return occur


def _look_up(hashes: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each hash would be among those known, ascending, and whether it is."""
    place = np.searchsorted(known, hashes)
    there = place < len(known)
    there[there] = known[place[there]] == hashes[there]
    return place, there


def _by_byte(data: np.ndarray, ends: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which bytes of texts lie in a string whose hash is known: (n,) bool."""
    hashes = _string_hashes(data)
    _, there = _look_up(hashes, known)
    begun = counts_before(there & _inside(len(hashes), ends))
    places = np.arange(len(data))
    last = np.minimum(places + 1, len(hashes))
    return begun[last] > begun[np.minimum(np.maximum(places + 1 - SPAN, 0), last)]


def _by_token(covered: np.ndarray, ends: np.ndarray, tokens: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    """Which tokens have no byte that is not covered: (m,) bool, of those whose bytes were looked at.

    Args:
        covered: (n,) bool, by byte.
        ends: (d,) the place after each text.
        tokens: ids, the texts' first.
        tokenizer: what made them.
    """
    tokens = np.asarray(tokens[: len(covered) + len(ends)])
    is_end = tokens == tokenizer.end_id
    text = np.minimum(counts_before(is_end)[:-1], len(ends) - 1)
    after = np.cumsum(tokenizer.byte_lengths[tokens], dtype=np.int64)
    token_ends = after[is_end][: len(ends)]
    # A last text without its end was cut: its lengths are taken as they are.
    scale = np.ones(len(ends))
    token_sizes, sizes = np.diff(token_ends, prepend=0), np.diff(ends, prepend=0)
    scale[: len(token_ends)] = sizes[: len(token_ends)] / np.maximum(token_sizes, 1)
    first, first_token = np.append(0, ends[:-1]), np.append(0, token_ends)[: len(ends)]
    last = first[text] + np.rint((after - first_token[text]) * scale[text]).astype(np.int64)
    last = last[: np.searchsorted(last, len(covered), side="right")]
    bare = counts_before(~covered)[np.append(0, last)]
    return bare[1:] == bare[:-1]

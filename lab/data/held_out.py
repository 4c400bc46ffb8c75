"""Held-out text by documents: which windows a replicate is measured on, and which places of them.

The estimand is a mean over documents of nats/token, so that no long document outweighs the rest: of a
document, the mean over its windows, which begin at random places.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lab.data.overlaps import counts_before
from lab.data.shuffling import shuffled
from lab.threefry import Stream, below, threefry2x32, uniform

if TYPE_CHECKING:
    from lab.data.dataset import Dataset


class HeldOut(NamedTuple):
    """Windows of held-out text.

    Attributes:
        windows: (n, L) int32.
        documents: (n,) int32, the document that each is of; a pack of short ones is one. They are counted
            from 0 in the order of the split, those without a window too.
        lengths: (n,) int64, the tokens of that document.
    """

    windows: np.ndarray
    documents: np.ndarray
    lengths: np.ndarray


class _Documents(NamedTuple):
    """The documents of a split that windows are drawn of.

    Attributes:
        bounds: (d + 1,) int64, where each begins, and the end of the last.
        before: (s + 1,) int32, how many of the places before each are open: where a window may begin that
            is not wholly covered by the training split.
        places: (d,) int64, open places in each document at which its windows stay in it.
        room: (d,) int64, the most windows of it that are taken: as many as can lie apart, or the one.
    """

    bounds: np.ndarray
    before: np.ndarray
    places: np.ndarray
    room: np.ndarray


def held_out_windows(
    tokens: np.ndarray, end_id: int, count: int, length: int, sample: int, seen: np.ndarray | None = None
) -> HeldOut:
    """Windows of documents drawn without replacement, each at a random place of its document.

    Where there are fewer documents than windows, each gets as many as any other, as far as it has room for
    them apart; they lie at equal distances from a random place on. Documents shorter than a window are packed
    with the next ones into packs of at least a window; a last pack that stays short joins the one before.

    Args:
        tokens: (n,) token ids; `end_id` is the last of each document.
        end_id: the id that ends a document, of which it is a part.
        count: how many windows.
        length: L, tokens a window.
        sample: the replicate's number, in [0, 2**31). A larger count adds windows to those of a smaller one,
            while no document has two.
        seen: (m,) bool, m <= n, the tokens that the training split holds too (lab/data/overlaps.py). Only the
            first m tokens are drawn of, and no window of which all are seen.

    Raises:
        ValueError: if there is no room for that many.
    """
    tokens, documents = _documents(tokens, end_id, length, seen)
    room = int(documents.room.sum())
    if not 1 <= count <= room:
        raise ValueError(
            f"`count` must be in 1..{room}, the windows of length={length} that the documents have room for, "
            f"but got count={count}."
        )
    order = shuffled(len(documents.room), sample, stream=Stream.HELD_OUT)
    shares = np.zeros_like(documents.room)
    shares[order] = _shares(documents.room[order], count)
    number = np.repeat(np.arange(len(shares)), shares)
    turn = np.arange(count) - np.repeat(np.cumsum(shares) - shares, shares)
    # Which of a document's open places: its `shares` windows are `places / shares` apart.
    shift = _uniform(sample, Stream.HELD_OUT, number, 1)
    chosen = np.floor((turn + shift) / shares[number] * documents.places[number]).astype(np.int64)
    chosen += documents.before[documents.bounds[number]]
    starts = np.searchsorted(documents.before, chosen, side="right") - 1
    # In the order in which the documents were drawn, so that a smaller sample comes first.
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    drawn = np.argsort(rank[number], kind="stable")
    number, starts = number[drawn], starts[drawn]
    return HeldOut(
        np.asarray(tokens[starts[:, None] + np.arange(length)], dtype=np.int32),
        number.astype(np.int32),
        np.diff(documents.bounds)[number],
    )


def dataset_windows(dataset: Dataset, split: str, count: int, length: int, sample: int) -> HeldOut:
    """Windows of a held-out split of a corpus; see `held_out_windows`."""
    tokens, end_id = getattr(dataset, split), dataset.tokenizer.end_id
    return held_out_windows(tokens, end_id, count, length, sample, dataset.seen.get(split))


class Room(NamedTuple):
    """What a split has to draw of.

    Attributes:
        documents: with a place for a window; a pack of short ones is one.
        windows: that they have room for.
    """

    documents: int
    windows: int


def held_out_room(dataset: Dataset, split: str, length: int) -> Room:
    """How many documents and windows of `length` tokens there are to draw of in a held-out split."""
    tokens, end_id = getattr(dataset, split), dataset.tokenizer.end_id
    _, documents = _documents(tokens, end_id, length, dataset.seen.get(split))
    return Room(int((documents.room > 0).sum()), int(documents.room.sum()))


def _documents(
    tokens: np.ndarray, end_id: int, length: int, seen: np.ndarray | None
) -> tuple[np.ndarray, _Documents]:
    """The tokens that windows are drawn of, and their documents."""
    if seen is not None:
        tokens = tokens[: len(seen)]
    bounds = _bounds((np.flatnonzero(tokens == end_id) + 1).tolist(), len(tokens), length)
    starts = max(0, len(tokens) - length + 1)
    is_open = np.ones(starts, bool)
    if seen is not None:
        unseen = counts_before(~seen)
        is_open = unseen[length:] > unseen[:starts]
    before = counts_before(is_open)
    places = (before[bounds[1:] - length + 1] - before[bounds[:-1]]).astype(np.int64)
    room = np.where(places > 0, np.maximum(1, places // length), 0)
    return tokens, _Documents(bounds, before, places, room)


def _bounds(ends: list[int], size: int, length: int) -> np.ndarray:
    """Where documents of at least `length` tokens begin, of those that end before `ends`, and where all end.

    Without one there is only the 0.
    """
    ends = ends if ends[-1:] == [size] else [*ends, size]
    bounds = [0]
    while (place := bisect_left(ends, bounds[-1] + length)) < len(ends):
        bounds.append(ends[place])
    if len(bounds) > 1:
        bounds[-1] = size
    return np.array(bounds, dtype=np.int64)


def _shares(room: np.ndarray, count: int) -> np.ndarray:
    """How many of `count` windows each document gets: as even as their room allows, the first ones more."""
    most = -(-count // max(1, int((room > 0).sum())))
    while (surplus := int(np.minimum(room, most).sum()) - count) < 0:
        most += 1
    shares = np.minimum(room, most)
    if surplus:
        shares[np.flatnonzero(shares == most)[-surplus:]] -= 1
    return shares


def scored_places(count: int, length: int, positions: int, sample: int) -> tuple[np.ndarray, np.ndarray]:
    """One random place in each of `positions` parts of every window, as equal as whole numbers are.

    The sum over the places of a value there, times its part's share, has the mean over the whole window as
    its expectation.

    Args:
        count: how many windows.
        length: L, tokens a window.
        positions: m >= 0; 0, as L or more, for every place.
        sample: the replicate's number.

    Returns:
        The places, (count, m) int32, ascending; and the parts' shares of the window, (m,) float64.
    """
    positions = min(positions or length, length)
    edges = np.arange(positions + 1) * length // positions
    sizes = np.diff(edges)
    windows, parts = np.arange(count)[:, None], np.arange(positions)[None, :]
    word = _words(sample, Stream.SCORED_PLACES, windows, parts)
    places = edges[:-1].astype(np.int32) + below(word, sizes.astype(np.int32), np)
    return places, sizes / length


def document_means(values: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean of each document's windows.

    Args:
        values: (n,) of windows.
        documents: (n,) which document each is of.

    Returns:
        (d,) the means; and (d,) the number of a window of each.
    """
    _, first, number = np.unique(documents, return_index=True, return_inverse=True)
    return np.bincount(number, values) / np.bincount(number), first


def effective_documents(documents: Sequence[int] | np.ndarray) -> float:
    """1 / the sum of the squares of the documents' shares of the windows: their number, if all have one."""
    counts = np.unique(np.asarray(documents), return_counts=True)[1]
    return float(counts.sum() ** 2 / np.square(counts).sum())


def _words(sample: int, stream: Stream, first: np.ndarray, second: np.ndarray | int) -> np.ndarray:
    key = (np.full(1, sample, np.int32), np.full(1, stream, np.int32))
    return threefry2x32(key, (first.astype(np.int32), np.asarray(second, np.int32)), np)[0]


def _uniform(sample: int, stream: Stream, first: np.ndarray, second: int) -> np.ndarray:
    return uniform(_words(sample, stream, first, second), np).astype(np.float64)

"""Draws of whole windows: which order one is read in and how many of its last positions are hidden.

A draw is a pure function of (seed, stream, sequence, draw number), bit-identical in NumPy and on every Keras
backend, so it does not depend on the device, the batch, the number of workers, or a resume.
"""

from typing import Any, NamedTuple

import numpy as np

from lab import threefry
from lab.factors import parse_noise_window, parse_order
from lab.threefry import Stream, Words

Array = Any

# Counters of a draw's single words; the words of its positions have 0 in the second place.
COUNT, _CHOICE, _NOISE_LEVEL = 0, 1, 2


class Draw(NamedTuple):
    """An order and the number of hidden tokens.

    Attributes:
        order: (batch, L) int32, a permutation of 0 .. L - 1 a row: the factorization order.
        hidden_count: (batch,) int32, k in 1 .. L. The last k positions of the order are hidden.
    """

    order: Array
    hidden_count: Array


def draw_keys(seed: Array | int, stream: Stream, ids: Array, draw_numbers: Array, xp: Any) -> Words:
    """Two random words for each draw: the key of all words of a window's draw, or those of a place's.

    Args:
        seed: the run's seed, an int or a () int32 array, >= 0.
        stream: what the draws are for.
        ids: int32, of windows, places or blocks.
        draw_numbers: int32, of a shape that broadcasts with theirs.
        xp: `numpy` or `keras.ops`.

    Returns:
        Two int32 arrays of the broadcast shape.
    """
    seed = np.int32(seed) if isinstance(seed, int) else seed
    key = (xp.broadcast_to(seed, (1,)), xp.broadcast_to(np.int32(stream), (1,)))
    return threefry.threefry2x32(key, (ids, draw_numbers), xp)


def single_word(keys: Words, purpose: int, xp: Any) -> Array:
    """One random word of each draw, (batch,) int32, for one purpose."""
    zeros = xp.zeros_like(keys[0])
    return threefry.threefry2x32(keys, (zeros + np.int32(purpose), zeros + np.int32(1)), xp)[0]


def draw(
    seed: Array | int,
    stream: Stream,
    sequence_ids: Array,
    draw_numbers: Array,
    length: int,
    order: str,
    xp: Any,
    noise_window: str = "all",
    level_words: Array | None = None,
) -> Draw:
    """Draw number `draw_numbers` of each sequence: an order of the given level and k uniform on its window.

    Args:
        seed: the run's seed, an int or a () int32 array, >= 0.
        stream: what the draws are for.
        sequence_ids: (batch,) int32.
        draw_numbers: (batch,) int32.
        length: L in 1 .. 2**15 - 1.
        order: `left_to_right`, `any`, `fixed:N` or `right_to_left:share`.
        xp: `numpy` or `keras.ops`.
        noise_window: the values that k may take; all of 1 .. L by default.
        level_words: (batch,) int32 that k is a function of, in place of words of the draw's own.

    Raises:
        ValueError: if `order` or `noise_window` is no such level, the window is empty, or `length` is out of
            range.

    Example: the first two draws of sequence 0, and the first of sequence 1.
        >>> ids, numbers = np.int32([0, 0, 1]), np.int32([0, 1, 0])
        >>> drawn = draw(0, Stream.TRAINING_DRAWS, ids, numbers, 6, "any", np)
        >>> print(drawn.order)
        [[5 3 1 4 0 2]
         [4 1 5 2 3 0]
         [2 5 4 0 3 1]]
        >>> print(drawn.hidden_count)
        [3 3 4]
        >>> print(hidden_positions(drawn, np).astype(int))
        [[1 0 1 0 1 0]
         [1 0 1 1 0 0]
         [1 1 0 1 1 0]]
    """
    # Random bits that a permutation keeps beside its positions: 17 at 2**15 - 1, and ties grow frequent.
    if not 1 <= length < 2**15:
        raise ValueError(f"`length` must be in 1 .. 32767, but got length={length}.")
    keys = draw_keys(seed, stream, sequence_ids, draw_numbers, xp)
    low, high = count_range(noise_window, length)
    level_words = single_word(keys, COUNT, xp) if level_words is None else level_words
    hidden_count = threefry.below(level_words, high - low + 1, xp) + np.int32(low)
    if order == "any":
        return Draw(threefry.permutation(threefry.words(keys, length, xp), xp), hidden_count)
    return Draw(chosen_orders(single_word(keys, _CHOICE, xp), seed, length, order, xp), hidden_count)


def count_range(noise_window: str, length: int) -> tuple[int, int]:
    """The lowest and the highest number of hidden tokens of a noise window.

    Args:
        noise_window: `all`, the `low`, `mid` or `high` third of 1 .. L, or `fixed:SHARE`.
        length: L.

    Raises:
        ValueError: if there is no such window, or L is too short for it to hold a count.
    """
    kind, share = parse_noise_window(noise_window)
    if kind == "fixed":
        count = max(1, round(share * length))
        return count, count
    if kind == "all":
        return 1, length
    third = ("low", "mid", "high").index(kind)
    low, high = length * third // 3 + 1, length * (third + 1) // 3
    if low > high:
        raise ValueError(
            f"`length` must be at least 3 for noise_window={noise_window}, but got length={length}."
        )
    return low, high


def chosen_orders(choice: Array, seed: Array | int, length: int, order: str, xp: Any) -> Array:
    """The order of each window, for every level but `any`.

    Args:
        choice: (batch,) int32 random words, which of the level's orders.
        seed: the run's seed, an int or a () int32 array, >= 0.
        length: L.
        order: `left_to_right`, `fixed:N` or `right_to_left:share`.
        xp: `numpy` or `keras.ops`.

    Returns:
        (batch, L) int32.
    """
    kind, number = parse_order(order)
    if kind == "fixed":
        index = threefry.below(choice, int(number), xp)
        fixed_keys = draw_keys(seed, Stream.FIXED_ORDERS, index, xp.zeros_like(index), xp)
        return threefry.permutation(threefry.words(fixed_keys, length, xp), xp)
    left_to_right = xp.zeros_like(xp.expand_dims(choice, -1)) + xp.arange(length, dtype="int32")
    if kind == "left_to_right":
        return left_to_right
    reverse = threefry.fraction(choice, xp) < threefry.threshold(number)
    return xp.where(xp.expand_dims(reverse, -1), np.int32(length - 1) - left_to_right, left_to_right)


def hidden_positions(draw: Draw, xp: Any) -> Array:
    """True at the last k positions of each order: (batch, L) bool."""
    length = draw.order.shape[-1]
    ranks = xp.argsort(draw.order, axis=-1)  # the inverse permutation; no two entries are equal
    return ranks >= length - xp.expand_dims(draw.hidden_count, -1)


def complement(draw: Draw, partner: Array, xp: Any) -> Draw:
    """Where `partner`, the draw that hides what the given one reveals: the order reversed, L - k hidden.

    A draw that hides all (k = L) has a partner that hides all, so that each of a pair alone has k uniform on
    1 .. L.

    Args:
        draw: with k of 1 .. L.
        partner: (batch,) bool.
        xp: `numpy` or `keras.ops`.

    Example: a draw of sequence 0 and its partner, which hides the other tokens; each counts 1 / k.
        >>> from lab.objectives.corruption import dense_example
        >>> tokens = np.tile(np.arange(10, 16, dtype=np.int32), (2, 1))
        >>> drawn = draw(0, Stream.TRAINING_DRAWS, np.int32([0, 0]), np.int32([0, 0]), 6, "any", np)
        >>> pair = complement(drawn, np.array([False, True]), np)
        >>> weights = np.float32(1) / pair.hidden_count
        >>> example = dense_example(tokens, hidden_positions(pair, np), 99, weights, np)
        >>> print(example.tokens)
        [[99 11 99 13 99 15]
         [10 99 12 99 14 99]]
        >>> print(example.targets)
        [[10 11 12 13 14 15]
         [10 11 12 13 14 15]]
        >>> print(example.weights.round(3))
        [[0.333 0.    0.333 0.    0.333 0.   ]
         [0.    0.333 0.    0.333 0.    0.333]]
    """
    length = draw.order.shape[-1]
    flipped = xp.logical_and(partner, draw.hidden_count < length)
    order = xp.where(xp.expand_dims(flipped, -1), xp.flip(draw.order, axis=-1), draw.order)
    return Draw(order, xp.where(flipped, np.int32(length) - draw.hidden_count, draw.hidden_count))


def noise_words(
    seed: Array | int, stream: Stream, sequence_ids: Array, draw_numbers: Array, length: int, xp: Any
) -> tuple[Array, Array]:
    """The random words of a Bernoulli draw.

    Returns:
        The word of each sequence's noise level, (batch,) int32, and of each position, (batch, L) int32.
    """
    keys = draw_keys(seed, stream, sequence_ids, draw_numbers, xp)
    return single_word(keys, _NOISE_LEVEL, xp), threefry.words(keys, length, xp)

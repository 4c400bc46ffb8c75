"""Threefry-2x32, a counter-based random generator that gives the same bits everywhere.

One call maps a key (two words) and a counter (two words) to two random words by integer additions,
rotations and exclusive ors alone. There is no state: a draw is a function of what it is for. Words are int32
arrays read as 32 bits. Every function takes the namespace it computes in, `numpy` on the host or `keras.ops`
in a compiled step, and gives bit-identical results in NumPy, JAX, TensorFlow and PyTorch, on any device.

Reference: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.2.
"""

from enum import IntEnum
from typing import Any

import numpy as np

Array = Any
Words = tuple[Array, Array]

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA  # the key schedule's constant, Salmon et al., section 3.2

FRACTIONS = 2**23  # as many as float32 tells apart in (0, 1)

# With at most 14 bits above the lower 15, every sum in `below` stays under 2**31.
LARGEST_BOUND = 2**29


class Stream(IntEnum):
    """What a draw is for: the second word of a key, so that no two uses share random words."""

    DATA_ORDER = 1
    WINDOW_SHIFT = 2
    TRAINING_DRAWS = 3
    EVALUATION_DRAWS = 4
    FIXED_ORDERS = 5
    CHOICES = 6
    SAMPLES = 7
    INPUT_NOISE = 8
    ATTENTION_MASK = 9
    PLACES = 10
    BLOCKS = 11
    INPUT_NOISE_PLACES = 12
    ATTENTION_MASK_PLACES = 13
    STRATA = 14
    SUBSET = 15
    HELD_OUT = 16
    SCORED_PLACES = 17
    MEMBER = 18
    PERTURBATION = 19
    TRAIN_WINDOWS = 20
    AR_ROWS = 21
    BLOCK_COUNTS = 22


def _logical_right_shift(word: Array, bits: int, xp: Any) -> Array:
    # Backends shift int32 arithmetically; the mask clears the copies of the sign bit.
    return xp.bitwise_and(xp.right_shift(word, np.int32(bits)), np.int32((1 << (32 - bits)) - 1))


def _rotate_left(word: Array, bits: int, xp: Any) -> Array:
    return xp.bitwise_or(xp.left_shift(word, np.int32(bits)), _logical_right_shift(word, 32 - bits, xp))


def threefry2x32(key: Words, counter: Words, xp: Any) -> Words:
    """Two random words for each (key, counter); 20 rounds.

    Args:
        key: two int32 arrays.
        counter: two int32 arrays, of shapes that broadcast with the key's.
        xp: `numpy` or `keras.ops`.

    Returns:
        Two int32 arrays of the broadcast shape, each uniform over all 32-bit words.

    Reference: Salmon et al. 2011, section 3.2, Threefry-2x32-20.
    """
    parity = xp.bitwise_xor(xp.bitwise_xor(key[0], key[1]), np.int32(_PARITY))
    schedule = (key[0], key[1], parity)
    x0, x1 = counter[0] + schedule[0], counter[1] + schedule[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = xp.bitwise_xor(_rotate_left(x1, rotation, xp), x0)
        x0 = x0 + schedule[(group + 1) % 3]
        x1 = x1 + (schedule[(group + 2) % 3] + np.int32(group + 1))
    return x0, x1


def words(key: Words, count: int, xp: Any, series: int = 0) -> Array:
    """One random word for each index below `count`, under each key.

    Args:
        key: two int32 arrays of shape (...).
        count: how many words, at least 1.
        xp: `numpy` or `keras.ops`.
        series: the counter's second word: other words for another series.

    Returns:
        (..., count) int32.
    """
    index = xp.arange(count, dtype="int32")
    columns = (xp.expand_dims(key[0], -1), xp.expand_dims(key[1], -1))
    return threefry2x32(columns, (index, xp.zeros_like(index) + np.int32(series)), xp)[0]


def below(word: Array, bound: Array | int, xp: Any) -> Array:
    """Map random words to whole numbers in [0, bound): the high half of the 64-bit product word * bound.

    Args:
        word: int32 array of random words, read as 32 bits.
        bound: int32, 1 <= bound <= LARGEST_BOUND, an int or of a shape that broadcasts with the word's.
        xp: `numpy` or `keras.ops`.

    Returns:
        int32 of the broadcast shape; each value's probability is within 2**-32 of 1 / bound.

    Raises:
        ValueError: if a bound given as an int is outside that range.

    Reference: Lemire 2019, arXiv:1805.10941, section 3, without the rejection step.
    """
    if isinstance(bound, int) and not 1 <= bound <= LARGEST_BOUND:
        raise ValueError(f"`bound` must be in 1 .. {LARGEST_BOUND}, but got bound={bound}.")
    bound = np.int32(bound) if isinstance(bound, int) else bound
    # No 64-bit integers: JAX has none by default. The product of a 16-bit and a 15-bit part fits 31 bits.
    upper, lower = xp.right_shift(bound, np.int32(15)), xp.bitwise_and(bound, np.int32(0x7FFF))
    high, low = _logical_right_shift(word, 16, xp), xp.bitwise_and(word, np.int32(0xFFFF))
    # floor(low * bound / 2**16), and high * bound to which it is added, as multiples of 2**15 and rests.
    carry = xp.right_shift(low * upper + xp.right_shift(low * lower, np.int32(15)), np.int32(1))
    product = high * lower
    rests = xp.bitwise_and(product, np.int32(0x7FFF)) + xp.bitwise_and(carry, np.int32(0x7FFF))
    parts = [xp.right_shift(part, np.int32(15)) for part in (product, carry, rests)]
    return xp.right_shift(high * upper + parts[0] + parts[1] + parts[2], np.int32(1))


def uniform(word: Array, xp: Any) -> Array:
    """Map random words to (j + 1/2) / 2**23, j uniform on 0 .. 2**23 - 1: exact in float32, inside (0, 1).

    Args:
        word: int32 array of random words.
        xp: `numpy` or `keras.ops`.

    Returns:
        float32 of the same shape.
    """
    return (to_float32(fraction(word, xp), xp) + np.float32(0.5)) * np.float32(1 / FRACTIONS)


def fraction(word: Array, xp: Any) -> Array:
    """The upper 23 bits of random words: int32 of the same shape, uniform on 0 .. FRACTIONS - 1."""
    return _logical_right_shift(word, 9, xp)


def threshold(chance: Any) -> Any:
    """The whole number that a `fraction` is below with the given chance: where its `uniform` is below it.

    Whole numbers are compared in place of floats, so that no backend can round the two sides differently.

    Args:
        chance: a number or an array in [0, 1], taken as float32.

    Returns:
        int32 in 0 .. FRACTIONS, of the same shape.
    """
    exact = np.asarray(chance, np.float32).astype(np.float64) * FRACTIONS
    return np.ceil(exact - 0.5).astype(np.int32)


def member_seed(seed: int, member: int) -> int:
    """The seed of a member of a replicate: the replicate's own for member 0, and far from all others else.

    Args:
        seed: the replicate's, in [0, 2**31).
        member: its number, >= 0.

    Returns:
        An integer in [0, 2**31).
    """
    if member == 0:
        return seed
    # Arrays, because NumPy warns when a lone number wraps and not when an array's does.
    key = (np.full(1, seed, np.int32), np.full(1, Stream.MEMBER, np.int32))
    word = threefry2x32(key, (np.full(1, member, np.int32), np.zeros(1, np.int32)), np)[0]
    return int(_logical_right_shift(word, 1, np)[0])


def to_float32(integers: Array, xp: Any) -> Array:
    """Whole numbers below 2**24 as float32, exactly."""
    return xp.cast(integers, "float32") if hasattr(xp, "cast") else integers.astype("float32")


def permutation(word: Array, xp: Any) -> Array:
    """Sort positions by random words: a uniform permutation of each row.

    The low bits of each word are replaced by its position, so no two keys are equal and every backend's sort
    agrees, stable or not. For L positions 32 - b bits stay random, b = bits of L - 1; two of them tie, and
    fall back to left to right, with probability below L**2 / 2**(33 - b): 3e-5 a row at L = 64.

    Args:
        word: (..., L) int32 random words, L >= 1.
        xp: `numpy` or `keras.ops`.

    Returns:
        (..., L) int32, the positions in their random order.
    """
    length = word.shape[-1]
    low = (1 << max(length - 1, 0).bit_length()) - 1
    position = xp.arange(length, dtype="int32")
    keys = xp.bitwise_or(xp.bitwise_and(word, np.int32(~low)), position)
    # The sorted keys carry their positions, so no argsort is needed.
    return xp.bitwise_and(xp.sort(keys, axis=-1), np.int32(low))

import math

import keras
import numpy as np
import pytest
from keras import ops
from namespaces import NAMESPACES, arrays, host
from scipy import stats

from lab import threefry
from lab.threefry import Stream

ONE_IN_10000 = 1e-4  # a sound generator fails a chi-square test at this level for one seed in 10,000


def as_words(values):
    """Unsigned numbers as the int32 arrays that the generator takes."""
    return np.array(values, dtype=np.uint32).view(np.int32)


def unsigned(words):
    return host(words).view(np.uint32)


def random_words(*shape, seed=0):
    """Words from NumPy's own generator."""
    return as_words(np.random.default_rng(seed).integers(0, 2**32, shape, dtype=np.uint32))


@pytest.mark.parametrize("xp", NAMESPACES)
@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers_of_random123(key, counter, expected, xp):
    key, counter = (arrays(xp, *(as_words([word]) for word in pair)) for pair in (key, counter))
    x0, x1 = threefry.threefry2x32(key, counter, xp)
    assert (int(unsigned(x0)[0]), int(unsigned(x1)[0])) == expected


@pytest.mark.backend
@pytest.mark.skipif(keras.config.backend() != "jax", reason="compares with JAX's own Threefry")
def test_equals_jax_own_threefry():
    from jax.extend.random import threefry_2x32

    counter = random_words(2, 1000)
    key = random_words(2, seed=1)
    expected = np.asarray(threefry_2x32(key.view(np.uint32), counter.reshape(-1).view(np.uint32)))
    found = threefry.threefry2x32(arrays(ops, key[:1], key[1:]), arrays(ops, *counter), ops)
    assert np.array_equal(np.concatenate([unsigned(word) for word in found]), expected)


@pytest.mark.backend
def test_numpy_and_keras_agree_bit_for_bit():
    word = np.concatenate([random_words(500), as_words([0, 1, 2**31 - 1, 2**31, 2**32 - 1])])
    rows = word.reshape(-1, 5)
    key = (random_words(7), random_words(7, seed=1))
    word_, rows_ = arrays(ops, word, rows)
    pairs = [
        (threefry.words(key, 9, np), threefry.words(arrays(ops, *key), 9, ops)),
        (threefry.uniform(word, np), threefry.uniform(word_, ops)),
        (threefry.permutation(rows, np), threefry.permutation(rows_, ops)),
    ]
    for bound in (1, 3, 64, 1000, 2**15 - 1, 2**15, 50_304, 2**17, 2**29 - 1, 2**29):
        pairs.append((threefry.below(word, bound, np), threefry.below(word_, bound, ops)))
    for expected, found in pairs:
        assert host(found).dtype == expected.dtype
        assert np.array_equal(host(found), expected)


def test_words_are_the_cipher_of_their_index():
    key = (random_words(4), random_words(4, seed=1))
    many = threefry.words(key, 10, np)
    assert many.shape == (4, 10)
    assert np.array_equal(threefry.words(key, 3, np), many[:, :3])
    for index in range(10):
        counter = (np.full(4, index, np.int32), np.zeros(4, np.int32))
        assert np.array_equal(threefry.threefry2x32(key, counter, np)[0], many[:, index])


BOUNDS = (1, 2, 3, 7, 64, 1000, 2**14)


def test_below_is_the_high_half_of_the_product():
    word = np.concatenate([random_words(10_000), as_words([0, 2**16 - 1, 2**16, 2**31, 2**32 - 1])])
    for bound in (*BOUNDS, *range(2**15 - 3, 2**15 + 4), 50_304, 2**16 + 1, 2**17, 2**29 - 1, 2**29):
        exact = (word.view(np.uint32).astype(np.uint64) * np.uint64(bound)) >> np.uint64(32)
        assert np.array_equal(threefry.below(word, bound, np), exact)


def test_below_takes_a_bound_for_each_word():
    word, bound = random_words(50), 1 + 1000 * np.arange(50, dtype=np.int32)
    one_by_one = [int(threefry.below(word[i : i + 1], int(bound[i]), np)[0]) for i in range(50)]
    assert threefry.below(word, bound, np).tolist() == one_by_one


@pytest.mark.parametrize("bound", [2, 3, 7, 10, 64, 100, 32_767, 50_304])
def test_below_is_uniform(bound):
    word = threefry.words((as_words([5]), as_words([1])), 2**20, np)
    counts = np.bincount(threefry.below(word[0], bound, np), minlength=bound)
    assert len(counts) == bound
    assert stats.chisquare(counts).pvalue > ONE_IN_10000


@pytest.mark.parametrize("bound", [0, -1, 2**29 + 1])
def test_below_refuses_a_bound_whose_products_overflow(bound):
    with pytest.raises(ValueError, match=rf"`bound` must be in 1 \.\. 536870912, but got bound={bound}\."):
        threefry.below(random_words(3), bound, np)


def test_uniform_is_exact_and_inside_the_interval():
    word = np.concatenate([random_words(10_000), as_words([0, 511, 512, 2**31, 2**32 - 1])])
    found = threefry.uniform(word, np)
    assert found.dtype == np.float32
    exact = ((word.view(np.uint32) >> 9).astype(np.float64) + 0.5) / 2**23
    assert np.array_equal(found.astype(np.float64), exact)
    assert found.min() > 0
    assert found.max() < 1


def test_uniform_has_the_moments_of_a_uniform():
    count = 2**18
    found = threefry.uniform(threefry.words((as_words([3]), as_words([9])), count, np)[0], np).astype(float)
    assert abs(found.mean() - 1 / 2) < 4 * math.sqrt(1 / 12 / count)
    # The variance of (u - 1/2)^2 is 1/80 - 1/144.
    assert abs(((found - 1 / 2) ** 2).mean() - 1 / 12) < 4 * math.sqrt((1 / 80 - 1 / 144) / count)
    assert stats.kstest(found, "uniform").pvalue > ONE_IN_10000


@pytest.mark.parametrize("length", [1, 2, 3, 5, 16, 17, 64])
def test_permutation_holds_every_position_once(length):
    found = threefry.permutation(random_words(200, length), np)
    assert np.array_equal(np.sort(found, axis=-1), np.tile(np.arange(length), (200, 1)))


def test_permutation_sorts_positions_by_their_words():
    word = as_words([[2**30, 2**31, 0, 2**29]])  # as int32: the second is the least
    assert threefry.permutation(word, np).tolist() == [[1, 2, 3, 0]]


@pytest.mark.parametrize("xp", NAMESPACES)
def test_equal_words_keep_left_to_right(xp):
    # The low bits give way to the position, so words that differ only there are equal too.
    (word,) = arrays(xp, as_words([[77] * 6, [2**31] * 6, [8, 15, 9, 14, 10, 13]]))
    assert host(threefry.permutation(word, xp)).tolist() == [list(range(6))] * 3


def test_permutations_of_three_are_equally_likely():
    keys = (np.arange(60_000, dtype=np.int32), np.full(60_000, 4, np.int32))
    found = threefry.permutation(threefry.words(keys, 3, np), np)
    counts = np.unique(found @ np.array([9, 3, 1]), return_counts=True)[1]
    assert len(counts) == math.factorial(3)
    assert stats.chisquare(counts).pvalue > ONE_IN_10000


def test_each_position_of_a_long_permutation_is_uniform():
    keys = (np.arange(20_000, dtype=np.int32), np.zeros(20_000, np.int32))
    found = threefry.permutation(threefry.words(keys, 20, np), np)
    for slot in (0, 10, 19):
        assert stats.chisquare(np.bincount(found[:, slot], minlength=20)).pvalue > ONE_IN_10000


@pytest.mark.parametrize("neighbour", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)])
def test_neighbouring_keys_and_counters_share_nothing(neighbour):
    """Half of the 32 bits differ on average, and each bit flips for itself."""
    count = 4096
    base = np.indices((8, 8, 8, 8)).reshape(4, count).astype(np.int32)
    other = base + np.array(neighbour, np.int32)[:, None]
    first, second = (
        np.concatenate(threefry.threefry2x32((k0, k1), (c0, c1), np)) for k0, k1, c0, c1 in (base, other)
    )
    flipped = np.unpackbits((first ^ second).view(np.uint8).reshape(-1, 4), axis=1)
    bits = flipped.size
    assert abs(flipped.mean() - 1 / 2) < 4 * math.sqrt(1 / 4 / bits)
    assert np.abs(flipped.mean(axis=0) - 1 / 2).max() < 5 * math.sqrt(1 / 4 / len(flipped))


def test_streams_have_numbers_of_their_own():
    assert len({int(stream) for stream in Stream}) == len(Stream.__members__)

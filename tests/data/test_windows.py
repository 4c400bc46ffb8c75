import numpy as np
import pytest

from lab.data.windows import TrainingWindows

LENGTH = 8
TOKENS = np.arange(37 * LENGTH + 5, dtype=np.uint16)  # every token tells its place


def windows_of(seed=0, windows="fixed", batch_size=5, tokens=TOKENS):
    return TrainingWindows(tokens, LENGTH, batch_size, seed, windows)


def first_rows(training, rows):
    """The first `rows` rows of training, over all batches."""
    parts = []
    step = 0
    while sum(len(part.visits) for part in parts) < rows:
        parts.append(training.batch(step))
        step += 1
    return [np.concatenate(columns)[:rows] for columns in zip(*parts, strict=True)]


def test_shapes_and_types():
    batch = windows_of().batch(3)
    assert batch.tokens.shape == (5, LENGTH)
    assert batch.places.shape == (5, LENGTH)
    assert batch.visits.shape == batch.rows.shape == (5,)
    assert {array.dtype for array in batch} == {np.dtype(np.int32)}
    assert windows_of().count == 37


@pytest.mark.parametrize("windows", ["fixed", "jittered"])
def test_places_say_where_the_tokens_are(windows):
    tokens, places, *_ = first_rows(windows_of(windows=windows), 100)
    np.testing.assert_array_equal(tokens, places)


def test_fixed_windows_begin_at_whole_windows():
    places = first_rows(windows_of(), 100)[1]
    assert not (places[:, 0] % LENGTH).any()
    np.testing.assert_array_equal(np.diff(places, axis=1), 1)


@pytest.mark.parametrize("batch_size", [5, 64])
def test_rows_are_counted_from_the_start_of_the_run(batch_size):
    rows = first_rows(windows_of(batch_size=batch_size), 300)[3]
    np.testing.assert_array_equal(rows, np.arange(300))


def test_the_count_of_rows_begins_anew_with_a_step_below_two_to_the_31():
    training = windows_of(batch_size=5)
    last = 2**31 // 5 - 1
    np.testing.assert_array_equal(training.batch(last).rows, 5 * last + np.arange(5))
    np.testing.assert_array_equal(training.batch(last + 1, 2).rows, [2, 3, 4])


@pytest.mark.parametrize("windows", ["fixed", "jittered"])
@pytest.mark.parametrize("batch_size", [5, 64])
def test_each_epoch_holds_every_token_of_the_whole_windows_once(windows, batch_size):
    training = windows_of(windows=windows, batch_size=batch_size)
    tokens, _, visits, _ = first_rows(training, 4 * 37)
    for epoch in range(4):
        rows = slice(37 * epoch, 37 * (epoch + 1))
        np.testing.assert_array_equal(np.sort(tokens[rows].ravel()), np.arange(37 * LENGTH))
        np.testing.assert_array_equal(visits[rows], epoch)


def test_jittered_windows_run_on_and_shift_by_epoch_within_a_window():
    tokens, _, visits, _ = first_rows(windows_of(windows="jittered"), 40 * 37)
    total = 37 * LENGTH
    np.testing.assert_array_equal((tokens[:, 1:] - tokens[:, :-1]) % total, 1)
    offsets = tokens[:, 0] % LENGTH
    by_epoch = {epoch: set(offsets[visits == epoch].tolist()) for epoch in range(40)}
    assert all(len(values) == 1 for values in by_epoch.values())
    # 40 draws of 8 values: one is missed with probability 8 (7/8)**40 = 0.04; the seed is fixed.
    assert set.union(*by_epoch.values()) == set(range(LENGTH))


@pytest.mark.parametrize("windows", ["fixed", "jittered"])
def test_batch_is_pure_and_independent_of_the_order_of_calls(windows):
    steps = [0, 30, 7, 8, 7, 100, 0]
    one = windows_of(windows=windows)
    for step in steps:
        for left, right in zip(one.batch(step), windows_of(windows=windows).batch(step), strict=True):
            np.testing.assert_array_equal(left, right)


def test_parts_of_a_batch_make_the_whole():
    training = windows_of(batch_size=12)
    whole = training.batch(9)
    parts = [training.batch(9, 0, 5), training.batch(9, 5, 3), training.batch(9, 8)]
    for column, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(column, np.concatenate(pieces))


@pytest.mark.parametrize(
    ("step", "first", "rows"), [(-1, 0, None), (0, -1, 2), (0, 0, 6), (0, 3, 3), (0, 5, None), (0, 0, 0)]
)
def test_rows_that_are_not_there(step, first, rows):
    with pytest.raises(ValueError, match="the rows within batch_size=5, but got step="):
        windows_of().batch(step, first, rows)


def orders(seed, count=512, epochs=1):
    """(epochs, count): each epoch's permutation."""
    training = TrainingWindows(np.zeros(count * 2, np.uint16), 2, count, seed, "fixed")
    return np.stack([training.batch(epoch).places[:, 0] // 2 for epoch in range(epochs)])


def test_orders_differ_between_seeds_and_epochs_and_neighbours_are_independent():
    permutations = np.concatenate([orders(seed, epochs=4) for seed in [*range(12), 2**31 - 1]])
    # Rank correlation of independent permutations has standard deviation 1 / sqrt(count - 1).
    correlation = np.corrcoef(permutations)[np.triu_indices(len(permutations), 1)] * np.sqrt(511)
    assert np.abs(correlation).max() < 5  # 1,326 pairs: a chance of 1 in 1,300
    assert correlation.std() == pytest.approx(1, abs=4 / np.sqrt(2 * len(correlation)))
    # Positions at which two independent permutations agree: 1 on average.
    agreements = [(a == b).sum() for i, a in enumerate(permutations) for b in permutations[:i]]
    assert np.mean(agreements) == pytest.approx(1, abs=4 / np.sqrt(len(agreements)))


def test_every_place_is_equally_likely():
    ends = np.concatenate([orders(seed, count=4, epochs=50)[:, 0] for seed in range(40)])
    # 2,000 draws of 4 values: standard error of a count is sqrt(2000 x 3/16) = 19.4.
    np.testing.assert_allclose(np.bincount(ends, minlength=4), 500, atol=4 * 19.4)


def test_a_million_windows_are_each_seen_once():
    count = 1 << 20
    training = TrainingWindows(np.broadcast_to(np.uint16(0), count * 2), 2, count, 0, "fixed")
    order = training.batch(0).places[:, 0] // 2
    assert (np.bincount(order) == 1).all()
    assert len(np.flatnonzero(order == np.arange(count))) < 10  # 1 on average


def test_golden_order():
    # If this changes, so does every run's data order: results before and after do not compare.
    np.testing.assert_array_equal(windows_of().batch(0).places[:, 0] // LENGTH, GOLDEN_ORDER)
    np.testing.assert_array_equal(windows_of(windows="jittered").batch(10**7).tokens[:, 0], GOLDEN_STARTS)


GOLDEN_ORDER = [32, 16, 0, 26, 21]
GOLDEN_STARTS = [159, 295, 135, 23, 207]


def test_fewer_tokens_than_a_window():
    with pytest.raises(ValueError, match="`tokens` must fill one window of length=8, but got 7 tokens"):
        windows_of(tokens=TOKENS[:7])

import itertools
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from lab.data.budget import budget, expected_overlap
from lab.data.shuffling import shuffled
from lab.data.windows import TrainingWindows
from lab.threefry import Stream


def whole(tokens):
    """All tokens of a budget, in its order."""
    return tokens[np.arange(len(tokens))]


@pytest.mark.parametrize("replicate", [0, 3, 2**31 - 1])
def test_budgets_of_a_replicate_are_nested_and_end_at_what_there_is(replicate):
    train = np.random.default_rng(0).integers(257, size=9_777, dtype=np.uint16)
    sizes = [32, 1000, len(train) - 1, len(train)]
    for small, large in itertools.pairwise(sizes):
        parts = [whole(budget(train, size, 4, replicate)) for size in (small, large)]
        assert len(parts[0]) == small
        np.testing.assert_array_equal(parts[0], parts[1][:small])
    np.testing.assert_array_equal(np.sort(whole(budget(train, len(train), 4, replicate))), np.sort(train))
    assert budget(train, None, 4, replicate) is train


def test_replicates_have_other_parts_that_overlap_as_expected():
    """Pieces of 32 tokens of 400: two uniform samples of 80 pieces share 16 on average."""
    train = np.arange(400 * 32, dtype=np.uint16)
    samples = [set(whole(budget(train, 80 * 32, 4, replicate)).tolist()) for replicate in range(12)]
    shares = [len(a & b) / len(a) for a, b in itertools.combinations(samples, 2)]
    assert max(shares) < 1
    assert expected_overlap(80 * 32, len(train)) == 0.2
    # Of the number of common pieces, hypergeometric, the standard deviation is 3.2 of 80.
    assert np.mean(shares) == pytest.approx(0.2, abs=4 * 3.2 / 80 / np.sqrt(len(shares)))
    assert expected_overlap(3, 2) == 1


def test_the_part_of_a_replicate_is_no_order_of_its_data():
    assert (
        whole(budget(np.arange(400 * 32), 32 * 400, 4, 5))[::32].tolist() != (shuffled(400, 5) * 32).tolist()
    )


@pytest.mark.parametrize("tokens", [1, 31, 32, 33, 1000, 1024, 9_777])
def test_a_budget_reads_as_its_pieces_joined(tokens):
    train = np.arange(tokens, dtype=np.uint16)
    pieces = [
        train[index * 32 : (index + 1) * 32]
        for index in shuffled(-(-tokens // 32), stream=Stream.SUBSET).tolist()
    ]
    joined = np.concatenate(pieces)
    for unique_tokens in {1, tokens // 2 + 1, tokens}:
        sample = budget(train, unique_tokens, 4, 0)
        places = np.random.default_rng(0).integers(unique_tokens, size=(50, 3))
        np.testing.assert_array_equal(whole(sample), joined[:unique_tokens])
        np.testing.assert_array_equal(sample[places], joined[places])
        assert sample[places].dtype == train.dtype


def test_windows_of_a_mapped_corpus_take_no_memory_for_their_budget(tmp_path):
    np.save(tmp_path / "train.npy", np.arange(8_000_000, dtype=np.uint16))
    train = np.load(tmp_path / "train.npy", mmap_mode="r")
    peaks = []
    for unique_tokens in (100_000, 7_900_000):
        tracemalloc.start()
        TrainingWindows(budget(train, unique_tokens, 256, 0), 256, 8, 0).batch(3)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 15.8 MB if it were copied; the order of the windows is what grows.
    assert peaks[1] < peaks[0] + 2_000_000


def test_a_small_budget_samples_the_whole_corpus_in_whole_pieces():
    train = np.arange(10_000, dtype=np.uint16)
    sample = budget(train, 640, 10, 0)  # 8 pieces of 80 tokens
    pieces = whole(sample).reshape(8, 80)
    assert (np.diff(pieces, axis=1) == 1).all()
    assert pieces.max() - pieces.min() > len(train) // 2


@pytest.mark.parametrize("unique_tokens", [0, 101])
def test_budget_that_is_not_there(unique_tokens):
    message = (
        rf"must be in 1\.\.100, .* but got unique_tokens={unique_tokens}\. Give more text, "
        r"or set data\.unique_tokens=100 or lower; .*--levels data\.unique_tokens=\.\.\., LEVELS= for make"
    )
    with pytest.raises(ValueError, match=message):
        budget(np.zeros(100, np.uint16), unique_tokens, 8, 0)


def test_budgets_and_windows_need_nothing_that_reads_text():
    code = (
        "import sys, lab.data.budget, lab.data.windows\n"
        "assert {name for name in sys.modules if name.startswith('lab.data.')}"
        " == {'lab.data.budget', 'lab.data.shuffling', 'lab.data.windows'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

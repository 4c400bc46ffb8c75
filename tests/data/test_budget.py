import itertools
import subprocess
import sys

import numpy as np
import pytest

from lab.data.budget import budget


def test_budgets_are_nested_and_end_at_what_there_is():
    train = np.random.default_rng(0).integers(257, size=9_777, dtype=np.uint16)
    sizes = [32, 1000, len(train) - 1, len(train)]
    for small, large in itertools.pairwise(sizes):
        assert len(budget(train, small, 4)) == small
        np.testing.assert_array_equal(budget(train, small, 4), budget(train, large, 4)[:small])
    np.testing.assert_array_equal(np.sort(budget(train, len(train), 4)), np.sort(train))
    assert budget(train, None, 4) is train


def test_a_small_budget_samples_the_whole_corpus_in_whole_pieces():
    train = np.arange(10_000, dtype=np.uint16)
    sample = budget(train, 640, 10)  # 8 pieces of 80 tokens
    pieces = sample.reshape(8, 80)
    assert (np.diff(pieces, axis=1) == 1).all()
    assert sample.max() - sample.min() > len(train) // 2


@pytest.mark.parametrize("unique_tokens", [0, 101])
def test_budget_that_is_not_there(unique_tokens):
    message = (
        rf"must be in 1\.\.100, .* but got unique_tokens={unique_tokens}\. Give more text, "
        r"or set data\.unique_tokens=100 or lower; .*--levels data\.unique_tokens=\.\.\., LEVELS= for make"
    )
    with pytest.raises(ValueError, match=message):
        budget(np.zeros(100, np.uint16), unique_tokens, 8)


def test_budgets_and_windows_need_nothing_that_reads_text():
    code = (
        "import sys, lab.data.budget, lab.data.windows\n"
        "assert {name for name in sys.modules if name.startswith('lab.data.')}"
        " == {'lab.data.budget', 'lab.data.shuffling', 'lab.data.windows'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

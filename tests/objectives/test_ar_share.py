"""A share of the rows of a micro-batch is read left to right, and which ones is drawn."""

import numpy as np
import pytest
from factors_bench import DENSE, LENGTH, ONE_IN_10000, examples, objective_of, random_tokens, same
from namespaces import NAMESPACES, arrays, host
from scipy import stats

ROWS = 24


def parts_of(share, xp=np, view=0, seed=0, first=0, rows=ROWS, **factors):
    """The parts of the rows `first` .. of a run, which are windows one after the other."""
    objective = objective_of(windows="jittered", batch_size=ROWS, ar_share=share, **{**DENSE, **factors})
    numbers = np.arange(first, first + rows, dtype=np.int32)
    places = numbers[:, None] * np.int32(LENGTH) + np.arange(LENGTH, dtype=np.int32)
    tokens = random_tokens(first + rows)[first:]
    return objective.parts(*arrays(xp, tokens, places, np.full_like(numbers, view), numbers), seed, xp)


def rows_of(part, count=ROWS):
    """Which of the run's rows a part has, by their targets."""
    every = {tuple(tokens): row for row, tokens in enumerate(random_tokens(count).tolist())}
    order = np.argsort(np.broadcast_to(part.example.target_positions, part.example.targets.shape), axis=1)
    return [every[tuple(row)] for row in np.take_along_axis(part.example.targets, order, axis=1).tolist()]


@pytest.mark.parametrize(("share", "of", "each"), [(0.5, 2, 1), (0.25, 4, 1), (0.75, 4, 3), (1 / 3, 3, 1)])
def test_every_few_rows_have_their_share_and_every_row_is_in_one_part(share, of, each):
    ar, dense = parts_of(share)
    assert (ar.causal, dense.causal) == (True, False)
    chosen, others = rows_of(ar), rows_of(dense)
    assert sorted(chosen + others) == list(range(ROWS))
    assert np.bincount(np.array(chosen) // of).tolist() == [each] * (ROWS // of)


def test_each_row_trains_as_it_would_among_rows_of_its_kind():
    ar, dense = parts_of(0.5)
    plain = {"left": {"order": "left_to_right", "compute": "causal"}, "any": DENSE}
    for part, factors in zip((ar, dense), plain.values(), strict=True):
        whole = examples(objective_of(windows="jittered", batch_size=ROWS, **factors), ROWS)
        chosen = rows_of(part)
        expected = [value if value is None or len(value) == 1 else value[chosen] for value in whole]
        assert same(part.example, expected)


@pytest.mark.parametrize(("share", "factors"), [(0, DENSE), (1, {})], ids=["dlm", "ar"])
def test_the_ends_are_dlm_and_ar_bit_for_bit(share, factors):
    (part,) = parts_of(share)
    objective = objective_of(windows="jittered", batch_size=ROWS, **factors)
    assert part.causal == objective.causal
    assert same(part.example, examples(objective, ROWS))


@pytest.mark.backend
def test_numpy_and_keras_deal_the_same_rows():
    expected, found = (parts_of(0.25, case.values[0], view=3, passes=2) for case in NAMESPACES)
    for one, other in zip(expected, found, strict=True):
        for name, value in one.example._asdict().items():
            if value is not None:
                np.testing.assert_allclose(host(getattr(other.example, name)), value, rtol=2e-7)


def test_neither_accumulation_nor_the_number_of_parts_changes_which_rows():
    whole, pieces = rows_of(parts_of(0.25)[0]), []
    for first in range(0, ROWS, 8):
        pieces += rows_of(parts_of(0.25, first=first, rows=8)[0])
    assert pieces == whole


def test_rows_are_dealt_anew_for_each_seed_update_and_pass_and_evenly():
    base = rows_of(parts_of(0.5)[0])
    assert rows_of(parts_of(0.5, seed=1)[0]) != base
    assert rows_of(parts_of(0.5, view=2)[0]) == base  # the text's visit does not count, the pass does
    first, second = (rows_of(parts_of(0.5, view=view, passes=2)[0]) for view in (4, 5))
    assert first == base != second


def test_each_row_of_a_few_is_as_likely_as_the_others():
    tokens = np.arange(4000, dtype=np.int32)[:, None] + np.zeros(LENGTH, np.int32)
    numbers = tokens[:, 0]
    objective = objective_of(windows="jittered", batch_size=4000, ar_share=0.25, **DENSE)
    ar, _ = objective.parts(tokens, tokens, np.zeros_like(numbers), numbers, 0, np)
    counts = np.bincount(ar.example.targets[:, 0] % 4)
    assert stats.chisquare(counts).pvalue > ONE_IN_10000

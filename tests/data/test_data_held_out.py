import itertools

import numpy as np
import pytest

from lab.data.held_out import (
    document_means,
    effective_documents,
    held_out_windows,
    scored_places,
)

END, LENGTH = 999, 8


def split_of(lengths):
    """Documents whose tokens count from 1000 times their number, the last of each its end."""
    parts = [np.append(1000 * (n + 1) + np.arange(size - 1), END) for n, size in enumerate(lengths)]
    return np.concatenate(parts).astype(np.int32)


LENGTHS = [40, 12, 8, 100, 9, 33, 70, 25, 16, 21]
TOKENS = split_of(LENGTHS)


def drawn(count, sample=0, tokens=TOKENS, length=LENGTH, seen=None):
    return held_out_windows(tokens, END, count, length, sample, seen)


def places_of(held_out, tokens=TOKENS):
    """Where each window begins, as every token but the ends is there once."""
    where = {int(token): place for place, token in enumerate(tokens) if token != END}
    firsts = [next(i for i, token in enumerate(window) if token != END) for window in held_out.windows]
    return [where[int(window[i])] - i for i, window in zip(firsts, held_out.windows, strict=True)]


def test_each_document_has_one_window_within_it_while_there_are_enough():
    held_out = drawn(7)
    assert (held_out.windows.shape, held_out.windows.dtype) == ((7, LENGTH), np.int32)
    assert (held_out.documents.dtype, held_out.lengths.dtype) == (np.int32, np.int64)
    assert len(set(held_out.documents.tolist())) == 7
    for window, document, length in zip(*held_out, strict=True):
        own = TOKENS[sum(LENGTHS[:document]) : sum(LENGTHS[: document + 1])].tolist()
        start = own.index(window[0])
        assert own[start : start + LENGTH] == window.tolist()
        assert length == LENGTHS[document]


def test_a_smaller_sample_is_the_first_part_of_a_larger_one():
    for left, right in zip(drawn(4), drawn(10), strict=True):
        np.testing.assert_array_equal(left, right[:4])


def test_replicates_draw_other_documents_and_other_places():
    samples = [drawn(5, sample) for sample in range(20)]
    assert len({tuple(sorted(one.documents.tolist())) for one in samples}) > 10
    of_the_longest = [
        w[0] for one in samples for w, d in zip(one.windows, one.documents, strict=True) if d == 3
    ]
    assert len(set(of_the_longest)) > len(of_the_longest) // 2 > 2
    for left, right in zip(drawn(5, 3), samples[3], strict=True):
        np.testing.assert_array_equal(left, right)


def test_every_document_and_every_place_is_equally_likely():
    tokens = split_of([LENGTH + 3] * 4)
    samples = [drawn(1, sample, tokens) for sample in range(2000)]
    documents = np.bincount([int(one.documents[0]) for one in samples], minlength=4)
    places = np.bincount([places_of(one, tokens)[0] % (LENGTH + 3) for one in samples], minlength=4)
    # 2,000 draws of 4 values: standard error of a count is sqrt(2000 x 3/16) = 19.4.
    np.testing.assert_allclose(documents, 500, atol=4 * 19.4)
    np.testing.assert_allclose(places, 500, atol=4 * 19.4)


@pytest.mark.parametrize("count", [11, 14, 25, 30])
def test_where_documents_are_fewer_each_gets_as_many_as_it_has_room_for_apart(count):
    held_out = drawn(count)
    room = [max(1, (size - LENGTH + 1) // LENGTH) for size in LENGTHS]
    shares = np.bincount(held_out.documents, minlength=10)
    most = shares.max()
    assert shares.sum() == count
    for share, own in zip(shares, room, strict=True):
        assert share in {min(most, own), min(most - 1, own)}
    starts = sorted(places_of(held_out))
    assert min(b - a for a, b in itertools.pairwise(starts)) >= LENGTH


@pytest.mark.parametrize("count", [0, 37])
def test_more_than_there_is_room_for_is_refused(count):
    # By hand: 4 + 1 + 1 + 11 + 1 + 3 + 7 + 2 + 1 + 1
    message = rf"`count` must be in 1\.\.32, the windows of length=8 .* but got count={count}\."
    with pytest.raises(ValueError, match=message):
        drawn(count)
    assert len(drawn(32).windows) == 32


def test_short_documents_are_packed_with_the_next_ones_and_a_short_last_pack_joins_the_one_before():
    """Of 3 and 6 a pack of 9; 10 alone; of 2, 2 and 20 a pack of 24, which the last 5 join."""
    tokens = split_of([3, 6, 10, 2, 2, 20, 5])
    held_out = drawn(3, tokens=tokens)
    order = np.argsort(held_out.documents)
    assert held_out.documents[order].tolist() == [0, 1, 2]
    assert held_out.lengths[order].tolist() == [9, 10, 29]
    starts = {place for sample in range(300) for place in places_of(drawn(3, sample, tokens), tokens)}
    assert starts == {0, 1, 9, 10, 11, *range(19, 41)}


def test_documents_that_are_too_short_together_have_no_window():
    with pytest.raises(ValueError, match=r"must be in 1\.\.0"):
        drawn(1, tokens=split_of([3, 4]))


def test_tokens_after_the_last_end_are_a_document():
    tokens = np.concatenate([split_of([9]), np.arange(5000, 5020)])
    assert sorted(drawn(2, tokens=tokens).documents.tolist()) == [0, 1]


def test_windows_that_are_wholly_seen_are_left_out_and_no_others():
    tokens = split_of([20, 20])
    seen = np.zeros(40, bool)
    seen[3:15] = True  # windows that begin at 3 .. 7
    seen[20:40] = True  # the second document
    held_out = [drawn(1, sample, tokens, seen=seen) for sample in range(300)]
    assert {int(one.documents[0]) for one in held_out} == {0}
    assert {places_of(one, tokens)[0] for one in held_out} == {0, 1, 2, *range(8, 13)}
    with pytest.raises(ValueError, match=r"must be in 1\.\.1"):
        drawn(2, tokens=tokens, seen=seen)


def test_only_what_was_looked_at_is_drawn_of():
    tokens = split_of([20, 20, 20])
    held_out = [drawn(2, sample, tokens, seen=np.zeros(45, bool)) for sample in range(50)]
    assert {document for one in held_out for document in one.documents.tolist()} == {0, 1}
    assert max(place for one in held_out for place in places_of(one, tokens)) + LENGTH <= 45


@pytest.mark.parametrize(("length", "positions"), [(8, 1), (8, 4), (7, 3), (8, 8), (7, 0)])
def test_one_place_is_scored_in_each_part(length, positions):
    places, shares = scored_places(50, length, positions, sample=4)
    parts = np.array_split(np.arange(length), positions or length)
    assert places.shape == (50, len(parts))
    assert sum(shares) == pytest.approx(1)
    edges = [place * length // len(parts) for place in range(len(parts) + 1)]
    for part, (first, after) in enumerate(itertools.pairwise(edges)):
        assert set(places[:, part].tolist()) == set(range(first, after))
        assert shares[part] == (after - first) / length
    assert (scored_places(50, length, positions, 4)[0] == places).all()


@pytest.mark.parametrize(("length", "positions"), [(6, 2), (7, 3), (5, 5)])
def test_the_mean_over_all_choices_of_places_is_the_mean_of_the_window(length, positions):
    values = np.random.default_rng(0).normal(size=length)
    _, shares = scored_places(1, length, positions, 0)
    edges = [place * length // positions for place in range(positions + 1)]
    choices = itertools.product(*(range(*edge) for edge in itertools.pairwise(edges)))
    estimates = [values[list(places)] @ shares for places in choices]
    assert len(estimates) == np.prod(np.diff(edges))
    assert np.mean(estimates) == pytest.approx(values.mean())


def test_places_differ_between_windows_parts_and_replicates():
    places, _ = scored_places(200, 64, 4, 0)
    other, _ = scored_places(200, 64, 4, 1)
    inside = places - np.arange(4) * 16
    assert (places != other).mean() > 0.8
    correlation = np.corrcoef(inside.T)[np.triu_indices(4, 1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(200)
    # 800 draws of 16 values: standard error of a count is sqrt(800 x 15/256) = 6.8.
    np.testing.assert_allclose(np.bincount(inside.ravel(), minlength=16), 50, atol=4 * 6.8)


def test_document_means_by_hand():
    means, first = document_means(np.array([1.0, 2.0, 4.0, 10.0]), np.array([7, 2, 7, 3]))
    assert means.tolist() == [2.0, 10.0, 2.5]
    assert first.tolist() == [1, 3, 0]


def test_effective_documents_by_hand():
    assert effective_documents((4, 1, 9)) == 3
    assert effective_documents((1, 1, 1, 2)) == pytest.approx(1 / (0.75**2 + 0.25**2))

"""Text beyond a window and gaps, against the samplers that fill one window."""

import numpy as np
import pytest
from evaluation_bench import RiggedLogits, RiggedScorer, config_of, ends_with, trained_arm

from lab.evaluation.denoising import denoise
from lab.evaluation.generation import sample_left_to_right
from lab.evaluation.writing import (
    Room,
    Sampling,
    choose_gap,
    continue_text,
    fill_gap,
    fit_sides,
    lay_out,
    own_sampler,
    require_sampling,
)

PROMPT = np.array([10, 200, 30, 4, 57, 120, 7, 80, 99, 11], np.int32)
BLOCKS = {"factors": {"block": 4}}
ARMS = {
    **{name: (name, {}) for name in ("ar", "any_order_ar", "dlm", "suffix_denoiser")},
    "blocks": ("dlm", BLOCKS),
    "read_causally": ("dlm", {"factors": {"ar_share": 0.5, "read_as": "causal"}}),
}


def arm_of(name):
    arm, layer = ARMS[name]
    return trained_arm(arm, layer)


def rigged(name, vocab_size=4, certain=False):
    """An arm of windows of 16 that samples evenly, or each token one more than the one before."""
    from lab.evaluation.arm import Arm

    config = config_of(*ARMS[name])

    class Even(RiggedLogits):
        def one_batch(self, tokens, slots):
            if not certain:
                return np.zeros((*slots.shape, vocab_size))
            before = slots if self.causal else slots - 1
            known = np.take_along_axis(tokens, np.maximum(before, 0), axis=1)
            return np.where(np.arange(vocab_size) == (known[..., None] + 1) % vocab_size, 0.0, -1e9)

    return Arm(config, Even(config.factors.reads_causally, 16, vocab_size), None)


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_writes_by_default_as_it_was_trained(name):
    arm = rigged(name)
    arm.scorer.block_size = arm.config.read_block_size
    expected = "ancestral" if name == "dlm" else "left_to_right"
    assert own_sampler(arm) == require_sampling(arm, Sampling()) == expected
    assert require_sampling(arm, Sampling("left_to_right")) == "left_to_right"


def test_what_an_arm_cannot_follow_is_refused():
    ar, dlm = rigged("ar"), rigged("dlm")
    with pytest.raises(
        ValueError, match=r"`sampler` must be left_to_right for ar, a causal arm, .*'confidence'"
    ):
        require_sampling(ar, Sampling("confidence"))
    with pytest.raises(
        ValueError, match=r"`passes` must not be given where ar writes left_to_right.*passes=3"
    ):
        require_sampling(ar, Sampling(passes=3))
    with pytest.raises(ValueError, match="`sampler` must be ancestral, confidence or blocks:B"):
        require_sampling(dlm, Sampling("sideways"))
    message = r"`passes` must be in 1\.\.4, the tokens to write, but got passes=5\."
    with pytest.raises(ValueError, match=message):
        continue_text(dlm, PROMPT, Room((4,), 10), Sampling(passes=5))
    for write in (fill_gap, lambda *arguments: choose_gap(*arguments, 2)):
        with pytest.raises(ValueError, match=message):
            write(dlm, PROMPT[:3], PROMPT[:3], 4, Sampling(passes=5))


@pytest.mark.parametrize(
    ("prompt", "tokens", "sampler", "expected"),
    [
        (0, None, "ancestral", ((16,), 0)),
        (5, None, "ancestral", ((11,), 5)),
        (99, None, "ancestral", ((8,), 8)),
        (5, 11, "ancestral", ((11,), 5)),
        (12, 8, "confidence", ((8,), 8)),  # the prompt gives way, down to half a window
        (99, 3, "confidence", ((3,), 13)),
        (0, 16, "left_to_right", ((16,), 0)),
        (0, 17, "left_to_right", ((8, 8, 1), 0)),
        (9, 20, "blocks:4", ((8, 8, 4), 8)),
        (3, 24, "left_to_right", ((8, 8, 8), 3)),
    ],
)
def test_a_text_is_laid_into_one_window_or_into_halves(prompt, tokens, sampler, expected):
    assert lay_out(prompt, tokens, 16, sampler) == expected


@pytest.mark.parametrize(
    ("prompt", "tokens", "most", "seen"), [(0, 17, 16, 0), (5, 12, 11, 5), (99, 9, 8, 8)]
)
@pytest.mark.parametrize("sampler", ["ancestral", "confidence"])
def test_a_sampler_of_one_window_says_what_it_has_room_for(prompt, tokens, most, seen, sampler):
    message = (
        rf"`tokens` must be <= {most}, for which a window of 16 has room behind {seen} tokens of the prompt, "
        rf"but got tokens={tokens}: sampler={sampler} fills one window"
    )
    with pytest.raises(ValueError, match=message):
        lay_out(prompt, tokens, 16, sampler)
    assert lay_out(prompt, most, 16, sampler) == ((most,), seen)


@pytest.mark.backend
@pytest.mark.parametrize(("name", "sampler"), [("ar", ""), ("dlm", "confidence"), ("blocks", "")])
def test_within_a_window_it_is_the_sampler_itself(name, sampler):
    arm, prompts = arm_of(name), [PROMPT] * 3
    options = {"temperature": 0.7, "top_p": 0.9}
    found = continue_text(arm, PROMPT, Room((6,), 10), Sampling(sampler, seed=3, samples=3, **options))
    if sampler:
        expected = denoise(arm.scorer, prompts, 6, sampler, 6, 3, **options)
    else:
        expected = sample_left_to_right(arm.scorer, prompts, 6, 3, **options)
    for row, whole in zip(found, expected, strict=True):
        np.testing.assert_array_equal(row, whole[10:])


@pytest.mark.backend
@pytest.mark.parametrize(("name", "sampler", "passes"), [("ar", "", None), ("dlm", "blocks:4", 10)])
def test_beyond_a_window_each_half_is_behind_what_there_is_room_for(name, sampler, passes):
    arm, sampling = arm_of(name), Sampling(sampler, passes, samples=2)
    room = lay_out(len(PROMPT), 20, 16, sampler or "left_to_right")
    assert room == ((8, 8, 4), 8)
    found = continue_text(arm, PROMPT, room, sampling)
    for sample, row in enumerate(found):
        text = PROMPT
        for number, (tokens, steps) in enumerate(((8, 4), (8, 4), (4, 2))):
            seen, ids = text[tokens - 16 :], {"row_ids": np.array([sample + 2 * number])}
            if sampler:
                (made,) = denoise(arm.scorer, [seen], tokens, sampler, steps, 0, **ids)
            else:
                (made,) = sample_left_to_right(arm.scorer, [seen], tokens, 0, **ids)
            text = np.concatenate([text, made[len(seen) :]])
        np.testing.assert_array_equal(row, text[10:])


@pytest.mark.parametrize("passes", [13, 20, 100])
def test_all_windows_together_take_the_passes_that_were_asked_for(passes):
    arm, room, told = rigged("dlm"), lay_out(10, 100, 16, "blocks:4"), []
    continue_text(arm, PROMPT, room, Sampling("blocks:4", passes), watch=told.append)
    assert len(told) == passes
    message = r"`passes` must be >= 13, one for each window that 100 tokens go into, but got passes=12\."
    with pytest.raises(ValueError, match=message):
        continue_text(arm, PROMPT, room, Sampling("blocks:4", 12))


def test_no_window_has_the_random_numbers_of_another():
    """What samples evenly would else write the same 8 tokens again and again."""
    (row,) = continue_text(rigged("ar"), PROMPT[:0], Room((8,) * 5, 0), Sampling())
    assert len({tuple(half) for half in row.reshape(5, 8).tolist()}) == 5


def test_a_stop_across_two_windows_ends_its_row_alone():
    arm = rigged("ar", vocab_size=16, certain=True)  # counts on: 12, 13, ...
    stop = ends_with([15, 0, 1])
    room, told = Room((4, 4, 4), 1), []
    found = continue_text(arm, np.array([11]), room, Sampling(samples=2), stop, told.append)
    assert [row.tolist() for row in found] == [[12, 13, 14, 15, 0, 1]] * 2
    assert [draft.tolist() for draft in told[-1]] == [row.tolist() for row in found]
    assert [draft.tolist() for draft in told[0]] == [[12, 16, 16, 16]] * 2
    assert told[4][0].tolist() == [12, 13, 14, 15, 0, 16, 16, 16]
    assert len(told) == 6
    even = rigged("ar")
    rows = continue_text(even, PROMPT[:0], room, Sampling(samples=300), ends_with([1, 2]))
    plain = continue_text(even, PROMPT[:0], room, Sampling(samples=300))
    ends = set()
    for row, whole in zip(rows, plain, strict=True):
        pairs = [tuple(whole[end - 2 : end]) == (1, 2) for end in range(2, 13)]
        assert len(row) == (pairs.index(True) + 2 if True in pairs else 12)
        np.testing.assert_array_equal(row, whole[: len(row)])
        ends.add(len(row))
    assert ends == set(range(2, 13))  # 4 and 8 are whole with a window, 5 and 9 begin in the one before


@pytest.mark.backend
@pytest.mark.parametrize("name", ["any_order_ar", "dlm"])
def test_a_gap_is_filled_by_the_samplers_with_a_suffix(name):
    arm, left, right, told = arm_of(name), PROMPT[:5], PROMPT[5:], []
    found = fill_gap(arm, left, right, 4, Sampling(samples=2, seed=9), told.append)
    options = {"seed": 9, "suffixes": [right, right]}
    if name == "dlm":
        expected = denoise(arm.scorer, [left, left], 4, "ancestral", 4, **options)
    else:
        expected = sample_left_to_right(arm.scorer, [left, left], 4, **options)
    assert [row.tolist() for row in found] == [row[5:9].tolist() for row in expected]
    assert len(told) == 4
    assert [draft.tolist() for draft in told[-1]] == [row.tolist() for row in found]


@pytest.mark.backend
@pytest.mark.parametrize("name", ["ar", "suffix_denoiser", "blocks"])
def test_what_sees_the_left_side_alone_chooses_the_likeliest_whole(name):
    from lab.evaluation.chain_rule import chain_rule_nll

    arm, left, right = arm_of(name), PROMPT[:4], PROMPT[4:]
    found = choose_gap(arm, left, right, 3, Sampling(samples=8), candidates=5)
    rows = np.stack(sample_left_to_right(arm.scorer, [left] * 40, 3, 0))
    windows = np.concatenate([rows, np.tile(right, (40, 1)), np.zeros((40, 3), np.int32)], axis=1)
    nll = chain_rule_nll(arm.scorer, windows, 4, 13).sum(axis=1)
    best = 5 * np.arange(8) + nll.reshape(8, 5).argmin(axis=1)
    assert [row.tolist() for row in found] == rows[best, 4:].tolist()


def test_what_follows_has_its_say():
    """By costs of pairs: behind 0 comes 1, but for what follows it is 2 between 0 and 3."""
    costs = np.full((4, 4), 9.0)
    costs[0, 1], costs[1, 3], costs[0, 2], costs[2, 3] = 1, 7, 2, 3
    arm = rigged("ar")
    score = RiggedScorer(True, lambda previous, target: costs[previous % 4, target], 16, 4)
    arm.scorer.nll = score.nll
    chosen = choose_gap(arm, np.array([0]), np.array([3]), 1, Sampling(samples=3), candidates=40)
    assert [row.tolist() for row in chosen] == [[2]] * 3
    alone = choose_gap(arm, np.array([0]), np.zeros(0, int), 1, Sampling(samples=3), candidates=40)
    assert [row.tolist() for row in alone] == [[1]] * 3


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((3, 4), (3, 4)), ((20, 20), (6, 6)), ((20, 2), (10, 2)), ((2, 20), (2, 10)), ((7, 6), (6, 6))],
)
def test_the_sides_of_a_gap_are_kept_next_to_it(sizes, expected):
    assert fit_sides(*sizes, 4, 16) == expected


def test_a_gap_leaves_room_for_both_sides():
    assert fit_sides(9, 9, 14, 16) == (1, 1)
    with pytest.raises(
        ValueError, match=r"`tokens` must be <= 14, which leaves a token on each .* tokens=15\."
    ):
        fit_sides(9, 9, 15, 16)

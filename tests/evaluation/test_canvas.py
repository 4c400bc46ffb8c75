"""What a canvas adds to the samplers: the nucleus, suffixes, what it tells after each pass."""

import itertools

import numpy as np
import pytest
from evaluation_bench import RiggedLogits, ends_with, log_softmax, scorer_of, windows_of

from lab.evaluation.canvas import sample_tokens
from lab.evaluation.denoising import denoise
from lab.evaluation.generation import sample_left_to_right

CHANCES = np.array([0.05, 0.4, 0.1, 0.25, 0.2])
EVERY = np.linspace(1e-6, 1 - 1e-6, 40_001).astype(np.float32)  # of uniform numbers, evenly


def frequencies(top_p, temperature=1.0, chances=CHANCES):
    logits = np.broadcast_to(np.log(chances) + 3.0, (len(EVERY), len(chances)))
    sampled = sample_tokens(logits, EVERY, temperature, top_p)
    return np.bincount(sampled, minlength=len(chances)) / len(EVERY)


@pytest.mark.parametrize(
    ("top_p", "nucleus"),
    [
        (0.01, [1]),
        (0.39, [1]),
        (0.5, [1, 3]),
        (0.8, [1, 3, 4]),
        (0.94, [1, 2, 3, 4]),
        (0.99, [0, 1, 2, 3, 4]),
    ],
)
def test_the_nucleus_is_the_fewest_most_likely_tokens_with_that_share(top_p, nucleus):
    expected = np.where(np.isin(np.arange(5), nucleus), CHANCES, 0)
    np.testing.assert_allclose(frequencies(top_p), expected / expected.sum(), atol=2e-4)


def test_the_nucleus_is_of_the_distribution_at_its_temperature():
    """At 0.5 they are 0.16, 0.0625, ... of 0.275: two tokens have four fifths, where it took three."""
    squares = np.where(CHANCES > 0.2, CHANCES**2, 0)
    np.testing.assert_allclose(frequencies(0.8, 0.5), squares / squares.sum(), atol=2e-4)


def test_of_equals_the_first_is_in_the_nucleus():
    np.testing.assert_allclose(frequencies(0.5, chances=np.full(4, 0.25)), [0.5, 0.5, 0, 0], atol=2e-4)


def test_a_share_of_1_is_bit_for_bit_what_was_sampled_without_it():
    numbers = np.random.default_rng(0)
    logits, uniforms = 9 * numbers.normal(size=(4000, 30)), numbers.random(4000).astype(np.float32)
    cumulative = np.cumsum(np.exp(logits - logits.max(axis=1, keepdims=True)), axis=1)
    plain = (cumulative < uniforms[:, None].astype(np.float64) * cumulative[:, -1:]).sum(axis=1)
    np.testing.assert_array_equal(sample_tokens(logits, uniforms, 1.0, 1.0), plain)
    assert (sample_tokens(logits, uniforms, 1.0, 0.5) != plain).any()


@pytest.mark.parametrize("top_p", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(top_p):
    with pytest.raises(ValueError, match=rf"`top_p` must be in \(0, 1\], but got top_p={top_p}\."):
        sample_left_to_right(RiggedLogits(True, 8, 5), windows_of(1)[:, :2], 3, 0, top_p=top_p)


PARTS = [(2, 3), (0, 5), (4, 1), (1, 0)]  # tokens of prompts and suffixes, around 3 of 8


def infilled(scorer, sampler="ancestral", seed=0, **options):
    """Rows, with what they were made of."""
    windows = windows_of(len(PARTS))
    prompts = [window[:first] for window, (first, _) in zip(windows, PARTS, strict=True)]
    suffixes = [window[8 - size :] for window, (_, size) in zip(windows, PARTS, strict=True)]
    if scorer.causal:
        rows = sample_left_to_right(scorer, prompts, 3, seed, suffixes=suffixes, **options)
    else:
        rows = denoise(scorer, prompts, 3, sampler, 3, seed, suffixes=suffixes, **options)
    return rows, prompts, suffixes


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["any_order_ar", "dlm"])
def test_a_gap_is_sampled_given_both_sides(arm, monkeypatch):
    """Left to right within it: the logits of each pass are those of the chain rule given both sides."""
    from lab.evaluation.chain_rule import span_nll

    scorer, seen = scorer_of(arm), []
    predict = scorer.predict_on_batch
    monkeypatch.setattr(
        scorer, "predict_on_batch", lambda batch: seen.append((batch["slots"], predict(batch))) or seen[-1][1]
    )
    rows, _, _ = infilled(scorer, "blocks:1", seed=4)
    monkeypatch.undo()
    windows, starts = np.zeros((len(rows), 8), np.int32), np.array([first for first, _ in PARTS])
    drawn = np.zeros((len(rows), 3))
    for number, row in enumerate(rows):
        windows[number, : len(row)] = row
        for step, (slots, logits) in enumerate(seen):
            slot = 0 if scorer.causal else step  # a denoising pass gives the logits of the whole gap
            drawn[number, step] = -log_softmax(logits[number, slot])[row[starts[number] + step]]
            behind = PARTS[number][1] if scorer.causal else 0
            assert slots[number, slot] == starts[number] + step + behind
    places, ends = np.arange(8), np.array([len(row) for row in rows])
    sides = (places < starts[:, None]) | ((places >= starts[:, None] + 3) & (places < ends[:, None]))
    np.testing.assert_allclose(drawn, span_nll(scorer, windows, starts, starts + 3, sides), atol=1e-5)
    left = np.array(span_nll(scorer, windows, starts, starts + 3))
    assert np.abs(drawn - left)[:3].max(axis=1).min() > 1e-3  # the right side tells, where there is one


@pytest.mark.backend
@pytest.mark.parametrize("sampler", ["ancestral", "confidence", "blocks:2"])
def test_a_suffix_stays_and_does_not_depend_on_other_rows(sampler):
    scorer = scorer_of("dlm")
    rows, prompts, suffixes = infilled(scorer, sampler)
    for number, row in enumerate(rows):
        assert row.tolist()[len(prompts[number]) + 3 :] == suffixes[number].tolist()
        options = {"row_ids": np.array([number]), "suffixes": [suffixes[number]]}
        (alone,) = denoise(scorer, [prompts[number]], 3, sampler, 3, 0, **options)
        np.testing.assert_array_equal(alone, row)


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_an_empty_suffix_is_none(arm):
    scorer, prompts = scorer_of(arm), windows_of(3)[:, :2]
    plain = sample_left_to_right(scorer, prompts, 4, 0)
    empty = sample_left_to_right(scorer, prompts, 4, 0, suffixes=[np.zeros(0, np.int32)] * 3)
    np.testing.assert_array_equal(np.stack(plain), np.stack(empty))


def test_a_suffix_that_leaves_no_room_or_that_no_block_can_see_is_refused():
    message = (
        "leave room for new_tokens=3 in the window of 8 tokens, but got one of 6 tokens, the suffix incl"
    )
    with pytest.raises(ValueError, match=message):
        denoise(RiggedLogits(False, 8, 5), [np.zeros(2, int)], 3, "ancestral", 3, 0, suffixes=[np.zeros(4)])
    blocks = RiggedLogits(False, 8, 5)
    blocks.block_size = 4
    with pytest.raises(ValueError, match="`suffixes` must be empty for an arm of blocks, which sees none"):
        denoise(blocks, [np.zeros(2, int)], 3, "blocks:1", 3, 0, suffixes=[np.zeros(2)])


@pytest.mark.backend
@pytest.mark.parametrize("sampler", ["left_to_right", "ancestral", "confidence", "blocks:2"])
def test_after_each_pass_it_is_told_what_is_revealed(sampler):
    scorer, prompts, told = scorer_of("dlm"), windows_of(3)[:, :2], []

    def watch(canvas):
        told.append([draft.tolist() for draft in canvas.drafts()])

    if sampler == "left_to_right":
        rows = sample_left_to_right(scorer, prompts, 6, 0, watch=watch)
    else:
        rows = denoise(scorer, prompts, 6, sampler, 3, 0, watch=watch)
    passes = 6 if sampler == "left_to_right" else 3
    assert len(told) == passes
    for number, drafts in enumerate(told, start=1):
        for draft, row in zip(drafts, rows, strict=True):
            assert len(draft) == 6
            assert sum(token != 5 for token in draft) == number * 6 // passes
            assert all(token in (5, true) for token, true in zip(draft, row[2:], strict=True))
    if sampler in ("left_to_right", "blocks:2"):
        # What is hidden comes last.
        assert all(draft == sorted(draft, key=lambda token: token == 5) for draft in itertools.chain(*told))


def test_a_whole_row_is_shown_as_far_as_it_goes():
    told = []
    rows = sample_left_to_right(
        scorer_of("ar"),
        windows_of(40)[:, :2],
        6,
        0,
        stop=ends_with([1], [2]),
        watch=lambda canvas: told.append(canvas.drafts()),
    )
    assert len({len(row) for row in rows}) > 2
    for row, draft in zip(rows, told[-1], strict=True):
        np.testing.assert_array_equal(draft, row[2:])


def test_a_stop_condition_sees_what_was_written_before_the_window():
    scorer, prompts = scorer_of("ar"), windows_of(40)[:, :2]
    stop = ends_with([3, 1])
    earlier = [np.array([3])] * 40
    rows = sample_left_to_right(scorer, prompts, 6, 0, stop=stop, earlier=earlier)
    plain = sample_left_to_right(scorer, prompts, 6, 0)
    ended = [len(row) == 3 for row in rows]
    assert ended == [row[2] == 1 for row in plain]
    assert 0 < sum(ended) < 40

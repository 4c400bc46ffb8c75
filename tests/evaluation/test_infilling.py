"""The NLL of gaps against enumeration at vocabulary 3 and length 3, and what ranks their options."""

import itertools

import numpy as np
import pytest
from evaluation_bench import RiggedScorer, log_softmax, scorer_of, windows_of

from lab.evaluation.infilling import gap_nll, gap_options, option_nll

EVERY = np.array(list(itertools.product(range(3), repeat=3)), np.int32)
TINY = {"vocab_size": 3, "length": 3, "batch_size": 27}


def log_probs_of(scorer, window, place, seen):
    """The network's log-probabilities of a place given the seen ones, by a pass made by hand."""
    from lab.evaluation.scorer import SlotScorer  # noqa: F401 (Keras before its network)

    mask_id, places = scorer.transformer.mask_id, np.arange(len(window), dtype=np.int32)
    if not scorer.causal:
        tokens = np.where(np.isin(places, seen), window, mask_id)[None]
        inputs, slot = (tokens, places[None] + 1, places[None] + 1), place
    else:
        rest = [other for other in places if other != place and other not in seen]
        order = np.array([*seen, place, *rest])
        read, at = window[order[:-1]], order[:-1] + 1
        inputs = (np.array([[mask_id, *read]]), np.array([[0, *at]]), order[None] + 1)
        slot = len(seen)
    return log_softmax(logits_of(scorer, *(array.astype(np.int32) for array in inputs)))[0, slot]


def logits_of(scorer, tokens, positions, target_positions):
    from evaluation_bench import example_of

    return scorer.transformer(example_of(tokens, positions, target_positions), causal=scorer.causal)


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["any_order_ar", "dlm"])
@pytest.mark.parametrize("tokens", [1, 2])
def test_a_gap_between_both_sides_is_the_enumerated_chain_rule(arm, tokens):
    """Every middle of every context: each is the product of the network's own conditionals, and of one
    context they add up to 1."""
    scorer = scorer_of(arm, **TINY)
    nll = tokens * gap_nll(scorer, EVERY, 3 - tokens - 1, tokens, both_sides=True)
    first = 3 - tokens - 1
    outside = np.delete(EVERY, range(first, first + tokens), axis=1)
    for context in np.unique(outside, axis=0):
        assert np.exp(-nll[(outside == context).all(axis=1)]).sum() == pytest.approx(1, abs=1e-5)
    sides = [place for place in range(3) if not first <= place < first + tokens]
    for number in (5, 16):
        seen = [[*sides, *range(first, place)] for place in range(first, first + tokens)]
        each = [
            log_probs_of(scorer, EVERY[number], place, some)[EVERY[number, place]]
            for place, some in zip(range(first, first + tokens), seen, strict=True)
        ]
        assert nll[number] == pytest.approx(-sum(each), abs=1e-5)
    assert np.ptp(nll) > 0.5


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["ar", "any_order_ar", "dlm"])
def test_after_the_left_side_nothing_on_the_right_is_seen(arm):
    scorer = scorer_of(arm, **TINY)
    nll = gap_nll(scorer, EVERY, 1, 1, both_sides=False).reshape(3, 3, 3)
    np.testing.assert_allclose(nll, nll[:, :, :1].repeat(3, axis=2), rtol=1e-6)
    np.testing.assert_allclose(np.exp(-nll[:, :, 0]).sum(axis=1), 1, atol=1e-5)
    if arm != "ar":
        both = gap_nll(scorer, EVERY, 1, 1, both_sides=True).reshape(3, 3, 3)
        assert np.abs(both - nll).max() > 0.05


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["ar", "any_order_ar", "dlm"])
def test_weights_of_zero_score_log_v(arm):
    scorer = scorer_of(arm, scale=0.0)
    for both_sides in {False, arm != "ar"}:
        nll = gap_nll(scorer, windows_of(3), 3, 2, both_sides)
        np.testing.assert_allclose(nll, np.log(5), rtol=1e-6)


@pytest.mark.backend
def test_a_left_to_right_arm_ranks_by_bayes():
    """By p(middle, right | left), which orders the middles as p(middle | left, right) does."""
    scorer = scorer_of("ar", **TINY)
    joint = EVERY.reshape(3, 3, 3, 3)  # left, middle, right, window
    for left, right in itertools.product(range(3), repeat=2):
        options = joint[left, :, right][None]
        nll = 2 * option_nll(scorer, options, 1, 1, both_sides=False)[0]
        posterior = np.exp(-nll) / np.exp(-nll).sum()
        left_alone = np.exp(-gap_nll(scorer, options[0], 1, 1, both_sides=False))
        likelihood = [np.exp(log_probs_of(scorer, window, 2, [0, 1])[right]) for window in options[0]]
        by_bayes = left_alone * likelihood
        np.testing.assert_allclose(posterior, by_bayes / by_bayes.sum(), atol=1e-5)


def test_options_are_the_middles_of_the_next_windows_in_its_place():
    windows = np.arange(40, dtype=np.int32).reshape(5, 8)
    options = gap_options(windows, 3, 2, 4)
    assert options.shape == (5, 4, 8)
    np.testing.assert_array_equal(options[:, 0], windows)
    for window, option in itertools.product(range(5), range(4)):
        made = options[window, option]
        assert made[3:5].tolist() == windows[(window + option) % 5, 3:5].tolist()
        np.testing.assert_array_equal(np.delete(made, [3, 4]), np.delete(windows[window], [3, 4]))
    with pytest.raises(ValueError, match=r"`options` must be <= the 5 windows, but got options=6\."):
        gap_options(windows, 3, 2, 6)


@pytest.mark.parametrize("causal", [True, False])
def test_what_knows_nothing_of_the_context_is_right_by_chance(causal):
    """Middles alike in nothing but their own NLL: each is an option of as many windows as any other."""
    windows = windows_of(4000, vocab_size=1000, length=8)
    scorer = RiggedScorer(causal, lambda previous, target: (target * 7919 % 1000) / 1000, length=8)
    nll = option_nll(scorer, gap_options(windows, 3, 2, 4), 3, 2, both_sides=True)
    accuracy = (nll[:, 0] < nll[:, 1:].min(axis=1)).mean()
    assert accuracy == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 4000))

import numpy as np
import pytest
from evaluation_bench import RiggedScorer, scorer_of

from lab.evaluation.choice import Items, make_items, option_nll, rank_options

SPLIT = np.arange(400, dtype=np.uint16)  # a token is its own place, so an option tells where it was cut


def score_items(scorer, made):
    return rank_options(option_nll(scorer, made))


def items(tokens=SPLIT, count=20, options=4, context=6, option=3, sample=0):
    return make_items(tokens, count, options, context, option, sample)


def test_the_first_option_goes_on_from_the_context():
    made = items()
    assert made.contexts.shape == (20, 6)
    assert made.options.shape == (20, 4, 3)
    assert made.contexts.dtype == made.options.dtype == np.int32
    whole = np.concatenate([made.contexts, made.options[:, 0]], axis=1)
    np.testing.assert_array_equal(np.diff(whole, axis=1), 1)
    np.testing.assert_array_equal(whole[:, 0] // 20, np.arange(20))  # one in each part of the split
    np.testing.assert_array_equal(whole[:, -1] // 20, np.arange(20))
    assert len(np.unique(whole[:, 0] % 20)) > 5


@pytest.mark.parametrize("length", [189, 200, 400, 1001])
def test_wrong_options_are_real_text_that_does_not_overlap_the_item(length):
    made = items(np.arange(length))
    wrong = made.options[:, 1:]
    np.testing.assert_array_equal(np.diff(wrong, axis=-1), 1)
    first, last = made.contexts[:, 0], made.options[:, 0, -1]
    overlaps = (wrong[..., 0] <= last[:, None]) & (wrong[..., -1] >= first[:, None])
    assert not overlaps.any()


def test_wrong_options_come_from_all_over_the_split():
    starts = items(np.arange(3000), count=200).options[:, 1:, 0].ravel()
    counts, _ = np.histogram(starts, bins=6, range=(0, 3000))
    assert counts.sum() == 600
    assert np.abs(counts - 100).max() < 40  # four standard errors
    assert len(np.unique(items().options[:, 1:, 0])) > 40  # not one offset for all


def test_items_are_the_same_each_time_and_do_not_hang_on_the_values():
    np.testing.assert_array_equal(items().options, items().options)
    np.testing.assert_array_equal(items(SPLIT[::-1].copy()).options, 399 - items().options)


def test_replicates_answer_other_questions():
    first, other = items(), items(sample=1)
    assert (first.contexts != other.contexts).any(axis=1).mean() > 0.7
    assert (first.options[:, 1:] != other.options[:, 1:]).any(axis=2).mean() > 0.9


def test_a_split_that_is_too_short_is_refused():
    items(np.arange(21 * 9))
    message = r"must hold 20 items of 9 tokens and a wrong option besides, 189 tokens, but it has 188\."
    with pytest.raises(ValueError, match=message):
        items(np.arange(188))


@pytest.mark.parametrize("causal", [True, False])
def test_a_scorer_that_knows_the_text_is_always_right(causal):
    """It finds each token likely after the one before it: of a wrong option only the first is a surprise."""
    scorer = RiggedScorer(causal, lambda previous, target: np.where(target == previous + 1, 0.5, 3.5))
    score = score_items(scorer, items())
    assert score.accuracy == 1
    assert score.option_gap == pytest.approx((3.5 - 0.5) / 3)


@pytest.mark.parametrize("causal", [True, False])
def test_a_scorer_that_prefers_other_text_is_always_wrong(causal):
    scorer = RiggedScorer(causal, lambda previous, target: np.where(target == previous + 1, 3.5, 0.5))
    score = score_items(scorer, items())
    assert score.accuracy == 0
    assert score.option_gap == pytest.approx(-(3.5 - 0.5) / 3)


def test_a_uniform_scorer_has_no_gap_and_its_ties_are_wrong():
    score = score_items(RiggedScorer(True, lambda previous, target: np.log(1000.0)), items())
    assert score.true_nll == score.wrong_nll == pytest.approx(np.log(1000.0))
    assert (score.accuracy, score.option_gap) == (0.0, 0.0)
    assert score[4:] == (0.0,) * 4


def test_the_gap_is_the_mean_over_wrong_options_and_items():
    made = items(count=3)
    nll = np.random.default_rng(0).uniform(size=400)
    score = score_items(RiggedScorer(True, lambda previous, target: nll[target]), made)
    by_option = nll[made.options].mean(axis=-1)
    assert score.option_gap == pytest.approx((by_option[:, 1:].mean(axis=1) - by_option[:, 0]).mean())
    assert score.accuracy == pytest.approx((by_option[:, 0] < by_option[:, 1:].min(axis=1)).mean())


def test_the_errors_are_those_of_means_over_items():
    score = rank_options(np.array([[1.0, 2.0, 4.0], [3.0, 2.0, 5.0], [0.5, 2.0, 2.0], [1.0, 1.0, 1.0]]))
    correct, gaps = np.array([1, 0, 1, 0]), np.array([2.0, 0.5, 1.5, 0.0])
    assert score.accuracy == 0.5
    assert score.option_gap == 1.0
    assert score.accuracy_standard_error == pytest.approx(np.sqrt(((correct - 0.5) ** 2).sum() / 3 / 4))
    assert score.option_gap_standard_error == pytest.approx(np.sqrt(((gaps - 1) ** 2).sum() / 3 / 4))


@pytest.mark.parametrize("causal", [True, False])
def test_no_arm_sees_the_option_it_scores_or_what_follows(causal):
    scorer = RiggedScorer(causal, lambda previous, target: np.zeros(target.shape))
    score_items(scorer, items())
    for example, slots in zip(scorer.examples, scorer.slots, strict=True):
        for tokens, scored in zip(example.tokens, slots, strict=True):
            if not causal:
                (slot,) = scored
                assert (tokens[slot:] == 1000).all()
                assert (tokens[:slot] < 1000).all()
            else:
                np.testing.assert_array_equal(scored, [6, 7, 8])


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_options_of_unequal_length_score_as_each_alone(arm):
    """Contexts of 0 to 4 tokens, options of 1 to 4: the same numbers in one call as item by item."""
    scorer, numbers = scorer_of(arm), np.random.default_rng(0)
    text = [numbers.integers(0, 5, size) for size in (0, 4, 1, 3, 1, 4, 2, 4, 3, 1, 2)]
    made = Items([text[0], text[1], text[2]], [text[3:5], text[5:7], text[8:10]])
    nll = option_nll(scorer, made)
    assert nll.shape == (3, 2)
    for context, options, row in zip(made.contexts, made.options, nll, strict=True):
        for option, value in zip(options, row, strict=True):
            alone = option_nll(scorer, Items(context[None], option[None, None]))
            assert alone.item() == pytest.approx(value, rel=1e-5)
    assert np.unique(nll).size == 6


def test_a_context_and_option_longer_than_the_window_are_refused():
    made = Items([np.zeros(14, int)], [[np.zeros(2, int), np.zeros(3, int)]])
    message = r"a context and its option must fit in the window of 16 tokens, but got 17\."
    with pytest.raises(ValueError, match=message):
        option_nll(RiggedScorer(True, lambda previous, target: 1.0), made)

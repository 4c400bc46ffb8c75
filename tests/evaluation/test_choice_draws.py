import itertools
import math

import numpy as np
import pytest
from evaluation_bench import RiggedScorer, scorer_of

from lab.evaluation.choice import Items, OptionWindows, make_items, option_nll, option_windows
from lab.evaluation.choice_draws import sampled_option_nll, span_draws
from lab.evaluation.nelbo import stratified_count
from lab.objectives.corruption import Example

ORDERS = list(itertools.permutations(range(3)))


def items_of(count, options=2, context=2, option=3, seed=0):
    numbers = np.random.default_rng(seed)
    return Items(
        numbers.integers(0, 5, (count, context)).astype(np.int32),
        numbers.integers(0, 5, (count, options, option)).astype(np.int32),
    )


def numpy_scorer(arm, batch_size):
    """An arm whose weights are the same on every backend."""
    scorer = scorer_of(arm, batch_size)
    numbers = np.random.default_rng(0)
    for weight in scorer.transformer.trainable_variables:
        weight.assign(0.8 * numbers.normal(size=weight.shape).astype("float32"))
    return scorer


def any_order_nll(scorer, items):
    """Enumerated: the mean over all orders of the option of its chain-rule NLL in that order, nats/token.

    One token a call, everything not yet read hidden, by the scorer itself and by nothing of the estimator.
    """
    count, options, size = items.options.shape
    first, length, mask_id = items.contexts.shape[1], scorer.transformer.length, scorer.transformer.mask_id
    total = np.zeros((count, options))
    for order, step in itertools.product(ORDERS, range(size)):
        known = [*range(first), *(first + place for place in order[:step])]
        text = np.concatenate(
            [np.repeat(items.contexts[:, None], options, axis=1), items.options], axis=2
        ).reshape(count * options, -1)
        place = first + order[step]
        tokens = np.full((len(text), length), mask_id, np.int32)
        if scorer.causal:
            read = [*known, place, *(p for p in range(length) if p not in known and p != place)]
            tokens[:, 1 : len(known) + 1] = text[:, known]
            positions = np.array([0, *(p + 1 for p in read[:-1])], np.int32)
            predicted, slot = np.array(read, np.int32) + 1, len(known)
        else:
            tokens[:, known] = text[:, known]
            positions = predicted = np.arange(1, length + 1, dtype=np.int32)
            slot = place
        targets = np.broadcast_to(text[:, [place]], tokens.shape)
        example = Example(tokens, positions[None], predicted[None], targets, None)
        total += scorer.nll(example, np.array([slot], np.int32)).reshape(count, options)
    return total / len(ORDERS) / size


@pytest.mark.backend
@pytest.mark.parametrize("num_draws", [1, 2, 5, 6])
@pytest.mark.parametrize("arm", ["dlm", "any_order_ar"])
def test_the_estimate_is_unbiased_for_the_enumerated_any_order_nll(arm, num_draws):
    """4,000 items of one text: their mean is within four standard errors of the enumerated value."""
    scorer = numpy_scorer(arm, batch_size=4_000)
    one = items_of(1, seed=5)
    same = Items(*(np.repeat(part, 4_000, axis=0) for part in one))
    found = sampled_option_nll(scorer, same, num_draws)
    exact = any_order_nll(scorer, one)[0]
    errors = found.std(axis=0, ddof=1) / math.sqrt(4_000)
    assert (errors > 1e-4).all()
    assert (np.abs(found.mean(axis=0) - exact) < 4 * errors).all()
    chain_rule = option_nll(scorer, one)[0]
    assert (np.abs(chain_rule - exact) > 8 * errors).any()  # left to right is another number


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["dlm", "any_order_ar"])
def test_every_mask_or_order_counts_as_often_as_it_should(arm, monkeypatch):
    """The draws enumerated: all orders with all counts, in place of the random ones, give the exact value."""
    from lab.evaluation import choice_draws
    from lab.objectives.draws import Draw

    scorer, items = scorer_of(arm), items_of(4)
    every = list(itertools.product(ORDERS, (1, 2, 3)))

    def enumerated(seed, stream, ids, numbers, length, order, xp):
        orders, counts = zip(*(every[number] for number in numbers), strict=True)
        return Draw(np.array(orders, np.int32), np.array(counts, np.int32))

    monkeypatch.setattr(choice_draws, "draw", enumerated)
    monkeypatch.setattr(choice_draws, "stratified_count", lambda counts, *_: counts)
    found = sampled_option_nll(scorer, items, len(every))
    np.testing.assert_allclose(found, any_order_nll(scorer, items), rtol=1e-5)


@pytest.mark.parametrize(("length", "strata"), [(3, 1), (3, 2), (3, 5), (6, 4), (8, 3), (8, 16)])
def test_strata_leave_every_count_equally_likely(length, strata):
    counts = np.concatenate(
        [stratified_count(np.arange(1, length + 1), length, number, strata) for number in range(strata)]
    )
    assert np.bincount(counts, minlength=length + 1).tolist() == [0, *[strata] * length]
    parts = counts.reshape(strata, length)
    assert (parts.max(axis=1)[:-1] <= parts.min(axis=1)[1:]).all()


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["dlm", "any_order_ar"])
def test_more_draws_differ_less(arm):
    scorer, items = numpy_scorer(arm, batch_size=64), items_of(30)
    exact = any_order_nll(scorer, items)
    errors = [np.abs(sampled_option_nll(scorer, items, draws) - exact).mean() for draws in (1, 4, 16, 64)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 3


def rigged(causal):
    return RiggedScorer(causal, lambda previous, target: np.zeros(target.shape))


@pytest.mark.parametrize("causal", [True, False])
def test_the_context_is_clean_and_the_options_of_an_item_share_their_draws(causal):
    scorer = rigged(causal)
    items = make_items(np.arange(400), 5, 4, context_tokens=6, option_tokens=3, sample=0)
    sampled_option_nll(scorer, items, 8)
    assert len(scorer.examples) == 8
    for example, slots in zip(scorer.examples, scorer.slots, strict=True):
        tokens = example.tokens.reshape(5, 4, -1)
        np.testing.assert_array_equal(slots, np.tile([6, 7, 8], (20, 1)))
        if causal:
            places = example.target_positions.reshape(5, 4, -1)
            np.testing.assert_array_equal(tokens[:, :, 1:7], np.repeat(items.contexts[:, None], 4, axis=1))
            assert (places == places[:, :1]).all()
            np.testing.assert_array_equal(np.sort(places[:, 0, 6:9], axis=1), np.tile([7, 8, 9], (5, 1)))
        else:
            np.testing.assert_array_equal(tokens[:, :, :6], np.repeat(items.contexts[:, None], 4, axis=1))
            hidden = tokens == 1000
            assert (hidden == hidden[:, :1]).all()
            assert hidden[:, :, 9:].all()
            assert (hidden[:, 0, 6:9].sum(axis=1) >= 1).all()
    drawn = np.stack([(e.target_positions if causal else e.tokens)[::4, 6:9] for e in scorer.examples])
    assert len(np.unique(drawn if causal else drawn == 1000, axis=0)) > 4  # fresh for each draw
    assert (drawn != drawn[:, :1]).any()  # and for each item


def test_a_draw_counts_the_mean_over_its_hidden_tokens():
    """Each hidden token costs its own id: the estimate of one draw is the mean id of those hidden."""
    scorer = RiggedScorer(False, lambda previous, target: target)
    items = make_items(np.arange(400), 5, 4, context_tokens=6, option_tokens=3, sample=0)
    found = sampled_option_nll(scorer, items, 1)
    hidden = scorer.examples[0].tokens.reshape(5, 4, -1)[..., 6:9] == 1000
    expected = np.where(hidden, items.options, 0).sum(axis=-1) / hidden.sum(axis=-1)
    np.testing.assert_allclose(found, expected)


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["dlm", "any_order_ar"])
def test_options_of_several_lengths_are_scored_as_each_alone(arm):
    scorer, numbers = numpy_scorer(arm, batch_size=16), np.random.default_rng(3)
    contexts = [numbers.integers(0, 5, n) for n in (2, 0, 5)]
    options = [[numbers.integers(0, 5, n) for n in own] for own in ((3, 1), (6, 8), (2, 2))]
    spans, ids = option_windows(Items(contexts, options), 8), np.repeat(np.arange(3, dtype=np.int32), 2)
    found = span_draws(scorer, spans, ids, 4, 2)
    for row in range(6):
        alone = span_draws(scorer, OptionWindows(*(part[[row]] for part in spans)), ids[[row]], 4, 2)
        np.testing.assert_allclose(found[:, row], alone[:, 0], rtol=1e-5)
    mean = sampled_option_nll(scorer, Items(contexts, options), 4)
    np.testing.assert_allclose(mean.ravel(), found[0])
    # The second replicate has other draws; of one token there is but one.
    assert (found[0] != found[1]).tolist() == [True, False, True, True, True, True]


def test_options_of_other_lengths_are_hidden_by_the_same_words():
    """Of 4 and 8 tokens as large a share is hidden."""
    scorer = rigged(False)
    items = Items([np.arange(2)] * 40, [[np.arange(10, 14), np.arange(10, 18)]] * 40)
    sampled_option_nll(scorer, items, 1)
    hidden = scorer.examples[0].tokens.reshape(40, 2, -1)[..., 2:10] == 1000
    short, long = hidden[:, 0, :4].sum(axis=1), hidden[:, 1].sum(axis=1)
    assert (np.ceil(long / 2) == short).all()
    assert len(set(short.tolist())) == 4


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match=r"`num_draws` must be >= 1, but got num_draws=0\."):
        sampled_option_nll(rigged(False), items_of(1), 0)

import itertools

import numpy as np
import pytest
from evaluation_bench import RiggedScorer, example_of, log_softmax, scorer_of, tiny_transformer, windows_of

pytestmark = pytest.mark.backend

LENGTH = 8


@pytest.fixture(scope="module")
def scorers():
    return {arm: scorer_of(arm) for arm in ("ar", "dlm")}


def nll(*arguments, **options):
    from lab.evaluation.chain_rule import chain_rule_nll

    return chain_rule_nll(*arguments, **options)


def test_a_causal_arm_scores_as_one_plain_forward_pass(scorers):
    scorer, windows = scorers["ar"], windows_of(5)
    stream = np.concatenate([np.full((5, 1), 5), windows[:, :-1]], axis=1)
    slots = np.arange(LENGTH, dtype=np.int32)[None]
    inputs = example_of(stream.astype(np.int32), slots, slots + np.int32(1))
    log_probs = log_softmax(scorer.transformer(inputs, causal=True))
    expected = -np.take_along_axis(log_probs, windows[..., None], axis=-1)[..., 0]
    scores = nll(scorer, windows)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    assert expected.std() > 0.3


def test_a_dense_arm_scores_as_one_window_and_one_token_at_a_time(scorers):
    scorer, windows = scorers["dlm"], windows_of(5)  # 40 rows: three passes of 16, the last not full
    expected = np.zeros(windows.shape)
    positions = np.arange(1, LENGTH + 1, dtype=np.int32)[None]
    for number, window in enumerate(windows):
        for place, token in enumerate(window):
            known = [*window[:place], *[5] * (LENGTH - place)]
            inputs = example_of(np.array([known]), positions, positions)
            expected[number, place] = -log_softmax(scorer.transformer(inputs, causal=False))[0, place, token]
    np.testing.assert_allclose(nll(scorer, windows), expected, rtol=1e-5, atol=1e-6)
    assert expected.std() > 0.3


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_it_is_a_distribution_over_all_sequences(arm):
    """At vocab 3 and length 3 the probabilities of the 27 sequences add up to 1."""
    scorer = scorer_of(arm, vocab_size=3, length=3, batch_size=27)
    every = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3).astype(np.int32)
    probabilities = np.exp(-nll(scorer, every).sum(axis=1))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert probabilities.max() > 2 / 27


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_first_and_last_cut_a_slice_out_of_the_whole(arm, scorers):
    windows = windows_of(5)
    whole = nll(scorers[arm], windows)
    for first, last in ((0, 3), (2, 7), (7, 8), (3, None)):
        np.testing.assert_allclose(nll(scorers[arm], windows, first, last), whole[:, first:last], rtol=1e-5)


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_some_places_are_scored_as_they_are_among_all(arm, scorers):
    windows = windows_of(5)
    places = np.sort(np.random.default_rng(0).permuted(np.tile(np.arange(LENGTH), (5, 1)), axis=1)[:, :3])
    whole = nll(scorers[arm], windows)
    found = nll(scorers[arm], windows, places=places)
    np.testing.assert_allclose(found, np.take_along_axis(whole, places, axis=1), rtol=1e-5)
    assert len({tuple(row) for row in places.tolist()}) > 1


def test_a_dense_arm_takes_a_pass_for_each_scored_place():
    scorer = RiggedScorer(False, lambda previous, target: 1.0, length=LENGTH)
    nll(scorer, windows_of(5), places=np.tile([1, 6], (5, 1)))
    assert sum(len(example.tokens) for example in scorer.examples) == 10


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_what_comes_after_a_token_does_not_count(arm, scorers):
    windows, other = windows_of(5), windows_of(5, seed=1)
    mixed = np.concatenate([windows[:, :5], other[:, 5:]], axis=1)
    np.testing.assert_allclose(nll(scorers[arm], windows)[:, :5], nll(scorers[arm], mixed)[:, :5], rtol=1e-5)


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_neither_the_batch_size_nor_the_other_windows_count(arm, scorers):
    from lab.evaluation.scorer import SlotScorer

    windows = windows_of(5)
    whole = nll(scorers[arm], windows)
    other = SlotScorer(scorers[arm].transformer, scorers[arm].causal, batch_size=7)
    np.testing.assert_allclose(nll(other, windows), whole, rtol=1e-5)
    np.testing.assert_allclose(nll(scorers[arm], windows[3:4]), whole[3:4], rtol=1e-5)


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_weights_of_zero_score_log_v(arm):
    scorer = scorer_of(arm, scale=0.0)
    np.testing.assert_allclose(nll(scorer, windows_of(3)), np.log(5), rtol=1e-6)


def test_the_scorer_has_no_dropout():
    from lab.evaluation.scorer import SlotScorer
    from lab.models.transformer import Transformer

    plain = tiny_transformer(scale=1.0)
    transformer = Transformer(plain.architecture, attention_dropout=0.5, mlp_dropout=0.5)
    transformer.build()
    for to, source in zip(transformer.trainable_variables, plain.trainable_variables, strict=True):
        to.assign(np.array(source))
    with_dropout, without = (nll(SlotScorer(model, True, 4), windows_of(3)) for model in (transformer, plain))
    np.testing.assert_array_equal(with_dropout, without)


# Windows of four tokens out of three; spans of unequal length at unequal places, some behind a later context.
WINDOWS = np.array([[0, 1, 2, 0], [2, 2, 1, 0], [1, 0, 2, 2], [2, 1, 0, 1]], np.int32)
STARTS, STOPS = np.array([0, 1, 2, 3]), np.array([1, 4, 4, 4])
INNER_STARTS, INNER_STOPS = np.array([0, 1, 1, 2]), np.array([2, 2, 3, 3])
AROUND = np.array([[0, 0, 1, 0], [1, 0, 1, 1], [1, 0, 0, 1], [0, 1, 0, 1]], bool)


def span_nll(*arguments, **options):
    from lab.evaluation.chain_rule import span_nll

    return span_nll(*arguments, **options)


def small_scorer(arm, batch_size=5):
    return scorer_of(arm, batch_size, vocab_size=3, length=4)


def log_prob(scorer, known, place):
    """The network's own log-probabilities of a place, (3,), given the tokens of `known`, {place: token}."""
    if not scorer.causal:
        tokens = np.array([[known.get(slot, 3) for slot in range(4)]], np.int32)
        positions = np.arange(1, 5, dtype=np.int32)[None]
        inputs = example_of(tokens, positions, positions)
        return log_softmax(scorer.transformer(inputs, causal=False))[0, place]
    order = np.array([*known, place, *(p for p in range(4) if p not in known and p != place)], np.int32)
    inputs = example_of(
        np.array([[3, *known.values(), *[0] * (3 - len(known))]], np.int32),
        np.array([[0, *(order[:3] + 1)]], np.int32),
        order[None] + np.int32(1),
    )
    return log_softmax(scorer.transformer(inputs, causal=True))[0, len(known)]


@pytest.mark.parametrize("arm", ["ar", "any_order_ar", "dlm"])
@pytest.mark.parametrize("around", [False, True])
def test_each_row_scores_its_own_span_given_its_own_context(arm, around):
    """One place at a time, by the network alone."""
    scorer = small_scorer(arm)
    starts, stops = (INNER_STARTS, INNER_STOPS) if around else (STARTS, STOPS)
    spans = span_nll(scorer, WINDOWS, starts, stops, AROUND if around else None)
    assert [len(span) for span in spans] == (stops - starts).tolist()
    for row, (span, start) in enumerate(zip(spans, starts, strict=True)):
        context = np.flatnonzero(AROUND[row]) if around else np.arange(start)
        known = {int(place): int(WINDOWS[row, place]) for place in context}
        for nats, place in zip(span, range(start, stops[row]), strict=True):
            expected = -log_prob(scorer, known, place)[WINDOWS[row, place]]
            assert nats == pytest.approx(expected, rel=1e-5)
            known[place] = int(WINDOWS[row, place])


@pytest.mark.parametrize("arm", ["ar", "any_order_ar", "dlm"])
def test_some_tokens_of_a_span_are_scored_as_they_are_among_all(arm):
    """One to three of each, so that rows differ in number."""
    scorer = small_scorer(arm)
    scored = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1]], bool)
    whole = span_nll(scorer, WINDOWS, STARTS, STOPS)
    found = span_nll(scorer, WINDOWS, STARTS, STOPS, scored=scored)
    for row, (some, every) in enumerate(zip(found, whole, strict=True)):
        np.testing.assert_allclose(some, every[scored[row, STARTS[row] : STOPS[row]]], rtol=1e-5)


@pytest.mark.parametrize("scored", [[0, 0, 0, 0], [1, 1, 0, 0]])
def test_scored_tokens_that_are_none_or_outside_the_span_are_refused(scored):
    scored = np.array([scored, [0, 1, 0, 0]], bool)
    with pytest.raises(ValueError, match="`scored` must be tokens of the span, but got a row with none, or"):
        span_nll(small_scorer("dlm"), WINDOWS[:2], np.array([1, 1]), np.array([3, 3]), scored=scored)


@pytest.mark.parametrize("arm", ["ar", "any_order_ar", "dlm"])
@pytest.mark.parametrize("around", [False, True])
def test_spans_are_distributions_given_their_context(arm, around):
    """Enumerated: all texts that a span could hold have probabilities that add up to 1."""
    scorer = small_scorer(arm, batch_size=16)
    starts, stops = (INNER_STARTS, INNER_STOPS) if around else (STARTS, STOPS)
    windows, rows = [], []
    for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        for values in itertools.product(range(3), repeat=stop - start):
            windows.append(np.concatenate([WINDOWS[row, :start], values, WINDOWS[row, stop:]]))
            rows.append(row)
    rows = np.array(rows)
    context = AROUND[rows] if around else None
    spans = span_nll(scorer, np.array(windows, np.int32), starts[rows], stops[rows], context)
    probabilities = np.exp([-span.sum() for span in spans])
    np.testing.assert_allclose(np.bincount(rows, probabilities), 1, atol=1e-5)
    assert probabilities.max() > 0.4  # 1 / 3 at most if the network were uniform


@pytest.mark.parametrize("arm", ["ar", "any_order_ar", "dlm"])
def test_what_is_neither_context_nor_span_does_not_count(arm):
    scorer = small_scorer(arm)
    inside = (np.arange(4) >= INNER_STARTS[:, None]) & (np.arange(4) < INNER_STOPS[:, None])
    others = np.where(AROUND | inside, WINDOWS, (WINDOWS + 1) % 3)
    assert (others != WINDOWS).any()
    pair = [span_nll(scorer, windows, INNER_STARTS, INNER_STOPS, AROUND) for windows in (WINDOWS, others)]
    np.testing.assert_allclose(*map(np.concatenate, pair), rtol=1e-5)


@pytest.mark.parametrize(("start", "stop"), [(2, 2), (3, 2), (-1, 2), (2, 5)])
def test_a_span_that_is_empty_or_leaves_its_window_is_refused(start, stop):
    message = rf"a span must hold a token and lie in 0\.\.4, but got start={start}, stop={stop}\."
    with pytest.raises(ValueError, match=message):
        span_nll(small_scorer("dlm"), WINDOWS[:2], np.array([0, start]), np.array([1, stop]))


def test_a_context_that_holds_part_of_the_span_is_refused():
    with pytest.raises(ValueError, match="`context` must leave out the span"):
        span_nll(small_scorer("dlm"), WINDOWS, INNER_STARTS, INNER_STOPS + 1, AROUND)

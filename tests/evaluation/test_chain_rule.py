import numpy as np
import pytest
from evaluation_bench import example_of, log_softmax, scorer_of, tiny_transformer, windows_of

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
    found = nll(scorer, windows)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
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
def test_what_comes_after_a_token_does_not_count(arm, scorers):
    windows, other = windows_of(5), windows_of(5, seed=1)
    mixed = np.concatenate([windows[:, :5], other[:, 5:]], axis=1)
    np.testing.assert_allclose(nll(scorers[arm], windows)[:, :5], nll(scorers[arm], mixed)[:, :5], rtol=1e-5)


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_neither_the_batch_size_nor_the_other_windows_count(arm, scorers):
    from lab.evaluation.scorer import Scorer

    windows = windows_of(5)
    whole = nll(scorers[arm], windows)
    other = Scorer(scorers[arm].transformer, scorers[arm].causal, batch_size=7)
    np.testing.assert_allclose(nll(other, windows), whole, rtol=1e-5)
    np.testing.assert_allclose(nll(scorers[arm], windows[3:4]), whole[3:4], rtol=1e-5)


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_weights_of_zero_score_log_v(arm):
    scorer = scorer_of(arm, scale=0.0)
    np.testing.assert_allclose(nll(scorer, windows_of(3)), np.log(5), rtol=1e-6)


def test_the_scorer_has_no_dropout():
    from lab.evaluation.scorer import Scorer
    from lab.models.transformer import Transformer

    plain = tiny_transformer(scale=1.0)
    transformer = Transformer(plain.architecture, attention_dropout=0.5, mlp_dropout=0.5)
    transformer.build()
    for to, source in zip(transformer.trainable_variables, plain.trainable_variables, strict=True):
        to.assign(np.array(source))
    found, expected = (nll(Scorer(model, True, 4), windows_of(3)) for model in (transformer, plain))
    np.testing.assert_array_equal(found, expected)

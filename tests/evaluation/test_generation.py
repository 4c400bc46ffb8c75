from types import SimpleNamespace

import numpy as np
import pytest
from evaluation_bench import log_softmax, scorer_of, windows_of

from lab.evaluation.generation import sample_left_to_right

CHANCES = np.array([0.5, 0.3, 0.15, 0.05])


class RiggedModel:
    """Logits of log CHANCES, turned round by the token before; keeps the rows it was given."""

    def __init__(self, causal, length=64):
        self.causal = causal
        self.transformer = SimpleNamespace(length=length, mask_id=4, vocab_size=4)
        self.rows = []

    def predict_on_batch(self, row):
        self.rows.append({name: values.copy() for name, values in row.items()})
        place = int(row["scored"][0, 0])
        known = row["tokens"][0, place if self.causal else place - 1] if place else 4
        return np.log(np.roll(CHANCES, known % 4))[None, None] + 7.0


def sample(model, prompt=(), total=64, seed=0):
    return sample_left_to_right(model, np.array([prompt], np.int32), total, seed)[0]


@pytest.mark.parametrize("causal", [True, False])
def test_tokens_follow_the_models_own_distribution(causal):
    """3,000 tokens, each taken relative to the one before, within four standard errors of their chances."""
    sampled = sample(RiggedModel(causal, length=3000), total=3000)
    steps = (sampled - np.concatenate([[0], sampled[:-1]])) % 4
    counts = np.bincount(steps, minlength=4)
    errors = np.sqrt(3000 * CHANCES * (1 - CHANCES))
    assert (np.abs(counts - 3000 * CHANCES) < 4 * errors).all()


def test_another_seed_gives_another_text_and_the_same_seed_the_same():
    first, again, other = (sample(RiggedModel(True), seed=seed).tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("causal", [True, False])
def test_the_prompt_stays_and_nothing_ahead_is_seen(causal):
    model = RiggedModel(causal, length=12)
    sampled = sample(model, prompt=(3, 1, 2), total=9)
    assert sampled[:3].tolist() == [3, 1, 2]
    assert sampled.shape == (9,)
    assert (sampled < 4).all()
    assert [int(row["scored"][0, 0]) for row in model.rows] == [3, 4, 5, 6, 7, 8]
    for place, row in enumerate(model.rows, start=3):
        tokens, positions = row["tokens"][0], row["positions"][0]
        np.testing.assert_array_equal(row["target_positions"][0], np.arange(1, 13))
        known = tokens[1 : place + 1] if causal else tokens[:place]
        np.testing.assert_array_equal(known, sampled[:place])
        assert (tokens[place + 1 :] == 4).all()
        np.testing.assert_array_equal(positions, np.arange(12) if causal else np.arange(1, 13))


@pytest.mark.parametrize(("prompt", "total"), [((0, 1), 2), ((0, 1), 1), ((), 65), ((), 0)])
def test_a_length_beyond_the_window_or_within_the_prompt_is_refused(prompt, total):
    message = rf"`total_tokens` must be in {len(prompt) + 1}\.\.64, but got total_tokens={total}\."
    with pytest.raises(ValueError, match=message):
        sample(RiggedModel(True), prompt, total)


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_a_token_is_drawn_with_the_chance_that_the_chain_rule_gives_it(arm, monkeypatch):
    """The logits of each pass are those of `chain_rule_nll` on the sampled text."""
    from lab.evaluation.chain_rule import chain_rule_nll
    from lab.evaluation.generation import SlotLogits

    scorer = scorer_of(arm)
    model = SlotLogits(scorer.transformer, scorer.causal)
    seen = []
    predict = model.predict_on_batch
    monkeypatch.setattr(
        model, "predict_on_batch", lambda row: seen.append(np.asarray(predict(row))) or seen[-1]
    )
    prompt = windows_of(1)[0, :3]
    sampled = sample_left_to_right(model, prompt[None], 8, seed=3)
    drawn = [-log_softmax(logits[0, 0])[token] for logits, token in zip(seen, sampled[0, 3:], strict=True)]
    np.testing.assert_allclose(drawn, chain_rule_nll(scorer, sampled, 3)[0], rtol=1e-5, atol=1e-6)


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_a_row_is_the_same_in_every_batch_and_unlike_the_others(arm):
    from lab.evaluation.generation import SlotLogits

    scorer = scorer_of(arm)
    model = SlotLogits(scorer.transformer, scorer.causal)
    prompts = np.repeat(windows_of(1)[:, :2], 7, axis=0)
    whole, parts = (sample_left_to_right(model, prompts, 8, 0, batch_size=size) for size in (7, 3))
    np.testing.assert_array_equal(whole, parts)
    assert len(np.unique(whole, axis=0)) > 1

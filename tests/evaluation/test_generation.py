import numpy as np
import pytest
from evaluation_bench import RiggedLogits, ends_with, log_softmax, scorer_of, windows_of

from lab.evaluation.generation import sample_left_to_right

CHANCES = np.array([0.5, 0.3, 0.15, 0.05])


class RiggedModel(RiggedLogits):
    """Logits of log CHANCES, turned round by the token before."""

    def __init__(self, causal, length=64, batch_size=128):
        super().__init__(causal, length, vocab_size=4, batch_size=batch_size)

    def one_batch(self, tokens, slots):
        before = slots if self.causal else slots - 1
        known = np.take_along_axis(tokens, np.maximum(before, 0), axis=1)
        turned = (np.arange(4) - np.where(before < 0, 0, known % 4)[..., None]) % 4
        return np.log(CHANCES[turned]) + 7.0


def sample(model, prompt=(), new_tokens=None, seed=0):
    new_tokens = model.transformer.length - len(prompt) if new_tokens is None else new_tokens
    return sample_left_to_right(model, [np.array(prompt, np.int32)], new_tokens, seed)[0]


def prompts_of(lengths):
    """Prompts of these lengths whose tokens are all unlike."""
    return [window[:size] for window, size in zip(windows_of(len(lengths)), lengths, strict=True)]


def assert_same_rows(rows, others):
    assert [row.tolist() for row in rows] == [row.tolist() for row in others]


@pytest.mark.parametrize("causal", [True, False])
def test_tokens_follow_the_models_own_distribution(causal):
    """3,000 tokens, each taken relative to the one before, within four standard errors of their chances."""
    sampled = sample(RiggedModel(causal, length=3000))
    steps = (sampled - np.concatenate([[0], sampled[:-1]])) % 4
    counts = np.bincount(steps, minlength=4)
    errors = np.sqrt(3000 * CHANCES * (1 - CHANCES))
    assert (np.abs(counts - 3000 * CHANCES) < 4 * errors).all()


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_at_a_temperature_tokens_follow_the_powers_of_their_chances(temperature):
    prompt = [np.zeros(0, np.int32)]
    (sampled,) = sample_left_to_right(RiggedModel(True, 3000), prompt, 3000, 0, temperature=temperature)
    steps = (sampled - np.concatenate([[0], sampled[:-1]])) % 4
    chances = CHANCES ** (1 / temperature) / (CHANCES ** (1 / temperature)).sum()
    errors = np.sqrt(3000 * chances * (1 - chances))
    assert (np.abs(np.bincount(steps, minlength=4) - 3000 * chances) < 4 * errors).all()


def test_at_temperature_1_the_tokens_are_those_from_before_there_was_one():
    tokens = [1, 2, 3, 0, 0, 1, 1, 1, 3, 0, 0, 0, 2, 2, 3, 1, 1, 1, 1, 1, 1, 2, 2, 0]
    assert sample(RiggedModel(True), new_tokens=24, seed=5).tolist() == tokens
    (at_1,) = sample_left_to_right(RiggedModel(True), [np.zeros(0, np.int32)], 24, 5, temperature=1.0)
    assert at_1.tolist() == tokens


@pytest.mark.parametrize("temperature", [0.0, 1e-300])
def test_at_and_near_temperature_0_the_most_likely_token_comes(temperature):
    (sampled,) = sample_left_to_right(RiggedModel(True), [np.array([2])], 9, 0, temperature=temperature)
    assert sampled.tolist() == [2] * 10


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_no_number_from_0_on_is_refused(temperature):
    message = rf"`temperature` must be >= 0 and finite, but got temperature={temperature}\."
    with pytest.raises(ValueError, match=message):
        sample_left_to_right(RiggedModel(True), [np.array([2])], 9, 0, temperature=temperature)


def test_another_seed_gives_another_text_and_the_same_seed_the_same():
    first, again, other = (sample(RiggedModel(True), seed=seed).tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("causal", [True, False])
def test_the_prompt_stays_and_nothing_ahead_is_seen(causal):
    model = RiggedModel(causal, length=12)
    sampled = sample(model, (3, 1, 2), new_tokens=6)
    assert sampled[:3].tolist() == [3, 1, 2]
    assert sampled.shape == (9,)
    assert (sampled < 4).all()
    assert [int(batch["slots"][0, 0]) for batch in model.batches] == [3, 4, 5, 6, 7, 8]
    for place, batch in enumerate(model.batches, start=3):
        tokens, positions = batch["tokens"][0], batch["positions"][0]
        np.testing.assert_array_equal(batch["target_positions"][0], np.arange(1, 13))
        known = tokens[1 : place + 1] if causal else tokens[:place]
        np.testing.assert_array_equal(known, sampled[:place])
        assert (tokens[place + 1 :] == 4).all()
        np.testing.assert_array_equal(positions, np.arange(12) if causal else np.arange(1, 13))


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_a_token_is_drawn_with_the_chance_that_the_chain_rule_gives_it(arm, monkeypatch):
    """The logits of each pass are those of `chain_rule_nll` on the sampled text, behind either prompt."""
    from lab.evaluation.chain_rule import span_nll

    scorer = scorer_of(arm)
    seen = []
    predict = scorer.predict_on_batch
    monkeypatch.setattr(
        scorer, "predict_on_batch", lambda batch: seen.append(np.asarray(predict(batch))) or seen[-1]
    )
    sampled = sample_left_to_right(scorer, prompts_of((3, 0)), 5, seed=3)
    windows, starts = np.zeros((2, 8), np.int32), np.array([3, 0])
    drawn = np.zeros((2, 5))
    for row, (tokens, start) in enumerate(zip(sampled, starts, strict=True)):
        windows[row, : len(tokens)] = tokens
        for step, logits in enumerate(seen):
            drawn[row, step] = -log_softmax(logits[row, 0])[tokens[start + step]]
    monkeypatch.undo()
    np.testing.assert_allclose(drawn, span_nll(scorer, windows, starts, starts + 5), rtol=1e-5, atol=1e-6)


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_a_row_is_the_same_in_every_batch_and_unlike_the_others(arm):
    prompts = np.repeat(windows_of(1)[:, :2], 7, axis=0)
    whole, parts = (sample_left_to_right(scorer_of(arm, size), prompts, 6, seed=0) for size in (7, 3))
    assert_same_rows(whole, parts)
    assert len(np.unique(whole, axis=0)) > 1


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["ar", "any_order_ar", "dlm"])
def test_a_row_is_the_same_alone_as_among_prompts_of_other_lengths(arm):
    scorer, prompts = scorer_of(arm, batch_size=3), prompts_of((2, 0, 5, 3, 0))
    together = sample_left_to_right(scorer, prompts, 3, seed=0)
    assert [len(row) for row in together] == [5, 3, 8, 6, 3]
    assert [row[:size].tolist() for row, size in zip(together, (2, 0, 5, 3, 0), strict=True)] == [
        prompt.tolist() for prompt in prompts
    ]
    for number, row in enumerate(together):
        (alone,) = sample_left_to_right(scorer, [prompts[number]], 3, seed=0, row_ids=np.array([number]))
        assert_same_rows([alone], [row])
    backwards = sample_left_to_right(scorer, prompts[::-1], 3, seed=0, row_ids=np.arange(5)[::-1])
    assert_same_rows(backwards[::-1], together)
    others = sample_left_to_right(scorer, prompts, 3, seed=0, row_ids=np.arange(5) + 5)
    assert [row.tolist() for row in others] != [row.tolist() for row in together]


@pytest.mark.backend
@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_a_row_ends_with_its_stop_sequence_and_leaves_the_others_alone(arm):
    """What is sampled is what would be sampled without one, up to the first of the sequences."""
    scorer, prompts = scorer_of(arm, batch_size=5), prompts_of([2, 0, 1] * 7)
    plain = sample_left_to_right(scorer, prompts, 6, seed=0)
    ended = sample_left_to_right(scorer, prompts, 6, seed=0, stop=ends_with([1, 2], [3]))
    expected = []
    for row, prompt in zip(plain, prompts, strict=True):
        sizes = range(len(prompt) + 1, len(row) + 1)
        ends = [
            size
            for size in sizes
            if row[size - 1] == 3 or (size - 1 > len(prompt) and row[size - 2 : size].tolist() == [1, 2])
        ]
        expected.append(row[: min(ends, default=len(row))])
    assert_same_rows(ended, expected)
    assert len({len(row) - len(prompt) for row, prompt in zip(ended, prompts, strict=True)}) >= 3


def test_rows_that_are_whole_make_room_in_full_batches():
    """Ten rows in batches of four; when six have ended the rest fit in one batch of the same size."""
    model = RiggedModel(True, batch_size=4)
    stop = ends_with([0])
    rows = sample_left_to_right(model, np.zeros((10, 0), np.int32), 30, seed=0, stop=stop)
    assert {len(batch["tokens"]) for batch in model.batches} == {4}
    open_rows = [sum(len(row) >= step for row in rows) for step in range(1, 31)]
    assert len(model.batches) == sum(-(-count // 4) for count in open_rows)
    assert open_rows[0] == 10
    assert any(0 < count <= 4 for count in open_rows)
    assert all((row[-1] == 0) and (row[:-1] != 0).all() for row in rows)


@pytest.mark.parametrize(("prompt", "new_tokens"), [((0, 1), 63), ((), 65), ((0,) * 64, 1)])
def test_a_prompt_that_leaves_no_room_is_refused(prompt, new_tokens):
    message = (
        rf"a prompt must leave room for new_tokens={new_tokens} in the window of 64 tokens, "
        rf"but got one of {len(prompt)} tokens\."
    )
    with pytest.raises(ValueError, match=message):
        sample(RiggedModel(True), prompt, new_tokens)


@pytest.mark.parametrize("new_tokens", [0, -1])
def test_no_tokens_are_refused(new_tokens):
    message = rf"`new_tokens` must be >= 1, but got new_tokens={new_tokens}\."
    with pytest.raises(ValueError, match=message):
        sample(RiggedModel(True), (0, 1), new_tokens)


def test_of_no_prompts_come_no_rows():
    assert sample_left_to_right(RiggedModel(True), [], 3, seed=0) == []

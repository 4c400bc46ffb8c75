"""The samplers against the exact distribution of their samples, enumerated at vocabulary 3 and length 3."""

import itertools

import numpy as np
import pytest
from evaluation_bench import RiggedLogits, ends_with, example_of, log_softmax, scorer_of, windows_of

from lab.evaluation.denoising import denoise, parse_sampler, unmasked_per_pass
from lab.evaluation.generation import sample_left_to_right

VOCAB = LENGTH = 3
MASK_ID = VOCAB
SEQUENCES = list(itertools.product(range(VOCAB), repeat=LENGTH))  # all 27
SAMPLERS = ("ancestral", "confidence", "blocks:1", "blocks:2")


class TableModel(RiggedLogits):
    """A denoiser that is a table: a distribution of every token for each state of each row, none alike."""

    def __init__(self, length=LENGTH, causal=False, batch_size=10_000):
        super().__init__(causal, length, VOCAB, batch_size)

    def chances(self, state):
        """(length, vocab) probabilities, given the tokens of a row; `mask_id` is a masked one."""
        code = sum((1 + token) * 7**place for place, token in enumerate(state))
        return np.random.default_rng(code).dirichlet(np.full(VOCAB, 0.7), self.transformer.length)

    def one_batch(self, tokens, slots):
        table = {row: self.chances(row) for row in {tuple(row) for row in tokens.tolist()}}
        chances = np.stack([table[tuple(row)] for row in tokens.tolist()])
        return np.log(np.take_along_axis(chances, slots[..., None], axis=1)) + 5.0

    @property
    def seen(self):
        return [batch["tokens"] for batch in self.batches]


def unmaskings(model, sampler, state, count):
    """The sets that a pass may unmask, with their chances, said in another way than the sampler does."""
    masked = [place for place, token in enumerate(state) if token == MASK_ID]
    if sampler == "confidence":
        confidence = model.chances(state).max(axis=1)
        return {tuple(sorted(masked, key=lambda place: -confidence[place])[:count]): 1.0}
    block = {"ancestral": LENGTH, "blocks:1": 1, "blocks:2": 2}[sampler]
    orders = [
        order
        for order in itertools.permutations(range(LENGTH))
        if [place // block for place in order] == sorted(place // block for place in order)
    ]
    reached = [order for order in orders if set(order[: LENGTH - len(masked)]).isdisjoint(masked)]
    sets = [tuple(order[LENGTH - len(masked) :][:count]) for order in reached]
    return {places: sets.count(places) / len(sets) for places in sets}


def exact_distribution(model, sampler, steps, temperature=1.0):
    """The chance of each of the 27 sequences; a temperature has no part in which places are unmasked."""
    states = {(MASK_ID,) * LENGTH: 1.0}
    counts = {1: [3], 2: [1, 2], 3: [1, 1, 1]}[steps]
    for count in counts:
        following = {}
        for state, chance in states.items():
            table = model.chances(state) ** (1 / temperature)
            table /= table.sum(axis=1, keepdims=True)
            for places, chosen in unmaskings(model, sampler, state, count).items():
                for values in itertools.product(range(VOCAB), repeat=len(places)):
                    new = list(state)
                    for place, value in zip(places, values, strict=True):
                        new[place] = value
                    product = np.prod([table[p, v] for p, v in zip(places, values, strict=True)])
                    following[tuple(new)] = following.get(tuple(new), 0.0) + chance * chosen * product
        states = following
    return np.array([states[sequence] for sequence in SEQUENCES])


def empty_prompts(count):
    return np.zeros((count, 0), np.int32)


@pytest.mark.parametrize(
    ("steps", "temperature"), [(1, 1.0), (2, 1.0), (3, 1.0), (2, 0.5), (3, 0.5), (3, 1.5)]
)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_follow_the_enumerated_distribution(sampler, steps, temperature):
    """30,000 samples; each of the 27 frequencies within four standard errors, and all by chi-squared."""
    model, draws = TableModel(), 30_000
    exact = exact_distribution(model, sampler, steps, temperature)
    assert exact.sum() == pytest.approx(1)
    prompts = empty_prompts(draws)
    sampled = np.stack(denoise(model, prompts, LENGTH, sampler, steps, 0, temperature=temperature))
    counts = np.bincount(sampled @ [9, 3, 1], minlength=27)
    errors = np.sqrt(draws * exact * (1 - exact))
    assert (np.abs(counts - draws * exact) < 4 * errors + 1).all()
    chi_squared = ((counts - draws * exact) ** 2 / (draws * exact)).sum()
    assert chi_squared < 26 + 4 * np.sqrt(2 * 26)


def test_the_enumeration_tells_the_samplers_and_the_steps_apart():
    model = TableModel()
    exact = {(s, steps): exact_distribution(model, s, steps) for s in SAMPLERS for steps in (1, 2, 3)}
    alone = exact["ancestral", 1]
    for sampler in SAMPLERS:
        np.testing.assert_allclose(exact[sampler, 1], alone)
    for one, other in itertools.combinations([(s, 3) for s in SAMPLERS] + [("ancestral", 2)], 2):
        assert np.abs(exact[one] - exact[other]).max() > 0.01  # forty times what the samples could hide


@pytest.mark.parametrize(
    ("sampler", "tokens"),
    [
        ("ancestral", [[1, 2, 1, 0, 2, 2, 0, 0], [2, 0, 0, 2, 1, 1, 2, 1]]),
        ("confidence", [[1, 0, 1, 0, 2, 2, 2, 2], [1, 0, 0, 0, 2, 2, 2, 0]]),
        ("blocks:2", [[1, 0, 1, 1, 0, 1, 1, 0], [2, 0, 0, 1, 2, 2, 2, 0]]),
    ],
)
def test_at_temperature_1_the_tokens_are_those_from_before_there_was_one(sampler, tokens):
    for options in ({}, {"temperature": 1.0}):
        sampled = denoise(TableModel(length=8), empty_prompts(2), 8, sampler, 4, seed=5, **options)
        assert np.stack(sampled).tolist() == tokens


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_in_one_pass_all_tokens_are_independent_given_the_prompt(sampler):
    model = TableModel(length=5)
    prompts = np.tile(np.array([[2, 0]], np.int32), (20_000, 1))
    sampled = np.stack(denoise(model, prompts, 3, sampler, 1, seed=1))
    chances = model.chances((2, 0, MASK_ID, MASK_ID, MASK_ID))[2:]
    joint = chances[0][:, None, None] * chances[1][:, None] * chances[2]
    counts = np.bincount(sampled[:, 2:] @ [9, 3, 1], minlength=27)
    expected = 20_000 * joint.ravel()
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected) + 1).all()
    plain = denoise(model, prompts[:50], 3, "ancestral", 1, seed=1)
    np.testing.assert_array_equal(sampled[:50], plain)


def assert_same_rows(rows, others):
    assert [row.tolist() for row in rows] == [row.tolist() for row in others]


@pytest.mark.backend
def test_left_to_right_one_token_a_pass_is_the_chain_rule_sampler():
    model, prompts = scorer_of("dlm"), [window[:size] for size, window in enumerate(windows_of(4))]
    blocks = denoise(model, prompts, 5, "blocks:1", 5, seed=3)
    assert_same_rows(blocks, sample_left_to_right(model, prompts, 5, seed=3))
    assert len(np.unique([row[-5:] for row in blocks], axis=0)) > 2


@pytest.mark.backend
@pytest.mark.parametrize("sampler", ["ancestral", "confidence", "blocks:2"])
def test_a_row_is_the_same_in_every_batch(sampler):
    prompts = windows_of(7)[:, :2]
    whole, parts = (denoise(scorer_of("dlm", size), prompts, 6, sampler, 3, seed=0) for size in (7, 3))
    assert_same_rows(whole, parts)


@pytest.mark.backend
@pytest.mark.parametrize("sampler", ["ancestral", "confidence", "blocks:2"])
def test_a_row_is_the_same_alone_as_among_prompts_of_other_lengths(sampler):
    model, prompts = scorer_of("dlm"), [w[:n] for w, n in zip(windows_of(4), (3, 0, 1, 4), strict=True)]
    together = denoise(model, prompts, 4, sampler, 2, seed=0)
    assert [len(row) for row in together] == [7, 4, 5, 8]
    for number, row in enumerate(together):
        alone = denoise(model, [prompts[number]], 4, sampler, 2, seed=0, row_ids=np.array([number]))
        assert_same_rows(alone, [row])


@pytest.mark.parametrize("sampler", ["ancestral", "confidence", "blocks:2", "blocks:1"])
def test_a_row_ends_at_the_first_stop_sequence_of_what_would_be_written(sampler):
    model, prompts = TableModel(length=8), empty_prompts(300)
    plain = denoise(model, prompts, 8, sampler, 8, seed=0)
    passes = len(model.batches)
    model.batches.clear()
    ended = denoise(model, prompts, 8, sampler, 8, seed=0, stop=ends_with([0, 1], [2, 2]))
    for row, whole in zip(ended, plain, strict=True):
        pairs = ["".join(map(str, whole[end - 2 : end])) in ("01", "22") for end in range(2, 9)]
        assert len(row) == (pairs.index(True) + 2 if True in pairs else 8)
        np.testing.assert_array_equal(row, whole[: len(row)])
    assert len({len(row) for row in ended}) == 7
    assert len(model.batches) == passes  # some row goes on to the end


@pytest.mark.parametrize("sampler", ["blocks:1", "blocks:2"])
def test_passes_are_saved_where_every_row_is_whole(sampler):
    """Each row stops at its second token, so nothing beyond its block is unmasked."""
    model = TableModel(length=8)
    denoise(model, empty_prompts(20), 8, sampler, 8, seed=0, stop=lambda row: len(row) == 2)
    assert len(model.batches) == 2


@pytest.mark.backend
def test_a_token_is_drawn_with_the_chance_that_the_denoiser_gives_it():
    """The logits behind the last token are the network's own, with all the other tokens revealed."""
    scorer = scorer_of("dlm")
    seen = []
    predict = scorer.predict_on_batch
    scorer.predict_on_batch = lambda batch: seen.append((batch["tokens"], predict(batch))) or seen[-1][1]
    denoise(scorer, windows_of(4)[:, :2], 6, "ancestral", 6, seed=0)
    positions = np.arange(1, 9, dtype=np.int32)[None]
    for tokens, logits in seen:
        inputs = example_of(tokens, positions, positions)
        expected = log_softmax(scorer.transformer(inputs, causal=False))[:, 2:]
        np.testing.assert_allclose(log_softmax(logits), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 9])
@pytest.mark.parametrize("sampler", ["ancestral", "confidence", "blocks:2", "blocks:4"])
def test_every_pass_unmasks_its_number_and_changes_nothing_revealed(sampler, steps):
    model = TableModel(length=14, batch_size=4)
    prompts = np.random.default_rng(0).integers(0, VOCAB, (6, 3)).astype(np.int32)
    sampled = np.stack(denoise(model, prompts, 9, sampler, steps, seed=2))
    per_pass = unmasked_per_pass(9, steps)
    assert per_pass.sum() == 9
    assert per_pass.max() - per_pass.min() <= 1
    batches = [model.seen[::2], model.seen[1::2]]
    for rows, passes in zip((slice(0, 4), slice(4, 6)), batches, strict=True):
        states = [state[: len(sampled[rows])] for state in passes]
        assert len(states) == steps
        finals = np.concatenate([sampled[rows], np.full((len(states[0]), 2), MASK_ID)], axis=1)
        for before, after, count in zip(states, [*states[1:], finals], per_pass, strict=True):
            assert ((before == MASK_ID).sum(axis=1) - (after == MASK_ID).sum(axis=1) == count).all()
            revealed = before != MASK_ID
            np.testing.assert_array_equal(before[revealed], after[revealed])
            np.testing.assert_array_equal(before[:, :3], prompts[rows])
            assert (before[:, 12:] == MASK_ID).all()
    np.testing.assert_array_equal(sampled[:, :3], prompts)
    assert sampled.max() < MASK_ID


def test_blocks_are_filled_left_to_right_and_in_a_random_order_inside():
    model = TableModel(length=8)
    denoise(model, empty_prompts(200), 8, "blocks:4", 8, seed=0)
    states = np.stack([*model.seen, np.zeros((200, 8))])
    when = (states == MASK_ID).sum(axis=0) - 1  # the pass that unmasked each token
    assert (when[:, :4].max(axis=1) < when[:, 4:].min(axis=1)).all()
    assert len(np.unique(when[:, :4], axis=0)) == 24


def test_another_seed_gives_other_texts_and_orders_and_the_same_seed_the_same():
    model = TableModel(length=8)
    first, again, other = (
        np.stack(denoise(model, empty_prompts(9), 8, "ancestral", 8, seed=seed)).tolist()
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    second_pass = [state == MASK_ID for state in model.seen[1::8]]
    assert (second_pass[0] != second_pass[2]).any()
    assert len(np.unique(second_pass[0], axis=0)) > 1  # an order for each row


@pytest.mark.parametrize("steps", [0, 6, -1])
def test_a_number_of_steps_that_leaves_a_pass_without_work_is_refused(steps):
    message = rf"`steps` must be in 1\.\.5, the tokens to sample, but got steps={steps}\."
    with pytest.raises(ValueError, match=message):
        denoise(TableModel(length=8), np.zeros((1, 3), np.int32), 5, "ancestral", steps, seed=0)


@pytest.mark.parametrize(
    "sampler", ["greedy", "blocks", "blocks:0", "blocks:x", "blocks:3000000000", "ancestral:2"]
)
def test_an_unknown_sampler_is_refused(sampler):
    message = rf"`sampler` must be ancestral, .* blocks:B with B >= 1 .*, but got sampler='{sampler}'"
    with pytest.raises(ValueError, match=message):
        parse_sampler(sampler)


def test_a_prompt_that_leaves_no_room_is_refused():
    with pytest.raises(ValueError, match="but got one of 8 tokens"):
        denoise(TableModel(length=8), [np.zeros(2, int), np.zeros(8, int)], 1, "ancestral", 1, seed=0)


def test_a_causal_arm_is_refused():
    with pytest.raises(ValueError, match="`denoise` needs a dense arm, but got a causal one"):
        denoise(TableModel(causal=True), empty_prompts(1), 3, "ancestral", 1, seed=0)

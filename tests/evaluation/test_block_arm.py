"""An arm of blocks: what it scores and writes, what it refuses, and what that costs."""

import itertools

import numpy as np
import pytest
from evaluation_bench import STOP, config_of, log_softmax, random_documents, tiny_transformer, windows_of

from lab.evaluation.inference_flops import InferenceCounter, passes_of_option

pytestmark = pytest.mark.backend

LENGTH, MASK_ID = 8, 5
BLOCK = {"factors": {"block": 4}}


def scorer_of(size, batch_size=16, **shape):
    from lab.evaluation.scorer import SlotScorer

    return SlotScorer(tiny_transformer(**shape), False, batch_size, size)


def log_probs_of(scorer, window, place):
    """The network's log-probabilities of a place given the tokens before it, by one pass of its own: the
    window is cut before the place, and nothing after it is in either stream."""
    from lab.objectives.corruption import block_example

    size, mask_id = scorer.block_size, scorer.transformer.mask_id
    cut = np.where(np.arange(len(window)) < place, window, 0)[None].astype(np.int32)
    hidden = (np.arange(len(window)) >= place)[None]
    example = block_example(cut, hidden, mask_id, np.ones(1, np.float32), np)
    return log_softmax(scorer.transformer(example._replace(weights=None), block_size=size))[0, place]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_chain_rule_is_that_of_one_token_at_a_time(size):
    from lab.evaluation.chain_rule import chain_rule_nll

    scorer, windows = scorer_of(size, batch_size=3), windows_of(2)
    expected = [
        [-log_probs_of(scorer, window, place)[window[place]] for place in range(LENGTH)] for window in windows
    ]
    found = chain_rule_nll(scorer, windows)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.std(expected) > 0.3
    places = np.array([[0, 3, 4], [1, 5, 7]])
    some = chain_rule_nll(scorer, windows, places=places)
    np.testing.assert_allclose(some, np.take_along_axis(found, places, axis=1), rtol=1e-5)
    np.testing.assert_allclose(chain_rule_nll(scorer, windows, 3, 6), found[:, 3:6], rtol=1e-5)


def test_it_is_a_distribution_over_all_sequences():
    from lab.evaluation.chain_rule import chain_rule_nll

    scorer = scorer_of(2, batch_size=81, vocab_size=3, length=4)
    every = np.array(list(itertools.product(range(3), repeat=4)), np.int32)
    probabilities = np.exp(-chain_rule_nll(scorer, every).sum(axis=1))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert probabilities.max() > 2 / 81


def test_weights_of_zero_score_log_v():
    from lab.evaluation.chain_rule import chain_rule_nll

    np.testing.assert_allclose(chain_rule_nll(scorer_of(2, scale=0.0), windows_of(3)), np.log(5), rtol=1e-6)


def test_its_text_is_sampled_from_the_chain_rule():
    """By the same random numbers, whether left to right or block by block, one token a pass."""
    from lab.evaluation.canvas import sample_tokens, sampling_uniforms
    from lab.evaluation.denoising import denoise
    from lab.evaluation.generation import sample_left_to_right

    scorer, prompts = scorer_of(4), windows_of(3)[:, :2]
    found = np.stack(sample_left_to_right(scorer, prompts, 6, seed=1))
    places = np.tile(np.arange(2, LENGTH, dtype=np.int32), (3, 1))
    uniforms = sampling_uniforms(1, np.arange(3, dtype=np.int32), places)
    for row, place in itertools.product(range(3), range(2, LENGTH)):
        chosen = sample_tokens(log_probs_of(scorer, found[row], place), uniforms[row, place - 2])
        assert found[row, place] == chosen
    assert np.array_equal(found, np.stack(denoise(scorer, prompts, 6, "blocks:1", 6, seed=1)))


@pytest.mark.parametrize(
    ("prompt", "sampler", "steps"), [(4, "blocks:4", 2), (0, "blocks:4", 8), (6, "ancestral", 1)]
)
def test_samplers_that_write_block_by_block_are_taken(prompt, sampler, steps):
    from lab.evaluation.denoising import denoise

    rows = denoise(scorer_of(4), windows_of(2)[:, :prompt], LENGTH - prompt, sampler, steps, seed=0)
    assert [len(row) for row in rows] == [LENGTH, LENGTH]


@pytest.mark.parametrize(
    ("prompt", "sampler", "steps"),
    [(4, "confidence", 4), (2, "ancestral", 6), (0, "blocks:4", 1), (0, "blocks:8", 8)],
)
def test_samplers_that_write_out_of_order_are_refused(prompt, sampler, steps):
    from lab.evaluation.denoising import denoise

    with pytest.raises(
        ValueError, match=rf"block by block .* blocks of 4 tokens.* but got sampler='{sampler}'"
    ):
        denoise(scorer_of(4), windows_of(2)[:, :prompt], LENGTH - prompt, sampler, steps, seed=0)


def test_a_prompt_that_ends_within_a_block_is_refused_where_it_alone_is_wrong():
    from lab.evaluation.denoising import denoise

    message = (
        r"a prompt must end at a block's edge, behind a multiple of 4 tokens, .* sampler='blocks:4', "
        r"but got one of 2 tokens; left_to_right continues any\."
    )
    prompts = [np.zeros(0, np.int32), np.zeros(2, np.int32)]
    with pytest.raises(ValueError, match=message):
        denoise(scorer_of(4), prompts, 6, "blocks:4", 6, seed=0)
    assert len(denoise(scorer_of(4), prompts[:1], 6, "blocks:4", 6, seed=0)) == 1


def test_what_an_arm_of_blocks_cannot_do_is_refused():
    from lab.evaluation.chain_rule import span_nll
    from lab.evaluation.choice import Items
    from lab.evaluation.choice_draws import sampled_option_nll
    from lab.evaluation.nelbo import nelbo

    scorer, windows = scorer_of(4), windows_of(2)
    around = np.ones(windows.shape, bool)
    around[:, 3] = False
    starts = np.full(2, 3)
    with pytest.raises(ValueError, match="`context` must be all before the span for an arm of blocks"):
        span_nll(scorer, windows, starts, starts + 1, around)
    with pytest.raises(ValueError, match="of an arm of all orders, but got one of blocks of 4 tokens"):
        nelbo(scorer, windows, 2)
    with pytest.raises(ValueError, match="but got one of blocks of 4 tokens; `option_nll` takes any"):
        sampled_option_nll(scorer, Items(windows[:, :4], windows[:, None, 4:]), 1)


def test_a_scorer_of_blocks_keeps_them_in_its_configuration():
    import keras

    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(scorer_of(4)))
    assert again.block_size == 4


def test_its_yardstick_has_no_bound_and_counts_the_rows_that_it_passes():
    from lab.evaluation.arm import Arm, make_scorer
    from lab.evaluation.flops import forward_flops_per_token
    from lab.evaluation.measurements import inference, measure, passes, yardstick

    config = config_of("dlm", BLOCK)
    arm = Arm(config, make_scorer(tiny_transformer(257, 16, scale=3.0), config), STOP)
    rows = []
    real = arm.scorer.nll

    def counted(example, slots):
        rows.append(len(example.tokens))
        return real(example, slots)

    arm.scorer.nll = counted
    tasks = yardstick(config, "test")
    found = [measure(task, [arm], random_documents()) for task in tasks]
    assert [task.measurement for task in tasks] == ["nll", "choice", "nll_exact"]
    assert np.isfinite([value for row in found for value in row.values.values()]).all()
    a_pass = 16 * forward_flops_per_token(config.model.architecture(257, 16), False, 4)
    assert sum(row.flops for row in found) == sum(rows) * a_pass
    assert passes(config, tasks[1]) == 12 * 4
    assert passes(config, tasks[2]) == 3 * 4
    assert [task.settings.get("sampler") for task in inference(config)] == [
        None,
        *["left_to_right"] * 2,
        None,
    ]
    whole = config_of("dlm", {"factors": {"block": 16}})
    assert yardstick(whole, "test") == yardstick(config_of("dlm"), "test")


def test_inference_flops_of_blocks_by_hand():
    """Clean slots once each, and for each token the block that it is in."""
    model = config_of("dlm").model
    a = model.architecture(10, LENGTH)
    slot = a.layers * 2 * (4 * a.width**2 + 3 * a.width * a.ffn_width)  # but for attention
    pair, logits = a.layers * 4 * a.width, 2 * a.width * 10

    def block(number):  # of 4 slots, which see 4 slots for each block up to it
        return 4 * slot + 4 * 4 * (number + 1) * pair + 4 * logits

    counter = InferenceCounter(model, LENGTH, 10, False, 4)
    computed = 16 * slot + LENGTH * (LENGTH + 4) * pair + LENGTH * logits
    generated = counter.per_generated_token(2, 6, 6)
    assert generated.needed == pytest.approx((4 * slot + 16 * pair + 2 * block(0) + 4 * block(1)) / 6)
    assert generated.computed == pytest.approx(computed)
    choice = counter.per_choice_item(3, 2, 4, None)
    assert choice.needed == pytest.approx(3 * (4 * slot + 16 * pair + 2 * block(0) + 2 * block(1)))
    assert choice.computed == pytest.approx(3 * 4 * computed)
    assert [passes_of_option(6, *case) for case in ((True,), (False,), (False, 4), (False, 16))] == [
        1,
        6,
        4,
        6,
    ]

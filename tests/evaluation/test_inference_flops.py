import pytest

from lab.config import ModelConfig
from lab.evaluation.inference_flops import InferenceCounter

# One layer of width 8, two heads, a feed-forward of 12; ten tokens that can be predicted.
MODEL = ModelConfig(layers=1, width=8, heads=2, ffn_width=12)
SLOT = 2 * (4 * 8 * 8 + 3 * 8 * 12) + 2 * 8 * 10  # all but attention, for one slot
LOOK = 4 * 8  # attention of one slot to one other


def counter(causal, length=16):
    return InferenceCounter(MODEL, length, 10, causal)


def test_causal_generation_by_hand():
    """With a cache each of 7 slots passes once and looks at itself and the earlier ones."""
    found = counter(True).per_generated_token(prompt_tokens=3, tokens=4, steps=4)
    assert found.needed == (7 * SLOT + (1 + 2 + 3 + 4 + 5 + 6 + 7) * LOOK) / 4
    assert found.computed == 4 * (16 * SLOT + 16 * 17 / 2 * LOOK) / 4


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_dense_generation_by_hand(steps):
    """Every pass: 16 slots that each look at all 16."""
    found = counter(False).per_generated_token(prompt_tokens=3, tokens=4, steps=steps)
    assert found.needed == found.computed == steps * (16 * SLOT + 16 * 16 * LOOK) / 4


def test_causal_choice_by_hand():
    """The context of 5 once; then two options of 3 slots, whose slots look at 6, 7 and 8."""
    found = counter(True).per_choice_item(options=2, context_tokens=5, option_tokens=3, num_draws=None)
    context = 5 * SLOT + (1 + 2 + 3 + 4 + 5) * LOOK
    option = 3 * SLOT + (6 + 7 + 8) * LOOK
    assert found.needed == context + 2 * option
    assert found.computed == 2 * (16 * SLOT + 16 * 17 / 2 * LOOK)
    draws = counter(True).per_choice_item(2, 5, 3, num_draws=4)
    assert draws.needed == context + 2 * 4 * option
    assert draws.computed == 4 * found.computed


def test_dense_choice_by_hand():
    window = 16 * SLOT + 16 * 16 * LOOK
    exact = counter(False).per_choice_item(options=2, context_tokens=5, option_tokens=3, num_draws=None)
    assert exact.needed == exact.computed == 2 * 3 * window
    assert counter(False).per_choice_item(2, 5, 3, num_draws=1).needed == 2 * window
    assert counter(False).per_choice_item(2, 5, 3, num_draws=7).needed == 2 * 7 * window


def test_without_a_prompt_or_context_nothing_is_read():
    assert counter(True).per_generated_token(0, 1, 1).needed == SLOT + LOOK
    assert counter(True).per_choice_item(3, 0, 1, None).needed == 3 * (SLOT + LOOK)


def test_one_token_a_pass_costs_about_as_many_times_ars_flops_as_tokens_are_generated():
    """The paper's ratio: 16 to 4700 times for 16 to 4096 tokens at its 1B shape, no prompt."""
    ratios = {}
    for tokens in (16, 4096):
        ar, dlm = (
            InferenceCounter(ModelConfig(size="paper_1b"), tokens, 50257, causal) for causal in (True, False)
        )
        needed = dlm.per_generated_token(0, tokens, tokens).needed
        ratios[tokens] = needed / ar.per_generated_token(0, tokens, tokens).needed
    assert ratios[16] == pytest.approx(16, rel=0.01)
    assert ratios[4096] == pytest.approx(4700, rel=0.02)

import pytest

from lab.config import ModelConfig, make_config
from lab.evaluation.flops import forward_flops_per_token, pass_flops, shape_of, train_flops_per_token
from lab.models.sizes import SIZES

ONE_LAYER = {"layers": 1, "width": 8, "heads": 2, "ffn_width": 12}


def test_one_dense_layer_by_hand():
    """Two FLOPs for each multiply and add, for one token of four."""
    query_key_value = 2 * 8 * 24
    scores = 2 * 2 * 4 * 4  # two heads, four slots, heads of width four
    weighted_sum = 2 * 2 * 4 * 4
    output = 2 * 8 * 8
    gate_and_up = 2 * 8 * 24
    down = 2 * 12 * 8
    logits = 2 * 8 * 11  # ten tokens and the mask
    expected = query_key_value + scores + weighted_sum + output + gate_and_up + down + logits
    assert expected == 1392
    assert forward_flops_per_token(ONE_LAYER, 4, 10, causal=False) == expected


def test_one_causal_layer_by_hand():
    """The four tokens see 1, 2, 3 and 4 slots."""
    seen = (1 + 2 + 3 + 4) / 4
    attention = 2 * (2 * 2 * 4 * seen)
    assert forward_flops_per_token(ONE_LAYER, 4, 10, causal=True) == 1392 - 128 + attention


def test_loops_by_hand():
    """The layer is gone through again; the output projection is not."""
    layer, logits = 1392 - 2 * 8 * 11, 2 * 8 * 11
    for loops in (1, 2, 4):
        found = forward_flops_per_token(ONE_LAYER, 4, 10, causal=False, loops=loops)
        assert found == loops * layer + logits
        assert train_flops_per_token(ONE_LAYER, 4, 10, causal=False, loops=loops) == 3 * found
    deep = {**ONE_LAYER, "layers": 6}
    for causal in (True, False):
        looped = forward_flops_per_token({**ONE_LAYER, "layers": 2}, 4, 10, causal, loops=3)
        assert looped == forward_flops_per_token(deep, 4, 10, causal)


@pytest.mark.parametrize("length", [4, 64, 2048])
def test_causal_attention_counts_half_of_dense_and_half_a_diagonal(length):
    dense, causal = (forward_flops_per_token(SIZES["0.8m"], length, 256, kind) for kind in (False, True))
    attention = 4 * 4 * 128 * length  # layers, FLOPs a feature and slot, width
    assert dense - causal == pytest.approx(attention - attention * (length + 1) / (2 * length))


@pytest.mark.parametrize("causal", [True, False])
def test_layers_add_up_and_training_is_three_passes(causal):
    def forward(layers):
        return forward_flops_per_token({**ONE_LAYER, "layers": layers}, 4, 10, causal)

    assert forward(3) - forward(2) == forward(2) - forward(1)
    assert train_flops_per_token(ONE_LAYER, 4, 10, causal) == 3 * forward(1)


def test_at_the_papers_1b_shape_a_dense_pass_costs_a_twelfth_more():
    """About 8 % at length 2048; the vocabulary is GPT-2's."""
    dense, causal = (forward_flops_per_token(SIZES["paper_1b"], 2048, 50257, kind) for kind in (False, True))
    assert dense / causal == pytest.approx(1.08, abs=0.01)


@pytest.mark.parametrize("compute", ["causal", "dense"])
def test_a_pass_of_a_runs_arm_is_one_over_a_window(compute):
    config = make_config(
        {
            "data": {"length": 128},
            "model": {"loops": 2},
            "factors": {"compute": compute},
            "training": {"total_steps": 1},
        }
    )
    each = forward_flops_per_token(SIZES["0.8m"], 128, 257, compute == "causal", loops=2)
    assert pass_flops(config, 257) == 128 * each


@pytest.mark.parametrize("size", SIZES)
def test_a_forward_pass_costs_two_flops_a_parameter_and_the_attention(size):
    """Kaplan et al. 2020, section 2.1: 2 N, N without the embeddings."""
    shape = shape_of(ModelConfig(size=size))
    assert shape == SIZES[size]
    parameters = shape["layers"] * shape["width"] * (4 * shape["width"] + 3 * shape["ffn_width"])
    rest = forward_flops_per_token(shape, 64, 256, causal=False) - 2 * parameters
    assert rest == 4 * shape["width"] * 64 * shape["layers"] + 2 * shape["width"] * 257


def test_xla_counts_nearly_the_same():
    """XLA adds what is left out here: norms, rotations, softmax, SwiGLU's product."""
    import jax
    import numpy as np

    from lab.models.transformer import Transformer

    shape = {"layers": 2, "width": 128, "heads": 4, "ffn_width": 344}
    transformer = Transformer(vocab_size=256, length=64, **shape)
    transformer.build()
    slots = np.arange(64, dtype=np.int32)[None]
    inputs = {"tokens": np.zeros((2, 64), np.int32), "positions": slots, "target_positions": slots + 1}
    state = [
        [v.value for v in variables]
        for variables in (transformer.trainable_variables, transformer.non_trainable_variables)
    ]
    lowered = jax.jit(lambda *state: transformer.stateless_call(*state, inputs)[0]).lower(*state)
    counted = lowered.cost_analysis()["flops"] / (2 * 64)
    assert 1 < counted / forward_flops_per_token(shape, 64, 256, causal=False) < 1.1

import pytest

from lab.config import ModelConfig, make_config
from lab.evaluation.flops import (
    forward_flops_per_token,
    pass_flops,
    train_flops_per_token,
    training_forward_flops_per_token,
)
from lab.models.architecture import Architecture
from lab.models.sizes import SIZES


def one_layer(**changes):
    sizes = {"vocab_size": 10, "length": 4, "layers": 1, "width": 8, "heads": 2, "ffn_width": 12}
    return Architecture(**{**sizes, **changes})


def sized(name, vocab_size, length, **changes):
    return Architecture(vocab_size=vocab_size, length=length, **SIZES[name], **changes)


def test_one_dense_layer_by_hand():
    """Two FLOPs for each multiply and add, for one token of four."""
    query_key_value = 2 * 8 * 24
    scores = 2 * 2 * 4 * 4  # two heads, four slots, heads of width four
    weighted_sum = 2 * 2 * 4 * 4
    output = 2 * 8 * 8
    gate_and_up = 2 * 8 * 24
    down = 2 * 12 * 8
    logits = 2 * 8 * 10  # ten tokens; the mask is never predicted
    expected = query_key_value + scores + weighted_sum + output + gate_and_up + down + logits
    assert expected == 1376
    assert forward_flops_per_token(one_layer(), causal=False) == expected


def test_one_causal_layer_by_hand():
    """The four tokens see 1, 2, 3 and 4 slots."""
    seen = (1 + 2 + 3 + 4) / 4
    attention = 2 * (2 * 2 * 4 * seen)
    assert forward_flops_per_token(one_layer(), causal=True) == 1376 - 128 + attention


def test_loops_by_hand():
    """The layer is gone through again; the output projection is not."""
    layer, logits = 1376 - 2 * 8 * 10, 2 * 8 * 10
    for loops in (1, 2, 4):
        found = forward_flops_per_token(one_layer(loops=loops), causal=False)
        assert found == loops * layer + logits
        assert train_flops_per_token(one_layer(loops=loops), causal=False) == 3 * found
    for causal in (True, False):
        looped = forward_flops_per_token(one_layer(layers=2, loops=3), causal)
        assert looped == forward_flops_per_token(one_layer(layers=6), causal)


@pytest.mark.parametrize(("kind", "factor", "met"), [("token_choice", 1.25, 2), ("expert_choice", 1.25, 3)])
def test_a_mixture_by_hand(kind, factor, met):
    """Four experts for four tokens: 2 a token where tokens choose, ceil(2.5) a token where experts do."""
    attention = 2 * 8 * 24 + 2 * (2 * 2 * 4 * 4) + 2 * 8 * 8
    router = 2 * 8 * 4
    expert = 2 * 8 * 24 + 2 * 12 * 8
    architecture = one_layer(feed_forward=kind, experts=4, experts_per_token=2, capacity_factor=factor)
    found = forward_flops_per_token(architecture, causal=False)
    assert found == attention + router + met * expert + 2 * 8 * 10


def test_grouped_heads_of_another_width_by_hand():
    """Two heads of six features and one of keys and values, a mask in the vocabulary of ten."""
    query_key_value, output = 2 * 8 * (12 + 6 + 6), 2 * 12 * 8
    scores = weighted_sum = 2 * 2 * 4 * 6
    rest = 2 * 8 * 24 + 2 * 12 * 8 + 2 * 8 * 10
    architecture = one_layer(head_dim=6, kv_heads=1, mask_id=0)
    expected = query_key_value + scores + weighted_sum + output + rest
    assert forward_flops_per_token(architecture, causal=False) == expected


@pytest.mark.parametrize("length", [4, 64, 2048])
def test_causal_attention_counts_half_of_dense_and_half_a_diagonal(length):
    dense, causal = (forward_flops_per_token(sized("0.8m", 256, length), kind) for kind in (False, True))
    attention = 4 * 4 * 128 * length  # layers, FLOPs a feature and slot, width
    assert dense - causal == pytest.approx(attention - attention * (length + 1) / (2 * length))


@pytest.mark.parametrize("causal", [True, False])
def test_layers_add_up_and_training_is_three_passes(causal):
    def forward(layers):
        return forward_flops_per_token(one_layer(layers=layers), causal)

    assert forward(3) - forward(2) == forward(2) - forward(1)
    assert train_flops_per_token(one_layer(), causal) == 3 * forward(1)


def test_at_the_papers_1b_shape_a_dense_pass_costs_a_twelfth_more():
    """About 8 % at length 2048; the vocabulary is GPT-2's."""
    dense, causal = (forward_flops_per_token(sized("paper_1b", 50257, 2048), kind) for kind in (False, True))
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
    each = forward_flops_per_token(sized("0.8m", 257, 128, loops=2), compute == "causal")
    assert pass_flops(config, 257) == 128 * each


def test_blocks_count_in_training_and_in_measuring():
    values = {"data": {"length": 128}, "training": {"total_steps": 1}}
    for block, size in ((16, 16), (128, 0)):
        config = make_config(values, {"factors": {"order": "any", "compute": "dense", "block": block}})
        each = forward_flops_per_token(sized("0.8m", 257, 128), False, size)
        assert training_forward_flops_per_token(config, 257) == each
        assert pass_flops(config, 257) == 128 * each


def test_training_two_ways_costs_the_mean_of_its_rows_and_measuring_one_way():
    values = {"data": {"length": 128}, "training": {"total_steps": 1}}
    factors = {"order": "any", "compute": "dense", "ar_share": 0.25}
    dense, causal = (
        make_config(values, {"factors": {**factors, "read_as": read_as}}) for read_as in ("dense", "causal")
    )
    each = {kind: forward_flops_per_token(sized("0.8m", 257, 128), kind) for kind in (True, False)}
    for config, read in ((dense, False), (causal, True)):
        expected = each[False] * 0.75 + each[True] * 0.25
        assert training_forward_flops_per_token(config, 257) == pytest.approx(expected, rel=1e-12)
        assert pass_flops(config, 257) == 128 * each[read]


@pytest.mark.parametrize("size", [1, 2])
def test_blocks_by_hand(size):
    """Eight slots, of which four predict; clean and noisy ones of block b see b + 1 blocks each."""
    seen = sum(2 * size * size * (number + 1) for number in range(4 // size))
    layer = 2 * (2 * 8 * 24 + 2 * 8 * 8 + 2 * 8 * 24 + 2 * 12 * 8)
    expected = layer + 2 * (2 * 2 * 4) * seen / 4 + 2 * 8 * 10
    assert forward_flops_per_token(one_layer(), False, size) == expected


@pytest.mark.parametrize("size", SIZES)
def test_a_forward_pass_costs_two_flops_a_parameter_and_the_attention(size):
    """Kaplan et al. 2020, section 2.1: 2 N, N without the embeddings."""
    architecture, shape = ModelConfig(size=size).architecture(256, 64), SIZES[size]
    assert architecture == sized(size, 256, 64)
    parameters = shape["layers"] * shape["width"] * (4 * shape["width"] + 3 * shape["ffn_width"])
    rest = forward_flops_per_token(architecture, causal=False) - 2 * parameters
    assert rest == 4 * shape["width"] * 64 * shape["layers"] + 2 * shape["width"] * 256


@pytest.mark.parametrize("changes", [{}, {"kv_heads": 1, "head_dim": 48, "loops": 2, "mask_id": 0}], ids=str)
def test_xla_counts_nearly_the_same(changes):
    """XLA adds what is left out here: norms, rotations, softmax, SwiGLU's product."""
    import jax
    import numpy as np

    from lab.models.transformer import Transformer
    from lab.objectives.corruption import Example

    architecture = Architecture(
        vocab_size=256, length=64, layers=2, width=128, heads=4, ffn_width=344, **changes
    )
    transformer = Transformer(architecture)
    transformer.build()
    slots = np.arange(64, dtype=np.int32)[None]
    tokens = np.zeros((2, 64), np.int32)
    inputs = Example(tokens, slots, slots + np.int32(1), tokens, None)
    state = [
        [v.value for v in variables]
        for variables in (transformer.trainable_variables, transformer.non_trainable_variables)
    ]
    lowered = jax.jit(lambda *state: transformer.stateless_call(*state, inputs)[0]).lower(*state)
    counted = lowered.cost_analysis()["flops"] / (2 * 64)
    assert 1 < counted / forward_flops_per_token(architecture, causal=False) < 1.1

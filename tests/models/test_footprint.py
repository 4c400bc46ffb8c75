"""The closed forms against hand counts, and against the model that is built."""

import keras
import numpy as np
import pytest
from keras import ops
from tiny import LENGTH, MIXED, tiny_architecture

from lab.models.architecture import Architecture
from lab.models.footprint import activation_bytes, block_matrices, parameters, training_memory
from lab.models.sizes import SIZES
from lab.models.transformer import Transformer
from lab.objectives.corruption import Example

VARIANTS = [
    {},
    {"tie_embeddings": False},
    {"target_embedding": False, "mask_id": 0},
    {"norm_gain": True},
    {"norm_gain": True, "qk_norm": False},
    {"kv_heads": 1, "head_dim": 6, "norm_gain": True},
    {"loops": 3},
    *MIXED.values(),
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_parameters_are_those_of_the_model(changes):
    architecture = tiny_architecture(**changes)
    model = Transformer(architecture)
    model.build()
    assert parameters(architecture).total == model.count_params()
    assert parameters(architecture).active == model.count_params() - unmet(model)


def unmet(model):
    """Parameters that a token of a batch did not meet in evaluation, by what the mixtures counted."""
    a, unmet = model.architecture, 0
    tokens = np.zeros((2, LENGTH), np.int32)
    slots = np.tile(np.arange(LENGTH, dtype=np.int32), (2, 1))
    counts = model.features(Example(tokens, slots, slots + np.int32(1), tokens, None), False).counts
    for name, count in counts.items():
        if name.endswith("/expert_tokens"):
            met = np.sum(ops.convert_to_numpy(count)) / tokens.size
            unmet += (a.experts - met) * 3 * a.width * a.ffn_width
    return unmet


def test_the_parameters_of_a_mixture_by_hand():
    """Six tokens: each of four experts takes 3, of the 2 that a token meets, or 4 with a quarter more."""
    attention, router, expert = 4 * 8 * 8, 8 * 4, 3 * 8 * 12
    for kind, factor, met in (
        ("token_choice", 1.0, 2),
        ("token_choice", 9.0, 2),
        ("expert_choice", 1.0, 2),
        ("expert_choice", 1.25, 4 * 4 / 6),
        ("expert_choice", 9.0, 4),
    ):
        found = block_matrices(tiny_architecture(**MIXED[kind], capacity_factor=factor))
        assert found == (attention + router + 4 * expert, attention + router + met * expert)


@pytest.mark.parametrize("kind", MIXED)
def test_the_activations_of_a_mixture_by_hand(kind):
    """Each of four experts has room for 4 tokens of 6: a place holds what goes in and out, and five of 12."""
    architecture = tiny_architecture(layers=2, **MIXED[kind])
    dense = activation_bytes(tiny_architecture(layers=2))
    places, router = 4 * 4 / 6, 2 * 4
    added = places * (8 + 8 + 5 * 12) - 5 * 12 + router
    assert activation_bytes(architecture) == round(dense + 4 * 2 * added)


def test_parameters_by_hand():
    architecture = Architecture(
        vocab_size=10, length=4, layers=3, width=8, heads=4, ffn_width=12, kv_heads=2, norm_gain=True
    )
    query, key, value, output = 8 * 8, 8 * 4, 8 * 4, 8 * 8
    block = query + key + value + output + 3 * 8 * 12
    assert block_matrices(architecture) == (block, block)
    gains = 3 * (8 + 8 + 2 + 2) + 8
    assert parameters(architecture).total == 3 * block + gains + 11 * 8 + 4 * 8


def test_a_released_checkpoint_has_its_parameters():
    """Qwen3-0.6B: 596,049,920 in its safetensors, the tied output counted once."""
    architecture = Architecture(
        vocab_size=151_936,
        length=40_960,
        layers=28,
        width=1024,
        heads=16,
        ffn_width=3072,
        head_dim=128,
        kv_heads=8,
        norm_gain=True,
        norm_epsilon=1e-6,
        rope_base=1e6,
        target_embedding=False,
        mask_id=151_935,
    )
    assert parameters(architecture).total == 596_049_920


def test_weights_gradients_and_moments_are_four_floats_a_parameter():
    architecture = tiny_architecture()
    memory = training_memory(architecture, rows=2)
    total = parameters(architecture).total
    assert memory[:3] == (4 * total, 4 * total, 8 * total)
    model = Transformer(architecture)
    model.build()
    optimizer = keras.optimizers.AdamW()
    optimizer.build(model.trainable_variables)
    moments = [variable for variable in optimizer.variables if variable.shape]
    assert sum(4 * np.prod(variable.shape) for variable in moments) == memory.optimizer


def test_activations_by_hand():
    architecture = tiny_architecture(layers=1, kv_heads=1)  # width 8, two heads of 4, 12 hidden, 7 tokens
    norms = 8 + 8 + 8 + 8
    query_key_value, normed, rotated = 16, 12, 12
    attended, gate_and_up, sigmoid, silu, product = 8, 24, 12, 12, 12
    block = norms + query_key_value + normed + rotated + attended + gate_and_up + sigmoid + silu + product
    weights, exponentials, divisors = 2 * LENGTH, 2 * LENGTH, 2 * LENGTH
    gradient, scale = 2 * LENGTH, 2 * LENGTH
    end = 4 * (8 + 8) + 2 * 4 * 7
    written_out = 4 * (weights + exponentials + divisors)
    assert activation_bytes(architecture) == 4 * block + written_out + 4 * (gradient + scale) + end
    assert training_memory(architecture, rows=5).activations == 5 * LENGTH * activation_bytes(architecture)
    half = 2 * (block + weights) + 4 * (exponentials + divisors + gradient + scale) + 2 * (8 + 8) + 2 * 4 * 7
    assert activation_bytes(architecture, feature_bytes=2) == half
    assert activation_bytes(architecture, fused_attention=True) == 4 * (block + 2) + end


@pytest.mark.parametrize("rematerialise", [False, True])
def test_a_doubled_stream_by_hand(rematerialise):
    """Two slots a token that attend to 2 L each, of which one comes to the end."""
    architecture = tiny_architecture(layers=3)
    features, end = 4 * (4 * 8 + 3 * 8 + 2 * 8 + 2 * 8 + 8 + 5 * 12), 4 * (8 + 8) + 2 * 4 * 7
    inside, at_work = features + 2 * (2 * LENGTH) * 12, 2 * (2 * LENGTH) * 4
    found = activation_bytes(architecture, rematerialise=rematerialise, in_blocks=True)
    if rematerialise:
        assert found == 2 * (3 * 4 * 8 + inside + at_work)
    else:
        assert found == 2 * (3 * inside + at_work) + end
    single = activation_bytes(architecture, rematerialise=rematerialise)
    for share in (0.0, 0.25, 1.0):
        memory = training_memory(architecture, 5, rematerialise=rematerialise, in_blocks=share)
        assert memory.activations == 5 * LENGTH * ((1 - share) * single + share * found)


def test_dropout_by_hand():
    """Two words for each number, and the weights that are left, of half the size in half precision."""
    architecture = tiny_architecture(layers=3)
    for size in (4, 2):
        plain = activation_bytes(architecture, size)
        assert activation_bytes(architecture, size, mlp_dropout=True) == plain + 3 * 12 * 8
        found = activation_bytes(architecture, size, attention_dropout=True)
        assert found == plain + 3 * 2 * LENGTH * (8 + size)
    mixture = tiny_architecture(layers=3, **MIXED["token_choice"])
    places = 4 * 4 / 6
    added = activation_bytes(mixture, mlp_dropout=True) - activation_bytes(mixture)
    assert added == pytest.approx(3 * places * 12 * 8, abs=1)


@pytest.mark.parametrize("fused", [False, True])
def test_what_is_computed_again_keeps_the_inputs_of_blocks_and_one_block_or_the_end(fused):
    one, three = (tiny_architecture(layers=layers) for layers in (1, 3))
    end = 4 * (8 + 8) + 2 * 4 * 7
    inside = activation_bytes(one, fused_attention=fused) - end
    assert inside > end
    kept = activation_bytes(three, fused_attention=fused, rematerialise=True)
    assert kept == 3 * 4 * 8 + inside
    many = tiny_architecture(layers=3, loops=2, vocab_size=1000)
    kept = activation_bytes(many, fused_attention=fused, rematerialise=True)
    assert kept == 2 * 3 * 4 * 8 + 4 * (8 + 8) + 2 * 4 * 1000


@pytest.mark.skipif(keras.config.backend() != "jax", reason="reads what XLA allots")
@pytest.mark.parametrize(
    ("loops", "attention_dropout", "mlp_dropout", "block_size"),
    [(1, 0, 0, 0), (2, 0, 0, 0), (1, 0, 0, 16), (2, 0.1, 0, 0), (2, 0, 0.1, 0), (1, 0.1, 0.1, 16)],
)
def test_xla_allots_about_as_much_for_activations(loops, attention_dropout, mlp_dropout, block_size):
    import jax

    architecture = Architecture(vocab_size=256, length=128, loops=loops, **SIZES["0.1m"])
    model = Transformer(architecture, attention_dropout, mlp_dropout)
    model.build()
    weights = [variable.value for variable in model.trainable_variables]
    states = [variable.value for variable in model.non_trainable_variables]
    slots = np.tile(np.arange(128, dtype=np.int32), 2 if block_size else 1)[None]

    def allotted(rows):
        tokens = np.zeros((rows, slots.size), np.int32)

        def loss(weights):
            example = Example(tokens, slots, slots + np.int32(1), tokens, None)
            options = {"training": True, "block_size": block_size}
            logits = model.stateless_call(weights, states, example, **options)[0]
            return (jax.nn.logsumexp(logits, axis=-1) - logits[..., 0]).mean()

        compiled = jax.jit(jax.grad(loss)).lower(weights).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    found = allotted(24) - allotted(8)
    kinds = {"attention_dropout": attention_dropout > 0, "mlp_dropout": mlp_dropout > 0}
    said = training_memory(architecture, rows=16, **kinds, in_blocks=block_size > 0).activations
    print(f"said {said:,}, found {found:,}")
    assert found == pytest.approx(said, rel=0.25)

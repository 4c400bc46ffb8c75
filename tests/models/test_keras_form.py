"""Keras's own tests of a layer: https://github.com/keras-team/keras/blob/master/keras/src/testing/test_case.py

They need no knowledge of the lab: registration, both round trips of a configuration, build, symbolic and
eager calls, a training step, mixed precision.
"""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase
from tiny import BATCH, LENGTH, MIXED, VOCAB, WIDTH, example_of, random_tokens, tiny_architecture

from lab.models.attention import SelfAttention
from lab.models.block import Block
from lab.models.dropout import Dropout
from lab.models.feed_forward import FEED_FORWARDS
from lab.models.norm import RMSNorm
from lab.models.projection import Projection
from lab.models.swiglu import SwiGLU
from lab.models.token_embedding import TokenEmbedding
from lab.models.transformer import Transformer

pytestmark = pytest.mark.backend

PLAIN = tiny_architecture()
OTHER = tiny_architecture(norm_gain=True, kv_heads=1, tie_embeddings=False, target_embedding=False, mask_id=0)
MIXTURE = tiny_architecture(layers=1, **MIXED["token_choice"])
ANGLES = (1, LENGTH, 1, PLAIN.head_dim // 2)
POSITIONS = np.tile(np.arange(1, LENGTH + 1, dtype=np.int32), (BATCH, 1))
FEATURES = {"input_shape": (BATCH, LENGTH, WIDTH), "expected_output_shape": (BATCH, LENGTH, WIDTH)}
IDS = {"input_data": random_tokens(), "expected_output_shape": (BATCH, LENGTH, WIDTH)}
ROTARY = {
    "input_shape": {"inputs_shape": (BATCH, LENGTH, WIDTH), "cosine_shape": ANGLES, "sine_shape": ANGLES},
    "input_dtype": {"inputs_shape": "float32", "cosine_shape": "float32", "sine_shape": "float32"},
    "expected_output_shape": (BATCH, LENGTH, WIDTH),
    # Keras's training check calls a layer with all inputs as its first argument, which fits only layers that
    # take one; test_layers.py makes the step.
    "run_training_check": False,
}
TOKENS = {
    # Every field is an array, since Keras's test asks each for its shape; they have one batch.
    "input_data": example_of(random_tokens(), POSITIONS, POSITIONS, visible=POSITIONS > 1),
    "expected_output_shape": (BATCH, LENGTH, VOCAB),
}

# Class, arguments, inputs, number of trainable weights, number of rates and so of generators.
LAYERS = [
    (RMSNorm, {"gain": False}, FEATURES, 0, 0),
    (RMSNorm, {"gain": True, "epsilon": 1e-6}, FEATURES, 1, 0),
    (Projection, {"units": WIDTH}, FEATURES, 1, 0),
    (TokenEmbedding, {"input_dim": VOCAB, "output_dim": WIDTH, "outputs": VOCAB - 1}, IDS, 1, 0),
    (Dropout, {"rate": 0.2, "seed": 1}, FEATURES, 0, 1),
    (SwiGLU, {"architecture": PLAIN, "dropout": 0.2}, FEATURES, 2, 1),
    (SelfAttention, {"architecture": PLAIN}, ROTARY, 2, 0),
    (SelfAttention, {"architecture": OTHER, "dropout": 0.2}, ROTARY, 4, 1),
    (Block, {"architecture": PLAIN}, ROTARY, 4, 0),
    (Block, {"architecture": OTHER, "attention_dropout": 0.1, "mlp_dropout": 0.2}, ROTARY, 8, 2),
    (Transformer, {"architecture": PLAIN}, TOKENS, 2 + 2 * 4, 0),
    (Transformer, {"architecture": OTHER, "mlp_dropout": 0.2}, TOKENS, 2 + 2 * 8 + 1, 2),
    (Transformer, {"architecture": MIXTURE, "mlp_dropout": 0.2}, TOKENS, 2 + 5, 1),
    (Transformer, {"architecture": PLAIN, "rematerialise": True}, TOKENS, 2 + 2 * 4, 0),
]


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights:UserWarning")
@pytest.mark.filterwarnings("ignore:.*shuffle=True:UserWarning")  # of the data that Keras's test itself makes
@pytest.mark.parametrize(
    ("cls", "arguments", "given", "weights", "dropouts"),
    LAYERS,
    ids=[f"{case[0].__name__}-{number}" for number, case in enumerate(LAYERS)],
)
def test_keras_finds_a_layer_in_order(cls, arguments, given, weights, dropouts):
    TestCase().run_layer_test(
        cls,
        arguments,
        **given,
        expected_num_trainable_weights=weights,
        expected_num_non_trainable_weights=dropouts,
        expected_num_seed_generators=dropouts,
        expected_num_losses=0,
    )


@pytest.mark.parametrize("kind", MIXED)
def test_a_mixture_goes_through_its_configuration(kind):
    """A layer that gives more than its stream fits no output of `run_layer_test`; whole models above do."""
    layer = FEED_FORWARDS[kind](tiny_architecture(**MIXED[kind]), 0.2, 1)
    again = TestCase().run_class_serialization_test(layer)
    assert (again.architecture, again.dropout, again.seed) == (layer.architecture, 0.2, 1)


REGISTERED = dict.fromkeys([*(case[0] for case in LAYERS), *FEED_FORWARDS.values()])


@pytest.mark.parametrize("cls", REGISTERED, ids=lambda cls: cls.__name__)
def test_each_is_registered_as_the_labs(cls):
    assert keras.saving.get_registered_name(cls) == f"lab>{cls.__name__}"

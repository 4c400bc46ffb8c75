"""What every layer must pass. A new layer adds one line to LAYERS."""

import inspect
from dataclasses import asdict

import keras
import numpy as np
import pytest
from namespaces import host
from tiny import BATCH, LENGTH, VOCAB, example_of, random_tokens, tiny_architecture

from lab.models.attention import SelfAttention
from lab.models.block import Block
from lab.models.dropout import Dropout
from lab.models.norm import RMSNorm
from lab.models.projection import Projection
from lab.models.rotary import rotary_angles
from lab.models.swiglu import SwiGLU
from lab.models.token_embedding import TokenEmbedding
from lab.models.transformer import Transformer

pytestmark = pytest.mark.backend

WIDTH, HEADS = 8, 2
FEATURES = np.random.default_rng(0).normal(size=(BATCH, LENGTH, WIDTH)).astype("float32")
ANGLES = rotary_angles(LENGTH, WIDTH // HEADS)[None, :LENGTH, None]
ROTARY = {"cosine": np.cos(ANGLES), "sine": np.sin(ANGLES)}
POSITIONS = np.tile(np.arange(1, LENGTH + 1, dtype=np.int32), (BATCH, 1))
EXAMPLE = example_of(random_tokens(), POSITIONS, POSITIONS)
ARCHITECTURE = tiny_architecture(
    loops=2, tie_embeddings=False, target_embedding=False, head_dim=6, kv_heads=1, norm_gain=True, start_id=1
)
PLAIN = tiny_architecture()

# Class, arguments (none at its default), inputs, further inputs, width of the outputs, number of weights.
LAYERS = [
    (RMSNorm, {"gain": True, "epsilon": 1e-5}, FEATURES, {}, WIDTH, 1),
    (Projection, {"units": 5, "scale": 0.3, "seed": 4}, FEATURES, {}, 5, 1),
    (Dropout, {"rate": 0.2, "seed": 4}, FEATURES, {}, WIDTH, 0),
    (SwiGLU, {"architecture": ARCHITECTURE, "dropout": 0.2, "seed": 4}, FEATURES, {}, WIDTH, 2),
    (SelfAttention, {"architecture": PLAIN, "dropout": 0.2, "seed": 4}, FEATURES, ROTARY, WIDTH, 2),
    (
        Block,
        {"architecture": PLAIN, "attention_dropout": 0.2, "mlp_dropout": 0.1, "seed": 4},
        FEATURES,
        ROTARY,
        WIDTH,
        4,
    ),
    (
        Transformer,
        {
            "architecture": ARCHITECTURE,
            "attention_dropout": 0.2,
            "mlp_dropout": 0.1,
            "seed": 4,
            "rematerialise": True,
        },
        EXAMPLE,
        {},
        VOCAB,
        # two tables; a block has four matrices and four norms, of queries and keys too; the last norm
        2 + 2 * (4 + 2 + 2) + 1,
    ),
]
EACH = pytest.mark.parametrize(
    ("cls", "arguments", "inputs", "more", "width", "weights"),
    LAYERS,
    ids=[case[0].__name__ for case in LAYERS],
)


def built(layer):
    layer.build((None, LENGTH, WIDTH))
    return layer


def outputs(layer, inputs, more):
    return host(layer(inputs, **more))


def same_outputs(one, other, inputs, more):
    return np.array_equal(outputs(one, inputs, more), outputs(other, inputs, more))


class Holder(keras.Model):
    """A model of one layer, which Keras can save, load and train."""

    def __init__(self, layer, more):
        super().__init__()
        self.layer = layer
        self.more = more
        self.built = True

    def call(self, inputs):
        return self.layer(inputs, **self.more)


@EACH
def test_the_configuration_goes_round(cls, arguments, inputs, more, width, weights):
    layer = built(cls(**arguments, name="a_name"))
    config = layer.get_config()
    named = inspect.signature(cls.__init__).parameters.keys() - {"self", "kwargs"}
    assert named == arguments.keys()
    plain = {name: asdict(value) if name == "architecture" else value for name, value in arguments.items()}
    assert {name: config[name] for name in named} == plain
    again = built(cls.from_config(config))
    assert again.get_config() == config
    assert again.name == "a_name"
    assert same_outputs(layer, again, inputs, more)  # the same seeds, so the same weights


@EACH
def test_arguments_are_no_defaults(cls, arguments, inputs, more, width, weights):
    """Otherwise a configuration that loses one would pass."""
    parameters = inspect.signature(cls.__init__).parameters
    assert not [name for name, value in arguments.items() if parameters[name].default == value]


@EACH
def test_shapes_dtype_and_weight_count(cls, arguments, inputs, more, width, weights):
    layer = built(cls(**arguments))
    found = outputs(layer, inputs, more)
    assert found.shape == (BATCH, LENGTH, width)
    assert found.dtype == np.float32
    assert len(layer.trainable_weights) == weights
    paths = [variable.path for variable in (*layer.trainable_variables, *layer.non_trainable_variables)]
    assert len(set(paths)) == len(paths)


@EACH
def test_weights_go_through_a_file(cls, arguments, inputs, more, width, weights, tmp_path):
    layer, other = built(cls(**arguments)), built(cls(**arguments))
    for weight in other.trainable_weights:
        weight.assign_add(np.ones(weight.shape, "float32"))
    assert same_outputs(layer, other, inputs, more) == (not weights)
    Holder(layer, more).save_weights(tmp_path / "layer.weights.h5")
    Holder(other, more).load_weights(tmp_path / "layer.weights.h5")
    assert same_outputs(layer, other, inputs, more)


@EACH
def test_the_policy_reaches_every_part(cls, arguments, inputs, more, width, weights):
    plain, mixed = built(cls(**arguments)), built(cls(**arguments, dtype="mixed_bfloat16"))
    assert {str(weight.dtype) for weight in mixed.trainable_weights} <= {"float32"}
    found = mixed(inputs, **more)
    expected_dtype = "float32" if cls is Transformer else "bfloat16"
    assert keras.backend.standardize_dtype(found.dtype) == expected_dtype
    found, expected = host(found).astype("float32"), outputs(plain, inputs, more)
    assert np.isfinite(found).all()
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    # A config of a mixed layer rebuilds a mixed layer.
    assert cls.from_config(mixed.get_config()).dtype_policy.name == "mixed_bfloat16"


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights:UserWarning")
@EACH
def test_one_training_step_moves_every_weight(cls, arguments, inputs, more, width, weights):
    layer = built(cls(**arguments))
    before = [np.array(weight) for weight in layer.trainable_weights]
    model = Holder(layer, more)
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss="mse", jit_compile=False)
    loss = model.train_on_batch(inputs, np.ones((BATCH, LENGTH, width), "float32"))
    assert np.isfinite(loss)
    for weight, old in zip(layer.trainable_weights, before, strict=True):
        assert not np.array_equal(np.array(weight), old), weight.path


def test_the_whole_transformer_goes_through_a_keras_file(tmp_path):
    _, arguments, inputs, *_ = LAYERS[-1]
    model = Transformer(**arguments)
    model.build()
    for weight in model.trainable_weights:
        weight.assign_add(np.ones(weight.shape, "float32"))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert np.array_equal(host(loaded(inputs)), host(model(inputs)))


def test_projection_is_a_matrix_product():
    layer = built(Projection(5, seed=1))
    expected = FEATURES.astype(float) @ np.array(layer.kernel, dtype=float)
    assert np.allclose(outputs(layer, FEATURES, {}), expected, rtol=1e-5, atol=1e-6)
    assert not layer.use_bias
    parts = [host(part) for part in layer(FEATURES, parts=[2, 3])]
    assert [part.shape for part in parts] == [(BATCH, LENGTH, width) for width in (2, 3)]
    assert np.allclose(np.concatenate(parts, axis=-1), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tied", [True, False])
def test_token_embedding_gives_no_logit_to_the_last_ids(tied):
    layer = TokenEmbedding(7, WIDTH, outputs=5, tie_weights=tied)
    layer.build((None, LENGTH))
    table = np.array(layer.embeddings, dtype=float)
    assert np.array_equal(host(layer(np.array([6, 0]))), table[[6, 0]].astype("float32"))
    output = table.T if tied else np.array(layer.reverse_embeddings, dtype=float)
    expected = FEATURES[0].astype(float) @ output[:, :5]
    assert np.allclose(host(layer(FEATURES[0], reverse=True)), expected, rtol=1e-5, atol=1e-6)

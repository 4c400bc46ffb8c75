"""Routers: every token is placed or counted, on every backend alike, against NumPy and by hand."""

import keras
import numpy as np
import pytest
from keras import ops
from namespaces import host
from tiny import BATCH, FFN_WIDTH, LENGTH, MIXED, WIDTH, tiny_architecture

from lab.models.architecture import MIXTURES, expert_capacity
from lab.models.feed_forward import FEED_FORWARDS, make_feed_forward
from lab.models.mixture import Mixture

pytestmark = pytest.mark.backend

EXPERTS = 4
INPUTS = np.random.default_rng(1).normal(size=(BATCH, LENGTH, WIDTH)).astype("float32")
TIGHT, WIDE = 0.5, 1e9  # factors of the capacity


def layer_of(kind="token_choice", dropout=0.0, dtype=None, **changes):
    """A built layer whose weights are of order 1."""
    layer = make_feed_forward(tiny_architecture(**{**MIXED[kind], **changes}), dropout, 0, dtype=dtype)
    layer.build((None, LENGTH, WIDTH))
    rng = np.random.default_rng(0)
    for weight in layer.trainable_weights:
        weight.assign(0.5 * rng.normal(size=weight.shape).astype("float32"))
    return layer


def counts_of(features):
    return {name: host(count) for name, count in features.counts.items()}


def numpy_mixture(layer, inputs, capacity):
    """Outputs, number of tokens each expert took, and what was dropped, one token after the other."""
    a = layer.architecture
    router, into, out = (
        np.array(weight, np.float64) for weight in (layer.router.kernel, layer.experts_in, layer.experts_out)
    )
    outputs, sizes, dropped = np.zeros(inputs.shape), np.zeros(a.experts, int), 0
    for row, sequence in enumerate(inputs.astype(np.float64)):
        chances = np.exp(sequence @ router)
        chances /= chances.sum(axis=-1, keepdims=True)
        gates = np.zeros(chances.shape)
        if a.feed_forward == "token_choice":
            for slot, own in enumerate(chances):
                chosen = sorted(range(a.experts), key=lambda expert: -own[expert])[: a.experts_per_token]
                scale = own[chosen].sum() if a.experts_per_token > 1 else 1.0
                for expert in chosen:
                    if (gates[:, expert] > 0).sum() < capacity:
                        gates[slot, expert] = own[expert] / scale
                    else:
                        dropped += 1
        else:
            for expert in range(a.experts):
                chosen = sorted(range(len(sequence)), key=lambda slot: -chances[slot, expert])[:capacity]
                gates[chosen, expert] = chances[chosen, expert]
            dropped += int((gates == 0).all(axis=-1).sum())
        sizes += (gates > 0).sum(axis=0)
        for expert in range(a.experts):
            gate, up = np.split(sequence @ into[expert], 2, axis=-1)
            made = (gate / (1 + np.exp(-gate)) * up) @ out[expert]
            outputs[row] += gates[:, expert, None] * made
    return outputs, sizes, dropped


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("factor", [TIGHT, 1.25])
@pytest.mark.parametrize("experts_per_token", [1, 2])
@pytest.mark.parametrize("kind", MIXTURES)
def test_a_mixture_is_that_of_numpy(kind, experts_per_token, factor, training):
    layer = layer_of(kind, experts_per_token=experts_per_token, capacity_factor=factor)
    room = expert_capacity(layer.architecture, LENGTH)
    if kind == "token_choice" and not training:
        room = LENGTH
    found = layer(INPUTS, training=training)
    outputs, sizes, dropped = numpy_mixture(layer, INPUTS, room)
    np.testing.assert_allclose(host(found.stream), outputs, atol=1e-5)
    counts = counts_of(found)
    assert counts["expert_tokens"].tolist() == sizes.tolist()
    assert counts["dropped"] == dropped
    assert dropped > 0 or not training or factor > 1


def test_every_choice_is_placed_or_counted():
    """Under expert choice, every token: its experts take as many as they have room for."""
    found = counts_of(layer_of(capacity_factor=TIGHT)(INPUTS, training=True))
    assert found["offered"] == BATCH * LENGTH * 2
    assert found["expert_tokens"].sum() + found["dropped"] == found["offered"]
    assert (found["expert_tokens"] <= BATCH * 2).all()  # ceil(0.5 x 2 x 6 / 4) of a sequence
    layer = layer_of("expert_choice", capacity_factor=TIGHT)
    found = counts_of(layer(INPUTS, training=True))
    assert found["offered"] == BATCH * LENGTH
    assert (found["expert_tokens"] == BATCH * expert_capacity(layer.architecture, LENGTH)).all()


@pytest.mark.parametrize(
    ("factor", "slots", "room"), [(1.0, 6, 3), (1.25, 6, 4), (0.1, 6, 1), (9.0, 6, 6), (1.0, 1, 1)]
)
def test_the_room_of_an_expert_by_hand(factor, slots, room):
    architecture = tiny_architecture(**MIXED["token_choice"], capacity_factor=factor)
    assert expert_capacity(architecture, slots) == room


@pytest.mark.parametrize("kind", MIXTURES)
def test_a_sequence_gives_the_same_beside_any_other(kind):
    layer = layer_of(kind, capacity_factor=TIGHT)
    together = host(layer(INPUTS, training=True).stream)
    for row in range(BATCH):
        alone = host(layer(INPUTS[row : row + 1], training=True).stream)
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6)


def test_a_token_is_not_dropped_for_a_later_one():
    """In a causal pass that would show the future."""
    layer = layer_of(capacity_factor=TIGHT)
    other = INPUTS.copy()
    other[:, 3:] = -INPUTS[:, 3:]
    found, changed = (host(layer(inputs, training=True).stream) for inputs in (INPUTS, other))
    np.testing.assert_allclose(found[:, :3], changed[:, :3], atol=1e-6)
    assert not np.allclose(found[:, 3:], changed[:, 3:], atol=1e-3)


def test_equal_logits_take_the_first_experts_and_the_first_tokens():
    layer = layer_of()
    layer.router.kernel.assign(np.zeros((WIDTH, EXPERTS), "float32"))
    routing = layer.route(ops.zeros((BATCH, LENGTH, EXPERTS)), training=True)
    room = expert_capacity(layer.architecture, LENGTH)
    assert host(routing.taken)[:, :2].tolist() == [[[*range(room)]] * 2] * BATCH
    assert (host(routing.taken)[:, 2:] == LENGTH).all()
    assert host(routing.gates)[..., :2].tolist() == [[[0.5, 0.5]] * LENGTH] * BATCH
    assert host(routing.dropped) == BATCH * 2 * (LENGTH - room)
    layer = layer_of("expert_choice")
    routing = layer.route(ops.zeros((BATCH, LENGTH, EXPERTS)), training=True)
    assert host(routing.taken).tolist() == [[[*range(room)]] * EXPERTS] * BATCH
    assert host(routing.dropped) == BATCH * (LENGTH - room)


def test_one_expert_that_all_choose_is_full_and_the_rest_is_counted():
    layer = layer_of(experts_per_token=1)
    logits = np.zeros((BATCH, LENGTH, EXPERTS), "float32")
    logits[..., 2] = 50.0
    routing = layer.route(ops.convert_to_tensor(logits), training=True)
    assert host(routing.taken)[0].tolist() == [[LENGTH] * 2, [LENGTH] * 2, [0, 1], [LENGTH] * 2]
    assert host(routing.dropped) == BATCH * (LENGTH - 2)
    evaluated = layer.route(ops.convert_to_tensor(logits), training=False)
    assert host(evaluated.taken)[0, 2].tolist() == [*range(LENGTH)]
    assert host(evaluated.dropped) == 0


def balance_of(logits, **changes):
    layer = layer_of(balance_weight=1.0, **changes)
    return float(host(layer.route(ops.convert_to_tensor(logits), training=True).balance_loss))


@pytest.mark.parametrize("experts_per_token", [1, 2])
def test_the_balance_loss_is_least_where_experts_are_chosen_alike(experts_per_token):
    """1 there, E / k where all choose the same k, and between them elsewhere."""
    changes = {"experts_per_token": experts_per_token}
    turns = np.arange(LENGTH * 2).reshape(1, -1) % EXPERTS  # each expert as often as the others
    even = (
        9.0 * np.eye(EXPERTS, dtype="float32")[turns]
        + 8.0 * np.eye(EXPERTS, dtype="float32")[(turns + 1) % EXPERTS]
    )
    assert balance_of(even, **changes) == pytest.approx(1.0, rel=1e-5)
    same = np.zeros((BATCH, LENGTH, EXPERTS), "float32")
    same[..., :experts_per_token] = 50.0
    assert balance_of(same, **changes) == pytest.approx(EXPERTS / experts_per_token, rel=1e-5)
    leaning = even.copy()
    leaning[..., 0] += 8.5
    assert 1.01 < balance_of(leaning, **changes) < EXPERTS / experts_per_token


def test_the_auxiliary_loss_by_hand():
    """Both parts, of logits that are all equal: logsumexp is log E, the balance is even."""
    layer = layer_of(balance_weight=0.3, router_z_weight=0.2)
    layer.router.kernel.assign(np.zeros((WIDTH, EXPERTS), "float32"))
    expected = 0.3 * EXPERTS * 2 * 0.5 / EXPERTS + 0.2 * np.log(EXPERTS) ** 2
    assert float(host(layer(INPUTS).auxiliary_loss)) == pytest.approx(expected, rel=1e-5)
    alone = layer_of("expert_choice", router_z_weight=0.2)
    alone.router.kernel.assign(np.zeros((WIDTH, EXPERTS), "float32"))
    assert float(host(alone(INPUTS).auxiliary_loss)) == pytest.approx(0.2 * np.log(EXPERTS) ** 2, rel=1e-5)


def gradients(layer, loss):
    """Of a loss of the layer's features, by the name of each weight."""
    names = [weight.name for weight in layer.trainable_weights]
    match keras.backend.backend():
        case "jax":
            import jax

            def of(values):
                features, _ = layer.stateless_call(values, fixed, INPUTS, training=True)
                return loss(features)

            fixed = [weight.value for weight in layer.non_trainable_variables]
            found = jax.grad(of)([weight.value for weight in layer.trainable_weights])
        case "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                value = loss(layer(INPUTS, training=True))
            found = tape.gradient(value, [weight.value for weight in layer.trainable_weights])
        case _:
            loss(layer(INPUTS, training=True)).backward()
            found = [weight.value.grad for weight in layer.trainable_weights]
    return dict(zip(names, map(host, found), strict=True))


@pytest.mark.parametrize("experts_per_token", [1, 2])
@pytest.mark.parametrize("kind", MIXTURES)
def test_gradients_reach_the_router_and_every_expert_that_took_something(kind, experts_per_token):
    layer = layer_of(kind, experts_per_token=experts_per_token)
    found = gradients(layer, lambda features: ops.sum(ops.square(features.stream)))
    took = counts_of(layer(INPUTS, training=True))["expert_tokens"] > 0
    assert np.abs(found["kernel"]).sum() > 1e-3
    for name in ("experts_in", "experts_out"):
        assert ((np.abs(found[name]).sum(axis=(1, 2)) > 0) == took).all()


def test_the_auxiliary_loss_pulls_at_the_router_alone():
    found = gradients(layer_of(), lambda features: features.auxiliary_loss + 0.0 * ops.sum(features.stream))
    assert np.abs(found["kernel"]).sum() > 1e-4
    assert not np.abs(found["experts_in"]).any()
    assert not np.abs(found["experts_out"]).any()


def test_the_router_stays_in_float32_under_mixed_precision():
    layer = layer_of(dtype="mixed_bfloat16")
    assert (layer.router.compute_dtype, layer.compute_dtype) == ("float32", "bfloat16")
    found = layer(INPUTS)
    assert keras.backend.standardize_dtype(found.stream.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(found.auxiliary_loss.dtype) == "float32"
    np.testing.assert_allclose(host(found.stream), host(layer_of()(INPUTS).stream), rtol=0.02, atol=0.05)


@pytest.mark.parametrize("kind", MIXTURES)
def test_dropout_of_hidden_features_acts_in_training_alone(kind):
    layer, plain = layer_of(kind, dropout=0.5, capacity_factor=WIDE), layer_of(kind, capacity_factor=WIDE)
    assert np.array_equal(host(layer(INPUTS).stream), host(plain(INPUTS).stream))
    first, second = (host(layer(INPUTS, training=True).stream) for _ in range(2))
    assert not np.allclose(first, second)


@pytest.mark.parametrize("kind", MIXTURES)
def test_the_experts_begin_as_different_layers_of_the_scales_of_a_swiglu(kind):
    layer = FEED_FORWARDS[kind](tiny_architecture(**MIXED[kind], width=64, ffn_width=64), 0.0, 0)
    layer.build((None, LENGTH, 64))
    into, out = host(layer.experts_in), host(layer.experts_out)
    assert into.std() == pytest.approx(0.02, rel=0.05)
    assert out.std() == pytest.approx(0.01, rel=0.05)  # two blocks
    assert not np.allclose(into[0], into[1])
    assert into.shape[2] == 2 * 64 != FFN_WIDTH


def test_the_kinds_are_those_that_there_are():
    assert {kind for kind, cls in FEED_FORWARDS.items() if issubclass(cls, Mixture)} == set(MIXTURES)

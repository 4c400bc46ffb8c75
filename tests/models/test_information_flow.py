"""No pass sees what it must predict: by perturbation on every backend, by true gradients under JAX."""

import keras
import numpy as np
import pytest
from keras import ops
from namespaces import host
from tiny import BATCH, LENGTH, VOCAB, drawn_example, example_of, random_tokens, tiny_transformer

from lab.objectives.corruption import causal_example, dense_example
from lab.objectives.draws import draw
from lab.objectives.losses import weighted_nll
from lab.threefry import Stream

pytestmark = pytest.mark.backend

ORDER = np.array([3, 0, 5, 1, 4, 2], np.int32)
HIDDEN = np.array([False, True, True, False, True, False])


def causal_logits(model, tokens, order=ORDER, **arguments):
    example = causal_example(tokens, np.tile(order, (len(tokens), 1)), VOCAB, np)
    return host(model(example, causal=True, **arguments))


def dense_inputs(tokens):
    hidden = np.tile(HIDDEN, (len(tokens), 1))
    return dense_example(tokens, hidden, VOCAB, np.ones(len(tokens), "float32"), np)


def changed_at(place):
    """The same sequences with other tokens at one place."""
    tokens = random_tokens()
    tokens[:, place] = (tokens[:, place] + 1) % VOCAB
    return tokens


@pytest.mark.parametrize("order", [ORDER, np.arange(LENGTH, dtype=np.int32)], ids=["any", "identity"])
def test_a_causal_slot_sees_exactly_the_tokens_before_it_in_the_order(order):
    model = tiny_transformer()
    base = causal_logits(model, random_tokens(), order)
    for rank, place in enumerate(order):
        found = causal_logits(model, changed_at(place), order)
        # Slot i predicts the token at rank i: slots up to the changed one's rank must not know.
        assert np.array_equal(found[:, : rank + 1], base[:, : rank + 1])
        assert (np.abs(found - base)[:, rank + 1 :].max(axis=-1) > 1e-4).all()


def test_a_dense_pass_sees_the_revealed_tokens_only():
    model = tiny_transformer()
    base = host(model(dense_inputs(random_tokens())))
    for place in range(LENGTH):
        found = host(model(dense_inputs(changed_at(place))))
        if HIDDEN[place]:
            assert np.array_equal(found, base)
        else:
            assert (np.abs(found - base).max(axis=-1) > 1e-4).all()


def test_the_causal_stream_with_dropout_does_not_leak():
    def first_step(tokens):  # a new model each time, so that both draw the same dropout
        model = tiny_transformer(attention_dropout=0.3, mlp_dropout=0.3, seed=5)
        return causal_logits(model, tokens, training=True)

    base = first_step(random_tokens())
    assert not np.array_equal(base, causal_logits(tiny_transformer(), random_tokens()))
    found = first_step(changed_at(ORDER[2]))
    assert np.array_equal(found[:, :3], base[:, :3])
    assert np.abs(found - base)[:, 3:].max() > 1e-3


@pytest.mark.parametrize("windows", ["fixed", "jittered"])
@pytest.mark.parametrize(
    "factors",
    [
        {"order": "left_to_right", "compute": "dense"},
        {"order": "any", "compute": "dense"},
        {"order": "any", "compute": "dense", "estimator": "bernoulli"},
    ],
    ids=["suffix", "counted", "bernoulli"],
)
def test_what_the_objective_scores_is_no_input(factors, windows):
    """Through the real draws: other targets at the scored places leave every logit as it is."""
    model = tiny_transformer()
    tokens = random_tokens()
    example = drawn_example(tokens, windows=windows, **factors)
    other = np.where(example.weights > 0, (tokens + 1) % VOCAB, tokens).astype(np.int32)
    again = drawn_example(other, windows=windows, **factors)
    assert not np.array_equal(tokens, other)
    assert np.array_equal(host(model(example)), host(model(again)))


def jacobian(model, inputs, causal):
    """How much each slot's logits change with each token's embedding: (rows, slots, VOCAB + 1).

    With untied embeddings a row of the token table acts only where its token is an input.
    """
    import jax

    table = model.token_embedding.embeddings
    rows = [weight.value for weight in model.trainable_variables]
    index = next(i for i, weight in enumerate(model.trainable_variables) if weight is table)
    fixed = [weight.value for weight in model.non_trainable_variables]

    def logits(embeddings):
        weights = [*rows[:index], embeddings, *rows[index + 1 :]]
        return model.stateless_call(weights, fixed, inputs, causal=causal)[0]

    # Forward mode: of 8 rows and more, the compiled `jacrev` of jax 0.10.2 on a CPU mixes up its rows.
    return np.abs(np.asarray(jax.jit(jax.jacfwd(logits))(table.value))).sum(axis=(2, 4))


only_jax = pytest.mark.skipif(keras.config.backend() != "jax", reason="true gradients are taken under JAX")


@only_jax
def test_gradients_flow_only_from_what_a_slot_may_see():
    model = tiny_transformer(tie_embeddings=False)
    tokens = np.arange(LENGTH, dtype=np.int32)[None]  # all different: token i stands at place i
    stream = causal_example(tokens, ORDER[None], VOCAB, np)
    flow = jacobian(model, stream, causal=True)[0]
    ranks = np.argsort(ORDER)
    for slot in range(LENGTH):
        for place in range(LENGTH):
            assert (flow[slot, place] > 0) == (ranks[place] < slot), (slot, place)
    assert (flow[:, VOCAB] > 0).all()  # the start is seen by all

    flow = jacobian(model, dense_inputs(tokens), causal=False)[0]
    assert np.array_equal(flow[:, :LENGTH] > 0, np.tile(~HIDDEN, (LENGTH, 1)))
    assert (flow[:, VOCAB] > 0).all()  # the mask stands at every hidden place


@only_jax
@pytest.mark.parametrize("loops", [1, 2])
@pytest.mark.parametrize("compute", ["causal", "dense"])
def test_gradients_flow_only_from_before_in_every_order(compute, loops):
    """Through the objective's own draws, four of each level: what comes later in the order tells nothing."""
    model = tiny_transformer(tie_embeddings=False, loops=loops)
    levels = ("left_to_right", "right_to_left:1", "right_to_left:0.5", "fixed:2", "any")
    ids = np.arange(4, dtype=np.int32)
    tokens = np.tile(np.arange(LENGTH, dtype=np.int32), (4, 1))
    drawn, parts = [], []
    for level in levels:
        drawn.append(draw(0, Stream.TRAINING_DRAWS, ids, np.zeros_like(ids), LENGTH, level, np))
        parts.append(drawn_example(tokens, windows="fixed", order=level, compute=compute))
    whole = [[np.broadcast_to(values, tokens.shape) for values in part[:3]] for part in parts]
    inputs = example_of(*map(np.concatenate, zip(*whole, strict=True)))
    orders = np.concatenate([one.order for one in drawn])
    counts = np.concatenate([one.hidden_count for one in drawn])
    assert (orders != np.arange(LENGTH)).any(axis=1).sum() > 8
    flow = jacobian(model, inputs, causal=compute == "causal")[:, :, :LENGTH] > 0
    ranks = np.argsort(orders, axis=1)
    if compute == "causal":  # slot i may know the places of rank below i
        expected = ranks[:, None, :] < np.arange(LENGTH)[:, None]
    else:  # every slot may know the revealed places
        expected = np.broadcast_to((ranks < LENGTH - counts[:, None])[:, None, :], flow.shape)
    assert np.array_equal(flow, expected)


VISIBLE = np.array(
    [[True, False, True, True, False, False], [False, True, True, False, True, True], [False] * LENGTH]
)


def masked_inputs(causal):
    example = causal_example(random_tokens(), np.tile(ORDER, (BATCH, 1)), VOCAB, np)
    case = example if causal else dense_inputs(random_tokens())
    return case._replace(visible=VISIBLE)


def who_may_know(causal):
    """(rows, slots that know, slots known): itself and the visible ones, in a stream the earlier of them."""
    known = VISIBLE[:, None, :] | np.eye(LENGTH, dtype=bool)
    return known & np.tri(LENGTH, dtype=bool) if causal else known


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("causal", [True, False])
def test_a_blocked_slot_is_known_to_itself_alone(causal, training):
    """At any depth and loop, also beside the dropout of attention weights and of features."""

    def logits(case):  # a new model each time, so that both draw the same dropout
        dropouts = {"attention_dropout": 0.2, "mlp_dropout": 0.2} if training else {}
        return host(tiny_transformer(loops=2, **dropouts)(case, causal=causal, training=training))

    case = masked_inputs(causal)
    base = logits(case)
    assert np.isfinite(base).all()
    for slot in range(LENGTH):
        changed = case._replace(tokens=case.tokens.copy())
        changed.tokens[:, slot] = (changed.tokens[:, slot] + 1) % VOCAB
        difference = np.abs(logits(changed) - base).max(axis=-1)
        expected = who_may_know(causal)[:, :, slot]
        assert (difference[~expected] == 0).all()
        assert (difference[expected] > (0 if training else 1e-4)).all()


@only_jax
@pytest.mark.parametrize("causal", [True, False])
def test_no_gradient_flows_from_a_blocked_slot(causal):
    model = tiny_transformer(tie_embeddings=False)
    tokens = np.tile(np.arange(LENGTH, dtype=np.int32), (BATCH, 1))  # token i stands at slot i
    case = masked_inputs(causal)._replace(tokens=tokens)
    flow = jacobian(model, case, causal)[:, :, :LENGTH] > 0
    assert np.array_equal(flow, who_may_know(causal))


@pytest.mark.parametrize("causal", [True, False])
def test_a_mask_that_blocks_nothing_is_the_pass_without_one(causal):
    model = tiny_transformer()
    case = masked_inputs(causal)
    open_ = host(model(case._replace(visible=np.ones_like(VISIBLE)), causal=causal))
    plain = host(model(case._replace(visible=None), causal=causal))
    assert np.allclose(open_, plain, rtol=1e-5, atol=1e-5)
    assert np.abs(host(model(case, causal=causal)) - plain).max() > 0.1


@pytest.mark.parametrize("compute", ["causal", "dense"])
def test_a_uniform_network_scores_log_v(compute):
    """A network without weights predicts uniformly, whatever the corner."""
    model = tiny_transformer(random_weights=False)
    model.token_embedding.embeddings.assign(np.zeros(model.token_embedding.embeddings.shape, "float32"))
    example = drawn_example(random_tokens(), windows="fixed", order="any", compute=compute)
    logits = model(example, causal=compute == "causal")
    loss = host(weighted_nll(logits, *map(ops.convert_to_tensor, (example.targets, example.weights))))
    assert np.allclose(loss, np.log(VOCAB), rtol=1e-6)

"""What an architecture refuses, and the functions that its fields beyond the sizes choose."""

from dataclasses import FrozenInstanceError, asdict, replace

import numpy as np
import pytest
from keras import ops
from namespaces import host
from tiny import (
    BATCH,
    HEADS,
    LENGTH,
    MIXED,
    VOCAB,
    WIDTH,
    example_of,
    random_tokens,
    tiny_architecture,
    tiny_transformer,
)

from lab.models import feed_forward
from lab.models.architecture import Architecture
from lab.models.features import Features
from lab.models.feed_forward import make_feed_forward
from lab.models.swiglu import SwiGLU

SLOTS = np.tile(np.arange(LENGTH, dtype=np.int32), (BATCH, 1))


def stream(start=VOCAB):
    tokens = random_tokens()
    shifted = np.concatenate([np.full((BATCH, 1), start, np.int32), tokens[:, :-1]], axis=1)
    return example_of(shifted, SLOTS, SLOTS + np.int32(1))


def causal_logits(model, example):
    return host(model(example, causal=True))


def values_of(model):
    return {weight.path: np.array(weight) for weight in model.trainable_weights}


def assign(model, values):
    for weight in model.trainable_weights:
        weight.assign(values[weight.path])


def test_what_is_not_given_follows_from_the_rest():
    architecture = tiny_architecture()
    assert (architecture.head_dim, architecture.kv_heads) == (WIDTH // HEADS, HEADS)
    assert (architecture.mask_id, architecture.start_id) == (VOCAB, VOCAB)
    assert tiny_architecture(mask_id=2).start_id == 2
    assert Architecture(**asdict(architecture)) == architecture
    with pytest.raises(FrozenInstanceError):
        architecture.width = 16


@pytest.mark.parametrize(("ids", "rows"), [((None, None), 1), ((2, None), 0), ((2, 3), 0), ((2, VOCAB), 1)])
def test_only_an_id_beyond_the_vocabulary_has_a_row_of_its_own(ids, rows):
    assert tiny_architecture(mask_id=ids[0], start_id=ids[1]).embedding_rows == VOCAB + rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, r"`layers` must be at least 1, but got layers=0\."),
        ({"heads": 3}, r"`width / heads` must be a whole even number .*, but got width=8, heads=3\."),
        ({"heads": 8}, r"`width / heads` must be a whole even number .*, but got width=8, heads=8\."),
        ({"head_dim": 5}, r"`head_dim` must be an even number above 0 .*, but got head_dim=5\."),
        ({"head_dim": 0}, r"`head_dim` must be an even number above 0 .*, but got head_dim=0\."),
        ({"kv_heads": 3}, r"`kv_heads` must divide heads, but got kv_heads=3, heads=2\."),
        ({"kv_heads": 0}, r"`kv_heads` must divide heads, but got kv_heads=0, heads=2\."),
        ({"norm_epsilon": 0.0}, r"`norm_epsilon` must be above 0, but got norm_epsilon=0\.0\."),
        ({"rope_base": 1.0}, r"`rope_base` must be above 1, but got rope_base=1\.0\."),
        (
            {"mask_id": 8},
            r"`mask_id` must be in the vocabulary or the id after it, in 0 \.\. 7, .*mask_id=8\.",
        ),
        ({"experts": 0}, r"`experts` must be at least 1, but got experts=0\."),
        (
            {"experts": 2},
            r"`experts` must be above 1 for a feed_forward of .*, but got experts=2, .*=swiglu\.",
        ),
        ({"feed_forward": "token_choice"}, r"`experts` must be above 1 .*experts=1, .*=token_choice\."),
        (
            {**MIXED["token_choice"], "experts_per_token": 5},
            r"`experts_per_token` must be at most experts, but got experts_per_token=5, experts=4\.",
        ),
        ({"capacity_factor": 0.0}, r"`capacity_factor` must be above 0, but got capacity_factor=0\.0\."),
        ({"balance_weight": -0.1}, r"`balance_weight` must be at least 0, but got balance_weight=-0\.1\."),
        ({"start_id": -1}, r"`start_id` must be in the vocabulary .*, but got start_id=-1\."),
    ],
)
def test_what_fits_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_architecture(**changes)


def test_a_feed_forward_kind_must_exist():
    kinds = r"\['expert_choice', 'swiglu', 'token_choice'\]"
    with pytest.raises(ValueError, match=rf"`feed_forward` must be one of {kinds}, but got 'relu'\."):
        make_feed_forward(tiny_architecture(feed_forward="relu"), 0.0, 0)


@pytest.mark.backend
def test_gains_of_one_change_no_logit_and_others_do():
    model, plain = tiny_transformer(norm_gain=True), tiny_transformer()
    gains = {path: np.ones_like(value) for path, value in values_of(model).items() if path.endswith("/scale")}
    assert len(gains) == 2 * 4 + 1
    assert set(values_of(model)) == set(values_of(plain)) | set(gains)
    assign(model, {**values_of(plain), **gains})
    expected = causal_logits(plain, stream())
    assert np.array_equal(causal_logits(model, stream()), expected)
    for path, ones in gains.items():
        assign(
            model, {**values_of(plain), **gains, path: ones * np.linspace(0.5, 2, len(ones), dtype="float32")}
        )
        assert np.abs(causal_logits(model, stream()) - expected).max() > 1e-2, path


@pytest.mark.backend
def test_a_gain_is_that_of_the_projection_after_it():
    model, plain = tiny_transformer(norm_gain=True), tiny_transformer()
    values = values_of(plain)
    gain = np.linspace(0.5, 2, WIDTH).astype("float32")
    gains = {path: np.ones_like(value) for path, value in values_of(model).items() if path.endswith("/scale")}
    assign(model, {**values, **gains, "transformer/block_0/attention_norm/scale": gain})
    kernel = "transformer/block_0/attention/query_key_value/kernel"
    assign(plain, {**values, kernel: gain[:, None] * values[kernel]})
    assert np.allclose(causal_logits(model, stream()), causal_logits(plain, stream()), rtol=1e-4, atol=1e-4)


@pytest.mark.backend
@pytest.mark.parametrize("dropout", [0.0, 1e-7])
def test_grouped_queries_are_heads_with_the_same_keys_and_values(dropout):
    """With dropout's rate next to 0 the unfused path is the same."""
    changes = {"heads": 4, "head_dim": 2}
    grouped = tiny_transformer(kv_heads=2, attention_dropout=dropout, **changes)
    full = tiny_transformer(**changes)
    values = values_of(grouped)
    for path, value in values.items():
        if "query_key_value" in path:
            query, key, value = np.split(value, [8, 12], axis=1)
            repeated = [
                np.repeat(part.reshape(WIDTH, 2, 2), 2, axis=1).reshape(WIDTH, 8) for part in (key, value)
            ]
            values[path] = np.concatenate([query, *repeated], axis=1)
    assign(full, values)
    found = host(grouped(stream(), causal=True, training=True))
    assert np.allclose(found, causal_logits(full, stream()), rtol=1e-4, atol=1e-4)


@pytest.mark.backend
def test_without_qk_norm_longer_queries_attend_more_sharply():
    scaled = {}
    for qk_norm in (True, False):
        model = tiny_transformer(qk_norm=qk_norm, layers=1)
        before = causal_logits(model, stream())
        kernel = model.blocks[0].attention.query_key_value.kernel
        kernel.assign(np.array(kernel) * np.repeat([3.0, 1.0, 1.0], WIDTH).astype("float32"))
        scaled[qk_norm] = np.abs(causal_logits(model, stream()) - before).max()
    assert scaled[True] < 1e-4 < 1e-2 < scaled[False]


@pytest.mark.backend
@pytest.mark.parametrize("change", [{"rope_base": 100.0}, {"norm_epsilon": 0.1}, {"qk_norm": False}])
def test_each_choice_is_another_function_of_the_same_weights(change):
    model, plain = tiny_transformer(**change), tiny_transformer()
    assert values_of(model).keys() == values_of(plain).keys()
    assert np.abs(causal_logits(model, stream()) - causal_logits(plain, stream())).max() > 1e-3


@pytest.mark.backend
def test_without_target_embedding_target_positions_do_not_count():
    model = tiny_transformer(target_embedding=False)
    assert not [path for path in values_of(model) if "target" in path]
    example = stream()
    moved = example._replace(target_positions=example.target_positions[:, ::-1])
    assert np.array_equal(causal_logits(model, moved), causal_logits(model, example))


@pytest.mark.backend
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_a_mask_in_the_vocabulary_is_read_and_never_predicted(tie_embeddings):
    model = tiny_transformer(mask_id=2, tie_embeddings=tie_embeddings)
    assert (model.mask_id, model.start_id) == (2, 2)
    assert model.token_embedding.embeddings.shape == (VOCAB, WIDTH)
    logits = causal_logits(model, stream(start=2))
    assert logits.shape == (BATCH, LENGTH, VOCAB)
    assert np.isfinite(logits).all()
    chances = np.exp(logits - logits.max(axis=-1, keepdims=True))
    assert (chances[..., 2] == 0).all()
    assert (np.delete(logits, 2, axis=-1) > -1e3).all()


@pytest.mark.backend
def test_what_a_feed_forward_layer_says_is_summed_over_blocks_and_loops(monkeypatch):
    class Talking(SwiGLU):
        def call(self, inputs, training=False):
            tokens = ops.sum(ops.ones_like(inputs[..., 0]))
            return Features(super().call(inputs, training=training), tokens / 10, {"tokens": tokens})

    monkeypatch.setitem(feed_forward.FEED_FORWARDS, "talking", Talking)
    talking, plain = tiny_transformer(feed_forward="talking", loops=2), tiny_transformer(loops=2)
    found, expected = (model.features(stream(), causal=True) for model in (talking, plain))
    assert np.array_equal(host(found.stream), host(expected.stream))
    assert (expected.auxiliary_loss, expected.counts) == (None, {})
    a_pass = BATCH * LENGTH
    assert float(found.auxiliary_loss) == pytest.approx(2 * 2 * a_pass / 10)
    assert {name: float(count) for name, count in found.counts.items()} == {
        "block_0/tokens": 2 * a_pass,
        "block_1/tokens": 2 * a_pass,
    }
    assert np.array_equal(causal_logits(talking, stream()), causal_logits(plain, stream()))


def test_a_replaced_size_keeps_what_followed_from_the_old_one():
    """So a study changes sizes in its configuration, from which the architecture is made anew."""
    assert replace(tiny_architecture(), width=16).head_dim == WIDTH // HEADS

"""A Transformer small enough to check by hand, and the decoder that it must equal, in NumPy."""

import numpy as np

from lab.config import FactorsConfig
from lab.models.architecture import MIXTURES, Architecture
from lab.models.transformer import Transformer
from lab.objectives.corruption import Example
from lab.objectives.objective import Objective

BATCH, VOCAB, LENGTH, LAYERS, WIDTH, HEADS, FFN_WIDTH = 3, 7, 6, 2, 8, 2, 12

# What makes a model one of mixtures, by their kind.
MIXED = {kind: {"feed_forward": kind, "experts": 4, "experts_per_token": 2} for kind in MIXTURES}


def tiny_architecture(**changes):
    sizes = {"layers": LAYERS, "width": WIDTH, "heads": HEADS, "ffn_width": FFN_WIDTH}
    return Architecture(**{"vocab_size": VOCAB, "length": LENGTH, **sizes, **changes})


def tiny_transformer(
    random_weights=True, attention_dropout=0.0, mlp_dropout=0.0, seed=0, dtype=None, **changes
):
    """A built Transformer. Its weights are of order 1, so that no part of it is lost in another's shadow."""
    architecture = tiny_architecture(**changes)
    model = Transformer(architecture, attention_dropout, mlp_dropout, seed, dtype=dtype, name="transformer")
    model.build()
    if random_weights:
        rng = np.random.default_rng(0)
        for weight in model.trainable_weights:
            weight.assign(0.5 * rng.normal(size=weight.shape).astype("float32"))
    return model


def example_of(tokens, positions, target_positions, visible=None):
    """What a model reads; its targets and weights count for nothing."""
    return Example(tokens, positions, target_positions, tokens, np.zeros(tokens.shape, "float32"), visible)


def drawn_example(tokens, visits=0, seed=0, windows="jittered", **factors):
    """What the objective of these factors makes of windows that follow one another, at a visit each."""
    objective = Objective(FactorsConfig(**factors), LENGTH, VOCAB, windows, batch_size=len(tokens))
    rows = np.arange(len(tokens), dtype=np.int32)
    places = rows[:, None] * np.int32(LENGTH) + np.arange(LENGTH, dtype=np.int32)
    return objective.example(tokens, places, np.full_like(rows, visits), rows, seed, np)


def random_tokens():
    return np.random.default_rng(0).integers(0, VOCAB, (BATCH, LENGTH)).astype(np.int32)


def numpy_decoder(model, tokens, loops=1):
    """Logits of each token from those before it: a plain Transformer decoder, one sequence at a time.

    Args:
        model: whose weights to take.
        tokens: (batch, LENGTH) int.
        loops: how often the layers are gone through.

    Returns:
        (batch, LENGTH, VOCAB) float64.
    """
    weights = {weight.path: np.array(weight, np.float64) for weight in model.trainable_weights}
    table = weights["transformer/token_embedding/embeddings"]
    head = weights.get("transformer/token_embedding/reverse_embeddings", table.T)
    return np.stack([_decode(weights, table, head, sequence, loops) for sequence in tokens])


def _decode(weights, table, head, sequence, loops):
    stream = np.concatenate([[VOCAB], sequence[:-1]])  # starts with the mask id
    x = table[stream] + weights["transformer/target_embedding/embeddings"]
    for layer in list(range(LAYERS)) * loops:
        block = {
            path.removeprefix(f"transformer/block_{layer}/"): value
            for path, value in weights.items()
            if path.startswith(f"transformer/block_{layer}/")
        }
        x = x + _attention(block, _normalise(x))
        x = x + _feed_forward(block, _normalise(x))
    return (_normalise(x) @ head)[:, :VOCAB]


def _normalise(x):
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True))


def _turn(vector, position):
    """RoPE as complex numbers: pair (i, i + half) times exp(i position / 10000**(2 i / width))."""
    half = len(vector) // 2
    pairs = vector[:half] + 1j * vector[half:]
    pairs = pairs * np.exp(1j * position * 10_000.0 ** (-np.arange(half) / half))
    return np.concatenate([pairs.real, pairs.imag])


def _attention(block, x):
    query_key_value = x @ block["attention/query_key_value/kernel"]
    attended = np.zeros((LENGTH, WIDTH))
    head_width = WIDTH // HEADS
    for head in range(HEADS):
        query, key, value = (
            query_key_value[:, part * WIDTH + head * head_width :][:, :head_width] for part in range(3)
        )
        query, key = _normalise(query), _normalise(key)
        for slot in range(LENGTH):
            turned = _turn(query[slot], slot)
            scores = np.array([turned @ _turn(key[other], other) for other in range(slot + 1)])
            chances = np.exp(scores / np.sqrt(head_width))
            chances /= chances.sum()
            attended[slot, head * head_width : (head + 1) * head_width] = chances @ value[: slot + 1]
    return attended @ block["attention/output/kernel"]


def _feed_forward(block, x):
    gate, up = np.split(x @ block["feed_forward/gate_and_up/kernel"], 2, axis=-1)
    return (gate / (1 + np.exp(-gate)) * up) @ block["feed_forward/output/kernel"]

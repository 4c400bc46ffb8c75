"""The Transformer, its loss and its gradient in float64 NumPy, written from the design, not the layers."""

import numpy as np


def normalise(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-7)


def turn(x, positions):
    """RoPE on (batch, slots, heads, head width)."""
    half = x.shape[-1] // 2
    angles = positions[:, :, None, None] * 10_000.0 ** (-np.arange(half) / half)
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logits(weights, example, heads, causal, loops=1):
    """(batch, slots, vocab) of a model with tied embeddings.

    Args:
        weights: arrays by the last words of their paths: `token_embedding/embeddings`,
            `target_embedding/embeddings` and those of each block.
        example: tokens, positions, target positions and which slots the others may see.
        heads: attention heads.
        causal: whether slot i sees slots 0 .. i alone.
        loops: how often the blocks are gone through.
    """
    tokens, slots = example.tokens, example.tokens.shape[1]
    positions = np.broadcast_to(example.positions, tokens.shape)
    targets = np.broadcast_to(example.target_positions, tokens.shape)
    embedding = weights["token_embedding/embeddings"]
    x = embedding[tokens] + weights["target_embedding/embeddings"][targets - 1]
    seen = np.ones((slots, slots), bool) if example.visible is None else example.visible[:, None, None, :]
    seen = seen | np.eye(slots, dtype=bool)
    if causal:
        seen = seen & np.tri(slots, dtype=bool)
    layers = sum(name.endswith("query_key_value/kernel") for name in weights)
    for block in list(range(layers)) * loops:
        qkv, out, up, down = (
            weights[f"block_{block}/{name}/kernel"]
            for name in (
                "attention/query_key_value",
                "attention/output",
                "feed_forward/gate_and_up",
                "feed_forward/output",
            )
        )
        split = (normalise(x) @ qkv).reshape(*tokens.shape, 3, heads, -1)
        query, key = (turn(normalise(split[:, :, i]), positions) for i in (0, 1))
        scores = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
        attended = np.einsum("bhqk,bkhd->bqhd", softmax(np.where(seen, scores, -np.inf)), split[:, :, 2])
        x = x + attended.reshape(x.shape) @ out
        gate, linear = np.split(normalise(x) @ up, 2, axis=-1)
        x = x + (gate / (1 + np.exp(-gate)) * linear) @ down
    return normalise(x) @ embedding[:-1].T


def mean_loss(weights, example, heads, causal, loops=1):
    """Nats/token, the mean over the sequences."""
    log_probs = np.log(softmax(logits(weights, example, heads, causal, loops)))
    chosen = np.take_along_axis(log_probs, example.targets[..., None], axis=-1)[..., 0]
    return float(-(example.weights * chosen).sum(-1).mean())


def gradient(weights, loss, step=1e-5):
    """The gradient of `loss(weights)` by central differences: arrays of the weights' names and shapes."""
    found = {name: np.zeros_like(array) for name, array in weights.items()}
    for name, array in weights.items():
        for place in np.ndindex(array.shape):
            before = array[place]
            array[place] = before + step
            above = loss(weights)
            array[place] = before - step
            found[name][place] = (above - loss(weights)) / (2 * step)
            array[place] = before
    return found

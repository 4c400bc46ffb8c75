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


def logits(weights, example, heads, causal):
    """(batch, slots, vocab) of a model with tied embeddings.

    Args:
        weights: arrays by the last words of their paths: `token_embedding/embeddings`,
            `target_embedding/embeddings` and those of each block.
        example: tokens, positions and target positions.
        heads: attention heads.
        causal: whether slot i sees slots 0 .. i alone.
    """
    tokens, slots = example.tokens, example.tokens.shape[1]
    positions = np.broadcast_to(example.positions, tokens.shape)
    targets = np.broadcast_to(example.target_positions, tokens.shape)
    embedding = weights["token_embedding/embeddings"]
    x = embedding[tokens] + weights["target_embedding/embeddings"][targets - 1]
    block = 0
    while f"block_{block}/attention/query_key_value/kernel" in weights:
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
        if causal:
            scores = np.where(np.tri(slots, dtype=bool), scores, -np.inf)
        attended = np.einsum("bhqk,bkhd->bqhd", softmax(scores), split[:, :, 2])
        x = x + attended.reshape(x.shape) @ out
        gate, linear = np.split(normalise(x) @ up, 2, axis=-1)
        x = x + (gate / (1 + np.exp(-gate)) * linear) @ down
        block += 1
    return normalise(x) @ embedding[:-1].T


def mean_loss(weights, example, heads, causal):
    """Nats/token, the mean over the sequences."""
    log_probs = np.log(softmax(logits(weights, example, heads, causal)))
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

"""The Transformer, its loss and its gradient in float64 NumPy, written from the design, not the layers."""

import numpy as np


def normalise(x):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-7)


def turn(x, positions):
    """RoPE on (..., batch, slots, heads, head width)."""
    half = x.shape[-1] // 2
    angles = positions[:, :, None, None] * 10_000.0 ** (-np.arange(half) / half)
    turned = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logits(weights, example, heads, causal, loops=1, block_size=0):
    """(..., batch, slots, vocab) of a model with tied embeddings.

    Args:
        weights: arrays by the last words of their paths: `token_embedding/embeddings`,
            `target_embedding/embeddings` and those of each block. One with an axis more in front stands for
            as many models.
        example: tokens, positions, target positions and which slots the others may see.
        heads: attention heads.
        causal: whether slot i sees slots 0 .. i alone.
        loops: how often the blocks are gone through.
        block_size: of blocks of tokens in a stream of clean slots and noisy ones; the logits are the noisy's.
    """
    tokens, slots = example.tokens, example.tokens.shape[1]
    positions = np.broadcast_to(example.positions, tokens.shape)
    targets = np.broadcast_to(example.target_positions, tokens.shape)
    embedding = weights["token_embedding/embeddings"]
    x = embedding[..., tokens, :] + weights["target_embedding/embeddings"][..., targets - 1, :]
    seen = np.ones((slots, slots), bool) if example.visible is None else example.visible[:, None, None, :]
    seen = seen | np.eye(slots, dtype=bool)
    if causal:
        seen = seen & np.tri(slots, dtype=bool)
    if block_size:
        number, noisy = np.arange(slots) % (slots // 2) // block_size, np.arange(slots) >= slots // 2
        of_clean = ~noisy & (number < number[:, None] + ~noisy[:, None])
        seen = of_clean | (noisy & noisy[:, None] & (number == number[:, None]))
    layers = sum(name.endswith("query_key_value/kernel") for name in weights)
    for block in list(range(layers)) * loops:
        qkv, out, up, down = (
            weights[f"block_{block}/{name}/kernel"][..., None, :, :]
            for name in (
                "attention/query_key_value",
                "attention/output",
                "feed_forward/gate_and_up",
                "feed_forward/output",
            )
        )
        projected = normalise(x) @ qkv
        split = projected.reshape(*projected.shape[:-1], 3, heads, -1)
        query, key = (turn(normalise(split[..., i, :, :]), positions) for i in (0, 1))
        scores = np.einsum("...qhd,...khd->...hqk", query, key) / np.sqrt(query.shape[-1])
        chances = softmax(np.where(seen, scores, -np.inf))
        attended = np.einsum("...hqk,...khd->...qhd", chances, split[..., 2, :, :])
        x = x + attended.reshape(*attended.shape[:-2], -1) @ out
        gate, linear = np.split(normalise(x) @ up, 2, axis=-1)
        x = x + (gate / (1 + np.exp(-gate)) * linear) @ down
    x = x[..., slots // 2 :, :] if block_size else x
    return normalise(x) @ np.swapaxes(embedding[..., :-1, :], -1, -2)[..., None, :, :]


def mean_loss(weights, example, heads, causal, loops=1, block_size=0):
    """Nats/token, the mean over the sequences: (...)."""
    log_probs = np.log(softmax(logits(weights, example, heads, causal, loops, block_size)))
    targets = np.broadcast_to(example.targets[..., None], (*log_probs.shape[:-1], 1))
    chosen = np.take_along_axis(log_probs, targets, axis=-1)[..., 0]
    return -(example.weights * chosen).sum(-1).mean(-1)


def gradient(weights, loss, step=1e-5):
    """The gradient of `loss(weights)` by central differences: arrays of the weights' names and shapes."""
    slopes = {}
    for name, array in weights.items():
        steps = step * np.eye(array.size).reshape(array.size, *array.shape)
        above, below = (loss({**weights, name: array + sign * steps}) for sign in (1, -1))
        slopes[name] = ((above - below) / (2 * step)).reshape(array.shape)
    return slopes

"""The same training step by hand: functions of arrays, optax, and a loop over a compiled update."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.sides.case import (
    BETAS,
    CLIP_NORM,
    EPSILON,
    LEARNING_RATE,
    WEIGHT_DECAY,
    Case,
    Updates,
    batches,
)

Weights = dict[str, Any]


def weights(case: Case) -> Weights:
    """Random weights, by name; those of the blocks in a list."""
    generator = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> jax.Array:
        return jnp.asarray(generator.normal(0, 0.02, (rows, columns)), jnp.float32)

    d, f = case.width, case.ffn_width
    blocks = [
        {"qkv": matrix(d, 3 * d), "attended": matrix(d, d), "gate_up": matrix(d, 2 * f), "down": matrix(f, d)}
        for _ in range(case.layers)
    ]
    return {
        "tokens": matrix(case.vocab_size + 1, d),
        "targets": matrix(case.length, d),
        "blocks": blocks,
    }


def norm(x: jax.Array) -> jax.Array:
    """Root-mean-square normalisation, in float32."""
    wide = x.astype(jnp.float32)
    return (wide * jax.lax.rsqrt(jnp.mean(wide * wide, -1, keepdims=True) + 1e-7)).astype(x.dtype)


def rotate(x: jax.Array, cosine: jax.Array, sine: jax.Array) -> jax.Array:
    """RoPE of (batch, length, heads, features)."""
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], -1)


def losses(case: Case, w: Weights, read: jax.Array, positions: np.ndarray, targets: jax.Array) -> jax.Array:
    """NLL of each slot: (batch, length) float32."""
    kind = jnp.dtype(case.dtype)
    d, heads = case.width, case.heads
    angles = np.outer(positions, 10_000.0 ** (-np.arange(0, d // heads, 2) / (d // heads)))[None, :, None]
    cosine, sine = jnp.asarray(np.cos(angles), kind), jnp.asarray(np.sin(angles), kind)
    cast = partial(jax.tree.map, lambda x: x.astype(kind))
    x = cast(w["tokens"])[read] + cast(w["targets"])
    for block in cast(w["blocks"]):
        rows = norm(x).reshape(-1, d) @ block["qkv"]
        query, key, value = (
            part.reshape(-1, case.length, heads, d // heads) for part in jnp.split(rows, 3, -1)
        )
        query, key = (rotate(norm(part), cosine, sine) for part in (query, key))
        # JAX takes the slower one unless it is told; cuDNN's has no float32.
        flash = jax.default_backend() == "gpu" and case.dtype == "bfloat16"
        attended = jax.nn.dot_product_attention(
            query, key, value, is_causal=case.arm == "ar", implementation="cudnn" if flash else None
        )
        x = x + (attended.reshape(-1, d) @ block["attended"]).reshape(x.shape)
        gate, up = jnp.split(norm(x).reshape(-1, d) @ block["gate_up"], 2, -1)
        x = x + ((jax.nn.silu(gate) * up) @ block["down"]).reshape(x.shape)
    logits = (norm(x).reshape(-1, d) @ cast(w["tokens"]).T)[:, : case.vocab_size].astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets.reshape(-1)).reshape(targets.shape)


def loss(case: Case, w: Weights, tokens: jax.Array, key: jax.Array) -> jax.Array:
    """The mean loss of a batch, nats/token."""
    mask = case.vocab_size
    if case.arm == "ar":
        start = jnp.full_like(tokens[:, :1], mask)
        read = jnp.concatenate([start, tokens[:, :-1]], 1)
        return losses(case, w, read, np.arange(case.length), tokens).mean()
    ranks = jnp.argsort(jax.random.uniform(key, tokens.shape), axis=-1)
    hidden = jax.random.randint(key, (tokens.shape[0], 1), 1, case.length + 1)
    is_hidden = ranks < hidden
    each = losses(case, w, jnp.where(is_hidden, mask, tokens), np.arange(1, case.length + 1), tokens)
    return (jnp.where(is_hidden, each, 0.0).sum(-1) / hidden[:, 0]).mean()


def make(case: Case) -> Updates:
    """Compile the update."""
    optimizer = optax.chain(
        optax.clip_by_global_norm(CLIP_NORM),
        optax.adamw(LEARNING_RATE, *BETAS, eps=EPSILON, weight_decay=WEIGHT_DECAY),
    )

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(
        w: Weights, state: Any, tokens: jax.Array, number: jax.Array
    ) -> tuple[Weights, Any, jax.Array]:
        key = jax.random.fold_in(jax.random.key(0), number)
        value, gradients = jax.value_and_grad(partial(loss, case))(w, tokens, key)
        changes, state = optimizer.update(gradients, state, w)
        return optax.apply_updates(w, changes), state, value

    w = weights(case)
    state = optimizer.init(w)
    made = 0

    def updates(count: int) -> None:
        nonlocal w, state, made
        value = None
        for text in batches(case, made, count):
            for tokens in text:
                w, state, value = update(w, state, tokens, np.int32(made))
                made += 1
        jax.block_until_ready(value)

    return updates

"""Losses of an example, nats/token."""

from typing import Any

from keras import ops

Tensor = Any


def token_nll(logits: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood of each target.

    Args:
        logits: (..., vocab) float32.
        targets: (...) int32 in [0, vocab).

    Returns:
        (...) float32, nats.
    """
    chosen = ops.take_along_axis(logits, ops.expand_dims(targets, -1), axis=-1)
    return ops.logsumexp(logits, axis=-1) - ops.squeeze(chosen, -1)


def weighted_nll(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The loss of each sequence: the sum over its slots of weight times NLL.

    Args:
        logits: (batch, slots, vocab) float32.
        targets: (batch, slots) int32.
        weights: (batch, slots) float32.

    Returns:
        (batch,) float32, nats/token.
    """
    return ops.sum(weights * token_nll(logits, targets), axis=-1)

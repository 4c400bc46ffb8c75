"""From a draw to what a pass reads and what it must predict."""

from typing import Any, NamedTuple

import numpy as np

Array = Any


class Example(NamedTuple):
    """What a model reads, what it predicts, and how much each prediction counts.

    Attributes:
        tokens: (batch, L) int32 inputs; the mask id hides a token or starts a causal stream.
        positions: (1 or batch, L) int32, each input's own position in 1 .. L; 0 for the start.
        target_positions: (1 or batch, L) int32, the position each slot predicts, in 1 .. L.
        targets: (batch, L) int32, the token there; where the slots are doubled (`block_example`), of the
            last L of 2 L.
        weights: (batch, L) float32. A sequence's loss is the weighted sum of its targets' NLL: nats/token.
        visible: (batch, L) bool, False where a slot is hidden from the attention of all other slots; None
            where none is.
    """

    tokens: Array
    positions: Array
    target_positions: Array
    targets: Array
    weights: Array
    visible: Array | None = None


def causal_example(tokens: Array, order: Array, mask_id: int, xp: Any) -> Example:
    """Predict every token from those before it in `order`, in one causal pass over the permuted stream.

    Args:
        tokens: (batch, L) int32.
        order: (batch, L) int32, a permutation of 0 .. L - 1 a row.
        mask_id: the id that starts the stream.
        xp: `numpy` or `keras.ops`.

    Returns:
        An example whose loss is the mean NLL over all L tokens: -1/L log p(tokens | order).

    Example: six tokens, the third of them first, then the first, the sixth, ...
        >>> tokens = np.array([[10, 11, 12, 13, 14, 15]], np.int32)
        >>> order = np.array([[2, 0, 5, 1, 4, 3]], np.int32)
        >>> example = causal_example(tokens, order, 99, np)
        >>> print(example.tokens)
        [[99 12 10 15 11 14]]
        >>> print(example.targets)
        [[12 10 15 11 14 13]]
        >>> print(example.target_positions)
        [[3 1 6 2 5 4]]
        >>> print(example.weights.round(3))
        [[0.167 0.167 0.167 0.167 0.167 0.167]]
    """
    length = tokens.shape[-1]
    targets = xp.take_along_axis(tokens, order, axis=-1)
    target_positions = order + np.int32(1)
    start = xp.zeros_like(tokens[:, :1])
    return Example(
        tokens=xp.concatenate([start + np.int32(mask_id), targets[:, :-1]], axis=-1),
        positions=xp.concatenate([start, target_positions[:, :-1]], axis=-1),
        target_positions=target_positions,
        targets=targets,
        weights=xp.zeros_like(tokens, dtype="float32") + np.float32(1 / length),
    )


def dense_example(tokens: Array, hidden: Array, mask_id: int, weights: Array, xp: Any) -> Example:
    """Replace the hidden tokens by the mask and predict them from all the others, in one dense pass.

    Args:
        tokens: (batch, L) int32.
        hidden: (batch, L) bool, True where the token is hidden.
        mask_id: the id that hides.
        weights: (batch,) or (batch, 1 or L) float32, what each hidden token counts.
        xp: `numpy` or `keras.ops`.

    Returns:
        An example whose loss is weight * sum of the hidden tokens' NLL.

    Example: three of six tokens hidden, each counts a third; what is predicted of the others counts nothing.
        >>> tokens = np.array([[10, 11, 12, 13, 14, 15]], np.int32)
        >>> hidden = np.array([[False, True, False, True, True, False]])
        >>> example = dense_example(tokens, hidden, 99, np.float32([1 / 3]), np)
        >>> print(example.tokens)
        [[10 99 12 99 99 15]]
        >>> print(example.targets)
        [[10 11 12 13 14 15]]
        >>> print(example.weights.round(3))
        [[0.    0.333 0.    0.333 0.333 0.   ]]
    """
    weights = xp.expand_dims(weights, -1) if len(weights.shape) == 1 else weights
    positions = xp.expand_dims(xp.arange(1, tokens.shape[-1] + 1, dtype="int32"), 0)
    return Example(
        tokens=xp.where(hidden, np.int32(mask_id), tokens),
        positions=positions,
        target_positions=positions,
        targets=tokens,
        weights=xp.where(hidden, weights, np.float32(0)),
    )


def block_example(tokens: Array, hidden: Array, mask_id: int, weights: Array, xp: Any) -> Example:
    """Predict the hidden tokens of each block from the rest of it and from the clean blocks before.

    The stream is doubled: L slots of clean tokens, then L slots of a dense example, both with the positions
    1 .. L. `lab.models.attention.block_pattern` says which slots see which.

    Args:
        tokens: as all that follows, see `dense_example`.

    Returns:
        An example of 2 L slots, and of the targets and weights of the last L.

    Reference: Arriola et al. 2025, arXiv:2503.09573, section 3.

    Example: the last of four tokens hidden.
        >>> tokens, hidden = np.array([[10, 11, 12, 13]], np.int32), np.array([[False, False, False, True]])
        >>> example = block_example(tokens, hidden, 99, np.float32([1]), np)
        >>> print(example.tokens, example.positions, example.targets)
        [[10 11 12 13 10 11 12 99]] [[1 2 3 4 1 2 3 4]] [[10 11 12 13]]
    """
    noisy = dense_example(tokens, hidden, mask_id, weights, xp)
    positions = xp.concatenate([noisy.positions, noisy.positions], axis=-1)
    return noisy._replace(
        tokens=xp.concatenate([tokens, noisy.tokens], axis=-1),
        positions=positions,
        target_positions=positions,
    )

"""Noise schedules of the Bernoulli estimator: how likely a token is hidden at each noise level."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lab import threefry

Array = Any

LEVELS = 4096  # noise levels t = (j + 1/2) / LEVELS; the midpoint rule's error is far below float32's

# alpha(t), the chance that a token survives to t, and its derivative.
_ALPHA: dict[str, tuple[Callable[[float], float], Callable[[float], float]]] = {
    "linear": (lambda t: 1 - t, lambda t: -1.0),
    "cosine": (
        lambda t: 1 - math.cos(math.pi / 2 * (1 - t)),
        lambda t: -math.pi / 2 * math.sin(math.pi / 2 * (1 - t)),
    ),
}


def noise_table(noise_schedule: str) -> tuple[np.ndarray, np.ndarray]:
    """Mask probability 1 - alpha(t) and loss weight -alpha'(t) / (1 - alpha(t)) at each noise level.

    Computed once on the host, so that every backend compares against the same floats: a cosine differs in
    its last bit between backends, and a draw must not.

    Args:
        noise_schedule: `linear`, alpha = 1 - t, or `cosine`, alpha = 1 - cos(pi/2 (1 - t)).

    Returns:
        Two (LEVELS,) float32 arrays.

    Raises:
        ValueError: if there is no such noise schedule.

    Reference: Shi et al. 2024, arXiv:2406.04329, table 4.
    """
    if noise_schedule not in _ALPHA:
        raise ValueError(f"`noise_schedule` must be one of {sorted(_ALPHA)}, but got {noise_schedule!r}.")
    alpha, slope = _ALPHA[noise_schedule]
    levels = [(j + 0.5) / LEVELS for j in range(LEVELS)]
    probability = np.array([1 - alpha(t) for t in levels])
    weight = np.array([-slope(t) for t in levels]) / probability
    return probability.astype("float32"), weight.astype("float32")


def bernoulli_hidden(
    level_words: Array, fractions: Array, noise_schedule: str, xp: Any
) -> tuple[Array, Array]:
    """Hide each token on its own, with the probability of its noise level.

    Args:
        level_words: (batch, 1 or L) int32 random words.
        fractions: (batch, L) int32, a `lab.threefry.fraction` of each token.
        noise_schedule: `linear` or `cosine`.
        xp: `numpy` or `keras.ops`.

    Returns:
        (batch, L) bool, True where hidden, and (batch, 1 or L) float32, the loss weight at each noise level.

    Example: two draws of a sequence of six tokens; a hidden one counts 1 / t, over the length.
        >>> from lab.objectives.corruption import dense_example
        >>> from lab.objectives.draws import noise_words
        >>> ids, numbers = np.int32([0, 0]), np.int32([0, 1])
        >>> level, words = noise_words(0, threefry.Stream.TRAINING_DRAWS, ids, numbers, 6, np)
        >>> hidden, weight = bernoulli_hidden(level[:, None], threefry.fraction(words, np), "linear", np)
        >>> print(weight.round(3))
        [[6.517]
         [1.866]]
        >>> tokens = np.tile(np.arange(10, 16, dtype=np.int32), (2, 1))
        >>> example = dense_example(tokens, hidden, 99, weight / np.float32(6), np)
        >>> print(example.tokens)
        [[10 11 12 13 99 15]
         [99 11 12 99 99 15]]
        >>> print(example.targets)
        [[10 11 12 13 14 15]
         [10 11 12 13 14 15]]
        >>> print(example.weights.round(3))
        [[0.    0.    0.    0.    1.086 0.   ]
         [0.311 0.    0.    0.311 0.311 0.   ]]
    """
    probability, weight = noise_table(noise_schedule)
    level = threefry.below(level_words, LEVELS, xp)
    hidden = fractions < xp.take(threefry.threshold(probability), level, axis=0)
    return hidden, xp.take(weight, level, axis=0)

"""Noise on what a causal pass reads: inputs masked or replaced."""

from typing import Any

import numpy as np

from lab.objectives.corruption import Example

Array = Any


def add_input_noise(
    example: Example, altered: Array, noise: Array, weights: Array | None, xp: Any
) -> Example:
    """Alter some of a window's tokens wherever the stream reads them; the targets stay clean.

    The token that comes last in the order is never read, so one input less changes where it is among them.

    Args:
        example: a causal example.
        altered: (batch, L) bool, True where the window's token is altered.
        noise: () int32, the mask id, or (batch, L - 1) int32, what the slots after the start read instead.
        weights: None, and all targets count as before; or (batch, 1) float32, what each altered one counts,
            and no other does.
        xp: `numpy` or `keras.ops`.

    Reference: Ni et al. 2025, arXiv:2511.03276 (masked inputs, fixed ratio); Gao et al. 2025,
    arXiv:2510.04071 (ratio uniform on (0, 1)).

    Example: half of six tokens masked or replaced where they are read, left to right.
        >>> from lab.config import FactorsConfig
        >>> from lab.objectives.corruption import causal_example
        >>> from lab.objectives.window_draws import WindowDraws
        >>> tokens = np.array([[10, 11, 12, 13, 14, 15]], np.int32)
        >>> for noise in ("mask:0.5", "replace:0.5"):
        ...     draws = WindowDraws(FactorsConfig(input_noise=noise), 0, np.int32([0]), np.int32([0]), 6, np)
        ...     clean = causal_example(tokens, draws.order(), 99, np)
        ...     altered, weights = draws.altered()
        ...     read = draws.replacements(draws.order(), 99) if "replace" in noise else np.int32(99)
        ...     example = add_input_noise(clean, altered, read, weights, np)
        ...     print(example.tokens)
        [[99 10 99 12 99 99]]
        [[99 10 44 12 84 16]]
        >>> print(example.targets)
        [[10 11 12 13 14 15]]
        >>> print(example.weights.round(3))
        [[0.    0.333 0.    0.333 0.333 0.   ]]
    """
    slots = xp.take_along_axis(altered, example.target_positions - np.int32(1), axis=-1)
    # Slot i + 1 reads what slot i predicts.
    inputs = xp.where(slots[:, :-1], noise, example.tokens[:, 1:])
    tokens = xp.concatenate([example.tokens[:, :1], inputs], axis=-1)
    if weights is None:
        return example._replace(tokens=tokens)
    return example._replace(tokens=tokens, weights=xp.where(slots, weights, np.float32(0)))

"""Rotary position embedding at given positions."""

from typing import Any

import numpy as np
from keras import ops

Tensor = Any


def rotary_angles(length: int, head_width: int, base: float = 10_000.0) -> np.ndarray:
    """Angles position * base**(-2 i / head_width) for positions 0 .. length.

    Returns:
        (length + 1, head_width / 2) float32, radians.

    Reference: Su et al. 2021, arXiv:2104.09864, section 3.2.2.
    """
    frequencies = base ** (-np.arange(0, head_width, 2) / head_width)
    return np.outer(np.arange(length + 1), frequencies).astype("float32")


def rotate(features: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn each pair of features (i, i + head_width / 2) by its angle.

    Args:
        features: (batch, length, heads, head_width).
        cosine: (1 or batch, length, 1, head_width / 2), cosines of the angles.
        sine: the same of the sines.

    Returns:
        The shape and dtype of `features`. Inner products of two turned vectors depend on their positions
        only through the difference.
    """
    first, second = ops.split(features, 2, axis=-1)
    return ops.concatenate(
        [first * cosine - second * sine, second * cosine + first * sine],
        axis=-1,
    )

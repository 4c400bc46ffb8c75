"""What the finite number of held-out documents adds to a difference: errors paired by window, by document."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lab.data.held_out import document_means
from lab.evaluation.documents import standard_error
from lab.results import Examples

Array = NDArray[np.float64]


def clustered_error(values: Array, documents: Sequence[int]) -> float | None:
    """The standard error of a mean over documents, each the mean of its windows.

    What is hard is hard for every arm: of a paired difference this is several times below what the arms'
    errors would add up to. Windows of one document are alike, so the document is what counts.

    Args:
        values: (windows,), such as the differences of two arms.
        documents: (windows,), the document of each.

    Returns:
        sqrt(variance over documents / their number); None with one document.
    """
    return standard_error(document_means(values, np.asarray(documents))[0])


def paired_error(sides: Sequence[Mapping[int, Examples]], weights: Sequence[float]) -> float | None:
    """Of one seed's weighted sum of arms, the standard error from its documents: root mean square over seeds.

    Args:
        sides: of each arm, seed -> its values by window.
        weights: of the arms, adding up to 0.

    Returns:
        In the unit of the values; None if a seed of one arm lacks them or has other windows.
    """
    squares = []
    for seed in set().union(*sides):
        own = [side[seed] for side in sides if seed in side]
        if len(own) < len(sides) or len({examples.documents for examples in own}) > 1:
            return None
        values = np.array(weights) @ np.array([examples.values for examples in own])
        error = clustered_error(values, own[0].documents)
        if error is None:
            return None
        squares.append(error**2)
    return math.sqrt(float(np.mean(squares))) if squares else None

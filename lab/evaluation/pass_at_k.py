"""pass@k: the chance that at least one of k programs passes, from n programs of which c did."""

import numpy as np
from numpy.typing import ArrayLike


def pass_at_k(samples: ArrayLike, passed: ArrayLike, k: int) -> np.ndarray:
    """Estimate pass@k of problems without bias.

        pass@k = 1 - C(n - c, k) / C(n, k) = 1 - prod_{i < k} (1 - c / (n - i))

    Summed as logarithms, no factor of which is above 0, so that neither a binomial overflows nor the
    difference from 1 loses digits.

    Args:
        samples: n, programs of each problem; an int array, of the shape of `passed` or one that goes with it.
        passed: c, those of them that passed, in [0, n].
        k: in [1, n].

    Returns:
        float64 of their common shape, in [0, 1]; a problem each, to be averaged over problems.

    Raises:
        ValueError: if a number is not whole, or out of its range.

    Reference: Chen et al. 2021, arXiv:2107.03374, section 2.1, equation 1.
    """
    n, c = np.broadcast_arrays(_whole("samples", samples), _whole("passed", passed))
    if k != int(k) or k < 1:
        raise ValueError(f"`k` must be a whole number >= 1, but got k={k}.")
    if n.size and n.min() < k:
        raise ValueError(f"`samples` must be >= k, but got samples={n.min()} and k={k}.")
    if (wrong := (c < 0) | (c > n)).any():
        raise ValueError(
            f"`passed` must be in [0, samples], but got passed={c[wrong][0]} of samples={n[wrong][0]}."
        )
    log_none = np.zeros(n.shape)
    with np.errstate(divide="ignore"):  # log(0): so many passed that any k hold one
        for drawn in range(int(k)):
            log_none += np.log1p(-np.minimum(c / (n - drawn), 1))
    return 0.0 - np.expm1(log_none)


def _whole(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ValueError(f"`{name}` must be whole numbers, but got dtype {array.dtype}.")
    return array.astype(np.int64)

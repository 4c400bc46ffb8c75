"""Calibration: one temperature on the logits, fitted on one text and applied to another.

Overfitting makes an arm over-confident: its NLL rises though the ranking of its predictions may hold. What a
single temperature wins back was confidence, and no knowledge.

Reference: Guo et al. 2017, arXiv:1706.04599, section 4.2.
"""

import numpy as np

# Of 1/T, on either side of 1: where predictions are all right, or worse than uniform, there is no minimum.
MOST = 1000.0


def tempered_nll(logits: np.ndarray, targets: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """-log softmax(logits / temperature) at the targets.

    Args:
        logits: (n, vocab) float.
        targets: (n,) int.
        temperature: > 0.

    Returns:
        (n,) float64, nats.
    """
    below_highest = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64) / temperature
    chosen = np.take_along_axis(below_highest, targets[:, None].astype(np.int64), axis=1)[:, 0]
    return np.asarray(np.log(np.exp(below_highest).sum(axis=1)) - chosen)


def fit_temperature(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    """The temperature T that minimises the weighted NLL, which is convex in 1/T.

    Args:
        logits: (n, vocab) float.
        targets: (n,) int.
        weights: (n,) of the tokens, >= 0.

    Returns:
        T in 1/1000 .. 1000; never one with a higher NLL than T = 1.
    """
    from scipy.optimize import minimize_scalar  # takes longer to import than a run to start

    def nll(log_inverse: float) -> float:
        return float(weights @ tempered_nll(logits, targets, float(np.exp(-log_inverse))))

    ends = (-np.log(MOST), np.log(MOST))
    found = minimize_scalar(nll, bounds=ends, method="bounded", options={"xatol": 1e-7})
    return float(np.exp(-found.x)) if found.fun < nll(0.0) else 1.0

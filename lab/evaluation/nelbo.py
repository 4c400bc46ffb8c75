"""The any-order bound: a Monte Carlo estimate with its error, the same draws for every arm and checkpoint."""

from typing import NamedTuple

import numpy as np

from lab.data.held_out import document_means
from lab.evaluation.documents import standard_error
from lab.evaluation.scorer import SlotScorer
from lab.objectives.corruption import causal_example, dense_example
from lab.objectives.draws import Draw, draw, hidden_positions
from lab.threefry import Stream

_SEED = 0  # of the evaluation's draws, whatever the run's seed: common random numbers


class Nelbo(NamedTuple):
    """An upper bound on the NLL, nats/token, and two standard errors.

    Attributes:
        nelbo: the mean over documents, of the means over their windows and all draws.
        example_standard_error: from the spread of the documents, as if other text had been held out;
            None of a single one.
        mask_standard_error: from the spread of the draws alone, as if the same text had other masks.
    """

    nelbo: float
    example_standard_error: float | None
    mask_standard_error: float


def nelbo(
    scorer: SlotScorer, windows: np.ndarray, num_draws: int, documents: np.ndarray | None = None
) -> Nelbo:
    """Estimate the NELBO over random orders with stratified counts.

    The draws of a window form two independent halves. In each, the number of hidden tokens k is stratified:
    draw m of M takes k from the m-th of M equal parts of 1 .. L. The halves' difference gives the mask noise.

    Args:
        scorer: an arm trained on random orders.
        windows: (count, L) int32, count >= 2.
        num_draws: draws a window, even, >= 2.
        documents: (count,) int, the document that each window is of; by default each has its own.

    Raises:
        ValueError: if `num_draws` is odd or below 2, or the arm is of blocks, which have an order.

    Reference: Ou et al. 2024, arXiv:2406.03736, section 3 (counted form).
    """
    if num_draws < 2 or num_draws % 2:
        raise ValueError(f"`num_draws` must be even and >= 2, but got num_draws={num_draws}.")
    half = num_draws // 2
    estimates = np.stack([_draw_nll(scorer, windows, number, half) for number in range(num_draws)])
    halves = estimates.reshape(2, half, len(windows)).mean(axis=1)
    documents = np.arange(len(windows)) if documents is None else documents
    means, _ = document_means(halves.mean(axis=0), documents)
    # The variance of a window's mean of two halves, from their difference; windows are independent.
    squares, _ = document_means(np.square(halves[0] - halves[1]) / 4, documents)
    mask_variance = (squares / np.unique(documents, return_counts=True)[1]).sum()
    return Nelbo(
        float(means.mean()),
        standard_error(means),
        float(np.sqrt(mask_variance) / len(means)),
    )


def _draw_nll(scorer: SlotScorer, windows: np.ndarray, number: int, strata: int) -> np.ndarray:
    """One draw's NLL per token of each window: (count,) float64."""
    if scorer.block_size:
        raise ValueError(
            f"`scorer` must be of an arm of all orders, but got one of blocks of {scorer.block_size} tokens."
        )
    count, length = windows.shape
    ids = np.arange(count, dtype=np.int32)
    numbers = np.full(count, number, np.int32)
    drawn = draw(_SEED, Stream.EVALUATION_DRAWS, ids, numbers, length, "any", np)
    mask_id = scorer.transformer.mask_id
    if scorer.causal:
        example = causal_example(windows, drawn.order, mask_id, np)
    else:
        counts = stratified_count(drawn.hidden_count, length, number % strata, strata)
        hidden = hidden_positions(Draw(drawn.order, counts), np)
        example = dense_example(windows, hidden, mask_id, (1 / counts).astype(np.float32), np)
    scores = scorer.nll(example, np.arange(length, dtype=np.int32))
    return (scores * example.weights).sum(axis=-1)


def stratified_count(hidden_count: np.ndarray, length: int, number: int, strata: int) -> np.ndarray:
    """Move k, uniform on 1 .. length, into part `number` of `strata` equal parts: the same quantile of it.

    Over all parts each value of 1 .. length is equally likely, whether or not `strata` divides `length`.

    Returns:
        int32 of the shape of `hidden_count`.
    """
    quantile = (number + (hidden_count - 0.5) / length) / strata
    return np.minimum(np.floor(quantile * length).astype(np.int32) + 1, np.int32(length))

"""Multiple choice by Monte Carlo: an option's NLL over random masks or orders of its tokens."""

from collections.abc import Iterator

import numpy as np

from lab.evaluation.choice import Items, OptionWindows, option_windows
from lab.evaluation.nelbo import stratified_count
from lab.evaluation.scorer import SlotScorer
from lab.objectives.corruption import causal_example, dense_example
from lab.objectives.draws import Draw, draw, hidden_positions
from lab.threefry import Stream

_SEED = 1  # of the draws, whatever the run's seed; the any-order bound has 0


def sampled_option_nll(scorer: SlotScorer, items: Items, num_draws: int) -> np.ndarray:
    """Estimate each option's any-order NLL given its clean context, without bias at any number of draws.

    Dense arms: k of the O option tokens are hidden, which ones at random, and all after the option; the
    estimate is the mean NLL of the k in one pass. k is stratified: draw m of M takes it from the m-th of M
    equal parts of 1 .. O. Causal arms: the option's tokens are read in a random order in one pass.
    The options of an item share their draws, so that what a draw adds to all of them cancels in the ranking;
    those of other lengths share the words that they are drawn by.

    Args:
        scorer: an arm trained on random orders.
        items: what to score.
        num_draws: M >= 1.

    Returns:
        (items, options) float64, nats/token: the mean over the draws. In expectation the NLL averaged over
        all orders of the option's tokens, which is a bound on the NLL of their mixture.

    Raises:
        ValueError: if `num_draws` is below 1, or the arm is of blocks.

    Reference: Nie et al. 2025, arXiv:2502.09992, appendix A.
    """
    spans = option_windows(items, scorer.transformer.length)
    count = len(items.options)
    ids = np.repeat(np.arange(count, dtype=np.int32), len(spans.windows) // count)
    return span_draws(scorer, spans, ids, num_draws)[0].reshape(count, -1)


def span_draws(
    scorer: SlotScorer, spans: OptionWindows, ids: np.ndarray, num_draws: int, replicates: int = 1
) -> np.ndarray:
    """As `sampled_option_nll`, of options that have one item or another, and with other draws again.

    Args:
        scorer: an arm trained on random orders.
        spans: the options.
        ids: (rows,) int32, the number of each option's item.
        num_draws: M >= 1.
        replicates: R, independent estimates of M draws each.

    Returns:
        (R, rows) float64, nats/token.

    Raises:
        ValueError: as of `sampled_option_nll`.
    """
    if num_draws < 1:
        raise ValueError(f"`num_draws` must be >= 1, but got num_draws={num_draws}.")
    if scorer.block_size:
        raise ValueError(
            f"`scorer` must be of an arm of all orders, but got one of blocks of {scorer.block_size} tokens; "
            "`option_nll` takes any."
        )
    one_draw = _random_order if scorer.causal else _random_mask
    total = np.zeros((replicates, len(ids)))
    for number in range(replicates * num_draws):
        total[number // num_draws] += one_draw(scorer, spans, ids, number, num_draws)
    return total / num_draws


def _random_mask(
    scorer: SlotScorer, spans: OptionWindows, ids: np.ndarray, number: int, strata: int
) -> np.ndarray:
    """The mean NLL of the hidden option tokens: (rows,) float64."""
    windows, _, stops = spans
    hidden = np.arange(windows.shape[1]) >= stops[:, None]
    counts = np.zeros(len(windows), np.int32)
    for rows, places, drawn in _draws(spans, ids, number):
        counts[rows] = stratified_count(drawn.hidden_count, places.shape[1], number % strata, strata)
        hidden[rows[:, None], places] = hidden_positions(Draw(drawn.order, counts[rows]), np)
    example = dense_example(windows, hidden, scorer.transformer.mask_id, (1 / counts).astype(np.float32), np)
    slots, own = _slots(spans)
    scores = scorer.nll(example, slots)
    return np.where(own & np.take_along_axis(hidden, slots, axis=1), scores, 0).sum(axis=1) / counts


def _random_order(
    scorer: SlotScorer, spans: OptionWindows, ids: np.ndarray, number: int, strata: int
) -> np.ndarray:
    """The mean NLL of all option tokens, each given the context and those before it in the order."""
    windows, starts, stops = spans
    order = np.tile(np.arange(windows.shape[1], dtype=np.int32), (len(windows), 1))
    for rows, places, drawn in _draws(spans, ids, number):
        order[rows[:, None], places] = starts[rows, None] + drawn.order
    example = causal_example(windows, order, scorer.transformer.mask_id, np)
    slots, own = _slots(spans)
    return np.where(own, scorer.nll(example, slots), 0).sum(axis=1) / (stops - starts)


def _draws(
    spans: OptionWindows, ids: np.ndarray, number: int
) -> Iterator[tuple[np.ndarray, np.ndarray, Draw]]:
    """The rows of options of one length O, the places of their tokens, (rows, O), and draws over these."""
    sizes = spans.stops - spans.starts
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        numbers = np.full(len(rows), number, np.int32)
        drawn = draw(_SEED, Stream.EVALUATION_DRAWS, ids[rows], numbers, int(size), "any", np)
        yield rows, spans.starts[rows, None] + np.arange(size), drawn


def _slots(spans: OptionWindows) -> tuple[np.ndarray, np.ndarray]:
    """The places of each option's tokens, its last again where others are longer, and which are no such."""
    sizes = spans.stops - spans.starts
    steps = np.arange(sizes.max())
    places = spans.starts[:, None] + np.minimum(steps, sizes[:, None] - 1)
    return places.astype(np.int32), steps < sizes[:, None]

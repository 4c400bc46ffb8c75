"""Multiple choice by Monte Carlo: an option's NLL over random masks or orders of its tokens."""

import numpy as np

from lab.evaluation.choice import Items, option_windows
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
    The options of an item share their draws, so that what a draw adds to all of them cancels in the ranking.

    Args:
        scorer: an arm trained on random orders.
        items: what to score.
        num_draws: M >= 1.

    Returns:
        (items, options) float64, nats/token: the mean over the draws. In expectation the NLL averaged over
        all orders of the option's tokens, which is a bound on the NLL of their mixture.

    Raises:
        ValueError: if `num_draws` is below 1, the arm is of blocks, or the contexts or the options differ in
            length.

    Reference: Nie et al. 2025, arXiv:2502.09992, appendix A.
    """
    if num_draws < 1:
        raise ValueError(f"`num_draws` must be >= 1, but got num_draws={num_draws}.")
    if scorer.block_size:
        raise ValueError(
            f"`scorer` must be of an arm of all orders, but got one of blocks of {scorer.block_size} tokens; "
            "`option_nll` takes any."
        )
    windows, starts, stops = option_windows(items, scorer.transformer.length)
    if len(lengths := set(zip(starts.tolist(), stops.tolist(), strict=True))) > 1:
        raise ValueError(
            "contexts, and options, must be of one length, as the options of an item share their draws, "
            f"but got spans {sorted(lengths)[:2]}; `option_nll` takes any."
        )
    first, option_tokens = int(starts[0]), int(stops[0] - starts[0])
    one_draw = _random_order if scorer.causal else _random_mask
    count = len(items.options)
    ids = np.repeat(np.arange(count, dtype=np.int32), len(windows) // count)
    total = np.zeros(len(windows))
    for number in range(num_draws):
        numbers = np.full(len(ids), number, np.int32)
        drawn = draw(_SEED, Stream.EVALUATION_DRAWS, ids, numbers, option_tokens, "any", np)
        total += one_draw(scorer, windows, first, drawn, number, num_draws)
    return (total / num_draws).reshape(count, -1)


def _random_mask(
    scorer: SlotScorer, windows: np.ndarray, first: int, drawn: Draw, number: int, strata: int
) -> np.ndarray:
    """The mean NLL of the hidden option tokens: (rows,) float64."""
    option_tokens = drawn.order.shape[1]
    counts = stratified_count(drawn.hidden_count, option_tokens, number, strata)
    chosen = hidden_positions(Draw(drawn.order, counts), np)
    hidden = np.zeros(windows.shape, bool)
    hidden[:, first : first + option_tokens] = chosen
    hidden[:, first + option_tokens :] = True
    example = dense_example(windows, hidden, scorer.transformer.mask_id, (1 / counts).astype(np.float32), np)
    scores = scorer.nll(example, np.arange(first, first + option_tokens, dtype=np.int32))
    return np.where(chosen, scores, 0).sum(axis=1) / counts


def _random_order(
    scorer: SlotScorer, windows: np.ndarray, first: int, drawn: Draw, number: int, strata: int
) -> np.ndarray:
    """The mean NLL of all option tokens, each given the context and those before it in the order."""
    option_tokens = drawn.order.shape[1]
    order = np.tile(np.arange(windows.shape[1], dtype=np.int32), (len(windows), 1))
    order[:, first : first + option_tokens] = first + drawn.order
    example = causal_example(windows, order, scorer.transformer.mask_id, np)
    return scorer.nll(example, np.arange(first, first + option_tokens, dtype=np.int32)).mean(axis=1)

"""Infilling as a measurement: how well an arm predicts the middle of a window, or tells it from others."""

import numpy as np

from lab.evaluation.chain_rule import span_nll
from lab.evaluation.scorer import SlotScorer


def gap_nll(scorer: SlotScorer, windows: np.ndarray, first: int, tokens: int, both_sides: bool) -> np.ndarray:
    """The NLL of the tokens of a gap, left to right within it, by the chain rule.

    Args:
        scorer: the arm.
        windows: (count, L) int32.
        first: where the gap begins.
        tokens: m >= 1, of the gap.
        both_sides: whether what comes after it is seen too, which only an arm of any order has learnt.

    Returns:
        (count,) float64, nats/token.
    """
    starts = np.full(len(windows), first)
    context = None
    if both_sides:
        places = np.arange(windows.shape[1])
        context = np.broadcast_to((places < first) | (places >= first + tokens), windows.shape)
    return np.array([nll.mean() for nll in span_nll(scorer, windows, starts, starts + tokens, context)])


def gap_options(windows: np.ndarray, first: int, tokens: int, options: int) -> np.ndarray:
    """Each window with its own middle, option 0, and with those of the windows that come next.

    Args:
        windows: (count, L) int32; held-out ones are in a random order and do not overlap.
        first: where the gap begins.
        tokens: m >= 1, of the gap.
        options: n, at most as many as there are windows.

    Returns:
        (count, n, L) int32.

    Raises:
        ValueError: if there are fewer windows than options.
    """
    count = len(windows)
    if count < options:
        raise ValueError(f"`options` must be <= the {count} windows, but got options={options}.")
    filled = np.repeat(windows[:, None], options, axis=1)
    others = (np.arange(count)[:, None] + np.arange(options)) % count
    gap = slice(first, first + tokens)
    filled[:, :, gap] = windows[others, gap]
    return filled


def option_nll(
    scorer: SlotScorer, options: np.ndarray, first: int, tokens: int, both_sides: bool
) -> np.ndarray:
    """By what the middles of windows are ranked.

    An arm that sees both sides scores the middle given them. One that sees the left alone scores the window
    from the gap on, so that what follows has its say: prompt and rerank. Both are p(middle | both sides) but
    for a factor that the options share.

    Args:
        scorer: the arm.
        options: (count, n, L) int32 (`gap_options`).
        first: where the gap begins.
        tokens: m >= 1, of the gap.
        both_sides: whether the arm sees what comes after it.

    Returns:
        (count, n) float64, nats/token.
    """
    windows = options.reshape(-1, options.shape[-1])
    scored = tokens if both_sides else options.shape[-1] - first
    return gap_nll(scorer, windows, first, scored, both_sides).reshape(options.shape[:2])

"""The yardstick: exact left-to-right chain-rule NLL, for causal and dense arms alike."""

from collections.abc import Iterator

import numpy as np

from lab.evaluation.scorer import SlotScorer
from lab.objectives.corruption import block_example, causal_example, dense_example


def chain_rule_nll(
    scorer: SlotScorer,
    windows: np.ndarray,
    first: int = 0,
    last: int | None = None,
    places: np.ndarray | None = None,
) -> np.ndarray:
    """-log p(x_i | x_1 .. x_(i-1)) of each token from position `first` up to `last`, or of some of them.

    Args:
        scorer: the arm.
        windows: (count, L) int32.
        first: tokens before it are context, not scored; in [0, L).
        last: tokens from it on are never seen; in (first, L], by default L.
        places: (count, m) int, ascending, those between them that are scored; by default all.

    Returns:
        (count, last - first) float64, nats; or (count, m).
    """
    count, length = windows.shape
    stops = np.full(count, length if last is None else last)
    scored = None
    if places is not None:
        scored = np.zeros(windows.shape, bool)
        np.put_along_axis(scored, places, True, axis=1)
    return np.stack(span_nll(scorer, windows, np.full(count, first), stops, scored=scored))


def place_logits(
    scorer: SlotScorer, windows: np.ndarray, places: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The logits of the distributions whose NLL `chain_rule_nll` gives, a pass at a time.

    Args:
        scorer: the arm.
        windows: (count, L) int32.
        places: (count, m) int, those that are predicted, each from all tokens before it.

    Yields:
        Numbers of some of the places, row by row from 0, (n,) int, and their logits, (n, vocab) float64.
    """
    numbers: np.ndarray = np.arange(places.size).reshape(places.shape)
    mask_id, length = scorer.transformer.mask_id, windows.shape[1]
    if scorer.causal:
        order = np.broadcast_to(np.arange(length, dtype=np.int32), windows.shape)
        example, slots = causal_example(windows, order, mask_id, np), places
    else:
        numbers, slots = numbers.reshape(-1, 1), places.reshape(-1, 1)
        windows, weights = np.repeat(windows, places.shape[1], axis=0), np.ones(places.size, np.float32)
        corrupt, size = (block_example, scorer.block_size) if scorer.block_size else (dense_example, length)
        example = corrupt(windows, np.arange(length) % size >= slots % size, mask_id, weights, np)
    for rows, logits in scorer.logits(example, slots.astype(np.int32), scorer.batch_size):
        yield numbers[rows].ravel(), logits.reshape(-1, logits.shape[-1])


def span_nll(
    scorer: SlotScorer,
    windows: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    context: np.ndarray | None = None,
    scored: np.ndarray | None = None,
) -> list[np.ndarray]:
    """-log p(x_i | context, x_start .. x_(i-1)) of each token of each row's own span, or of some of them.

    A causal arm gives all of them in one pass over the context, the span and the rest, in this order. A dense
    arm reveals one token at a time: a row for each scored token, with the token, those of the span after it
    and all that is not context hidden. Where the context goes beyond the tokens before the span (infilling),
    only an arm that was trained on other orders than left to right has learned to use it. An arm of blocks
    gives a token of each block in one pass, those that stand at the same place of theirs; it has no way to
    see what comes later, or not to see what comes before.

    Args:
        scorer: the arm.
        windows: (count, L) int32, count >= 1.
        starts: (count,) int, the first place of each span.
        stops: (count,) int, the place after its last; 0 <= start < stop <= L.
        context: (count, L) bool, True at tokens outside the span that are seen from the start; by default
            those before it. The rest is never seen.
        scored: (count, L) bool, the tokens of the span that are scored, one of each row or more; by default
            all.

    Returns:
        For each row (scored tokens,) float64, nats, left to right.

    Raises:
        ValueError: if a span is empty or leaves its window, its context holds part of it, or what is scored
            is nothing or outside it; or if the arm is of blocks and a context is not what comes before.

    Example, of two spans of one and two tokens:
        >>> span_nll(scorer, np.array([[1, 2, 3, 0], [4, 5, 6, 7]]), np.array([2, 1]), np.array([3, 3]))
        [array([-log p(3 | 1 2)]), array([-log p(5 | 4), -log p(6 | 4 5)])]
    """
    length = windows.shape[1]
    wrong = ~((starts >= 0) & (starts < stops) & (stops <= length))
    if wrong.any():
        start, stop = int(starts[wrong][0]), int(stops[wrong][0])
        raise ValueError(
            f"a span must hold a token and lie in 0..{length}, but got start={start}, stop={stop}."
        )
    places = np.arange(length, dtype=np.int32)
    inside = (places >= starts[:, None]) & (places < stops[:, None])
    if context is None:
        context = places < starts[:, None]
    if (context & inside).any():
        raise ValueError("`context` must leave out the span, but got a row whose context holds part of it.")
    scored = inside if scored is None else scored
    if (scored & ~inside).any() or not scored.any(axis=1).all():
        raise ValueError("`scored` must be tokens of the span, but got a row with none, or one outside it.")
    if scorer.block_size and (context != (places < starts[:, None])).any():
        raise ValueError("`context` must be all before the span for an arm of blocks, but got another one.")
    if scorer.block_size:
        score = _one_token_of_each_block
    else:
        score = _one_pass if scorer.causal else _one_token_a_pass
    scores = score(scorer, windows, inside, context, scored)
    return np.split(scores, np.cumsum(scored.sum(axis=1))[:-1])


def _one_pass(
    scorer: SlotScorer, windows: np.ndarray, inside: np.ndarray, context: np.ndarray, scored: np.ndarray
) -> np.ndarray:
    """The NLL of the scored tokens, row by row: (tokens,) float64."""
    order = np.argsort(np.where(context, 0, np.where(inside, 1, 2)), axis=1, kind="stable").astype(np.int32)
    example = causal_example(windows, order, scorer.transformer.mask_id, np)
    sizes = scored.sum(axis=1)
    steps = np.arange(sizes.max())
    # Scored places come first; rows with fewer than the most score their last one again.
    places = np.argsort(~scored, axis=1, kind="stable")
    places = np.take_along_axis(places, np.minimum(steps, sizes[:, None] - 1), axis=1)
    slots = np.take_along_axis(np.argsort(order, axis=1), places, axis=1)
    return scorer.nll(example, slots.astype(np.int32))[steps < sizes[:, None]]


def _one_token_a_pass(
    scorer: SlotScorer, windows: np.ndarray, inside: np.ndarray, context: np.ndarray, scored: np.ndarray
) -> np.ndarray:
    """The NLL of the scored tokens, row by row: (tokens,) float64."""
    rows, places = np.nonzero(scored)  # in order: by row, then left to right
    slots = np.arange(windows.shape[1])
    scores = []
    for first in range(0, len(rows), scorer.batch_size):  # a pass at a time: there is a row for each token
        row, place = rows[first : first + scorer.batch_size], places[first : first + scorer.batch_size, None]
        seen = context[row] | (inside[row] & (slots < place))
        weights = np.ones(len(row), np.float32)
        example = dense_example(windows[row], ~seen, scorer.transformer.mask_id, weights, np)
        scores.append(scorer.nll(example, place.astype(np.int32))[:, 0])
    return np.concatenate(scores)


def _one_token_of_each_block(
    scorer: SlotScorer, windows: np.ndarray, inside: np.ndarray, context: np.ndarray, scored: np.ndarray
) -> np.ndarray:
    """The NLL of the scored tokens, row by row: (tokens,) float64."""
    size, length = scorer.block_size, windows.shape[1]
    # Whether a token is scored, by its row, its place in its block, and its block.
    wanted = scored.reshape(len(windows), length // size, size).swapaxes(1, 2)
    rows, offsets = np.nonzero(wanted.any(axis=2))
    firsts = np.arange(0, length, size)
    nll = np.zeros(scored.shape)
    for first in range(0, len(rows), scorer.batch_size):
        some = slice(first, first + scorer.batch_size)
        row, offset = rows[some], offsets[some, None]
        hidden = np.arange(length) % size >= offset
        weights = np.ones(len(row), np.float32)
        example = block_example(windows[row], hidden, scorer.transformer.mask_id, weights, np)
        slots = firsts + offset
        nll[row[:, None], slots] = scorer.nll(example, slots.astype(np.int32))
    return nll[scored]


def rows_passed(scorer: SlotScorer, places: np.ndarray) -> int:
    """How many rows it takes to score these places of windows, (count, m) int."""
    if scorer.causal:
        return len(places)
    if scorer.block_size:
        return sum(len(np.unique(row % scorer.block_size)) for row in places)
    return places.size

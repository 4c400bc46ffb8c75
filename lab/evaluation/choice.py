"""Multiple choice made from held-out text: tell the true continuation from others."""

from typing import NamedTuple

import numpy as np

from lab import threefry
from lab.evaluation.chain_rule import chain_rule_nll
from lab.evaluation.scorer import Scorer
from lab.threefry import Stream


class Items(NamedTuple):
    """Multiple-choice items; option 0 of each is the true one.

    Attributes:
        contexts: (items, C) int32.
        options: (items, options, O) int32.
    """

    contexts: np.ndarray
    options: np.ndarray


class ChoiceScore(NamedTuple):
    """How well an arm ranks the options.

    Attributes:
        accuracy: share of items whose true option has the lowest NLL; a tie counts as wrong.
        option_gap: mean NLL of the wrong options minus that of the true one, nats/token.
    """

    accuracy: float
    option_gap: float


def make_items(
    tokens: np.ndarray, items: int, options: int, context_tokens: int, option_tokens: int
) -> Items:
    """Cut items from a split: evenly spaced contexts, their true continuations, and others from elsewhere.

    The wrong options start at random places of the same split that do not overlap the item; they depend on
    the split and the numbers alone, so every arm, seed and checkpoint answers the same questions.

    Args:
        tokens: (n,) the split.
        items: how many.
        options: options an item, the true one included.
        context_tokens: C.
        option_tokens: O.

    Raises:
        ValueError: if the split is too short for that many items that do not overlap.
    """
    span = context_tokens + option_tokens
    if len(tokens) < (items + 1) * span:
        raise ValueError(
            f"the split must hold {items} items of {span} tokens and a wrong option besides, "
            f"{(items + 1) * span} tokens, but it has {len(tokens)}."
        )
    starts = np.arange(items) * (len(tokens) // items)
    contexts = tokens[starts[:, None] + np.arange(context_tokens)]
    true_starts = starts + context_tokens
    # Places elsewhere, as distances around the split that step over the item itself.
    free = len(tokens) - span - 2 * option_tokens
    key = (np.zeros(1, np.int32), np.full(1, Stream.CHOICES, np.int32))
    counter = (np.arange(items, dtype=np.int32)[:, None], np.arange(options - 1, dtype=np.int32)[None, :])
    word = threefry.uniform(threefry.threefry2x32(key, counter, np)[0], np).astype(np.float64)
    wrong_starts = (starts[:, None] + span + np.floor(word * free).astype(np.int64)) % (
        len(tokens) - option_tokens
    )
    option_starts = np.concatenate([true_starts[:, None], wrong_starts], axis=1)
    chosen = tokens[option_starts[..., None] + np.arange(option_tokens)]
    return Items(contexts.astype(np.int32), chosen.astype(np.int32))


def score_items(scorer: Scorer, items: Items) -> ChoiceScore:
    """Rank each item's options by their chain-rule NLL given the context.

    What the window has room for after an option no arm sees.
    """
    count, options, option_tokens = items.options.shape
    first = items.contexts.shape[1]
    last = first + option_tokens
    windows = np.zeros((count, options, scorer.transformer.length), np.int32)
    windows[..., :first] = items.contexts[:, None, :]
    windows[..., first:last] = items.options
    nll = chain_rule_nll(scorer, windows.reshape(count * options, -1), first, last)
    nll = nll.mean(axis=-1).reshape(count, options)
    true, wrong = nll[:, 0], nll[:, 1:]
    return ChoiceScore(
        accuracy=float((true < wrong.min(axis=1)).mean()),
        option_gap=float((wrong.mean(axis=1) - true).mean()),
    )

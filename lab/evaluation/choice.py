"""Multiple choice made from held-out text: tell the true continuation from others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lab import threefry
from lab.evaluation.chain_rule import span_nll
from lab.evaluation.scorer import SlotScorer
from lab.threefry import Stream


class Items(NamedTuple):
    """Multiple-choice items; option 0 of each is the true one.

    Attributes:
        contexts: an int array for each item, of any lengths; (items, C) int32 where they are of one.
        options: as many for each item, each of any length >= 1; (items, options, O) int32 where of one.
    """

    contexts: Sequence[np.ndarray] | np.ndarray
    options: Sequence[Sequence[np.ndarray]] | np.ndarray


class ChoiceScore(NamedTuple):
    """How well an arm ranks the options.

    Attributes:
        accuracy: share of items whose true option has the lowest NLL; a tie counts as wrong.
        option_gap: mean NLL of the wrong options minus that of the true one, nats/token.
        true_nll: mean NLL of the true options, nats/token.
        wrong_nll: mean NLL of the wrong options, nats/token; `option_gap` more than `true_nll`.
        accuracy_standard_error: over the items, as those that follow.
        option_gap_standard_error: of the gap.
        true_nll_standard_error: of the true options.
        wrong_nll_standard_error: of the wrong ones' means.
    """

    accuracy: float
    option_gap: float
    true_nll: float
    wrong_nll: float
    accuracy_standard_error: float
    option_gap_standard_error: float
    true_nll_standard_error: float
    wrong_nll_standard_error: float


def make_items(
    tokens: np.ndarray, items: int, options: int, context_tokens: int, option_tokens: int, sample: int
) -> Items:
    """Cut items from a split: contexts, their true continuations, and others from elsewhere.

    An item lies at a random place of each of as many equal parts of the split. The wrong options start at
    random places of it that do not overlap the item. Every arm and checkpoint of a replicate answers the same
    questions.

    Args:
        tokens: (n,) the split.
        items: how many.
        options: options an item, the true one included.
        context_tokens: C.
        option_tokens: O.
        sample: the replicate's number, in [0, 2**31).

    Raises:
        ValueError: if the split is too short for that many items that do not overlap.
    """
    span = context_tokens + option_tokens
    if len(tokens) < (items + 1) * span:
        raise ValueError(
            f"the split must hold {items} items of {span} tokens and a wrong option besides, "
            f"{(items + 1) * span} tokens, but it has {len(tokens)}."
        )
    key = (np.full(1, sample, np.int32), np.full(1, Stream.CHOICES, np.int32))

    def uniform(options: int, series: int) -> np.ndarray:
        """(items, options) float64 in (0, 1)."""
        numbers = (np.arange(items)[:, None], series + np.arange(options)[None, :])
        counter = (numbers[0].astype(np.int32), numbers[1].astype(np.int32))
        return threefry.uniform(threefry.threefry2x32(key, counter, np)[0], np).astype(np.float64)

    part = len(tokens) // items
    starts = np.arange(items) * part + np.floor(uniform(1, 0)[:, 0] * (part - span + 1)).astype(np.int64)
    contexts = tokens[starts[:, None] + np.arange(context_tokens)]
    true_starts = starts + context_tokens
    # Places elsewhere, as distances around the split that step over the item itself.
    free = len(tokens) - span - 2 * option_tokens
    elsewhere = np.floor(uniform(options - 1, 1) * free).astype(np.int64)
    wrong_starts = (starts[:, None] + span + elsewhere) % (len(tokens) - option_tokens)
    option_starts = np.concatenate([true_starts[:, None], wrong_starts], axis=1)
    chosen = tokens[option_starts[..., None] + np.arange(option_tokens)]
    return Items(contexts.astype(np.int32), chosen.astype(np.int32))


class OptionWindows(NamedTuple):
    """Each option behind its context; what a window has room for after it is 0, and no arm may see it.

    Attributes:
        windows: (items * options, L) int32.
        starts: (items * options,) int, where each option begins.
        stops: (items * options,) int, the place after its last token.
    """

    windows: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


def option_windows(items: Items, length: int) -> OptionWindows:
    """Windows of L = `length` tokens, item by item.

    Raises:
        ValueError: if a window has no room for a context and its option.
    """
    pairs = [
        (context, option)
        for context, options in zip(items.contexts, items.options, strict=True)
        for option in options
    ]
    starts = np.array([len(context) for context, _ in pairs])
    stops = starts + [len(option) for _, option in pairs]
    if stops.max() > length:
        raise ValueError(
            f"a context and its option must fit in the window of {length} tokens, but got {stops.max()}."
        )
    windows = np.zeros((len(pairs), length), np.int32)
    for window, pair, stop in zip(windows, pairs, stops, strict=True):
        window[:stop] = np.concatenate(pair)
    return OptionWindows(windows, starts, stops)


def option_nll(scorer: SlotScorer, items: Items) -> np.ndarray:
    """The chain-rule NLL of each option given the context: (items, options) float64, nats/token."""
    spans = span_nll(scorer, *option_windows(items, scorer.transformer.length))
    return np.array([nll.mean() for nll in spans]).reshape(len(items.options), -1)


def rank_options(nll: np.ndarray) -> ChoiceScore:
    """How well NLLs rank the options: (items, options), nats/token, option 0 the true one."""
    true, wrong = nll[:, 0], nll[:, 1:].mean(axis=1)
    correct = true < nll[:, 1:].min(axis=1)
    by_item = (correct, wrong - true, true, wrong)
    root = np.sqrt(len(nll))
    means = (float(values.mean()) for values in by_item)
    errors = (float(values.std(ddof=1) / root) for values in by_item)
    return ChoiceScore(*means, *errors)

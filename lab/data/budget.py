"""A budget of unique tokens: which part of the training split a run sees."""

import numpy as np

from lab.data.shuffling import shuffled
from lab.threefry import Stream

PIECE_WINDOWS = 8  # long enough that few windows cross the edge of a piece


class Budget:
    """Tokens laid out in another order of their pieces, read where they are; nothing of them is copied.

    Args:
        tokens: (n,) token ids, mapped from disk or in memory.
        order: (pieces,) which piece of the tokens comes at each place. All hold `piece` tokens but for the
            last one of the tokens, which may hold fewer.
        piece: tokens a piece.
        size: how many tokens of the layout there are, from its start on.
    """

    def __init__(self, tokens: np.ndarray, order: np.ndarray, piece: int, size: int) -> None:
        self._tokens = tokens
        self._piece = piece
        self._size = size
        self._shifts = (order - np.arange(len(order))) * piece  # from a place to its token, by piece
        # Behind the short piece, if it is among them, every place lies that much further on.
        self._missing = -len(tokens) % piece
        (short,) = np.flatnonzero(order == len(tokens) // piece) if self._missing else (len(order),)
        self._short_end = (short + 1) * piece - self._missing

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """The tokens at places in [0, size), an integer array of any shape."""
        places = np.where(places < self._short_end, places, places + self._missing)
        return self._tokens[places + self._shifts[places // self._piece]]


def budget(train: np.ndarray, unique_tokens: int | None, length: int, replicate: int) -> np.ndarray | Budget:
    """The first `unique_tokens` tokens of the training split laid out in shuffled pieces.

    A piece is PIECE_WINDOWS windows long, so that a small budget is a sample of the whole corpus and not its
    first file. Each replicate has a layout of its own, in which a smaller budget is part of a larger one.

    Args:
        train: (n,) token ids.
        unique_tokens: U, ends of documents included, or None for all there are, in their own order.
        length: L, tokens a window.
        replicate: its number, in [0, 2**31).

    Raises:
        ValueError: if there are fewer.
    """
    if unique_tokens is None:
        return train
    if not 0 < unique_tokens <= len(train):
        raise ValueError(
            f"`unique_tokens` must be in 1..{len(train)}, the tokens of the training split, "
            f"but got unique_tokens={unique_tokens}. Give more text, or set data.unique_tokens={len(train)} "
            "or lower; where an ablation varies it, give it such levels: --levels data.unique_tokens=..., "
            "LEVELS= for make."
        )
    piece = PIECE_WINDOWS * length
    order = shuffled(-(-len(train) // piece), replicate, stream=Stream.SUBSET)
    return Budget(train, order, piece, unique_tokens)


def expected_overlap(drawn: int, population: int) -> float:
    """The share of one replicate's sample that is expected in another's: of U tokens of the training split,
    or of the documents that held-out windows are drawn of.

    Args:
        drawn: how many each replicate draws, uniformly and without replacement.
        population: how many there are.
    """
    return min(1.0, drawn / population)

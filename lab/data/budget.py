"""A budget of unique tokens: which part of the training split a run sees."""

import numpy as np

from lab.data.shuffling import shuffled

PIECE_WINDOWS = 8  # long enough that few windows cross the edge of a piece


def budget(train: np.ndarray, unique_tokens: int | None, length: int) -> np.ndarray:
    """The first `unique_tokens` tokens of the training split laid out in shuffled pieces.

    A piece is PIECE_WINDOWS windows long, so that a small budget is a sample of the whole corpus and not its
    first file. The layout depends on no seed: a smaller budget is part of a larger one.

    Args:
        train: (n,) token ids.
        unique_tokens: U, ends of documents included, or None for all there are, in their own order.
        length: L, tokens a window.

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
    chosen: list[np.ndarray] = []
    missing = unique_tokens
    for index in shuffled(-(-len(train) // piece)).tolist():
        part = train[index * piece : (index + 1) * piece][:missing]
        chosen.append(part)
        missing -= len(part)
        if missing == 0:
            break
    return np.concatenate(chosen)

"""The documents that tokens hold, as texts."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from lab.data.tokenizers import Tokenizer


def documents_of(tokens: np.ndarray, tokenizer: Tokenizer) -> Iterator[str]:
    """The texts before the ends of documents in tokens, one at a time.

    Of a split these are its documents. A budget is laid out in pieces (lab/data/budget.py): where one ends,
    the rest of a document of another may follow, and the first text may be a part of one. Whoever knows the
    corpus leaves these out, as `functions_of` of lab/data/functions.py does.

    Args:
        tokens: (n,) int: a split, or `unique_tokens` of lab/evaluation/training_windows.py.
        tokenizer: what made them.
    """
    ends = (np.flatnonzero(tokens == tokenizer.end_id) + 1).tolist()
    for start, end in pairwise([0, *ends]):
        yield tokenizer.decode(tokens[start:end])

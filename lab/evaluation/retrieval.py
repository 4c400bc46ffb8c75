"""What looking up gives: the body of the training document whose prompt is most like the one asked for.

What an arm must beat to have learnt more than to copy a whole document of its training text.
"""

import re
from collections.abc import Sequence
from itertools import chain

import numpy as np

NGRAM = 3  # words, at most: so much of their order counts
_WORD = re.compile(r"\w+|[^\w\s]")


def retrieve_bodies(prompts: Sequence[str], trained: Sequence[tuple[str, str]]) -> list[str]:
    """For each prompt the body behind the nearest training prompt.

    Near are prompts with many n-grams of words in common, of 1 to NGRAM words: by the Jaccard similarity of
    their sets. Of equally near ones the first by its text is taken, then of equal prompts the first body.

    Args:
        prompts: what is asked for.
        trained: prompt and body of the documents that were trained on, in any order.

    Raises:
        ValueError: if there are none.
    """
    from scipy.sparse import csr_array  # takes longer to import than a run to start

    if not trained:
        raise ValueError("`trained` must hold a document to retrieve, but got none.")
    known = sorted(set(trained))
    index: dict[tuple[str, ...], int] = {}

    def sets(texts: Sequence[str]) -> list[list[int]]:
        return [[index.setdefault(gram, len(index)) for gram in _ngrams(text)] for text in texts]

    def matrix(rows: list[list[int]]) -> csr_array:
        edges = np.cumsum([0, *map(len, rows)])
        places = np.fromiter(chain.from_iterable(rows), np.int64)
        return csr_array((np.ones(len(places), np.int32), places, edges), shape=(len(rows), len(index)))

    of_known, asked = sets([prompt for prompt, _ in known]), sets(prompts)
    common = (matrix(asked) @ matrix(of_known).T).toarray()
    sizes = np.array([*map(len, asked)])[:, None] + np.array([*map(len, of_known)])
    nearest = np.argmax(common / np.maximum(1, sizes - common), axis=1)
    return [known[place][1] for place in nearest]


def _ngrams(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text)
    return {
        tuple(words[start : start + size])
        for size in range(1, NGRAM + 1)
        for start in range(len(words) - size + 1)
    }

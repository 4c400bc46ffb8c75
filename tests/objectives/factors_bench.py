"""What the tests of single factors share: an objective of given factors, and its examples."""

import numpy as np
from namespaces import arrays

from lab.config import FactorsConfig
from lab.objectives.objective import Objective

LENGTH, VOCAB = 6, 5
MASK_ID = VOCAB
ONE_IN_10000 = 1e-4  # a sound generator fails a chi-square test at this level for one seed in 10,000

CAUSAL = {"order": "any", "compute": "causal"}
DENSE = {"order": "any", "compute": "dense"}


def objective_of(length=LENGTH, vocab_size=VOCAB, windows="fixed", batch_size=4, **factors):
    return Objective(FactorsConfig(**factors), length, vocab_size, windows, batch_size)


def random_tokens(count, length=LENGTH):
    return np.random.default_rng(1).integers(0, VOCAB, (count, length)).astype(np.int32)


def examples(objective, count, view=0, xp=np, seed=0):
    """The examples of the windows 0 .. count - 1, one after the other in the text, all at one view."""
    places = np.arange(count * objective.length, dtype=np.int32).reshape(count, objective.length)
    rows, views = np.arange(count, dtype=np.int32), np.full(count, view, np.int32)
    inputs = arrays(xp, random_tokens(count, objective.length), places, views, rows)
    return objective.example(*inputs, seed, xp)


def same(one, other):
    """Whether two examples are equal in every value."""
    return all((a is None and b is None) or np.array_equal(a, b) for a, b in zip(one, other, strict=True))

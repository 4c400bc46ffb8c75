"""What the tests of evaluation share: tiny arms with weights large enough to matter, and rigged scorers."""

from types import SimpleNamespace

import numpy as np

from lab.arms import ARMS
from lab.config import FactorsConfig


def tiny_transformer(vocab_size=5, length=8, scale=15.0):
    from lab.models.transformer import Transformer

    transformer = Transformer(
        vocab_size=vocab_size, length=length, layers=1, width=8, heads=2, ffn_width=12, seed=1
    )
    transformer.build()
    for variable in transformer.trainable_variables:
        variable.assign(variable.value * scale)
    return transformer


def scorer_of(arm, batch_size=16, **shape):
    from lab.evaluation.scorer import Scorer

    causal = FactorsConfig(**ARMS[arm]).compute == "causal"
    return Scorer(tiny_transformer(**shape), causal, batch_size)


def windows_of(count, vocab_size=5, length=8, seed=0):
    numbers = np.random.default_rng(seed)
    return numbers.integers(0, vocab_size, (count, length)).astype(np.int32)


def log_softmax(logits):
    """Of an array or a backend's tensor, in float64."""
    from keras import ops

    logits = ops.convert_to_numpy(logits).astype(np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


class RiggedScorer:
    """A scorer whose NLL is `nll(previous token, target)`; it keeps the rows that it was given."""

    def __init__(self, causal, nll, length=16, vocab_size=1000):
        self.causal = causal
        self.batch_size = 8
        self.transformer = SimpleNamespace(length=length, mask_id=vocab_size, vocab_size=vocab_size)
        self.nll = nll
        self.rows = []

    def score(self, rows):
        self.rows.append(rows)
        # The token before the scored one: in a causal stream it is in the scored slot.
        slots = rows["scored"] if self.causal else np.maximum(rows["scored"] - 1, 0)
        previous = np.take_along_axis(np.asarray(rows["tokens"]), slots, axis=1)
        return np.broadcast_to(self.nll(previous, rows["targets"]), rows["targets"].shape).astype(float)

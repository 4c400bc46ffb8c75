"""Scoring: the NLL of chosen slots, compiled once by Keras on any backend."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from lab.models.layout import split_rows, whole
from lab.models.transformer import Transformer
from lab.objectives.corruption import Example
from lab.objectives.losses import token_nll

Tensor = Any
Rows = Mapping[str, np.ndarray]


class Scorer(keras.Model):
    """NLL of the targets at the scored slots of each row, without dropout.

    Args:
        transformer: the network, shared with whatever trains it.
        causal: whether a pass looks only at earlier slots.
        batch_size: rows a pass; a last, shorter batch is filled up, so that one program serves all.
    """

    def __init__(self, transformer: Transformer, causal: bool, batch_size: int) -> None:
        super().__init__(name="scorer")
        self.transformer = transformer
        self.causal = causal
        self.batch_size = batch_size
        self.built = True

    def call(self, inputs: dict[str, Tensor]) -> Tensor:
        """Score rows.

        Args:
            inputs: `tokens`, `positions` and `target_positions` (rows, slots) int32 as in
                `Example`; `scored` and `targets` (rows, m) int32,
                the slots to score and the tokens there.

        Returns:
            (rows, m) float32, nats.
        """
        inputs = {name: split_rows(values) for name, values in inputs.items()}
        example = Example(
            inputs["tokens"], inputs["positions"], inputs["target_positions"], targets=None, weights=None
        )
        features = self.transformer.features(example, self.causal).stream
        # Only the scored slots pay for the output projection.
        chosen = ops.take_along_axis(features, ops.expand_dims(inputs["scored"], -1), axis=1)
        return whole(token_nll(self.transformer.logits(chosen), inputs["targets"]))

    def score(self, rows: Rows) -> np.ndarray:
        """NLL of all rows, batch by batch: (rows, m) float64, nats."""
        count = len(rows["tokens"])
        scores = []
        for first in range(0, count, self.batch_size):
            index = np.minimum(np.arange(first, first + self.batch_size), count - 1)
            batch = {name: values[index] for name, values in rows.items()}
            scores.append(np.asarray(self.predict_on_batch(batch), dtype=np.float64))
        return np.concatenate(scores)[:count]


def score_slots(scorer: Scorer, example: Example, slots: np.ndarray) -> np.ndarray:
    """NLL of an example's targets at the same slots of each row.

    Args:
        scorer: the arm.
        example: (rows, L) NumPy arrays; its weights do not count.
        slots: (m,) int32.

    Returns:
        (rows, m) float64, nats.
    """
    shape = example.tokens.shape
    return scorer.score(
        {
            "tokens": example.tokens,
            "positions": np.broadcast_to(example.positions, shape),
            "target_positions": np.broadcast_to(example.target_positions, shape),
            "scored": np.broadcast_to(slots, (shape[0], len(slots))),
            "targets": example.targets[:, slots],
        }
    )

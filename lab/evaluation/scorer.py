"""Scoring: the NLL of targets, or the logits, at chosen slots; compiled once by Keras on any backend."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from lab.models.layout import split_rows, whole
from lab.models.transformer import Transformer
from lab.objectives.corruption import Example
from lab.objectives.losses import token_nll

Tensor = Any


@keras.saving.register_keras_serializable(package="lab")
class SlotScorer(keras.Model):
    """What a network says at chosen slots of each row, without dropout.

    Args:
        transformer: the network, shared with whatever trains it.
        causal: whether a pass looks only at earlier slots.
        batch_size: rows a pass.
        block_size: B, where the slots of an example are doubled (`block_example`); 0 elsewhere. Chosen slots
            are those of the noisy half, in [0, L).
    """

    def __init__(
        self, transformer: Transformer, causal: bool, batch_size: int, block_size: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.transformer = transformer
        self.causal = causal
        self.batch_size = batch_size
        self.block_size = block_size
        self.built = True

    def call(self, inputs: dict[str, Tensor]) -> Tensor:
        """Score one batch; with and without `targets` are one compiled program each.

        Args:
            inputs: `tokens`, `positions` and `target_positions` (rows, L or 2 L) int32 as in `Example`;
                `slots` (rows, m) int32, in [0, L); `targets` (rows, m) int32, the tokens there, or none.

        Returns:
            NLL of the targets, (rows, m) float32, nats; without targets logits, (rows, m, vocab) float32.
        """
        inputs = {name: split_rows(values) for name, values in inputs.items()}
        example = Example(
            inputs["tokens"], inputs["positions"], inputs["target_positions"], targets=None, weights=None
        )
        features = self.transformer.features(example, self.causal, block_size=self.block_size).stream
        # Only the chosen slots pay for the output projection.
        chosen = ops.take_along_axis(features, ops.expand_dims(inputs["slots"], -1), axis=1)
        logits = self.transformer.logits(chosen)
        return whole(token_nll(logits, inputs["targets"]) if "targets" in inputs else logits)

    def nll(self, example: Example, slots: np.ndarray) -> np.ndarray:
        """NLL of an example's targets.

        Args:
            example: NumPy arrays of any number of rows; its weights do not count.
            slots: (m,) int32, the same of each row, or (rows, m).

        Returns:
            (rows, m) float64, nats.
        """
        inputs = _inputs(example, slots)
        inputs["targets"] = np.take_along_axis(example.targets, inputs["slots"], axis=1)
        return np.concatenate([values for _, values in self._batches(inputs, self.batch_size)])

    def logits(
        self, example: Example, slots: np.ndarray, batch_size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Logits batch by batch, as those of all rows may be too many to hold.

        Args:
            example: NumPy arrays of any number of rows; its targets and weights do not count.
            slots: (m,) int32, the same of each row, or (rows, m).
            batch_size: rows a pass.

        Yields:
            The numbers of some rows, (n,), and their logits, (n, m, vocab) float64.
        """
        yield from self._batches(_inputs(example, slots), batch_size)

    def _batches(
        self, inputs: dict[str, np.ndarray], batch_size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        count = len(inputs["tokens"])
        for first in range(0, count, batch_size):
            rows = np.arange(first, first + batch_size)
            # The last row again fills up a short batch, so that one program serves all.
            batch = {name: values[np.minimum(rows, count - 1)] for name, values in inputs.items()}
            rows = rows[rows < count]
            yield rows, np.asarray(self.predict_on_batch(batch), np.float64)[: len(rows)]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        transformer = keras.saving.serialize_keras_object(self.transformer)
        plain = {name: getattr(self, name) for name in ("causal", "batch_size", "block_size")}
        return {**super().get_config(), "transformer": transformer, **plain}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "SlotScorer":
        """The scorer of a configuration, with a network of its own."""
        transformer = keras.saving.deserialize_keras_object(config["transformer"], custom_objects)
        return cls(**{**config, "transformer": transformer})


def _inputs(example: Example, slots: np.ndarray) -> dict[str, np.ndarray]:
    """What `SlotScorer.call` is given, but the targets."""
    shape = example.tokens.shape
    return {
        "tokens": example.tokens,
        "positions": np.broadcast_to(example.positions, shape),
        "target_positions": np.broadcast_to(example.target_positions, shape),
        "slots": np.broadcast_to(slots, (shape[0], slots.shape[-1])),
    }

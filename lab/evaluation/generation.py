"""Sampling text left to right, one token a pass, for every arm."""

import keras
import numpy as np
from keras import ops

from lab import threefry
from lab.models.transformer import Transformer
from lab.objectives.corruption import causal_example
from lab.threefry import Stream


class NextToken(keras.Model):
    """Logits of one slot of each row; inputs as in `Scorer.call`, without targets.

    Args:
        transformer: the network.
        causal: whether a pass looks only at earlier slots.
    """

    def __init__(self, transformer: Transformer, causal: bool) -> None:
        super().__init__(name="next_token")
        self.transformer = transformer
        self.causal = causal
        self.built = True

    def call(self, inputs: dict[str, object]) -> object:
        """(rows, vocab) float32 logits."""
        features = self.transformer.features(
            inputs["tokens"], inputs["positions"], inputs["target_positions"], causal=self.causal
        )
        chosen = ops.take_along_axis(features, ops.expand_dims(inputs["scored"], -1), axis=1)
        return self.transformer.logits(chosen)[:, 0]


def sample_left_to_right(model: NextToken, prompt: np.ndarray, total_tokens: int, seed: int) -> np.ndarray:
    """Continue a prompt at temperature 1: the arm's own chain-rule distribution.

    Args:
        model: the arm.
        prompt: (p,) int32, 0 <= p < total_tokens.
        total_tokens: length of the result, at most L.
        seed: of the random words.

    Returns:
        (total_tokens,) int32, the prompt and its continuation.

    Raises:
        ValueError: if `total_tokens` is beyond L or not beyond the prompt.
    """
    length = model.transformer.length
    if not len(prompt) < total_tokens <= length:
        raise ValueError(
            f"`total_tokens` must be in {len(prompt) + 1}..{length}, but got total_tokens={total_tokens}."
        )
    mask_id = model.transformer.mask_id
    key = (np.full(1, seed, np.int32), np.full(1, Stream.SAMPLES, np.int32))
    uniforms = threefry.uniform(threefry.words(key, total_tokens, np)[0], np)
    slots = np.arange(length, dtype=np.int32)[None]
    tokens = np.full((1, length), mask_id, np.int32)
    tokens[0, : len(prompt)] = prompt
    for place in range(len(prompt), total_tokens):
        if model.causal:
            example = causal_example(tokens, slots, mask_id, np)
            inputs, positions = example.tokens, example.positions
        else:
            inputs, positions = tokens, slots + 1
        row = {
            "tokens": inputs,
            "positions": positions,
            "target_positions": slots + 1,
            "scored": np.full((1, 1), place, np.int32),
        }
        logits = np.asarray(model.predict_on_batch(row), np.float64)[0]
        cumulative = np.cumsum(np.exp(logits - logits.max()))
        tokens[0, place] = np.searchsorted(cumulative, uniforms[place] * cumulative[-1])
    return tokens[0, :total_tokens]

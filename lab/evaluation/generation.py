"""Sampling text left to right, one token a pass, for every arm."""

from collections.abc import Iterator, Mapping

import keras
import numpy as np
from keras import ops

from lab import threefry
from lab.models.layout import split_rows, whole
from lab.models.transformer import Transformer
from lab.objectives.corruption import Example, causal_example
from lab.threefry import Stream


class SlotLogits(keras.Model):
    """Logits of chosen slots of each row; inputs as in `Scorer.call`, without targets.

    Args:
        transformer: the network.
        causal: whether a pass looks only at earlier slots.
    """

    def __init__(self, transformer: Transformer, causal: bool) -> None:
        super().__init__(name="slot_logits")
        self.transformer = transformer
        self.causal = causal
        self.built = True

    def call(self, inputs: dict[str, object]) -> object:
        """(rows, m, vocab) float32 logits of the slots `scored`, (rows, m) int32."""
        inputs = {name: split_rows(values) for name, values in inputs.items()}
        example = Example(
            inputs["tokens"], inputs["positions"], inputs["target_positions"], targets=None, weights=None
        )
        features = self.transformer.features(example, self.causal).stream
        chosen = ops.take_along_axis(features, ops.expand_dims(inputs["scored"], -1), axis=1)
        return whole(self.transformer.logits(chosen))


def sample_left_to_right(
    model: SlotLogits, prompts: np.ndarray, total_tokens: int, seed: int, batch_size: int = 128
) -> np.ndarray:
    """Continue prompts at temperature 1: the arm's own chain-rule distribution.

    Args:
        model: the arm.
        prompts: (count, p) int32, count >= 1, 0 <= p < total_tokens.
        total_tokens: length of the result, at most L.
        seed: of the random words.
        batch_size: rows a pass.

    Returns:
        (count, total_tokens) int32, the prompts and their continuations.

    Raises:
        ValueError: if `total_tokens` is beyond L or not beyond the prompt.
    """
    tokens = masked_rows(model, prompts, total_tokens)
    first = prompts.shape[1]
    uniforms = sampling_uniforms(seed, len(prompts), total_tokens)
    slots = np.arange(tokens.shape[1], dtype=np.int32)[None]
    for rows, index in batches(len(tokens), batch_size):
        for place in range(first, total_tokens):
            inputs, positions = tokens[index], slots + np.int32(1)
            if model.causal:
                example = causal_example(
                    inputs, np.broadcast_to(slots, inputs.shape), model.transformer.mask_id, np
                )
                inputs, positions = example.tokens, example.positions
            batch = {
                "tokens": inputs,
                "positions": np.broadcast_to(positions, inputs.shape),
                "target_positions": np.broadcast_to(slots + np.int32(1), inputs.shape),
                "scored": np.full((len(index), 1), place, np.int32),
            }
            logits = predict(model, batch)[: len(rows), 0]
            tokens[rows, place] = sample_tokens(logits, uniforms[rows, place])
    return tokens[:, :total_tokens]


def masked_rows(model: SlotLogits, prompts: np.ndarray, total_tokens: int) -> np.ndarray:
    """Whole windows that begin with the prompts and are masked after them: (count, L) int32.

    Raises:
        ValueError: if `total_tokens` is beyond L or not beyond the prompt.
    """
    length, first = model.transformer.length, prompts.shape[1]
    if not first < total_tokens <= length:
        raise ValueError(
            f"`total_tokens` must be in {first + 1}..{length}, but got total_tokens={total_tokens}."
        )
    tokens = np.full((len(prompts), length), model.transformer.mask_id, np.int32)
    tokens[:, :first] = prompts
    return tokens


def sampling_uniforms(seed: int, count: int, total_tokens: int) -> np.ndarray:
    """The number that decides each sampled token: (count, total_tokens) float32, inside (0, 1).

    It depends on the seed, the row and the place alone: in whatever order tokens are sampled and however many
    at once, the same logits give the same token.
    """
    key = (np.full(1, seed, np.int32), np.full(1, Stream.SAMPLES, np.int32))
    counter = (np.arange(total_tokens, dtype=np.int32)[None], np.arange(count, dtype=np.int32)[:, None])
    return np.asarray(threefry.uniform(threefry.threefry2x32(key, counter, np)[0], np))


def sample_tokens(logits: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """The token at which the cumulative probability passes each uniform number.

    Args:
        logits: (..., vocab) float64.
        uniforms: (...) float32 in (0, 1).

    Returns:
        (...) int32.
    """
    cumulative = np.cumsum(np.exp(logits - logits.max(axis=-1, keepdims=True)), axis=-1)
    threshold = uniforms[..., None].astype(np.float64) * cumulative[..., -1:]
    return (cumulative < threshold).sum(axis=-1).astype(np.int32)


def batches(count: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of each batch, and the same filled up to one size, so that one program serves all."""
    size = min(count, batch_size)
    for start in range(0, count, size):
        rows = np.arange(start, start + size)
        yield rows[rows < count], np.minimum(rows, count - 1)


def predict(model: SlotLogits, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """The logits of one batch: (rows, m, vocab) float64."""
    return np.asarray(model.predict_on_batch(batch), np.float64)

"""What counting writes: bodies sampled from the n-gram of a run's unique tokens (lab/data/ngram.py)."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from lab.data.ngram import KneserNey
from lab.data.tokenizers import Tokenizer
from lab.threefry import Stream, threefry2x32, uniform

_CONTEXTS = 1 << 13  # remembered at once, with what follows them: the same phrases come again and again


def sample_bodies(
    model: KneserNey, tokenizer: Tokenizer, prompts: Sequence[str], new_tokens: int, seed: int | None
) -> list[str]:
    """Continue prompts left to right until the end of the document.

    A body depends on its prompt, its place among the prompts and the seed alone.

    Args:
        model: counts of the tokens that a run trains on, up to the order that is sampled from.
        tokenizer: what made the tokens.
        prompts: texts.
        new_tokens: tokens of a body, at most.
        seed: of the random numbers; None takes the most likely token, of equals the first.

    Raises:
        ValueError: if `new_tokens` is below 1.
    """
    if new_tokens < 1:
        raise ValueError(f"`new_tokens` must be >= 1, but got new_tokens={new_tokens}.")
    rows = None if seed is None else _uniforms(seed, len(prompts), new_tokens)

    @lru_cache(maxsize=_CONTEXTS)
    def distribution(*context: int) -> np.ndarray:
        return model.distribution(np.array(context, np.int64))

    bodies = []
    for number, prompt in enumerate(prompts):
        text = tokenizer.encode(prompt).tolist()
        first = len(text)
        for place in range(new_tokens):
            behind = distribution(*text[len(text) - min(len(text), model.max_order - 1) :])
            token = int(behind.argmax()) if rows is None else _sampled(behind, rows[number, place])
            if token == tokenizer.end_id:
                break
            text.append(token)
        bodies.append(tokenizer.decode(text[first:]))
    return bodies


def _uniforms(seed: int, rows: int, tokens: int) -> np.ndarray:
    """(rows, tokens) float32 in (0, 1), a function of the seed, the row and the token's place alone."""
    key = (np.full(1, seed, np.int32), np.full(1, Stream.SAMPLES, np.int32))
    counter = (np.arange(tokens, dtype=np.int32), np.arange(rows, dtype=np.int32)[:, None])
    return np.asarray(uniform(threefry2x32(key, counter, np)[0], np))


def _sampled(probabilities: np.ndarray, chance: np.float32) -> int:
    """The token at which the cumulative probability passes a number in (0, 1)."""
    cumulative = np.cumsum(probabilities)
    return int(np.searchsorted(cumulative, float(chance) * cumulative[-1]))

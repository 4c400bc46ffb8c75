"""Draws of fixed windows: keyed by the number of the window, with an exact count of hidden tokens."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lab import threefry
from lab.config import FactorsConfig
from lab.factors import parse_input_noise
from lab.objectives.draws import (
    COUNT,
    Draw,
    complement,
    draw,
    draw_keys,
    hidden_positions,
    noise_words,
    single_word,
)
from lab.objectives.noise import bernoulli_hidden
from lab.threefry import Stream, Words

Array = Any

_PLACES, _TOKENS = 0, 2  # the series of a noise's rows of words; 1 is that of single words


@dataclass(frozen=True)
class WindowDraws:
    """What is drawn for the windows of a batch, k uniform on its range.

    `lab.objectives.place_draws.PlaceDraws` has the same methods for windows that are cut anew each epoch.

    Attributes:
        factors: the corner of the cube.
        seed: the run's seed, an int or a () int32 array.
        window_ids: (batch,) int32.
        numbers: (batch,) int32, which draw of the window.
        length: L.
        xp: `numpy` or `keras.ops`.
        level_words: (batch,) int32 that k is a function of, in place of words of the window's own.
    """

    factors: FactorsConfig
    seed: Array | int
    window_ids: Array
    numbers: Array
    length: int
    xp: Any
    level_words: Array | None = None

    def order(self) -> Array:
        """(batch, L) int32, a permutation of 0 .. L - 1 a row."""
        return self._draw(self.numbers).order

    def hidden(self) -> tuple[Array, Array]:
        """What a dense pass hides, (batch, L) bool, and what each hidden token counts, (batch, 1) float32."""
        factors, xp = self.factors, self.xp
        if factors.estimator == "bernoulli":
            key = (self.seed, Stream.TRAINING_DRAWS, self.window_ids, self.numbers)
            level, words = noise_words(*key, self.length, xp)
            level, fractions = xp.expand_dims(level, -1), threefry.fraction(words, xp)
            hidden, weights = bernoulli_hidden(level, fractions, factors.noise_schedule, xp)
            return hidden, weights / np.float32(self.length)
        if factors.complementary:
            odd = self.numbers % np.int32(2) == np.int32(1)
            drawn = complement(self._draw(self.numbers // np.int32(2)), odd, xp)
        else:
            drawn = self._draw(self.numbers)
        return hidden_positions(drawn, xp), self._each(drawn.hidden_count)

    def altered(self) -> tuple[Array, Array]:
        """The k tokens that input noise alters, (batch, L) bool, and 1 / k, (batch, 1) float32.

        Every set of k positions is equally likely, whatever the order.
        """
        xp, keys = self.xp, self._noise_keys()
        _, ratio, drawn = parse_input_noise(self.factors.input_noise)
        highest = max(1, round(ratio * self.length))
        counts = xp.zeros_like(keys[0]) + np.int32(highest)
        if drawn:
            words = single_word(keys, COUNT, xp) if self.level_words is None else self.level_words
            counts = threefry.below(words, highest, xp) + np.int32(1)
        positions = threefry.permutation(threefry.words(keys, self.length, xp, _PLACES), xp)
        return hidden_positions(Draw(positions, counts), xp), self._each(counts)

    def replacements(self, order: Array, vocab_size: int) -> Array:
        """Random tokens for the slots after the start, whichever they read: (batch, L - 1) int32."""
        words = threefry.words(self._noise_keys(), self.length - 1, self.xp, _TOKENS)
        return threefry.below(words, vocab_size, self.xp)

    def visible(self) -> Array:
        """The slots that attention-mask dropout leaves to the others: (batch, L) bool."""
        keys = draw_keys(self.seed, Stream.ATTENTION_MASK, self.window_ids, self.numbers, self.xp)
        fractions = threefry.fraction(threefry.words(keys, self.length, self.xp), self.xp)
        return fractions >= threefry.threshold(self.factors.attention_mask_dropout)

    def _draw(self, numbers: Array) -> Draw:
        factors = self.factors
        return draw(
            self.seed,
            Stream.TRAINING_DRAWS,
            self.window_ids,
            numbers,
            self.length,
            factors.order,
            self.xp,
            factors.noise_window,
            self.level_words,
        )

    def _noise_keys(self) -> Words:
        return draw_keys(self.seed, Stream.INPUT_NOISE, self.window_ids, self.numbers, self.xp)

    def _each(self, counts: Array) -> Array:
        return self.xp.expand_dims(np.float32(1) / threefry.to_float32(counts, self.xp), -1)

"""Draws of the text: keyed by the places of its tokens, and so the same however windows are cut.

Each place has a random word for each draw, its priority; each block of places has one, its noise level. A
window's draw is what they say of its tokens. So draw j gives a token one fate, and two tokens one order, in
every window that holds them; a window's share of hidden tokens is as random as if it were drawn by itself,
but where it crosses the edge of a block.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lab import threefry
from lab.config import FactorsConfig
from lab.factors import level_range, parse_input_noise
from lab.objectives.draws import Draw, chosen_orders, count_range, draw_keys, hidden_positions
from lab.objectives.noise import bernoulli_hidden
from lab.threefry import Stream, Words

Array = Any

# Windows a block. Windows across an edge have two noise levels, and then k is not uniform: 1 in 16. Longer
# blocks would leave a small budget with few levels an epoch: 10,000 tokens at L = 64 have 10.
BLOCK_WINDOWS = 16


@dataclass(frozen=True)
class PlaceDraws:
    """What is drawn for the windows of a batch.

    - `order: any`: by priority. `compute: dense` hides the share t of all priorities that come last. t is
      that of the block, uniform on the part of (0, 1) that `noise_window` names, all of it by default. So k
      is uniform on 0 .. L inside a block. A window in which nothing is hidden has weight 0; elsewhere a
      hidden token counts 1 / (k P(k > 0)), so the mean loss is that of k uniform on 1 .. L.
    - Input noise alters tokens in the same way, by words of their own, at t or at its fixed ratio.
    - `left_to_right`, dense: no text can say by itself which suffix is hidden. A block has a phase c, and a
      window that begins in it is cut at its one place that is c modulo L, so k is uniform on 1 .. L. Under
      one and the same draw a token may be hidden in one window and visible in another.
    - Blocks of `factors.block` tokens, each as a window here: hidden are the last k by priority, k uniform on
      1 .. B by the word of the block's first place. So a draw keeps the order of tokens however blocks are
      cut, and how many are hidden where they are cut alike.
    - `fixed:N` and `right_to_left:share` order positions of the window; which order, and k, are those of the
      block of its first place.

    `lab.objectives.window_draws.WindowDraws` has the same methods for windows that are never cut otherwise.

    Attributes:
        factors: the corner of the cube.
        seed: the run's seed, an int or a () int32 array.
        places: (batch, L) int32, the place of each token in the replicate's budget, modulo 2**32.
        numbers: (batch,) int32, which draw of the text.
        xp: `numpy` or `keras.ops`.
        level_words: (batch,) int32 that t or k of each row is a function of, in place of its blocks' words.

    Example: one frozen draw of eight tokens, in windows of six that begin at places 0, 1 and 2.
        >>> places = np.arange(3, dtype=np.int32)[:, None] + np.arange(6, dtype=np.int32)
        >>> zeros = np.int32([0, 0, 0])
        >>> draws = PlaceDraws(FactorsConfig(order="any", compute="dense"), 7, places, zeros, np)
        >>> hidden, weights = draws.hidden()
        >>> print(np.where(hidden, -1, places))
        [[ 0 -1  2 -1 -1  5]
         [-1  2 -1 -1  5 -1]
         [ 2 -1 -1  5 -1 -1]]
        >>> print(weights[:, 0].round(3))
        [0.389 0.292 0.292]
        >>> print(np.take_along_axis(places, draws.order(), axis=1))
        [[5 2 0 1 3 4]
         [5 2 1 3 4 6]
         [5 2 7 3 4 6]]
    """

    factors: FactorsConfig
    seed: Array | int
    places: Array
    numbers: Array
    xp: Any
    level_words: Array | None = None

    def order(self) -> Array:
        """(batch, L) int32, a permutation of 0 .. L - 1 a row."""
        if self.factors.order == "any":
            # Words that agree in the upper bits fall back to the order of the text, the same in every window.
            return threefry.permutation(self._words(Stream.PLACES, self.places)[0], self.xp)
        choice = self._first_block()[1]
        return chosen_orders(choice, self.seed, self.length, self.factors.order, self.xp)

    def hidden(self) -> tuple[Array, Array]:
        """What a dense pass hides, (batch, L) bool, and what each hidden token counts, (batch, 1 or L)."""
        factors, xp = self.factors, self.xp
        if factors.order != "any" or factors.in_blocks:
            counts = self._counts()
            each = np.float32(1) / threefry.to_float32(counts, xp)
            return hidden_positions(Draw(self.order(), counts), xp), xp.expand_dims(each, -1)
        if factors.estimator == "bernoulli":
            fractions = self._last_first()
            hidden, weights = bernoulli_hidden(self._levels(), fractions, factors.noise_schedule, xp)
            return hidden, weights / np.float32(self.length)
        levels = level_range(factors.noise_window)
        pair = replace(self, numbers=self.numbers // np.int32(2)) if factors.complementary else self
        hidden = pair._below(pair._last_first(), levels)
        if factors.complementary:
            odd = self.numbers % np.int32(2) == np.int32(1)
            hidden = xp.logical_xor(hidden, xp.expand_dims(odd, -1))
        return hidden, self._each(hidden, levels)

    def altered(self) -> tuple[Array, Array]:
        """The tokens that input noise alters, (batch, L) bool, and what each counts, (batch, 1) float32."""
        _, ratio, drawn = parse_input_noise(self.factors.input_noise)
        levels = (0.0 if drawn else ratio, ratio)
        words = self._words(Stream.INPUT_NOISE_PLACES, self.places)[0]
        altered = self._below(threefry.fraction(words, self.xp), levels)
        return altered, self._each(altered, levels)

    def replacements(self, order: Array, vocab_size: int) -> Array:
        """A random token for each place, at the slots that read it: (batch, L - 1) int32."""
        words = self._words(Stream.INPUT_NOISE_PLACES, self.places)[1]
        tokens = threefry.below(words, vocab_size, self.xp)
        return self.xp.take_along_axis(tokens, order[:, :-1], axis=-1)

    def visible(self) -> Array:
        """The slots that attention-mask dropout leaves to the others: (batch, L) bool."""
        words = self._words(Stream.ATTENTION_MASK_PLACES, self.places)[0]
        return threefry.fraction(words, self.xp) >= threefry.threshold(self.factors.attention_mask_dropout)

    @property
    def length(self) -> int:
        """L."""
        return int(self.places.shape[-1])

    def _words(self, stream: Stream, ids: Array) -> Words:
        return draw_keys(self.seed, stream, ids, self.xp.expand_dims(self.numbers, -1), self.xp)

    def _last_first(self) -> Array:
        """A fraction of each place, the smaller the later it comes in the order: (batch, L) int32."""
        words = self._words(Stream.PLACES, self.places)[0]
        # The sort is of signed words: all their other bits are flipped, and the greatest are the smallest.
        return threefry.fraction(self.xp.bitwise_xor(words, np.int32(0x7FFFFFFF)), self.xp)

    def _blocks(self, places: Array) -> Words:
        """The words of places' blocks, of the level and of the choice of an order: int32 of their shape."""
        return self._words(Stream.BLOCKS, places // np.int32(BLOCK_WINDOWS * self.length))

    def _first_block(self) -> Words:
        level, choice = self._blocks(self.places[:, :1])
        return level[:, 0], choice[:, 0]

    def _levels(self) -> Array:
        """The words of each token's level: (batch, 1 or L) int32."""
        if self.level_words is None:
            return self._blocks(self.places)[0]
        return self.xp.expand_dims(self.level_words, -1)

    def _below(self, fractions: Array, levels: tuple[float, float]) -> Array:
        """Where a token's fraction is below its level, which is drawn between two."""
        low, high = (round(level * threefry.FRACTIONS) for level in levels)
        level = threefry.below(self._levels(), high - low, self.xp) if high > low else np.int32(0)
        return fractions < level + np.int32(low)

    def _each(self, hidden: Array, levels: tuple[float, float]) -> Array:
        """1 / (k P(k > 0)), (batch, 1) float32, for k = 0 that of 1, which then counts nowhere."""
        counts = self.xp.sum(threefry.to_float32(hidden, self.xp), axis=-1, keepdims=True)
        return np.float32(1 / some_chance(levels, self.length)) / self.xp.maximum(counts, np.float32(1))

    def _counts(self) -> Array:
        """How many positions a window hides whose order is not of the text: (batch,) int32."""
        low, high = count_range(self.factors.noise_window, self.length)
        number, words = high - low + 1, self.level_words
        if words is None and self.factors.in_blocks:
            words = draw_keys(self.seed, Stream.BLOCK_COUNTS, self.places[:, 0], self.numbers, self.xp)[0]
        if words is None and self.factors.order == "left_to_right":
            phase = threefry.below(self._first_block()[0], number, self.xp)
            return np.int32(high) - (phase - self.places[:, 0]) % np.int32(number)
        words = self._first_block()[0] if words is None else words
        return threefry.below(words, number, self.xp) + np.int32(low)


def some_chance(levels: tuple[float, float], length: int) -> float:
    """P(k > 0) of k tokens of L, each hidden with chance t, t uniform between two levels or equal to both.

    The mean of 1 - (1 - t)^L. L / (L + 1) where t is uniform on (0, 1).
    """
    low, high = levels
    if low == high:
        return float(1 - (1 - low) ** length)
    power = length + 1
    return float(1 - ((1 - low) ** power - (1 - high) ** power) / power / (high - low))

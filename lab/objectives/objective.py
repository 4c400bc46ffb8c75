"""What an arm trains on: tokens and views in, an example out."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lab import threefry
from lab.config import FactorsConfig
from lab.objectives.corruption import Example, causal_example, dense_example
from lab.objectives.draws import complement, draw, hidden_positions, noise_words
from lab.objectives.input_noise import add_input_noise, visible_slots
from lab.objectives.noise import bernoulli_hidden
from lab.threefry import Stream

Array = Any


@dataclass(frozen=True)
class Objective:
    """One corner of the cube as a pure function.

    With `compute: dense`, `order: any` and k uniform on 1 .. L, the mean over the k hidden tokens is an
    unbiased estimate of the any-order NLL per token: each token is equally likely to stand at each place of a
    random order. The Bernoulli form estimates the same bound with weight -alpha'(t) / (1 - alpha(t)), 1/t if
    linear.

    Attributes:
        factors: the corner.
        length: L.
        mask_id: the id that hides a token and starts a causal stream.

    Reference: Ni et al. 2025, arXiv:2511.03276; Ou et al. 2024, arXiv:2406.03736, section 3 (any-order form).
    """

    factors: FactorsConfig
    length: int
    mask_id: int

    @property
    def causal(self) -> bool:
        """Whether a pass may look only at earlier slots."""
        return self.factors.compute == "causal"

    def draw_numbers(self, views: Array) -> Array:
        """The draw that each view uses: view mod K, so K = 1 freezes one draw a sequence."""
        return views if self.factors.draws == "inf" else views % np.int32(self.factors.draws)

    def example(
        self, tokens: Array, sequence_ids: Array, views: Array, seed: Array | int, stream: Stream, xp: Any
    ) -> Example:
        """Draw, and corrupt by the draw.

        Args:
            tokens: (batch, L) int32.
            sequence_ids: (batch,) int32.
            views: (batch,) int32, in how many passes each sequence was used before.
            seed: the run's seed, an int or a () int32 array.
            stream: training or evaluation.
            xp: `numpy` or `keras.ops`.
        """
        factors = self.factors
        numbers = self.draw_numbers(views)
        # One draw for all windows of an epoch is the draw of one window.
        ids = sequence_ids if factors.redraw == "visit" else xp.zeros_like(sequence_ids)
        corrupt = self._causal if self.causal else self._dense
        example = corrupt(tokens, ids, numbers, seed, stream, xp)
        if factors.attention_mask_dropout:
            visible = visible_slots(seed, ids, numbers, self.length, factors.attention_mask_dropout, xp)
            example = example._replace(visible=visible)
        return example

    def _causal(
        self, tokens: Array, ids: Array, numbers: Array, seed: Array | int, stream: Stream, xp: Any
    ) -> Example:
        factors = self.factors
        drawn = draw(seed, stream, ids, numbers, self.length, factors.order, xp)
        example = causal_example(tokens, drawn.order, self.mask_id, xp)
        if factors.input_noise == "none":
            return example
        return add_input_noise(
            example, seed, ids, numbers, factors.input_noise, factors.loss_on, self.mask_id, xp
        )

    def _dense(
        self, tokens: Array, ids: Array, numbers: Array, seed: Array | int, stream: Stream, xp: Any
    ) -> Example:
        factors = self.factors
        if factors.estimator == "bernoulli":
            level, positions = noise_words(seed, stream, ids, numbers, self.length, xp)
            hidden, weight = bernoulli_hidden(level, positions, factors.noise_schedule, xp)
            return dense_example(tokens, hidden, self.mask_id, weight / np.float32(self.length), xp)
        pair = numbers // np.int32(2) if factors.complementary else numbers
        drawn = draw(seed, stream, ids, pair, self.length, factors.order, xp, factors.noise_window)
        if factors.complementary:
            drawn = complement(drawn, numbers % np.int32(2) == np.int32(1), xp)
        weight = np.float32(1) / threefry.to_float32(drawn.hidden_count, xp)
        return dense_example(tokens, hidden_positions(drawn, xp), self.mask_id, weight, xp)

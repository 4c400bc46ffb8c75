"""What an arm trains on: tokens and visits in, an example out."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.config import FactorsConfig
from lab.objectives.corruption import Example, causal_example, dense_example
from lab.objectives.draws import draw, hidden_positions, noise_words
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

    def draw_numbers(self, visits: Array) -> Array:
        """The draw that each visit uses: visit mod K, so K = 1 freezes one draw a sequence."""
        return visits if self.factors.draws == "inf" else visits % np.int32(self.factors.draws)

    def example(
        self, tokens: Array, sequence_ids: Array, visits: Array, seed: Array | int, stream: Stream, xp: Any
    ) -> Example:
        """Draw, and corrupt by the draw.

        Args:
            tokens: (batch, L) int32.
            sequence_ids: (batch,) int32.
            visits: (batch,) int32, how often each sequence was seen before.
            seed: the run's seed, an int or a () int32 array.
            stream: training or evaluation.
            xp: `numpy` or `keras.ops`.
        """
        numbers = self.draw_numbers(visits)
        if self.factors.estimator == "bernoulli":
            level, positions = noise_words(seed, stream, sequence_ids, numbers, self.length, xp)
            hidden, weight = bernoulli_hidden(level, positions, self.factors.noise_schedule, xp)
            return dense_example(tokens, hidden, self.mask_id, weight / np.float32(self.length), xp)
        drawn = draw(seed, stream, sequence_ids, numbers, self.length, self.factors.order, xp)
        if self.causal:
            return causal_example(tokens, drawn.order, self.mask_id, xp)
        counts = drawn.hidden_count
        count_floats = xp.cast(counts, "float32") if hasattr(xp, "cast") else counts.astype("float32")
        return dense_example(
            tokens, hidden_positions(drawn, xp), self.mask_id, np.float32(1) / count_floats, xp
        )

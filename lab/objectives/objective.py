"""What an arm trains on: tokens and views in, an example out."""

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from lab import threefry
from lab.config import FactorsConfig
from lab.factors import parse_ar_share, parse_input_noise
from lab.objectives.corruption import Example, block_example, causal_example, dense_example
from lab.objectives.draws import draw_keys
from lab.objectives.input_noise import add_input_noise
from lab.objectives.place_draws import PlaceDraws
from lab.objectives.window_draws import WindowDraws
from lab.threefry import Stream

Array = Any


class Part(NamedTuple):
    """Rows of a micro-batch that go through the network in one pass.

    Attributes:
        example: what they read and predict.
        causal: whether the pass may look only at earlier slots.
        block_size: B of a doubled stream; 0 where the stream is not.
    """

    example: Example
    causal: bool
    block_size: int = 0


@dataclass(frozen=True)
class Objective:
    """One corner of the cube as a pure function.

    With `compute: dense`, `order: any` and k uniform on 1 .. L, the mean over the k hidden tokens is an
    unbiased estimate of the any-order NLL per token: each token is equally likely to stand at each place of a
    random order. The Bernoulli form estimates the same bound with weight -alpha'(t) / (1 - alpha(t)), 1/t if
    linear.

    With blocks of B tokens, k is uniform on 1 .. B for each of them, and the loss is the mean over blocks: an
    unbiased estimate of the NLL per token over orders that are left to right over blocks and random within.

    Attributes:
        factors: the corner.
        length: L.
        mask_id: the id that hides a token and starts a causal stream.
        windows: `fixed`, and draws belong to windows, or `jittered`, and they belong to places of the text.
        batch_size: rows of an update.

    Reference: Ni et al. 2025, arXiv:2511.03276; Ou et al. 2024, arXiv:2406.03736, section 3 (any-order form).
    """

    factors: FactorsConfig
    length: int
    mask_id: int
    windows: Literal["fixed", "jittered"]
    batch_size: int

    @property
    def block_size(self) -> int:
        """Tokens of a block, where a window has several; else 0."""
        return self.factors.block_size(self.length)

    @property
    def causal(self) -> bool:
        """Whether a pass over an example may look only at earlier slots."""
        return self.factors.compute == "causal"

    def draw_numbers(self, views: Array) -> Array:
        """The draw that each view uses: view mod K, so K = 1 freezes one draw a text."""
        return views if self.factors.draws == "inf" else views % np.int32(self.factors.draws)

    def parts(
        self, tokens: Array, places: Array, views: Array, rows: Array, seed: Array | int, xp: Any
    ) -> tuple[Part, ...]:
        """What a step trains on: the rows that are read left to right, if `ar_share` says so, and the others.

        Of every d rows that follow one another, n are read left to right, where `ar_share` is n / d in lowest
        terms; which ones is drawn anew for each pass of each update. So every part of a micro-batch whose
        rows d divides has the same share, whatever the accumulation and the number of devices.

        Args:
            tokens: as all that follows, see `example`; d divides the number of rows.

        Returns:
            One part or two, the rows of the first before those of the second.

        Reference: Samuel and Charpentier 2025, arXiv:2512.14549.
        """
        inputs = (tokens, places, views, rows)
        share = parse_ar_share(self.factors.ar_share)
        if share == 0:
            return (Part(self.example(*inputs, seed, xp), self.causal, self.block_size),)
        plain = {"order": "left_to_right", "compute": "causal", "ar_share": 0.0, "block": "window"}
        left_to_right = replace(self, factors=self.factors.model_copy(update=plain))
        if share == 1:
            return (Part(left_to_right.example(*inputs, seed, xp), causal=True),)
        size = share.denominator
        grouped = [xp.reshape(each, (-1, size, *each.shape[1:])) for each in inputs]
        first_views, first_rows = (each[:, 0] for each in grouped[2:])
        numbers = first_rows // np.int32(size), first_views % np.int32(self.factors.passes)
        keys = draw_keys(seed, Stream.AR_ROWS, *numbers, xp)
        dealt = threefry.permutation(threefry.words(keys, size, xp), xp)

        def part(objective: Objective, chosen: Array) -> Part:
            def pick(each: Array) -> Array:
                index = xp.expand_dims(chosen, -1) if len(each.shape) == 3 else chosen
                return xp.reshape(xp.take_along_axis(each, index, axis=1), (-1, *each.shape[2:]))

            tokens, places, views, rows = map(pick, grouped)
            example = objective.example(tokens, places, views, rows, seed, xp)
            return Part(example, objective.causal, objective.block_size)

        return part(left_to_right, dealt[:, : share.numerator]), part(self, dealt[:, share.numerator :])

    def example(
        self, tokens: Array, places: Array, views: Array, rows: Array, seed: Array | int, xp: Any
    ) -> Example:
        """Draw, and corrupt by the draw, without regard to `ar_share`.

        Args:
            tokens: (batch, L) int32.
            places: (batch, L) int32, where they are in the replicate's budget.
            views: (batch,) int32, in how many passes the text was used before.
            rows: (batch,) int32, the number of each row in the run, `batch_size` an update.
            seed: the run's seed, an int or a () int32 array.
            xp: `numpy` or `keras.ops`.
        """
        draws = self._draws(places, views, rows, seed, xp)
        example = self._causal(tokens, draws, xp) if self.causal else self._dense(tokens, draws, xp)
        return example._replace(visible=draws.visible()) if self.factors.attention_mask_dropout else example

    def _draws(
        self, places: Array, views: Array, rows: Array, seed: Array | int, xp: Any
    ) -> WindowDraws | PlaceDraws:
        factors, numbers, size = self.factors, self.draw_numbers(views), self.block_size
        if factors.redraw == "epoch":  # one draw for all windows of an epoch: that of the first
            places = xp.zeros_like(places) + xp.arange(self.length, dtype="int32")
        level_words = self.level_words(views, rows, seed, xp) if factors.stratified else None
        if size:  # each block is drawn as a window of its own
            blocks = self.length // size
            places, numbers = xp.reshape(places, (-1, size)), xp.repeat(numbers, blocks, axis=0)
            if level_words is not None:
                share = np.int32(threefry.FRACTIONS // (self.batch_size * blocks))
                own = xp.left_shift(xp.arange(blocks, dtype="int32") * share, np.int32(32 - 23))
                level_words = xp.reshape(xp.expand_dims(level_words, -1) + own, (-1,))
        elif factors.in_blocks:
            factors = factors.model_copy(update={"block": "window"})
        if self.windows == "jittered":
            return PlaceDraws(factors, seed, places, numbers, xp, level_words)
        length = size or self.length
        window_ids = places[:, 0] // np.int32(length)
        return WindowDraws(factors, seed, window_ids, numbers, length, xp, level_words)

    def level_words(self, views: Array, rows: Array, seed: Array | int, xp: Any) -> Array:
        """Noise levels spread evenly over the rows of an update: words of t = frac(u + row / batch_size).

        u is drawn anew for each pass of each update.
        """
        passes, size = np.int32(self.factors.passes), np.int32(self.batch_size)
        numbers = rows // size * passes + views % passes
        start = draw_keys(seed, Stream.STRATA, numbers, xp.zeros_like(numbers), xp)[0]
        share = rows % size * np.int32(threefry.FRACTIONS // self.batch_size)
        return start + xp.left_shift(share, np.int32(32 - 23))

    def _causal(self, tokens: Array, draws: WindowDraws | PlaceDraws, xp: Any) -> Example:
        order = draws.order()
        example = causal_example(tokens, order, self.mask_id, xp)
        kind, _, _ = parse_input_noise(self.factors.input_noise)
        if kind == "none":
            return example
        replaced = kind == "replace"
        noise = draws.replacements(order, self.mask_id) if replaced else np.int32(self.mask_id)
        altered, weights = draws.altered()
        return add_input_noise(
            example, altered, noise, weights if self.factors.loss_on == "hidden" else None, xp
        )

    def _dense(self, tokens: Array, draws: WindowDraws | PlaceDraws, xp: Any) -> Example:
        hidden, weights = draws.hidden()
        if not self.block_size:
            return dense_example(tokens, hidden, self.mask_id, weights, xp)
        weights = xp.zeros_like(hidden, dtype="float32") + weights * np.float32(self.block_size / self.length)
        hidden, weights = (xp.reshape(each, (-1, self.length)) for each in (hidden, weights))
        return block_example(tokens, hidden, self.mask_id, weights, xp)

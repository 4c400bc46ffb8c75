"""The windows that samplers fill: prompts, what follows them, and which of them are whole."""

from collections.abc import Callable, Sequence

import numpy as np

from lab import threefry
from lab.evaluation.scorer import SlotScorer
from lab.objectives.corruption import Example, block_example, causal_example, dense_example
from lab.threefry import Stream

# Whether a continuation, (n,) int32, is whole with its last token (lab/evaluation/stop_conditions.py).
StopCondition = Callable[[np.ndarray], bool]
# Told of a canvas after each pass.
Watch = Callable[["Canvas"], None]


class Canvas:
    """Windows that begin with prompts, are masked after them, and are filled by a sampler.

    Infilling is the same with a suffix, which stands behind the tokens that are sampled and is seen from the
    start; a causal arm reads it after the prompt, in the order of which it must have been trained.

    A row depends on its prompt, its id and the seed, whichever other rows there are: as each token has a
    random number of its own, the order in which tokens are sampled and how many at once change none either.

    Args:
        scorer: the arm.
        prompts: an int array for each row, of any lengths, 0 too.
        new_tokens: tokens to sample in each row, unless it stops before.
        seed: of the random numbers.
        stop: when a row is whole before that; the tokens after are left out. By default never.
        row_ids: (count,) int >= 0, which random numbers each row has; by default 0, 1, 2, ...
        temperature: >= 0, by which logits are divided before a token is sampled; 1 is the arm's own
            distribution, 0 takes the most likely token.
        top_p: in (0, 1], the share of the probability that tokens are sampled from (`sample_tokens`).
        suffixes: an int array for each row, of any lengths, 0 too; by default none.
        earlier: an int array for each row, what its continuation was before this window: a stop condition
            sees it too.
        watch: told after each pass.

    Attributes:
        tokens: (count, L) int32.
        first: (count,) int, where each continuation begins.
        read: (count,) int, how many tokens of each continuation are revealed without a gap.
        open: (rows,) int, the rows that are not whole.
        ids: (count,) int32.
        batch_size: rows a pass, however many of them are still open.

    Raises:
        ValueError: if `new_tokens` is below 1, a prompt and a suffix leave no room for them, the arm is of
            blocks and there is a suffix, the temperature is not a number from 0 on, or `top_p` not in (0, 1].
    """

    def __init__(
        self,
        scorer: SlotScorer,
        prompts: Sequence[np.ndarray] | np.ndarray,
        new_tokens: int,
        seed: int,
        stop: StopCondition | None,
        row_ids: np.ndarray | None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        suffixes: Sequence[np.ndarray] | None = None,
        earlier: Sequence[np.ndarray] | None = None,
        watch: Watch | None = None,
    ) -> None:
        length, count = scorer.transformer.length, len(prompts)
        if new_tokens < 1:
            raise ValueError(f"`new_tokens` must be >= 1, but got new_tokens={new_tokens}.")
        if not 0 <= temperature < np.inf:
            raise ValueError(f"`temperature` must be >= 0 and finite, but got temperature={temperature}.")
        if not 0 < top_p <= 1:
            raise ValueError(f"`top_p` must be in (0, 1], but got top_p={top_p}.")
        suffixes = [np.zeros(0, np.int32)] * count if suffixes is None else suffixes
        self.first = np.array([len(prompt) for prompt in prompts], int)
        self._behind = np.array([len(suffix) for suffix in suffixes], int)
        if scorer.block_size and self._behind.any():
            raise ValueError("`suffixes` must be empty for an arm of blocks, which sees none, but got some.")
        if count and (longest := int((self.first + self._behind).max())) + new_tokens > length:
            raise ValueError(
                f"a prompt must leave room for new_tokens={new_tokens} in the window of {length} tokens, "
                f"but got one of {longest} tokens{', the suffix included' if self._behind.any() else ''}."
            )
        self.tokens = np.full((count, length), scorer.transformer.mask_id, np.int32)
        for row, prompt, suffix in zip(self.tokens, prompts, suffixes, strict=True):
            row[: len(prompt)] = prompt
            row[len(prompt) + new_tokens :][: len(suffix)] = suffix
        self.ids = np.arange(count, dtype=np.int32) if row_ids is None else row_ids.astype(np.int32)
        places = (self.first[:, None] + np.arange(new_tokens)).astype(np.int32)
        self._uniforms = sampling_uniforms(seed, self.ids, places)
        self.read = np.zeros(count, int)
        self.open = np.arange(count)
        self.batch_size = min(count, scorer.batch_size)
        self._scorer, self._new_tokens, self._stop = scorer, new_tokens, stop
        self._temperature, self._top_p = temperature, top_p
        self._earlier, self._watch = earlier, watch

    def example(self) -> Example:
        """What a pass over the open rows reads."""
        tokens, mask_id = self.tokens[self.open], self._scorer.transformer.mask_id
        if self._scorer.causal:
            return causal_example(tokens, self._order(), mask_id, np)
        # What is masked stays so in the clean half of a doubled stream, where no slot that predicts sees it.
        make = block_example if self._scorer.block_size else dense_example
        return make(tokens, tokens == mask_id, mask_id, np.ones(len(tokens), np.float32), np)

    def _order(self) -> np.ndarray:
        """In which a causal arm reads the open rows: prompt, suffix, what is sampled, the rest."""
        places = np.arange(self.tokens.shape[1], dtype=np.int32)
        first, end = self.first[self.open, None], self.first[self.open, None] + self._new_tokens
        inside, after = (places >= first) & (places < end), places >= end + self._behind[self.open, None]
        return np.argsort(np.where(after, 2, inside), axis=1, kind="stable").astype(np.int32)

    def slots(self, rows: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Which slots of `example` predict tokens: their places, or those in the order of a causal arm.

        Args:
            rows: (n,) int.
            offsets: (n, m) or (m,) int, places in their continuations.

        Returns:
            (n, m) int32.
        """
        read_before = self.first + self._behind if self._scorer.causal else self.first
        return (read_before[rows, None] + offsets).astype(np.int32)

    def continuations(self) -> np.ndarray:
        """The continuations of the open rows so far: (rows, new_tokens) int32."""
        places = self.first[self.open, None] + np.arange(self._new_tokens)
        return np.asarray(self.tokens[self.open[:, None], places])

    def reveal(self, rows: np.ndarray, offsets: np.ndarray, logits: np.ndarray) -> None:
        """Sample tokens.

        Args:
            rows: (n,) int, whose tokens.
            offsets: (n,) int, their places in the continuations.
            logits: (n, vocab) float64.
        """
        sampled = sample_tokens(logits, self._uniforms[rows, offsets], self._temperature, self._top_p)
        self.tokens[rows, self.first[rows] + offsets] = sampled

    def close(self) -> None:
        """End a pass: take the rows that have become whole out of the open ones."""
        whole = [
            self._is_whole(row, continuation)
            for row, continuation in zip(self.open.tolist(), self.continuations(), strict=True)
        ]
        self.open = self.open[~np.array(whole, bool)]
        if self._watch is not None:
            self._watch(self)

    def _is_whole(self, row: int, continuation: np.ndarray) -> bool:
        while self.read[row] < self._new_tokens:
            if continuation[self.read[row]] == self._scorer.transformer.mask_id:
                return False
            self.read[row] += 1
            if self._stop is not None and self._stop(self._with_earlier(row, continuation[: self.read[row]])):
                return True
        return True

    def _with_earlier(self, row: int, continuation: np.ndarray) -> np.ndarray:
        return continuation if self._earlier is None else np.concatenate([self._earlier[row], continuation])

    def drafts(self) -> list[np.ndarray]:
        """Each continuation as it is, with the mask id where it is not revealed: (n,) int32."""
        ends = self.first + self.read
        ends[self.open] = self.first[self.open] + self._new_tokens
        return [row[start:end] for row, start, end in zip(self.tokens, self.first, ends, strict=True)]

    def rows(self) -> list[np.ndarray]:
        """Each prompt with its continuation, as far as it is revealed, and its suffix: (n,) int32."""
        suffixes = self.first + self._new_tokens
        return [
            np.concatenate([row[:end], row[suffix : suffix + size]])
            for row, end, suffix, size in zip(
                self.tokens, self.first + self.read, suffixes, self._behind, strict=True
            )
        ]


def sampling_uniforms(seed: int, ids: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The number that decides each sampled token, a function of the seed, the row's id and the place alone.

    Args:
        seed: of the samples.
        ids: (count,) int32.
        places: (count, n) int32, in the window.

    Returns:
        (count, n) float32, inside (0, 1).
    """
    key = (np.full(1, seed, np.int32), np.full(1, Stream.SAMPLES, np.int32))
    return np.asarray(threefry.uniform(threefry.threefry2x32(key, (places, ids[:, None]), np)[0], np))


def sample_tokens(
    logits: np.ndarray, uniforms: np.ndarray, temperature: float = 1.0, top_p: float = 1.0
) -> np.ndarray:
    """The token at which the cumulative probability passes each uniform number.

    Args:
        logits: (..., vocab) float64.
        uniforms: (...) float32 in (0, 1).
        temperature: >= 0; probabilities are in proportion to exp(logits / temperature). At 0 the most likely
            token is taken, of equals the first.
        top_p: in (0, 1]; below 1 of the tokens of the nucleus, the fewest most likely ones that have this
            share of the probability at that temperature, of equals the first.

    Returns:
        (...) int32.

    Reference: Holtzman et al. 2020, arXiv:1904.09751, section 3.1 (the nucleus).
    """
    if temperature == 0:
        return logits.argmax(axis=-1).astype(np.int32)
    # The highest is taken off first: at a temperature near 0 it stays 0, and the others' chances vanish.
    below_highest = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    chances = np.exp(below_highest)
    if top_p < 1:
        chances = np.where(_in_nucleus(chances, top_p), chances, 0.0)
    cumulative = np.cumsum(chances, axis=-1)
    threshold = uniforms[..., None].astype(np.float64) * cumulative[..., -1:]
    return (cumulative < threshold).sum(axis=-1).astype(np.int32)


def _in_nucleus(chances: np.ndarray, top_p: float) -> np.ndarray:
    """Which tokens are of the nucleus: those before which less than `top_p` of all has come.

    Args:
        chances: (..., vocab) float64, in proportion to probabilities.
        top_p: in (0, 1).

    Returns:
        (..., vocab) bool; the most likely token is always one.
    """
    order = np.argsort(-chances, axis=-1, kind="stable")
    falling = np.take_along_axis(chances, order, axis=-1)
    before = np.cumsum(falling, axis=-1) - falling
    inside = np.zeros(chances.shape, bool)
    np.put_along_axis(inside, order, before < top_p * chances.sum(axis=-1, keepdims=True), axis=-1)
    return inside

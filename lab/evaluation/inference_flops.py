"""FLOPs of generating text and of answering multiple choice, as needed and as computed here.

What an arm needs is counted without waste: a causal arm keeps the keys and values of earlier slots (a KV
cache) and so passes each slot once; a dense arm passes the whole window anew each time, as its attention
looks both ways and every pass may change what all slots hold. The lab keeps no cache and passes whole windows
for both; for dense arms the two counts are the same. An arm of blocks caches the clean slots of whole blocks
and passes anew, for each token or step, the block that it writes.
"""

from typing import NamedTuple

from lab.config import ModelConfig
from lab.evaluation.flops import forward_flops_per_token
from lab.models.footprint import block_matrices


class InferenceFlops(NamedTuple):
    """Two counts of the same work.

    Attributes:
        needed: with a KV cache where there can be one; the fair count, used in every comparison.
        computed: of the passes made here.
    """

    needed: float
    computed: float


class InferenceCounter:
    """Counts for one network.

    Args:
        model: its configuration.
        length: L, slots of the window.
        vocab_size: tokens that can be predicted.
        causal: whether the arm is.
        block_size: B of an arm of blocks; 0 of others.
    """

    def __init__(
        self, model: ModelConfig, length: int, vocab_size: int, causal: bool, block_size: int = 0
    ) -> None:
        self._model, self._length, self._vocab_size, self._causal = model, length, vocab_size, causal
        self._block_size = block_size

    def per_generated_token(self, prompt_tokens: int, tokens: int, steps: int) -> InferenceFlops:
        """FLOPs of continuing a prompt, divided by the number of generated tokens.

        Args:
            prompt_tokens: p >= 0; reading the prompt counts.
            tokens: n, generated.
            steps: T, passes of a dense arm; a causal one makes n whatever it is.
        """
        if self._causal:
            computed = tokens * self._one_pass(self._length)
            return InferenceFlops(self._one_pass(prompt_tokens + tokens) / tokens, computed / tokens)
        if self._block_size:
            places = [prompt_tokens + step * tokens // steps for step in range(steps)]
            needed = self._cached(prompt_tokens + tokens - 1) + sum(map(self._block, places))
            return InferenceFlops(needed / tokens, steps * self._one_pass(self._length) / tokens)
        return InferenceFlops(*[steps * self._one_pass(self._length) / tokens] * 2)

    def per_choice_item(
        self, options: int, context_tokens: int, option_tokens: int, num_draws: int | None
    ) -> InferenceFlops:
        """FLOPs of scoring all options of one item.

        Args:
            options: options an item.
            context_tokens: C; a KV cache of it serves all options and draws.
            option_tokens: O.
            num_draws: Monte Carlo draws an option; None for the exact left-to-right chain rule.
        """
        passes = options * (1 if num_draws is None else num_draws)
        if self._causal:
            context = self._one_pass(context_tokens)
            added = self._one_pass(context_tokens + option_tokens) - context
            return InferenceFlops(context + passes * added, passes * self._one_pass(self._length))
        if self._block_size:
            last = context_tokens + option_tokens - 1
            written = self._cached(last) - self._cached(context_tokens)
            written += sum(map(self._block, range(context_tokens, last + 1)))
            passes *= passes_of_option(option_tokens, self._causal, self._block_size)
            needed = self._cached(context_tokens) + options * written
            return InferenceFlops(needed, passes * self._one_pass(self._length))
        passes *= passes_of_option(option_tokens, self._causal) if num_draws is None else 1
        return InferenceFlops(*[passes * self._one_pass(self._length)] * 2)

    def _one_pass(self, slots: int) -> float:
        """FLOPs of passing a sequence once; for a causal arm also slot by slot, with a cache."""
        if slots == 0:
            return 0.0
        architecture = self._model.architecture(self._vocab_size, slots)
        return slots * forward_flops_per_token(architecture, self._causal, self._block_size)

    def _cached(self, place: int) -> float:
        """FLOPs of the clean slots of the blocks before that of a place, each passed once."""
        slots = place - place % self._block_size
        return self._slots(slots, (slots + self._block_size) / 2)

    def _block(self, place: int) -> float:
        """FLOPs of passing the block of a place, which sees the clean blocks before it."""
        size = self._block_size
        logits = 2 * self._model.width * self._vocab_size
        return self._slots(size, place - place % size + size) + size * logits

    def _slots(self, slots: int, seen: float) -> float:
        """FLOPs of passing slots through the blocks of the network, each of which sees so many on average."""
        a = self._model.architecture(self._vocab_size, self._length)
        attention = 4 * a.heads * a.head_dim * seen
        return slots * a.loops * a.layers * (2 * block_matrices(a).active + attention)


def passes_of_option(option_tokens: int, causal: bool, block_size: int = 0) -> int:
    """Passes of the exact chain rule over the O tokens of an option: 1, O, or min(O, B) in blocks of B."""
    return 1 if causal else min(option_tokens, block_size or option_tokens)

"""FLOPs of generating text and of answering multiple choice, as needed and as computed here.

What an arm needs is counted without waste: a causal arm keeps the keys and values of earlier slots (a KV
cache) and so passes each slot once; a dense arm passes the whole window anew each time, as its attention
looks both ways and every pass may change what all slots hold. The lab keeps no cache and passes whole windows
for both; for dense arms the two counts are the same.
"""

from typing import NamedTuple

from lab.config import ModelConfig
from lab.evaluation.flops import forward_flops_per_token


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
    """

    def __init__(self, model: ModelConfig, length: int, vocab_size: int, causal: bool) -> None:
        self._model, self._length, self._vocab_size, self._causal = model, length, vocab_size, causal

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
        passes *= option_tokens if num_draws is None else 1
        return InferenceFlops(*[passes * self._one_pass(self._length)] * 2)

    def _one_pass(self, slots: int) -> float:
        """FLOPs of passing a sequence once; for a causal arm also slot by slot, with a cache."""
        if slots == 0:
            return 0.0
        architecture = self._model.architecture(self._vocab_size, slots)
        return slots * forward_flops_per_token(architecture, self._causal)

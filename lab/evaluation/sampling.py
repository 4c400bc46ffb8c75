"""Continuing prompts by any sampler, by its name."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lab.evaluation.denoising import denoise
from lab.evaluation.generation import LEFT_TO_RIGHT, sample_left_to_right
from lab.evaluation.scorer import SlotScorer


def sample(
    scorer: SlotScorer,
    prompts: Sequence[np.ndarray] | np.ndarray,
    new_tokens: int,
    sampler: str,
    steps: int,
    seed: int,
    **options: Any,
) -> list[np.ndarray]:
    """Continue prompts.

    Args:
        scorer: the arm.
        prompts: an int array for each row.
        new_tokens: tokens to sample for each prompt, at most.
        sampler: `left_to_right`, or of a dense arm one of `denoise`.
        steps: passes of a sampler of `denoise`; left to right each token takes one.
        seed: of the random numbers.
        options: those of `Canvas`.

    Returns:
        Each prompt with its continuation, and its suffix if it has one, (n,) int32.

    Raises:
        ValueError: as `sample_left_to_right` and `denoise`.
    """
    if sampler == LEFT_TO_RIGHT:
        return sample_left_to_right(scorer, prompts, new_tokens, seed, **options)
    return denoise(scorer, prompts, new_tokens, sampler, steps, seed, **options)

"""Sampling text left to right, one token a pass, for every arm."""

from collections.abc import Sequence

import numpy as np

from lab.evaluation.canvas import Canvas, StopCondition, Watch
from lab.evaluation.scorer import SlotScorer

LEFT_TO_RIGHT = "left_to_right"  # as measurements.py names it, which plans and decides no number


def sample_left_to_right(
    scorer: SlotScorer,
    prompts: Sequence[np.ndarray] | np.ndarray,
    new_tokens: int,
    seed: int,
    stop: StopCondition | None = None,
    row_ids: np.ndarray | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    suffixes: Sequence[np.ndarray] | None = None,
    earlier: Sequence[np.ndarray] | None = None,
    watch: Watch | None = None,
) -> list[np.ndarray]:
    """Continue prompts, at temperature 1 by the arm's own chain-rule distribution.

    Args:
        scorer: the arm.
        prompts: as all that follows, see `Canvas`.
        new_tokens: tokens to sample for each prompt, at most.
        seed: of the random numbers.
        stop: when a continuation ends before that.
        row_ids: which random numbers each prompt has.
        temperature: >= 0, of each token's distribution; at 0 the most likely token is taken.
        top_p: share of it that tokens are sampled from.
        suffixes: what stands behind each continuation, by default nothing. An arm of left to right alone has
            not learnt to see it.
        earlier: what was written of each continuation before.
        watch: told after each pass.

    Returns:
        Each prompt with its continuation and suffix, (n,) int32.

    Raises:
        ValueError: as `Canvas`.
    """
    canvas = Canvas(
        scorer, prompts, new_tokens, seed, stop, row_ids, temperature, top_p, suffixes, earlier, watch
    )
    while len(canvas.open):
        rows = canvas.open
        offsets = canvas.read[rows]
        slots = canvas.slots(rows, offsets[:, None])
        for some, logits in scorer.logits(canvas.example(), slots, canvas.batch_size):
            canvas.reveal(rows[some], offsets[some], logits[:, 0])
        canvas.close()
    return canvas.rows()

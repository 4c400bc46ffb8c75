"""Learning-rate schedules as a function of the step and of where the decay lies."""

import math
from typing import Any, NamedTuple

import numpy as np

from lab.config import TrainingConfig

Array = Any

NEVER = 2**29  # a decay that starts here does not start


class Decay(NamedTuple):
    """The steps between which the learning rate falls from its peak to its final share."""

    start: int
    stop: int


def total_steps(config: TrainingConfig, length: int, windows: int) -> int:
    """Updates of the main run, from the duration that is given in steps, tokens or epochs.

    Args:
        config: gives the duration and the batch size.
        length: L, tokens a window.
        windows: windows an epoch.

    Raises:
        ValueError: if the total is less than one step.
    """
    if config.total_steps is not None:
        total = config.total_steps
    elif config.total_tokens is not None:
        total = round(config.total_tokens / (config.batch_size * length))
    else:
        total = round((config.total_epochs or 0) * windows / config.batch_size)
    if total < 1:
        raise ValueError(
            f"the duration must be at least one step of {config.batch_size * length} tokens, "
            f"but got {config.total_tokens or config.total_epochs} "
            f"{'tokens' if config.total_tokens else 'epochs'} of {windows} windows."
        )
    return total


def main_decay(config: TrainingConfig, total_steps: int) -> Decay:
    """Where the main run decays: over all of it after the warm-up (cosine), or not at all (WSD)."""
    if config.schedule == "cosine":
        return Decay(config.warmup_steps, total_steps)
    return Decay(NEVER, 2 * NEVER)


def branch_decay(config: TrainingConfig, stop: int) -> Decay:
    """Where a WSD branch that ends at step `stop` decays: over the last `decay_share` of its steps."""
    return Decay(min(stop - 1, round(stop * (1 - config.decay_share))), stop)


def learning_rate(
    config: TrainingConfig, step: Array, decay_start: Array, decay_stop: Array, xp: Any
) -> Array:
    """The learning rate of the update that follows `step` updates.

    Linear warm-up to the peak, then constant, then from `decay_start` to `decay_stop` down to the final
    share: linearly for WSD, along a half cosine for `cosine`.

    Args:
        config: gives the peak, the warm-up, the shape and the final share.
        step: () int, updates made so far.
        decay_start: () int.
        decay_stop: () int, > decay_start.
        xp: `numpy` or `keras.ops`.

    Returns:
        () float32.

    Reference: Hägele et al. 2024, arXiv:2405.18392 (WSD: one run, short decays).
    """
    step, start, stop = (
        xp.cast(x, "float32") if hasattr(xp, "cast") else np.float32(x)
        for x in (step, decay_start, decay_stop)
    )
    warmup = xp.minimum(np.float32(1), (step + np.float32(1)) / np.float32(max(1, config.warmup_steps)))
    progress = xp.clip((step - start) / (stop - start), 0.0, 1.0)
    remaining = (
        np.float32(0.5) * (np.float32(1) + xp.cos(np.float32(math.pi) * progress))
        if config.schedule == "cosine"
        else np.float32(1) - progress
    )
    final = np.float32(config.final_learning_rate_share)
    return np.float32(config.learning_rate) * warmup * (final + (np.float32(1) - final) * remaining)

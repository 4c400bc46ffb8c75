"""Learning-rate schedules as a function of the step and of where the decay lies."""

import math
from typing import Any, Literal, NamedTuple

import numpy as np

from lab.config import TrainingConfig

Array = Any

NEVER = 2**29  # a decay that starts here does not start
# Windows between two places where a run may stop, if its batch divides them: so runs of other batch sizes
# stop at the same tokens. Runs of fewer than SHORT of these stop at any step.
GRID = 128
SHORT = 16


class Decay(NamedTuple):
    """The steps between which the learning rate falls from its peak to its final share."""

    start: Array
    stop: Array


class Schedule(NamedTuple):
    """A learning-rate schedule: plain numbers, or scalars among an optimizer's variables.

    Attributes:
        shape: of the decay; `wsd` is linear, `cosine` half a cosine.
        peak: learning rate between warm-up and decay.
        warmup_steps: steps of the linear warm-up; 0 for none.
        final_share: of the peak, what is left when the decay is over.
        decay: where it falls.
    """

    shape: Literal["wsd", "cosine"]
    peak: Array
    warmup_steps: Array
    final_share: Array
    decay: Decay

    @classmethod
    def of(cls, config: TrainingConfig, decay: Decay) -> "Schedule":
        """The schedule of a run, or of a branch of it."""
        return cls(
            config.schedule,
            config.learning_rate,
            config.warmup_steps,
            config.final_learning_rate_share,
            decay,
        )


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
        return max(1, round(config.total_share * config.total_steps))
    rows = config.total_tokens / length if config.total_tokens else (config.total_epochs or 0) * windows
    steps = config.total_share * rows / config.batch_size
    if (total := on_grid(steps, config.batch_size, steps)) < 1:
        raise ValueError(
            f"the duration must be at least one step of {config.batch_size * length} tokens, "
            f"but got {config.total_tokens or config.total_epochs} "
            f"{'tokens' if config.total_tokens else 'epochs'} of {windows} windows"
            f"{f' and of that total_share={config.total_share}' if config.total_share < 1 else ''}."
        )
    return total


def on_grid(step: float, batch_size: int, total: float) -> int:
    """The step nearest to one at which runs of other batch sizes may stop too.

    Args:
        step: at least half a step.
        batch_size: windows a step.
        total: steps of the run.
    """
    unit = GRID // batch_size
    if GRID % batch_size or total < SHORT * unit:
        return round(step)
    return max(1, round(step / unit)) * unit


def main_decay(config: TrainingConfig, total_steps: int) -> Decay:
    """Where the main run decays: over all of it after the warm-up (cosine), or not at all (WSD).

    A cosine run that is no longer than its warm-up does not get to the decay.
    """
    if config.schedule == "cosine":
        return Decay(min(config.warmup_steps, total_steps - 1), total_steps)
    return Decay(NEVER, 2 * NEVER)


def branch_decay(config: TrainingConfig, stop: int) -> Decay:
    """Where a WSD branch that ends at step `stop` decays: over the last `decay_share` of its steps."""
    return Decay(min(stop - 1, round(stop * (1 - config.decay_share))), stop)


def learning_rate(schedule: Schedule, step: Array, xp: Any) -> Array:
    """The learning rate of the update that follows `step` updates.

    Linear warm-up to the peak, then constant, then from `decay.start` to `decay.stop` down to the final
    share.

    Args:
        schedule: its numbers are () int or float32.
        step: () int, updates made so far.
        xp: `numpy` or `keras.ops`.

    Returns:
        () float32.

    Reference: Hägele et al. 2024, arXiv:2405.18392 (WSD: one run, short decays).
    """
    step, peak, warmup_steps, final, start, stop = (
        xp.cast(number, "float32") if hasattr(xp, "cast") else np.float32(number)
        for number in (step, *schedule[1:4], *schedule.decay)
    )
    progress = xp.clip((step - start) / (stop - start), 0.0, 1.0)
    remaining = 0.5 * (1.0 + xp.cos(math.pi * progress)) if schedule.shape == "cosine" else 1.0 - progress
    return peak * warmup(step, warmup_steps, xp) * (final + (1.0 - final) * remaining)


def warmup(step: Array, steps: Array, xp: Any) -> Array:
    """What grows linearly to 1 over the first `steps` updates, at the one that follows `step`: () float32."""
    return xp.minimum(1.0, (step + 1.0) / xp.maximum(1.0, steps))

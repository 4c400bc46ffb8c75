"""Windows of the text that a run was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lab.config import RunConfig
from lab.data.budget import Budget, budget
from lab.data.shuffling import shuffled
from lab.threefry import Stream

if TYPE_CHECKING:
    from lab.data.dataset import Dataset


# Counting takes up to a minute and 0.9 GB for each 10 million.
MOST_TOKENS = 20_000_000


def training_windows(config: RunConfig, dataset: Dataset, count: int) -> np.ndarray:
    """Windows of a run's own budget, drawn without replacement among those that lie side by side in it.

    Under `data.windows: jittered` a run has seen each of them whole in few epochs, and its parts in all of
    them. A larger count adds windows to those of a smaller one.

    Args:
        config: the run's.
        dataset: its corpus.
        count: how many.

    Returns:
        (count, L) int32.

    Raises:
        ValueError: if the budget has fewer.
    """
    room, length = training_room(config, dataset), config.data.length
    if not 1 <= count <= room:
        raise ValueError(
            f"`count` must be in 1..{room}, the windows of length={length} of the budget, "
            f"but got count={count}."
        )
    numbers = shuffled(room, config.replicate, stream=Stream.TRAIN_WINDOWS)[:count]
    return np.asarray(_budget(config, dataset)[numbers[:, None] * length + np.arange(length)], np.int32)


def training_room(config: RunConfig, dataset: Dataset) -> int:
    """How many windows lie side by side in a run's budget."""
    return len(_budget(config, dataset)) // config.data.length


def unique_tokens(config: RunConfig, dataset: Dataset, most: int = MOST_TOKENS) -> np.ndarray:
    """(n,) int32, the tokens that the run trains on, up to `most`: of a larger budget a smaller part."""
    count, length = config.data.unique_tokens, config.data.length
    if (count or len(dataset.train)) > most:
        count = most
    tokens = budget(dataset.train, count, length, config.replicate)
    return np.asarray(tokens[np.arange(len(tokens) // length * length)], np.int32)


def _budget(config: RunConfig, dataset: Dataset) -> np.ndarray | Budget:
    return budget(dataset.train, config.data.unique_tokens, config.data.length, config.replicate)

"""The feed-forward part of a block: the kinds that there are, and how one is made."""

from typing import Any

import keras

from lab.models.architecture import Architecture
from lab.models.expert_choice import ExpertChoice
from lab.models.swiglu import SwiGLU
from lab.models.token_choice import TokenChoice

# `Architecture.feed_forward` -> a class with the arguments of `SwiGLU`. A layer maps (batch, slots, width) to
# the same shape; one with an auxiliary loss or counts returns `Features`.
FEED_FORWARDS: dict[str, type[keras.layers.Layer]] = {
    "swiglu": SwiGLU,
    "token_choice": TokenChoice,
    "expert_choice": ExpertChoice,
}


def make_feed_forward(
    architecture: Architecture, dropout: float, seed: int, **kwargs: Any
) -> keras.layers.Layer:
    """The feed-forward layer of the kind that the architecture names.

    Raises:
        ValueError: if there is no such kind.
    """
    kind = architecture.feed_forward
    if kind not in FEED_FORWARDS:
        raise ValueError(f"`feed_forward` must be one of {sorted(FEED_FORWARDS)}, but got {kind!r}.")
    return FEED_FORWARDS[kind](architecture, dropout, seed, **kwargs)

"""What all sides of the speed benchmark compute: one shape, one arm, one kind of arithmetic."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

Updates = Callable[[int], None]  # makes so many updates, and waits for them


@dataclass(frozen=True)
class Case:
    """A training step: a Transformer of the lab's kind, a batch of windows, an objective.

    Attributes:
        layers, width, heads, ffn_width: as in `lab.models.architecture.Architecture`.
        vocab_size: V.
        length: L, tokens a window.
        batch: windows an update.
        arm: `ar` or `dlm`.
        dtype: `float32`; or `bfloat16` of features, with float32 weights.
    """

    layers: int
    width: int
    heads: int
    ffn_width: int
    vocab_size: int
    length: int
    batch: int
    arm: str
    dtype: str

    @property
    def shape(self) -> dict[str, int]:
        """What the lab's configurations and architectures call a shape."""
        return {name: getattr(self, name) for name in ("layers", "width", "heads", "ffn_width")}

    @property
    def tokens(self) -> int:
        """Tokens an update."""
        return self.batch * self.length


LEARNING_RATE, WEIGHT_DECAY, BETAS, EPSILON, CLIP_NORM = 1e-3, 0.1, (0.9, 0.95), 1e-8, 1.0
WINDOWS = 512  # of random tokens, as much text as a small budget has
SPAN = 20  # updates whose batches are prepared at once


@cache
def windows(case: Case) -> np.ndarray:
    """The text of all sides: (WINDOWS, L) int32 random tokens."""
    return np.random.default_rng(0).integers(0, case.vocab_size, (WINDOWS, case.length), np.int32)


def batches(case: Case, first: int, count: int) -> Iterator[np.ndarray]:
    """The windows of some updates, in turn, of up to SPAN updates at once: (n, batch, L) int32."""
    stop = first + count
    for start in range(first, stop, SPAN):
        rows = np.arange(start * case.batch, min(start + SPAN, stop) * case.batch) % WINDOWS
        yield windows(case)[rows].reshape(-1, case.batch, case.length)

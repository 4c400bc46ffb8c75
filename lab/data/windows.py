"""Windows of tokens: which ones a training step sees."""

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from lab.data.budget import Budget
from lab.data.shuffling import shuffled
from lab.threefry import Stream, below, threefry2x32


class Batch(NamedTuple):
    """Rows of one training step.

    Attributes:
        tokens: (rows, length) int32.
        places: (rows, length) int32, where each token is in the budget, modulo 2**32.
        visits: (rows,) int32, how often the text has been seen before: the epoch, from 0.
        rows: (rows,) int32, the number of each row, counted from the first of step 0. It begins anew at 0, at
            the start of a step, before it passes 2**31.
    """

    tokens: np.ndarray
    places: np.ndarray
    visits: np.ndarray
    rows: np.ndarray


class TrainingWindows:
    """Every window once an epoch, in an order that is a pure function of (seed, epoch).

    Batches follow one another through the epochs without a gap: row j of step s is at position
    p = s x batch_size + j, and takes window permutation[epoch][p mod count] of epoch p // count. Nothing is
    remembered, so a run resumes from its step number alone.

    Args:
        tokens: (n,) token ids, read a batch at a time; those after the last whole window are left out.
        length: L, tokens a window, below 2**15.
        batch_size: rows a step.
        seed: in [0, 2**31).
        windows: `jittered`: each epoch cuts the same tokens at boundaries shifted by an offset drawn from
            [0, L), one window running round from the last token to the first. (The loader released with
            arXiv:2511.03276 cuts its repeated documents at other boundaries each time.) `fixed`: at the same.

    Raises:
        ValueError: if the tokens do not fill one window.
    """

    def __init__(
        self,
        tokens: np.ndarray | Budget,
        length: int,
        batch_size: int,
        seed: int,
        windows: Literal["fixed", "jittered"] = "jittered",
    ) -> None:
        self.count = len(tokens) // length
        if self.count == 0:
            raise ValueError(
                f"`tokens` must fill one window of length={length}, but got {len(tokens)} tokens."
            )
        self._tokens = tokens
        self._length = length
        self._batch_size = batch_size
        self._seed = seed
        self._jittered = windows == "jittered"
        # A batch seldom touches more than two epochs; where it does, the permutations are small.
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def batch(self, step: int, first: int = 0, rows: int | None = None) -> Batch:
        """Rows first .. first + rows - 1 of a step, or all from `first` on.

        Args:
            step: the number of the update, from 0.
            first: the first row, in [0, batch_size).
            rows: how many.

        Raises:
            ValueError: if the step has no such rows.
        """
        rows = self._batch_size - first if rows is None else rows
        if step < 0 or first < 0 or rows < 1 or first + rows > self._batch_size:
            raise ValueError(
                f"`step` must be >= 0 and the rows within batch_size={self._batch_size}, "
                f"but got step={step}, first={first}, rows={rows}."
            )
        numbers = step * self._batch_size + first + np.arange(rows, dtype=np.int64)
        epochs, within = np.divmod(numbers, self.count)
        starts = np.empty(rows, dtype=np.int64)
        for epoch in np.unique(epochs).tolist():
            order, offset = self._epoch(epoch)
            chosen = epochs == epoch
            starts[chosen] = offset + order[within[chosen]] * self._length
        places = (starts[:, None] + np.arange(self._length)) % (self.count * self._length)
        tokens = np.asarray(self._tokens[places], dtype=np.int32)
        numbers %= 2**31 // self._batch_size * self._batch_size
        return Batch(tokens, *(each.astype(np.int32) for each in (places, epochs, numbers)))

    def _draw_epoch(self, epoch: int) -> tuple[np.ndarray, int]:
        """An epoch's permutation of the windows, (count,), and the offset of its boundaries."""
        order = shuffled(self.count, self._seed, epoch)
        if not self._jittered:
            return order, 0
        counter = (np.full(1, epoch, np.int32), np.zeros(1, np.int32))
        # Arrays, because NumPy warns when a lone number wraps and not when an array's does.
        key = (np.full(1, self._seed, np.int32), np.full(1, Stream.WINDOW_SHIFT, np.int32))
        word = threefry2x32(key, counter, np)[0]
        return order, int(below(word, np.int32(self._length), np)[0])

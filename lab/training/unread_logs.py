"""Keras's list of callbacks, without its reading back of each step's logs."""

from typing import Any

import keras


class UnreadLogs(keras.callbacks.CallbackList):
    """Hands on a micro-batch's logs as the backend has them, so that the next one need not wait for them.

    Keras's own makes Python numbers of them first, for which the host waits for the device at each step; or,
    with `async_safe` callbacks, calls these from several threads, in no fixed order.
    """

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Call each callback."""
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, logs)

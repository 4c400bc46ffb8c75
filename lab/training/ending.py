"""Why a run ends before its result: asked to, or its loss is no number any more."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class DivergedError(ValueError):
    """The training loss, a gradient or a measurement is not finite."""


class PreemptedError(Exception):
    """The run was asked to end, and the same command goes on from its checkpoint."""


class LostRankError(RuntimeError):
    """Another rank of the run has ended, so this one cannot go on."""


class Notice:
    """A request to end soon, kept until the run can obey: between two updates, or at once while it measures.

    A machine that is about to be taken away says so by a signal some seconds before.
    """

    def __init__(self) -> None:
        self.given = False
        self._at_once = False

    def give(self) -> None:
        """Ask the run to end.

        Raises:
            PreemptedError: if the run is at a place that it can leave at once.
        """
        self.given = True
        self.obey(self._at_once)

    def obey(self, now: bool = True) -> None:
        """End here if asked to.

        Raises:
            PreemptedError: if notice was given.
        """
        if self.given and now:
            raise PreemptedError("asked to end")

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A stretch that may be left at any moment, since it changes nothing that a checkpoint holds.

        Raises:
            PreemptedError: if notice was given before or is given within.
        """
        self.obey()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    @contextmanager
    def by_signals(self, *signals: signal.Signals) -> Iterator[None]:
        """Take these signals as notice; a second one acts as it would have without this."""

        def remember(number: int, frame: FrameType | None) -> None:
            signal.signal(number, previous[signal.Signals(number)])
            self.give()

        previous = {number: signal.signal(number, remember) for number in signals}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

"""Why a run ends before its result: asked to, or its loss is no number any more."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# A launcher's notice that the machine is about to be taken away, and Ctrl-C.
NOTICES = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
REPEAT_SECONDS = 3.0


@contextmanager
def on_notice(act: Callable[[signal.Signals], None], *signals: signal.Signals) -> Iterator[None]:
    """Act on the first of these signals; a second one acts as it would have without this.

    A launcher that tells every process of a job, and a driver that hands its notice on, may reach one process
    twice within a moment: so another SIGTERM or SIGUSR1 right after the first is no second one.

    Only a process's main thread can take signals; in another they act as without this.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if first and number != signal.SIGINT and now - first[0] < REPEAT_SECONDS:
            return
        if first:
            restore()
            signal.raise_signal(number)
            return
        first.append(now)
        act(signal.Signals(number))

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    previous = {number: signal.signal(number, handle) for number in signals}
    try:
        yield
    finally:
        restore()


class DivergedError(ValueError):
    """The training loss, a gradient or a measurement is not finite."""


class PreemptedError(Exception):
    """The run was asked to end, and the same command goes on from its checkpoint."""


class DroppedError(Exception):
    """Nothing of the run is needed any more."""


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
        self.obey_where_it_may_be()

    def obey_where_it_may_be(self) -> None:
        """End here if asked to, and the run is at a place that it can leave at once.

        Raises:
            PreemptedError: if so.
        """
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
    def by_signals(self) -> Iterator[None]:
        """Take signals as notice."""
        with on_notice(lambda _: self.give(), *NOTICES):
            yield

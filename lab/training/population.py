"""Runs that one process trains together: a step of several is one compiled program (JAX).

Each run is what it is alone, with its own folder, checkpoints and end; it is trained by the same code, in a
thread of its own. Only one thread is at work at a time. Where a run asks for updates, or for a pass over a
batch that it measures, it waits until all others wait too; then runs of a kind get what they ask for
together.
"""

import threading
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from typing import Any

import keras
import numpy as np

from lab.training.ending import DroppedError, Notice
from lab.training.engine import Inputs
from lab.training.joint_jax import Joining, JointScorer, JointStep, joining
from lab.training.unread_logs import UnreadLogs


class Share:
    """A number of one run among those of all: read back from the device when it is looked at."""

    def __init__(self, numbers: Any, place: int) -> None:
        self._numbers, self._place = numbers, place

    def __float__(self) -> float:
        return float(np.asarray(self._numbers)[self._place])


class _Request:
    """What a run waits for.

    Attributes:
        key: what is asked for by others with the same may be given together.
        error: why it cannot be had.
        done: whether the run may go on.
    """

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.error: BaseException | None = None
        self.done = False


class _Updates(_Request):
    """So many micro-batches of training."""

    def __init__(
        self,
        kind: str,
        learner: Any,
        batches: Iterator[Inputs],
        count: int,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        variables = (*learner.variables, *learner.optimizer.variables)
        super().__init__((kind, tuple(tuple(variable.shape) for variable in variables)))
        self.learner, self._batches = learner, batches
        self._count, self._made = count, 0
        self._callbacks = UnreadLogs(list(callbacks), model=learner)
        learner.stop_training = False
        self._callbacks.on_train_begin()

    def next(self) -> dict[str, np.ndarray]:
        return next(self._batches)[0]

    def made(self, logs: Mapping[str, Any], place: int) -> bool:
        """Hand on what a micro-batch logs.

        Returns:
            Whether the run asks for no more.
        """
        own = {name: Share(numbers, place) for name, numbers in logs.items()}
        try:
            self._callbacks.on_train_batch_end(self._made, own)
        except Exception as error:  # of its folder, say: the others go on
            self.error = error
        self._made += 1
        self.done = self._made == self._count or self.learner.stop_training
        return self.done or self.error is not None

    def finish(self) -> None:
        self._callbacks.on_train_end()


class _Pass(_Request):
    """A pass of a scorer over a batch."""

    def __init__(self, kind: str, scorer: Any, batch: Mapping[str, np.ndarray]) -> None:
        network = scorer.transformer
        shapes = tuple(tuple(variable.shape) for variable in network.variables)
        super().__init__((kind, shapes, tuple((name, values.shape) for name, values in batch.items())))
        self.scorer, self.batch = scorer, batch
        self.said: np.ndarray | None = None


class Member:
    """One run of a population. Its own side: what `Run` asks instead of Keras.

    Args:
        act: trains it in a thread of its own; given the member, returns an exit code. What it raises is 1.
        around: entered whenever it goes on, such as what sends its output to its log. What this raises ends
            the run alone.

    Attributes:
        notice: how it is asked to end.
        run: the digest of its version, once it is known.
        kind: of its program, likewise.
        others: the digests of the runs that were trained with it.
        code: what `act` returned; None before it ends.
    """

    def __init__(
        self,
        act: Callable[["Member"], int],
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.notice = Notice()
        self.run = self.kind = ""
        self.others: set[str] = set()
        self.code: int | None = None
        self._act, self._around, self._entered = act, around, ExitStack()
        self.request: _Request | None = None
        self._dropped = False
        self._turn, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._work, name="member", daemon=True)

    @property
    def population(self) -> tuple[str, ...]:
        """The digests of all runs that were trained together, its own among them; none if it was alone."""
        return tuple(sorted({self.run, *self.others})) if self.others else ()

    def fit(
        self,
        learner: Any,
        batches: Iterator[Inputs],
        count: int,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> None:
        """As `lab.training.engine.fit_alone`."""
        updates = _Updates(self.kind, learner, batches, count, callbacks)
        self._ask(updates)
        updates.finish()

    def predict(self, scorer: Any, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        """As `predict_on_batch` of the scorer.

        Raises:
            PreemptedError: if notice is given, where the run may be left at once.
        """
        asked = _Pass(self.kind, scorer, batch)
        self._ask(asked)
        self.notice.obey_where_it_may_be()
        assert asked.said is not None
        return asked.said

    def drop(self) -> None:
        """End it here, since nothing of it is needed any more."""
        self._dropped = True

    def go_on(self) -> None:
        """Let it work until it asks for something, or ends."""
        if not self._thread.is_alive():
            self._thread.start()
        self._turn.release()
        self._done.acquire()

    def _ask(self, request: _Request) -> None:
        if not self._dropped:  # before its first request
            self._entered.close()
            self.request = request
            self._done.release()
            self._turn.acquire()
            self.request = None
            self._entered.enter_context(self._around())
        if self._dropped:
            raise DroppedError
        if request.error is not None:
            raise request.error

    def _work(self) -> None:
        self._turn.acquire()
        code = 1
        try:
            self._entered.enter_context(self._around())
            code = self._act(self)
        except BaseException:
            traceback.print_exc()
        with suppress(Exception):
            self._entered.close()
        self.code = code
        self._done.release()


class Population:
    """The runs of one process.

    Args:
        places: most runs that it trains together.
        how: as of `lab.training.joint_jax.join`.
    """

    def __init__(self, places: int, how: Joining | None = None) -> None:
        self.places = places
        self._how = how or joining()
        self.members: list[Member] = []
        self._steps: dict[Hashable, JointStep] = {}
        self._scorers: dict[Hashable, JointScorer] = {}

    def add(self, member: Member) -> None:
        """Take a run in; it begins with the next round."""
        self.members.append(member)

    def round(self, wanted: Callable[[], bool] = lambda: False) -> list[Member]:
        """Let every run go on until it waits, then give one kind of them what they ask for.

        What is measured comes first, as those that train wait for it.

        Args:
            wanted: whether something else is to be done: training ends early then, and goes on next time.

        Returns:
            The runs that have ended.
        """
        for member in self.members:
            if member.request is None or member.request.done or member.request.error or member._dropped:
                member.go_on()
        ended = [member for member in self.members if member.code is not None]
        self.members = [member for member in self.members if member.code is None]
        if ended:  # told at once: their places are free for others while these train
            return ended
        asked = [member.request for member in self.members]
        passes = _largest([one for one in asked if isinstance(one, _Pass)])[: self.places]
        updates = [one for one in asked if isinstance(one, _Updates)]
        if passes:
            _give(passes, lambda: self._score(passes))
        elif updates:
            first = [one for one in updates if one.key == updates[0].key][: self.places]
            self._introduce(first)
            _give(first, lambda: self._train(first, wanted))
            self.members.sort(key=lambda member: member.request in first)  # who waits longest comes first
        return ended

    def _train(self, updates: Sequence[_Updates], wanted: Callable[[], bool]) -> None:
        """Make micro-batches until one of the runs has all that it asked for."""
        key = updates[0].key
        if key not in self._steps:
            self._steps[key] = updates[0].learner.joint_step(self.places, self._how)
        step = self._steps[key]
        step.begin([one.learner for one in updates])
        while True:
            logs = step([one.next() for one in updates])
            ended = [one.made(logs, place) for place, one in enumerate(updates)]
            if any(ended) or wanted():
                break
        step.end()

    def _score(self, passes: Sequence[_Pass]) -> None:
        key = passes[0].key
        if key not in self._scorers:
            self._scorers[key] = JointScorer(passes[0].scorer, self.places, self._how)
        said = self._scorers[key]([one.scorer for one in passes], [one.batch for one in passes])
        for one, values in zip(passes, said, strict=True):
            one.said, one.done = values, True

    def _introduce(self, updates: Sequence[_Updates]) -> None:
        """Note who is trained with whom."""
        together = [member for member in self.members if member.request in updates]
        for member in together:
            member.others |= {other.run for other in together if other is not member}


def _give(requests: Sequence[_Request], act: Callable[[], None]) -> None:
    """Do what some runs wait for; what fails there fails for each of them."""
    try:
        act()
    except Exception as error:
        for request in requests:
            request.error = error


def _largest(passes: Sequence[_Pass]) -> list[_Pass]:
    """Those of the passes that have the commonest key."""
    groups: dict[Hashable, list[_Pass]] = {}
    for one in passes:
        groups.setdefault(one.key, []).append(one)
    return max(groups.values(), key=len, default=[])

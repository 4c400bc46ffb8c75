"""A process that trains several runs together: its own side. One line in is an order, one line out an end."""

import json
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO

from lab.training.ending import NOTICES, on_notice
from lab.training.population import Member, Population

BEAT_SECONDS = 5.0
Train = Callable[[dict[str, Any], Member], int]


class Orders:
    """Lines from the driver, which may have come or not."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self.ended = False

    def waiting(self, seconds: float = 0.0) -> bool:
        """Whether there is something to read, or the driver has gone."""
        return self.ended or bool(select.select([self._descriptor], [], [], seconds)[0])

    def read(self) -> list[dict[str, Any]]:
        """The orders that have come."""
        given = os.read(self._descriptor, 2**16)
        self.ended = not given
        *lines, self._rest = (self._rest + given).split(b"\n")
        return [json.loads(line) for line in lines]


def serve(places: int, folder: Path, train: Train, orders: Orders, reports: TextIO) -> None:
    """Train what the driver orders until it has gone, or a notice has ended all of it.

    Args:
        places: most runs at a time.
        folder: of this process; its `progress.json` shows that it is alive.
        train: trains a run as an order says; returns its exit code.
        orders: what the driver asks for.
        reports: where the number and the exit code of each run go that ends.
    """
    population = Population(places)
    members: dict[int, Member] = {}
    beaten = 0.0
    told = False

    def wanted() -> bool:
        nonlocal beaten
        if time.monotonic() - beaten >= BEAT_SECONDS:
            beaten = time.monotonic()
            with suppress(OSError):  # no folder any more: as a process that shows no life, it is ended
                (folder / "progress.json").touch()
        return orders.waiting()

    def give_notice() -> None:
        nonlocal told
        told = True
        for member in members.values():
            member.notice.given = True

    with on_notice(lambda _: give_notice(), *NOTICES):
        while not orders.ended:
            while wanted() or (not members and not told and orders.waiting(BEAT_SECONDS)):
                for order in orders.read():
                    _obey(order, members, population, train)
                if told:  # those that came after it have it too
                    give_notice()
                if orders.ended:
                    return
            for ended in population.round(wanted):
                number = next(number for number, member in members.items() if member is ended)
                del members[number]
                reports.write(json.dumps({"run": number, "code": ended.code}) + "\n")
                reports.flush()
            if told and not members:
                return


def _obey(order: dict[str, Any], members: dict[int, Member], population: Population, train: Train) -> None:
    number = order["run"]
    match order["do"]:
        case "start":
            log = Path(order["log"])
            members[number] = Member(lambda member: train(order, member), lambda: _speaking_to(log))
            population.add(members[number])
        case "stop" if number in members:
            members[number].notice.given = True
        case "drop" if number in members:
            members[number].drop()


@contextmanager
def _speaking_to(log: Path) -> Iterator[None]:
    """Append what Python code says to a log."""
    with ExitStack() as stack:
        with suppress(OSError):  # its folder is gone, say: that is to end this run alone
            file = stack.enter_context(log.open("a", encoding="utf-8", errors="backslashreplace"))
            stack.enter_context(redirect_stdout(file))
            stack.enter_context(redirect_stderr(file))
        yield

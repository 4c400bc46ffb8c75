"""How far the preparing of a corpus is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

LIVE_SECONDS = 0.5
PLAIN_SECONDS = 20.0

_Item = TypeVar("_Item")


class _Shown:
    """What is shown of one stage after the other; of what is done within `every` seconds, nothing."""

    def __init__(self, console: Console, every: float) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console, self._every = console, every
        # The reader's own calls refresh it: no thread, which a fork would lose.
        self.bars = Progress(
            TextColumn("corpus: {task.description}"),
            BarColumn(),
            TextColumn("{task.fields[amount]}"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task, self._stage = self.bars.add_task("", amount=""), ""
        self._last = time.monotonic()

    def show(self, stage: str, done: int, total: int | None) -> None:
        """Say how many bytes of a stage are done, unless something was said a moment ago."""
        if time.monotonic() - self._last < self._every:
            return
        self._last = time.monotonic()
        amount = f"{done / 1e6:,.0f}{f' of {total / 1e6:,.0f}' if total else ''} MB"
        if self._console.is_terminal:
            if stage != self._stage:
                self.bars.reset(self._task, total=total, description=stage, amount=amount)
                self._stage = stage
            self.bars.update(self._task, completed=done, amount=amount)
            self.bars.start()
            self.bars.refresh()
        else:
            self._console.print(f"corpus: {stage}, {amount}", highlight=False, soft_wrap=True)


# Not of a context: the trainer of BPE reads its texts in a thread of its own.
_shown: _Shown | None = None


@contextmanager
def shown_on(console: Console, plain_seconds: float = PLAIN_SECONDS) -> Iterator[None]:
    """Show how far corpora are that are prepared meanwhile.

    Args:
        console: where.
        plain_seconds: time between two lines where the console is no terminal.
    """
    global _shown
    before, _shown = _shown, _Shown(console, LIVE_SECONDS if console.is_terminal else plain_seconds)
    try:
        yield
    finally:
        _shown.bars.stop()
        _shown = before


def tell(stage: str, done: int, total: int | None = None) -> None:
    """Say that so many bytes of a stage are done, of a total where that is known."""
    if _shown:
        _shown.show(stage, done, total)


def watched(
    items: Iterable[_Item], stage: str, size: Callable[[_Item], int], total: int | None = None
) -> Iterator[_Item]:
    """Items as they are, while it is shown how many bytes of them are done.

    Args:
        items: read once.
        stage: what is done with them.
        size: the bytes of an item.
        total: of all, where that is known.
    """
    if not _shown:  # a second for each million
        yield from items
        return
    done = 0
    for item in items:
        yield item
        done += size(item)
        tell(stage, done, total)

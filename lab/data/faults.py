"""What is wrong with a user's files, said all at once and not one at a time."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

MOST, MOST_OF_A_FILE = 20, 5  # that are listed; what lies behind them is not looked at

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


class Faults:
    """Errors that were found."""

    def __init__(self) -> None:
        self._found: list[ValueError] = []
        self._more = False

    def __len__(self) -> int:
        return len(self._found)

    def add(self, error: ValueError) -> None:
        """Keep an error.

        Raises:
            ValueError: as `refuse`, once there are MOST.
        """
        self._found.append(error)
        if len(self) == MOST:
            self._more = True
            self.refuse()

    @contextmanager
    def gather(self) -> Iterator[None]:
        """Keep the error of what is done meanwhile, if it has one."""
        try:
            yield
        except ValueError as error:
            self.add(error)

    def read(
        self,
        items: Iterable[_Item | ValueError],
        make: Callable[[_Item], _Made],
        skipped: tuple[type[ValueError], ...] = (),
    ) -> Iterator[_Made]:
        """What is made of the items of a file, up to its MOST_OF_A_FILE-th fault.

        Args:
            items: of the file, with an error in the place of one that is none.
            make: of an item; what it raises is kept too.
            skipped: errors in the reading of the file that are none.
        """
        allowed = len(self) + MOST_OF_A_FILE
        found = iter(items)
        while True:
            try:
                item = next(found)
            except StopIteration:
                return
            except skipped:
                return
            except ValueError as error:
                self.add(error)
                return
            try:
                if isinstance(item, ValueError):
                    raise item
                made = make(item)
            except ValueError as error:
                self.add(error)
            else:
                yield made
            if len(self) >= allowed:
                self._more = True
                return

    def refuse(self) -> None:
        """Raise what was found: one error as it is, several as one.

        Raises:
            ValueError: if there is any.
        """
        if len(self) == 1:
            raise self._found[0]
        if self._found:
            more = " and maybe more" if self._more else ""
            raise ValueError("\n  ".join([f"{len(self)} faults{more}:", *map(str, self._found)]))

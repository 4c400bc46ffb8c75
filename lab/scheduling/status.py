"""What the runs of result trees do, read from their plans and logdirs; no ledger is opened."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lab.scheduling.progress import duration_words
from lab.tracking.records import read_json

State = Literal["queued", "running", "done", "failed"]

FRESH_SECONDS = 120.0  # a run that does not say where it is for so long, and has no process here, has ended
REFRESH_SECONDS = 2.0
LEAST_SHARE = 0.02  # of a run, before it tells how long the whole will take


@dataclass(frozen=True)
class CellStatus:
    """One planned run as its logdir shows it.

    Args:
        arm: the arm's name.
        level: the level in words, empty if there is none.
        seed: the repeat.
        state: queued also means stopped: the next driver goes on with it.
        share: part of the run's work that is done, 0 to 1.
        tokens_per_second: of a running one.
        seconds: what a done run took; what a running one will take in all; None if nobody knows.
        failure: outcome and reason of a failed one.
    """

    arm: str
    level: str
    seed: int
    state: State
    share: float = 0.0
    tokens_per_second: float = 0.0
    seconds: float | None = None
    failure: str = ""


class TreeStatus:
    """The state of one tree, read anew each time; what is done is read once.

    Args:
        tree: a folder with a `plan.json`.
    """

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self._done: dict[str, CellStatus] = {}

    def cells(self) -> list[CellStatus]:
        """Every planned cell, in planned order.

        Raises:
            ValueError: if the plan cannot be read.
        """
        try:
            return [self._cell(planned) for planned in read_json(self.tree / "plan.json")["cells"]]
        except (LookupError, TypeError) as error:
            raise ValueError(f"{self.tree / 'plan.json'}: not a plan ({type(error).__name__}).") from None

    def _cell(self, planned: Mapping[str, Any]) -> CellStatus:
        key = planned["key"]
        if key not in self._done:
            found = _read_cell(self.tree / planned["logdir"], planned)
            if found.state != "done":
                return found
            self._done[key] = found
        return self._done[key]


def find_trees(path: Path) -> list[Path]:
    """The result trees in a folder or below it.

    Raises:
        ValueError: if there is none.
    """
    trees = sorted(plan.parent for plan in path.rglob("plan.json"))
    if not trees:
        raise ValueError(f"`path` must hold a plan.json, in it or below it, but got {path}.")
    return trees


def show_status(path: Path, console: Console, once: bool = False) -> None:
    """Show the state of all trees in a folder; on a terminal until all their runs have ended, or Ctrl-C.

    Args:
        path: a tree, or a folder above some.
        console: where to show it.
        once: show it once on a terminal too.

    Raises:
        ValueError: if there is no tree, or a plan cannot be read.
    """
    trees = [TreeStatus(tree) for tree in find_trees(path)]
    shown, ended = _render(trees)
    if once or not console.is_terminal:
        console.print(shown)
        return
    with Live(shown, console=console, auto_refresh=False) as live:
        while not ended:
            time.sleep(REFRESH_SECONDS)
            shown, ended = _render(trees)
            live.update(shown, refresh=True)


def seconds_left(cells: Sequence[CellStatus]) -> float | None:
    """Time until the last run ends, if as many run at once as now; None if nothing runs or nobody knows.

    A run takes as long as the done ones of its arm and level; where there are none, as long as it looks by
    its own share; where that is not known either, as long as the others.
    """
    running = sum(cell.state == "running" for cell in cells)
    known = [cell for cell in cells if cell.seconds]
    if not running or not known:
        return None
    done = [cell for cell in known if cell.state == "done"]
    left = 0.0
    for cell in cells:
        if cell.state in ("queued", "running"):
            alike = [other for other in done if (other.arm, other.level) == (cell.arm, cell.level)]
            whole = _mean_seconds(alike) or cell.seconds or _mean_seconds(known)
            left += whole * (1.0 - cell.share)
    return left / running


def _mean_seconds(cells: Sequence[CellStatus]) -> float:
    return sum(cell.seconds or 0.0 for cell in cells) / len(cells) if cells else 0.0


def _render(trees: Iterable[TreeStatus]) -> tuple[RenderableType, bool]:
    """What to show, and whether every run has ended."""
    parts: list[RenderableType] = []
    ended = True
    for tree in trees:
        cells = tree.cells()
        done = sum(cell.state == "done" for cell in cells)
        headline = Text(f"{tree.tree}: {done} of {len(cells)} runs done{_left(cells)}")
        parts += [headline, _table(cells), *_failures(cells)]
        ended = ended and all(cell.state in ("done", "failed") for cell in cells)
    return Group(*parts), ended


def _table(cells: Sequence[CellStatus]) -> Table:
    table = Table()
    for name in ("arm", "level"):
        table.add_column(name)
    for name in ("queued", "running", "done", "failed"):
        table.add_column(name, justify="right")
    table.add_column("now")
    for arm, level in dict.fromkeys((cell.arm, cell.level) for cell in cells):
        row = [cell for cell in cells if (cell.arm, cell.level) == (arm, level)]
        counts = [
            sum(cell.state == state for cell in row) for state in ("queued", "running", "done", "failed")
        ]
        now = ", ".join(
            f"seed {cell.seed}: {cell.share:.0%}, {cell.tokens_per_second:,.0f} tokens/s"
            for cell in row
            if cell.state == "running"
        )
        table.add_row(Text(arm), Text(level), *(str(count or "") for count in counts), Text(now))
    return table


def _failures(cells: Iterable[CellStatus]) -> list[Text]:
    return [
        Text(f"failed: {' '.join(filter(None, (cell.arm, cell.level)))} seed={cell.seed}: {cell.failure}")
        for cell in cells
        if cell.state == "failed"
    ]


def _left(cells: Sequence[CellStatus]) -> str:
    seconds = seconds_left(cells)
    return "" if seconds is None else f", about {duration_words(seconds)} left"


def _read_cell(logdir: Path, planned: Mapping[str, Any]) -> CellStatus:
    level = ",".join(f"{name.rpartition('.')[2]}={value}" for name, value in planned["level"].items())
    place = (planned["arm"], level, planned["seed"])
    result = _read(logdir / "result.json")
    if result and result.get("config_key") == planned["key"]:
        return CellStatus(*place, state="done", share=1.0, seconds=_number(result.get("wall_seconds")))
    progress = _read(logdir / "progress.json") or {}
    share = min(1.0, _number(progress.get("share")) or 0.0)
    started = _process_start(logdir / "run.lock")
    fresh = time.time() - (_number(progress.get("updated")) or 0.0) < FRESH_SECONDS
    failure = _read(logdir / "failure.json")
    if failure:
        outcome, reason = (str(failure.get(name, "")) for name in ("outcome", "reason"))
        told = reason if reason.startswith(outcome) else f"{outcome}: {reason}"
        return CellStatus(*place, state="failed", share=share, failure=_one_line(told))
    if started is None and not fresh:
        return CellStatus(*place, state="queued", share=share)
    whole = (time.time() - started) / share if started and share > LEAST_SHARE else None
    rate = _number(progress.get("tokens_per_second")) or 0.0
    return CellStatus(*place, state="running", share=share, tokens_per_second=rate, seconds=whole)


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object; None if there is none, or it is not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _process_start(lock: Path) -> float | None:
    """When the process that holds a run's lock took it (unix seconds); None if none on this machine does."""
    try:
        pid, taken = int(lock.read_text(encoding="ascii")), lock.stat().st_mtime
        return (
            taken if psutil.Process(pid).create_time() <= taken + 1.0 else None
        )  # a later one has its number
    except (OSError, ValueError, psutil.Error):
        return None


def _one_line(text: str) -> str:
    """A text that does nothing to a terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))

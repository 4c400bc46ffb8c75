"""What the runs do, while a driver works: live bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from lab.scheduling.jobs import Job
from lab.scheduling.progress_file import Progress as Reported
from lab.scheduling.progress_file import read_progress

LIVE_SECONDS = 0.5
PLAIN_SECONDS = 20.0


@dataclass
class _Shown:
    """A run under way: its bar, its start (unix seconds), the share it began at and stands at, its words."""

    label: str
    logdir: Path
    task: TaskID
    started: float
    first_share: float | None = None
    share: float = 0.0
    detail: str = "starting"


class RunsProgress:
    """The state of all runs of one invocation.

    Args:
        console: where to show it.
        plain_seconds: time between two plain lines where the console is no terminal.
    """

    def __init__(self, console: Console, plain_seconds: float = PLAIN_SECONDS) -> None:
        self._console = console
        self._live = console.is_terminal
        self._every = LIVE_SECONDS if self._live else plain_seconds
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            auto_refresh=False,
            disable=not self._live,
        )
        self._runs: dict[str, _Shown] = {}
        self._total = self._ended = 0
        self._gained = 0.0
        self._stage = "runs"
        self._begun = self._last = time.monotonic()

    @contextmanager
    def shown(self, total: int, ended: int, stage: str = "runs") -> Iterator[None]:
        """Show progress over the `total` runs of a stage, of which `ended` have ended before."""
        self._total, self._ended, self._stage, self._gained = total, ended, stage, 0.0
        self._begun = self._last = time.monotonic()
        self._overall = self._bars.add_task(stage, total=total, completed=ended, detail="")
        if not self._live:
            self.say(self._summary())
        with self._bars:
            yield
        self._bars.remove_task(self._overall)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def started(self, job: Job) -> None:
        """A run has started."""
        task = self._bars.add_task(escape(job.label), total=1.0, detail="starting")
        self._runs[job.key] = _Shown(job.label, job.logdir, task, time.time())

    def ended(self, job: Job, failure: str = "", *, final: bool = True, reused: bool = False) -> None:
        """A run has ended, well unless `failure` says why not; not `final` if it will be tried again."""
        if run := self._runs.pop(job.key, None):
            self._gained += 0.0 if failure else 1.0 - (run.first_share or 0.0)
            self._bars.remove_task(run.task)
        self._ended += final
        self.say(f"{self._summary()}  {job.label}: {failure or ('done before' if reused else 'done')}")

    def refresh(self) -> None:
        """Read the runs' progress and show it, unless it was shown a moment ago."""
        if time.monotonic() - self._last < self._every:
            return
        self._last = time.monotonic()
        for run in self._runs.values():
            _read(run)
            self._bars.update(run.task, completed=run.share, detail=escape(run.detail))
        shares = sum(run.share for run in self._runs.values())
        self._bars.update(self._overall, completed=self._ended + shares, detail=self._time_left())
        self._bars.refresh()
        if not self._live:
            self.say(
                "  ".join([self._summary(), *(f"[{run.label}: {run.detail}]" for run in self._runs.values())])
            )

    def _summary(self) -> str:
        return f"{self._ended}/{self._total} {self._stage}  {self._time_left()}".strip()

    def _time_left(self) -> str:
        """Words for the time left, if what was gained so far is enough to tell."""
        gained = self._gained + sum(run.share - (run.first_share or 0.0) for run in self._runs.values())
        left = self._total - self._ended - sum(run.share for run in self._runs.values())
        if gained <= 0.02 or left <= 0:
            return ""
        return f"about {duration_words(left * (time.monotonic() - self._begun) / gained)} left"


def _read(run: _Shown) -> None:
    """Take over how far a run has come, once this attempt has said so."""
    reported = read_progress(run.logdir)
    if reported is not None and reported.updated >= run.started:
        run.share, run.detail = reported.share, _detail(reported)
        run.first_share = run.share if run.first_share is None else run.first_share


def _detail(reported: Reported) -> str:
    trains = reported.total_epochs > 0
    parts = [
        f"{reported.share:.0%} {reported.phase}",
        f"epoch {reported.epoch:.1f}/{reported.total_epochs:.1f}" if trains else "",
        f"{reported.tokens_per_second:,.0f} tokens/s" if trains else "",
        "" if reported.train_loss is None else f"loss {reported.train_loss:.3f} nats/token",
    ]
    return ", ".join(filter(None, parts))


def duration_words(seconds: float) -> str:
    """A time as people say it: seconds up to a minute and a half, then minutes."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"

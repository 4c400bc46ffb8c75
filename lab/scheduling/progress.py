"""What the runs do, while a driver works: live bars on a terminal, plain lines elsewhere."""

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from lab.console import plain
from lab.scheduling.progress_file import Progress as Reported
from lab.scheduling.progress_file import read_progress
from lab.scheduling.time_left import Timed, duration_words, seconds_left

LIVE_SECONDS = 0.5
PLAIN_SECONDS = 20.0


class Watched(Protocol):
    """What is shown: a `Job`, or a run that is alone.

    Attributes:
        key: its name among the others.
        label: its name in words.
        logdir: its folder.
        timed: what is known of its time before it starts.
    """

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def label(self) -> str: ...  # noqa: D102
    @property
    def logdir(self) -> Path: ...  # noqa: D102
    @property
    def timed(self) -> Timed: ...  # noqa: D102


class Alone(NamedTuple):
    """A run, or a measurement, of this process."""

    label: str
    logdir: Path
    timed: Timed = Timed("")
    key: str = ""


@dataclass
class _Shown:
    """A run under way: its bar, its start (unix seconds), its words, and what it said of itself last."""

    label: str
    logdir: Path
    task: TaskID
    started: float
    detail: str = "starting"
    reported: Reported | None = None

    @property
    def share(self) -> float:
        """Of it, what is done."""
        return self.reported.share if self.reported else 0.0


class RunsProgress:
    """The state of all runs of one invocation.

    Args:
        console: where to show it.
        plain_seconds: time between two plain lines where the console is no terminal.

    Attributes:
        pace: seconds for a unit of work, while no run has said it; None if nobody knows.
    """

    def __init__(self, console: Console, plain_seconds: float = PLAIN_SECONDS) -> None:
        self.pace: float | None = None
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
        self._jobs: Mapping[str, Timed] = {}  # of the stage, each as it is before it starts
        self._took: dict[str, float | None] = {}  # of those that ended, where they did so well
        self._at_once, self._stage = 1, "runs"
        self._last = time.monotonic()

    @contextmanager
    def shown(
        self,
        jobs: Collection[Watched],
        took: Mapping[str, float | None],
        stage: str = "runs",
        *,
        first: bool = True,
    ) -> Iterator[None]:
        """Show progress over the jobs of a stage.

        Args:
            jobs: all of them.
            took: keys of those that ended before -> the seconds that they took, None if nobody knows.
            stage: what they are called.
            first: whether a line is said at once, where the console is no terminal.
        """
        self._jobs = {job.key: job.timed for job in jobs}
        self._took, self._at_once, self._stage = dict(took), 1, stage
        self._last = time.monotonic()
        self._overall = self._bars.add_task(stage, total=len(jobs), completed=len(took), detail="")
        if first and not self._live:
            self.say(self._summary())
        with self._bars:
            yield
        self._bars.remove_task(self._overall)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(self._words(text), highlight=False, soft_wrap=True)

    def started(self, job: Watched) -> None:
        """A run has started."""
        task = self._bars.add_task(self._words(job.label), total=1.0, detail="starting")
        self._runs[job.key] = _Shown(job.label, job.logdir, task, time.time())
        self._at_once = max(self._at_once, len(self._runs))

    def ended(self, job: Watched, failure: str = "", *, final: bool = True, reused: bool = False) -> None:
        """A run has ended, well unless `failure` says why not; not `final` if it will be tried again."""
        run = self._runs.pop(job.key, None)
        if run:
            self._bars.remove_task(run.task)
        if final:
            self._took[job.key] = time.time() - run.started if run and not failure else None
        self.say(f"{self._summary()}  {job.label}: {failure or ('done before' if reused else 'done')}")

    def refresh(self) -> None:
        """Read the runs' progress and show it, unless it was shown a moment ago."""
        if time.monotonic() - self._last < self._every:
            return
        self._last = time.monotonic()
        for run in self._runs.values():
            _read(run)
            self._bars.update(run.task, completed=run.share, detail=self._words(run.detail))
        done = len(self._took) + sum(run.share for run in self._runs.values())
        self._bars.update(self._overall, completed=done, detail=self._time_left())
        self._bars.refresh()
        if not self._live:
            self.say(
                "  ".join([self._summary(), *(f"[{run.label}: {run.detail}]" for run in self._runs.values())])
            )

    def _words(self, text: str) -> str:
        return escape(plain(text, self._console.encoding))

    def _summary(self) -> str:
        return f"{len(self._took)}/{len(self._jobs)} {self._stage}  {self._time_left()}".strip()

    def _time_left(self) -> str:
        """Words for the time left, if anything tells it."""
        jobs = [self._timed(key, job) for key, job in self._jobs.items()]
        left = seconds_left(jobs, self._at_once, self.pace)
        if not left:
            return ""
        return f"about {duration_words(left)} left{'' if self._stage == 'runs' else ' for these'}"

    def _timed(self, key: str, job: Timed) -> Timed:
        if key in self._took:
            return job.after(self._took[key])
        run = self._runs.get(key)
        return job.under_way(run.reported) if run and run.reported else job


@contextmanager
def watching(job: Watched, progress: RunsProgress) -> Iterator[None]:
    """Show how far a run of this process is, as its folder says it meanwhile."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(LIVE_SECONDS):
            progress.refresh()

    follower = threading.Thread(target=follow, name="progress", daemon=True)
    with progress.shown([job], {}, first=False):  # what is wrong with it, it may say first
        progress.started(job)
        follower.start()
        try:
            yield
        finally:
            over.set()
            follower.join()


def _read(run: _Shown) -> None:
    """Take over how far a run has come, once this attempt has said so."""
    reported = read_progress(run.logdir)
    if reported is not None and reported.updated >= run.started:
        run.reported, run.detail = reported, _detail(reported)


def _detail(reported: Reported) -> str:
    trains = reported.total_epochs > 0
    parts = [
        f"{reported.share:.0%} {reported.phase}",
        f"epoch {reported.epoch:.1f}/{reported.total_epochs:.1f}" if trains else "",
        f"{reported.tokens_per_second:,.0f} tokens/s" if trains else "",
        "" if reported.train_loss is None else f"loss {reported.train_loss:.3f} nats/token",
    ]
    return ", ".join(filter(None, parts))

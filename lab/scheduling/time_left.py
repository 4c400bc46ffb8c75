"""How long jobs will still take: as long as others like them, or as their own pace or their FLOPs say."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

from lab.config import RunConfig
from lab.data.tokenizers import known_vocab_size
from lab.evaluation.flops import TRAIN_PASSES, pass_flops, training_forward_flops_per_token
from lab.evaluation.measurements import passes, yardstick
from lab.scheduling.progress_file import Progress
from lab.training.timeline import Timeline, make_timeline

SOME_WINDOWS = 10_000  # of a corpus, and ids of a tokenizer, that are not known before they are loaded
SOME_IDS = 50_000


@dataclass(frozen=True)
class Timed:
    """A job, as far as its time is known.

    Args:
        kind: jobs of one kind take equally long.
        work: of it, in any unit that all of them have; > 0.
        closing: what it does when its share is 1, such as measuring on test, in parts of what it does before.
        ended: whether it has.
        share: of it that is done.
        seconds: that it took or will take in all; None if nobody knows.
        left: seconds that are left by its own pace; None if nobody knows.
    """

    kind: Hashable
    work: float = 1.0
    closing: float = 0.0
    ended: bool = False
    share: float = 0.0
    seconds: float | None = None
    left: float | None = None

    @classmethod
    def of_run(cls, config: RunConfig, kind: Hashable = "") -> "Timed":
        """A run that has not started."""
        before, after = run_work(config)
        return cls(kind, before + after, after / before)

    def after(self, seconds: float | None) -> "Timed":
        """It as it has ended, after so many seconds; None where they tell nothing."""
        return replace(self, ended=True, share=1.0, seconds=seconds)

    def under_way(self, reported: Progress) -> "Timed":
        """It as it says of itself."""
        share, pace = min(1.0, max(0.0, reported.share)), reported.pace_seconds
        if pace is None or pace < 0:
            return replace(self, share=share)
        left = (1.0 - share + self.closing) * pace
        return replace(self, share=share, left=left, seconds=max(0.0, reported.seconds) + left)


def seconds_left(jobs: Sequence[Timed], at_once: int, pace: float | None = None) -> float | None:
    """Time until the last job ends; None if nobody knows. Never negative.

    A job takes as long as those of its kind that ended; where there are none, as its own pace says; where
    that is not known either, as long as the others by its work.

    Args:
        jobs: all of them.
        at_once: how many run at a time.
        pace: seconds for a unit of work, where no job has said it yet.
    """
    took: dict[Hashable, list[float]] = defaultdict(list)
    for job in jobs:
        if job.ended and job.seconds:
            took[job.kind].append(job.seconds)
    if known := [job for job in jobs if job.seconds]:
        pace = sum(job.seconds or 0.0 for job in known) / sum(job.work for job in known)
    lefts = []
    for job in jobs:
        if job.ended:
            continue
        rest = (1.0 - job.share + job.closing) / (1.0 + job.closing)
        if alike := took.get(job.kind):
            lefts.append(rest * sum(alike) / len(alike))
        elif job.left is not None:
            lefts.append(job.left)
        elif pace is not None:
            lefts.append(rest * job.work * pace)
        else:
            return None
    return max(sum(lefts) / max(1, at_once), *lefts, 0.0)


def run_timeline(config: RunConfig) -> Timeline:
    """A run's steps, as far as its configuration says them."""
    data = config.data
    windows = max(1, data.unique_tokens // data.length) if data.unique_tokens else SOME_WINDOWS
    return make_timeline(config, windows)


def run_work(config: RunConfig) -> tuple[float, float]:
    """FLOPs of a run, by closed form; on one machine its time is about proportional to them.

    Returns:
        Of training and of the validation NLL of each stop; then those of what is measured on test at the best
        and the last stop of each reading, as if they were one.
    """
    ids = known_vocab_size(config.data.tokenizer) or SOME_IDS
    timeline, forward = run_timeline(config), training_forward_flops_per_token(config, ids)
    training = config.factors.passes * TRAIN_PASSES * forward * timeline.tokens_seen(timeline.work)
    each, readings = pass_flops(config, ids), len({stop.reading for stop in timeline.stops})
    validation = sum(passes(config, task) for task in yardstick(config, "validation"))
    *test, exact = (passes(config, task) for task in yardstick(config, "test"))  # exact: of one stop alone
    return training + each * validation * len(timeline.stops), each * (sum(test) * readings + exact)


def duration_words(seconds: float) -> str:
    """A time as people say it: seconds up to a minute and a half, then minutes, and hours from two on."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

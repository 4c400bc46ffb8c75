"""How long jobs will still take: as long as others like them, or as their own pace or their FLOPs say."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from lab.config import RunConfig
from lab.data.tokenizers import known_vocab_size
from lab.evaluation.flops import TRAIN_PASSES, training_forward_flops_per_token
from lab.training.timeline import Timeline, make_timeline

SOME_WINDOWS = 10_000  # of a corpus, and ids of a tokenizer, that are not known before they are loaded
SOME_IDS = 50_000


@dataclass(frozen=True)
class Timed:
    """A job, as far as its time is known.

    Args:
        kind: jobs of one kind take equally long.
        work: of it, in any unit that all of them have; > 0.
        ended: whether it has.
        share: of it that is done.
        seconds: that it took or will take in all; None if nobody knows.
        left: seconds that are left by its own pace; None if nobody knows.
    """

    kind: Hashable
    work: float = 1.0
    ended: bool = False
    share: float = 0.0
    seconds: float | None = None
    left: float | None = None


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
        rest = max(0.0, 1.0 - job.share)
        if alike := took.get(job.kind):
            lefts.append(rest * sum(alike) / len(alike))
        elif job.left is not None:
            lefts.append(max(0.0, job.left))
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


def training_work(config: RunConfig) -> float:
    """FLOPs of a run's training, by closed form; on one machine its time is about proportional to them."""
    timeline = run_timeline(config)
    forward = training_forward_flops_per_token(config, known_vocab_size(config.data.tokenizer) or SOME_IDS)
    return config.factors.passes * TRAIN_PASSES * forward * timeline.tokens_seen(timeline.work)


def duration_words(seconds: float) -> str:
    """A time as people say it: seconds up to a minute and a half, then minutes, and hours from two on."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"

"""What is about to run, in one line: how many runs, on what, for how long, and what they take on disk."""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from lab.config import RunConfig
from lab.data.tokenizers import known_vocab_size
from lab.environment import available_cpus, cpu_model
from lab.models.footprint import FLOAT32, parameters
from lab.results import RESULT, DamagedError, RunResult, read_record
from lab.scheduling.executors.slots import find_devices
from lab.scheduling.jobs import Job
from lab.scheduling.plan import Plan
from lab.scheduling.time_left import (
    SOME_IDS,
    Timed,
    duration_words,
    run_timeline,
    seconds_left,
)

EARLIER = 8  # runs that say how fast this machine is
FOLDERS = ("*/*/runs/**", "runs/*")  # of ablations, and of runs that were alone
LOOKED_AT = 40  # results among which they are looked for, the newest
STATE = 3  # float32 numbers a weight in a checkpoint: itself and two moments
MEGABYTE = 2**20


class Outlook(NamedTuple):
    """What is about to run.

    Attributes:
        line: in words.
        pace: seconds for a FLOP of a run, where no run of it has told them; None if nobody knows.
    """

    line: str
    pace: float | None = None


class Earlier(NamedTuple):
    """What earlier runs on this machine took.

    Attributes:
        runs: number of them.
        pace: seconds for a FLOP of a run.
    """

    runs: int
    pace: float


def find_earlier(results: Path) -> Earlier | None:
    """The newest runs in a folder of results that such a machine computed; None if there are none."""
    kind, cpu, backend = find_devices().kind, cpu_model(), os.environ["KERAS_BACKEND"]
    seconds, work = [], 0.0
    found = [path for folder in FOLDERS for path in results.glob(f"{folder}/{RESULT}")]
    for path in islice(sorted(found, key=_changed, reverse=True), LOOKED_AT):
        with suppress(DamagedError, OSError):
            result = read_record(RunResult, path)
            own = result and (result.process.device, result.process.cpu, result.process.backend)
            if result and own == (kind, cpu, backend):
                seconds.append(result.wall_seconds)
                work += Timed.of_run(result.config).work
        if len(seconds) == EARLIER:
            break
    return Earlier(len(seconds), sum(seconds) / work) if seconds else None


def disk_bytes(config: RunConfig) -> int:
    """What a run's weights and checkpoints take at most (`lab.training.kept.KeptWeights`)."""
    training, timeline = config.training, run_timeline(config)
    ids = known_vocab_size(config.data.tokenizer) or SOME_IDS
    weights = FLOAT32 * parameters(config.model.architecture(ids, config.data.length)).total
    state = weights * (STATE + (training.ema > 0))
    checkpoints = timeline.total_steps // training.checkpoint_steps + 1
    left = training.kept_megabytes * MEGABYTE - len(timeline.stops) * weights
    stops = len(timeline.stops) if left >= 0 else 4  # the best and the last of two readings
    return stops * weights + (checkpoints if left >= checkpoints * state else 2) * state


def describe_run(config: RunConfig, logdir: Path, results: Path) -> Outlook:
    """The outlook of a run that is alone.

    Args:
        config: its configuration.
        logdir: its folder.
        results: folder of results, in which earlier runs are looked for.
    """
    earlier = find_earlier(results)
    expected = _expected([Timed.of_run(config)], 1, earlier, "")
    what = f"{config.arm} seed={config.seed}: 1 run"
    return Outlook(_line(what, [config], expected, logdir), earlier and earlier.pace)


def describe_plan(plan: Plan, at_once: int | None, stated: str, results: Path) -> Outlook:
    """The outlook of an ablation.

    Args:
        plan: its first look, if seeds are added while something is undecided.
        at_once: runs at a time; None if nobody knows.
        stated: the time that its scale states, in words.
        results: folder of results, in which earlier runs are looked for.
    """
    name = f"{plan.ablation.name} ({plan.preset})"
    jobs = [plan.job(cell) for cell in plan.cells]
    took = {job.key: result.wall_seconds for job in jobs if (result := job.result())}
    todo = [job for job in jobs if job.key not in took]
    if not todo:
        return Outlook(f"{name}: all {len(jobs)} runs are done")
    trials = _trials(plan, todo)
    counts = [f"{len(trials)} tuning runs at most, then "] * bool(trials)
    counts += [f"{len(todo)} {f'of {len(jobs)} ' * bool(took)}runs{' of the first look' * plan.auto}"]
    counts += [] if at_once is None else [f", {at_once} at once"]
    timed = [job.timed.after(took[job.key]) if job.key in took else job.timed for job in [*jobs, *trials]]
    earlier = None if took else find_earlier(results)
    expected = _expected(timed, at_once, earlier, stated)
    if plan.ablation.measurements:
        expected += ", and their measurements"
    configs = [cell.config for cell in plan.cells if cell.logdir not in took]
    return Outlook(
        _line(f"{name}: {''.join(counts)}", configs, expected, plan.tree), earlier and earlier.pace
    )


def _trials(plan: Plan, todo: Sequence[Job]) -> list[Job]:
    """What tuning comes first, each trial as the run that it is a variation of."""
    if plan.tuning is None:
        return []
    arms = plan.ablation.tuned or tuple(plan.ablation.arms)
    kinds = {job.timed.kind: replace(job, key="") for job in todo if job.arm in arms}
    return list(kinds.values()) * plan.tuning.trials


def _expected(jobs: Sequence[Timed], at_once: int | None, earlier: Earlier | None, stated: str) -> str:
    """How long it will take, in words that say who says so."""
    left = None if at_once is None else seconds_left(jobs, at_once, earlier and earlier.pace)
    if left is None:
        return stated or "how long is not known yet"
    source = f"{earlier.runs} earlier runs here" if earlier else "the runs that are done"
    return f"about {duration_words(left)} by {source}"


def _line(what: str, configs: Sequence[RunConfig], expected: str, folder: Path) -> str:
    kind, names = find_devices()
    on = f"{len(names)} x {kind}" if names else f"{kind} ({len(available_cpus())} cores)"
    precision = "/".join(sorted({config.model.dtype for config in configs}))
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    needed, free = sum(map(disk_bytes, configs)), shutil.disk_usage(there).free
    return (
        f"{what}; {os.environ['KERAS_BACKEND']} on {on}, {precision}; {expected}; "
        f"about {_size(needed)} on disk, where {_size(free)} are free"
    )


def _size(number: int) -> str:
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.0f} MB"


def _changed(path: Path) -> float:
    """When a file changed, unix seconds; 0 if it is gone."""
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0

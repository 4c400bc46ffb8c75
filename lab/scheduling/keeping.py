"""Runs of other versions are kept aside, and taken back when they are wanted again; nothing is deleted.

A run's folder holds one version. One of another version that is in its place is renamed to
`<folder>.<digest of its version>` just before the new run starts; where a kept folder has the wanted version,
it comes back and nothing is computed.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from lab.results import RESULT
from lab.scheduling.jobs import Job, Say
from lab.tracking.records import METRICS
from lab.version import Version, read_version

UNKNOWN = "unknown"  # in place of a digest, of a folder that does not say what it holds


def take_back(job: Job, say: Say) -> None:
    """Bring a run's kept folder of the wanted version back into its place, if there is one.

    Args:
        job: a run that has no result in its place.
        say: told of each folder that moves.
    """
    if job.run is None or read_version(job.logdir) == job.run:
        return
    kept = next((folder for folder in _kept(job.logdir) if read_version(folder) == job.run), None)
    if kept is not None:
        make_way(job, say)
        kept.rename(job.logdir)
        say(f"{job.label}: the run that was kept in {kept} is taken back")


def make_way(job: Job, say: Say) -> None:
    """Move away what is in a run's place, if it is of another version.

    A folder without anything computed, such as that of a run that failed at once, is removed.

    Args:
        job: the run that is to have the place.
        say: told of each folder that moves.
    """
    logdir = job.logdir
    if job.run is None or not logdir.is_dir():
        return
    present = read_version(logdir)
    if present == job.run:
        return
    if not _holds_work(logdir):
        shutil.rmtree(logdir)
        return
    place = _free_place(logdir, present)
    logdir.rename(place)
    changed = " and ".join(present.differs(job.run)) if present else "it does not say what it holds"
    say(f"{job.label}: {changed}; the old run is kept in {place}")


def _holds_work(logdir: Path) -> bool:
    metrics = logdir / METRICS
    return (
        (logdir / RESULT).exists()
        or (metrics.is_file() and metrics.stat().st_size > 0)
        or any((logdir / "checkpoints").rglob("*.npz"))
    )


def _kept(logdir: Path) -> Iterator[Path]:
    """The folders kept aside of a place, the newest first."""
    if logdir.parent.is_dir():
        beside = [path for path in logdir.parent.iterdir() if path.name.startswith(f"{logdir.name}.")]
        yield from sorted((path for path in beside if path.is_dir()), key=lambda p: -p.stat().st_mtime)


def _free_place(logdir: Path, version: Version | None) -> Path:
    name = f"{logdir.name}.{version.digest() if version else UNKNOWN}"
    places = (logdir.with_name(name + (f".{n}" if n > 1 else "")) for n in range(1, 1000))
    return next(place for place in places if not place.exists())

"""One run, or one measurement, in this process: what the commands `run` and `measure` do.

What needs Keras is imported when it is called for: a driver's processes say first what is wrong with their
configuration, and find their ranks.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from lab.config import MeasurementConfig, RunConfig
from lab.console import make_console
from lab.results import RESULT, MeasurementResult, RunResult, read_result
from lab.scheduling.executors.slots import SLOT
from lab.scheduling.ledger.locks import sole_owner
from lab.training.ending import Notice
from lab.version import Version, result_digest

if TYPE_CHECKING:
    from lab.training.population import Member

RESULTS = Path("results")
ORPHAN_SECONDS = 10.0  # a killed driver's run needs a moment to end


def train_here(
    config: RunConfig,
    logdir: Path | None,
    cache_dir: Path,
    start: Path | None = None,
    data_key: str = "",
    member: "Member | None" = None,
) -> tuple[RunResult, Path] | None:
    """Train a run, or go on with it; a notice ends it at its next update.

    Args:
        config: of the run.
        logdir: its folder; by default one below `results/runs` that is named after what the run is.
        cache_dir: tokenized corpora.
        start: folder of a finished run from whose best stop this one begins.
        data_key: under which the cache holds the corpus, if the driver has said so.
        member: of the population that it is trained in, which has its notice.

    Returns:
        The result and the folder that holds it; None in the other ranks than the first.

    Raises:
        ValueError: if another process works on the folder, no device can hold the run, or as of `train_run`.
    """
    from lab.scheduling.executors.resources import require_memory_of
    from lab.scheduling.executors.slots import find_devices
    from lab.training.distribution import find_ranks
    from lab.training.run import train_run

    ranks = find_ranks(config.training.parallel)
    if find_devices().kind == "cpu":  # of others it is not known how many a process has
        require_memory_of("cpu", [config], ranks.count)
    if logdir is None:
        name = f"{config.arm}-seed={config.seed}-{_name(config, cache_dir, start)}"
        logdir = RESULTS / "runs" / name
    notice = Notice()
    alone = sole_owner(logdir, "run", wait_seconds=ORPHAN_SECONDS) if ranks.first else nullcontext()
    shown = _shown(config, logdir) if ranks.first else nullcontext()
    with notice.by_signals(), alone, shown:
        result = train_run(config, logdir, cache_dir, notice, start, data_key, member)
    return (result, logdir) if ranks.first else None


def _name(config: RunConfig, cache_dir: Path, start: Path | None) -> str:
    """What tells a run from others of its arm and seed."""
    from lab.data.dataset import prepare
    from lab.data.progress import shown_on

    begun = read_result(start) if start else None
    with shown_on(make_console(stderr=True)):
        data = prepare(config.data, cache_dir).hash
    digits = result_digest(begun.run, begun.evaluation) if begun else ""
    return Version.of(config, data, os.environ["KERAS_BACKEND"], "", digits).digest()


@contextmanager
def _shown(config: RunConfig | MeasurementConfig, logdir: Path) -> Iterator[None]:
    """Say on stderr what is done and how far it is; nothing where a driver watches, or a result is there."""
    if SLOT in os.environ or (logdir / RESULT).is_file():
        yield
        return
    from lab.data.progress import shown_on
    from lab.scheduling.outlook import describe_run
    from lab.scheduling.progress import Alone, RunsProgress, watching
    from lab.scheduling.time_left import Timed

    console = make_console(stderr=True)
    progress, job = RunsProgress(console), Alone(logdir.name, logdir)
    if isinstance(config, RunConfig):
        outlook = describe_run(config, logdir, RESULTS)
        job = Alone(f"{config.arm} seed={config.seed}", logdir, Timed.of_run(config))
        progress.pace = outlook.pace
        progress.say(outlook.line)
    with shown_on(console), watching(job, progress):
        yield


def measure_here(
    config: MeasurementConfig, logdir: Path, cache_dir: Path, data_key: str = ""
) -> MeasurementResult:
    """Measure finished runs, or go on with it; a notice ends it at once.

    Args:
        config: what to measure of which runs.
        logdir: the measurement's folder.
        cache_dir: tokenized corpora.
        data_key: under which the cache holds the corpus, if the driver has said so.

    Raises:
        ValueError: if another process works on the folder, or as of `measure_runs`.
    """
    from lab.training.measuring import measure_runs

    notice = Notice()
    alone = sole_owner(logdir, "run", wait_seconds=ORPHAN_SECONDS)
    with notice.by_signals(), alone, _shown(config, logdir):
        return measure_runs(config, logdir, cache_dir, notice, data_key)

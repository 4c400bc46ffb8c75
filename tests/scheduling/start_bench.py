"""Seconds from the end of one run to the first training step of the next, of the same kind, in one place.

    python tests/scheduling/start_bench.py [runs]

Measured with and without a process that waits, on the laptop preset's `ar` arm, under JAX on the CPU. A run
counts as ended when its process has, and as stepping when its first row of metrics is there.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from lab.arms import arm_values
from lab.config import make_config, read_preset
from lab.scheduling.executors.executor import Attempt
from lab.scheduling.executors.local import COMMAND, SPARE_AFTER, STANDBY, LocalExecutor

POLL_SECONDS = 0.05  # as the driver's
READY_SECONDS = 30.0  # for the next process to import and rehearse, on a busy machine
KIND = {
    "data": {"unique_tokens": 20000},
    "training": {"total_tokens": 2048 * 20000, "log_steps": 1, "warmup_steps": 2},
    "evaluation": {"stops": 1},
}


def attempt(folder, seed):
    config = make_config(read_preset("laptop"), arm_values("ar"), {"seed": seed}, KIND)
    logdir = folder / str(seed)
    logdir.mkdir()
    (logdir / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    return Attempt(logdir / "config.yaml", logdir, folder / "cache")


def first_row(logdir):
    """Whether the first step was recorded."""
    metrics = logdir / "metrics.jsonl"
    return metrics.exists() and b"\n" in metrics.read_bytes()


def seconds(executor, folder, runs):
    """Seconds to the first step, one for each run after the first."""
    ended, found = None, []
    for seed in runs:
        while not executor.free():
            time.sleep(POLL_SECONDS)
        handle = executor.start(attempt(folder, seed))
        while not first_row(handle._logdir):
            assert handle.poll() is None, (handle._logdir / "log.txt").read_text()
            time.sleep(0.005)
        if ended is not None:
            found.append(time.monotonic() - ended)
        work_until = time.monotonic() + SPARE_AFTER + READY_SECONDS
        while time.monotonic() < work_until and handle.poll() is None:
            executor.free()  # as the driver asks; it starts the next process
            time.sleep(POLL_SECONDS)
        handle.stop(hard=False)  # a run that was long enough for the next process to get ready
        while handle.poll() is None:
            time.sleep(POLL_SECONDS)
        ended = time.monotonic()
    return found


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 6
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, standby in (("cold", ()), ("waiting", STANDBY)):
            executor = LocalExecutor(2, COMMAND, standby)
            try:
                first = 0 if label == "cold" else runs
                found = seconds(executor, folder, range(first, first + runs))
            finally:
                executor.close()
            load = round(os.getloadavg()[0], 1)
            row = {"start": label, "median_seconds": round(statistics.median(found), 2), "load": load}
            print(json.dumps({**row, "all": [round(value, 2) for value in found]}), flush=True)


if __name__ == "__main__":
    main()

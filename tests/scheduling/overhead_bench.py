"""What the scheduler costs: seconds to plan 1,000 cells, and the driver's own time for each of 200.

.venv/bin/python tests/scheduling/overhead_bench.py
"""

import json
import tempfile
import time
from pathlib import Path

from scheduling_bench import Bench, result, tiny_ablation

from lab.ablation import Scale
from lab.config import load_config
from lab.results import VersionRecord, write_record
from lab.scheduling.driver import POLL_SECONDS, driving
from lab.scheduling.executors.executor import Ended
from lab.scheduling.ledger.ledger import Ledger
from lab.scheduling.places import Places
from lab.scheduling.progress import RunsProgress


class Instant:
    """An executor whose attempts have ended, with a result, as soon as they are started."""

    ranks = 1
    population = 1

    def __init__(self, plan):
        self.evaluations = {job.logdir: job.wanted for job in map(plan.job, plan.cells)}

    def free(self, command="run"):
        return 8

    def start(self, attempt):
        version = json.loads((attempt.logdir / "version.json").read_text())
        made = result(
            config=load_config(attempt.config),
            version=VersionRecord(**version),
            evaluation=self.evaluations[attempt.logdir],
        )
        write_record(attempt.logdir / "result.json", made)
        return self

    def poll(self):
        return Ended(0)

    def stop(self, hard):
        raise AssertionError("nothing to stop")

    def close(self):
        pass


def plan_of(bench, cells):
    levels = {"data.unique_tokens": tuple(range(1000, 11_000, 1000))}
    scale = Scale(levels, seeds=cells // 20, budget="no time")
    return bench.plan(ablation=tiny_ablation(scales={"tiny": scale}))


def main():
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder)
        begun = time.perf_counter()
        plan = plan_of(bench, 1000)
        ledger = Ledger(bench.tree, "tiny-tiny")
        plan.write()
        ledger.enqueue(map(plan.job, plan.cells))
        print(f"planned {len(plan.cells)} cells in {time.perf_counter() - begun:.2f} s")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder)
        plan = plan_of(bench, 200)
        begun, busy = time.perf_counter(), time.process_time()
        with driving(plan, Instant(plan), Places(cache=Path(folder)), RunsProgress(bench.quiet())) as driver:
            summary = driver.bring(plan)
        wall, busy = time.perf_counter() - begun, time.process_time() - busy
        print(
            f"drove {summary.done} cells in {wall:.2f} s, {1000 * busy / 200:.1f} ms of processor time and "
            f"{1000 * wall / 200:.1f} ms in all a cell (polls of {1000 * POLL_SECONDS:.0f} ms among it)"
        )


if __name__ == "__main__":
    main()

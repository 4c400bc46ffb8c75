"""The ledger in PostgreSQL: a real server, restarted and closed to writes while a study runs."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from scheduling_bench import wait_for

from lab.scheduling.ledger.ledger import Ledger, study_name
from lab.scheduling.ledger.storage import RetryPolicy, close_storage, view_storage

pytestmark = pytest.mark.extra(postgres="psycopg")

TINY_PLAN_SEEDS = 5
WORKERS = 6


def states(bench, url):
    """Cell key -> the states of its trials, oldest first."""
    view = view_storage(bench.tree, url)
    try:
        return _states(view, study_name(bench.tree, "tiny-tiny", url))
    finally:
        close_storage(view)


def _states(view, name):
    study_id = view.get_study_id_from_name(name)
    found = {}
    for trial in view.get_all_trials(study_id):
        found.setdefault(trial.user_attrs["key"], []).append(trial.state.name)
    return found


def test_a_server_restarted_in_mid_study_loses_and_doubles_no_cell(bench, postgres):
    plan = bench.plan(seeds=TINY_PLAN_SEEDS)
    last = plan.cells[len(plan.cells) // 2 :]  # they wait for an outage, and outnumber the workers
    bench.behave(
        {f"{cell.config.arm}/{cell.level['data.unique_tokens']}/{cell.seed}": "wait" for cell in last}
    )
    url, go = postgres.new_database(), bench.folder / "go"

    def results():
        return len(list(bench.tree.rglob("result.json")))

    def outages():
        return bench.said.getvalue().count("is away")

    def restart():
        try:
            for results_before, mode in ((3, "immediate"), (10, "fast")):
                wait_for(lambda results_before=results_before: results() >= results_before, seconds=300)
                before = outages()
                postgres.stop(mode)
                try:
                    go.touch()
                    wait_for(lambda before=before: outages() > before, seconds=300)
                    go.unlink()
                finally:
                    postgres.start()
        finally:
            go.touch()

    with ThreadPoolExecutor(1) as helper:
        restarts = helper.submit(restart)
        summary = bench.drive(plan, workers=WORKERS, storage=url)
        restarts.result()
    assert (summary.done, summary.failed) == (len(plan.cells), {})
    assert states(bench, url) == {cell.logdir: ["COMPLETE"] for cell in plan.cells}
    assert [len(bench.tries(cell)) for cell in plan.cells] == [1] * len(plan.cells)
    said = bench.said.getvalue()
    assert "is away" in said
    assert "is back" in said
    assert "sesame" not in said
    again = bench.drive(plan, workers=WORKERS, storage=url)
    assert (again.done, again.reused) == (0, len(plan.cells))


def test_a_notice_does_not_wait_for_a_server_that_is_down(bench, postgres):
    bench.behave({"ar": "wait", "dlm": "checkpoint"})
    plan = bench.plan()
    first, second = plan.cells[:2]
    url = postgres.new_database()

    def disturb():
        try:
            wait_for(lambda: bench.tries(first) and bench.tries(second), seconds=300)
            postgres.stop("immediate")
            (bench.folder / "go").touch()
            wait_for(lambda: "is away" in bench.said.getvalue(), seconds=300)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
        return time.monotonic()

    try:
        with ThreadPoolExecutor(1) as helper:
            asked = helper.submit(disturb)
            summary = bench.drive(plan, storage=url)
            took = time.monotonic() - asked.result()
    finally:
        postgres.start()
    assert took < 100
    assert summary.interrupted == signal.SIGTERM
    assert (plan.logdir(second) / "checkpoint").exists()
    bench.behave({})
    summary = bench.drive(plan, storage=url)
    assert (summary.done, summary.reused) == (3, 1)
    expected = {cell.logdir: ["COMPLETE"] for cell in plan.cells} | {second.logdir: ["FAIL", "COMPLETE"]}
    assert states(bench, url) == expected


def test_a_server_closed_to_writes_is_waited_for(bench, postgres):
    url, said = postgres.new_database(), []
    name = url.rpartition("/")[2]
    jobs = [bench.plan().job(cell) for cell in bench.plan().cells]
    ledger = Ledger(bench.tree, "tiny-tiny", url, RetryPolicy(300.0, 0.1, 0.2, said.append))
    postgres.execute(f"alter database {name} set default_transaction_read_only = on")
    others = f"from pg_stat_activity where datname = '{name}' and pid <> pg_backend_pid()"
    postgres.execute(f"select pg_terminate_backend(pid) {others}")

    def open_again():
        wait_for(lambda: said, seconds=300)
        postgres.execute(f"alter database {name} set default_transaction_read_only = off")
        postgres.execute(f"select pg_terminate_backend(pid) {others}")

    helper = threading.Thread(target=open_again)
    helper.start()
    assert ledger.enqueue(jobs) == 4
    ledger.close()
    helper.join()
    assert "read-only transaction" in said[0]
    assert states(bench, url) == {job.key: ["WAITING"] for job in jobs}


def test_an_idle_connection_that_was_cut_is_not_noticed(bench, postgres):
    url, said = postgres.new_database(), []
    ledger = Ledger(bench.tree, "tiny-tiny", url, RetryPolicy(say=said.append))
    ledger.enqueue(map(bench.plan().job, bench.plan().cells))
    postgres.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
    assert ledger.take().number == 0
    assert said == []
    ledger.close()


def test_new_tables_are_made_once_though_many_drivers_start_together(bench, postgres):
    url = postgres.new_database()
    trees = [bench.folder / f"tree{number}" for number in range(6)]

    def running(tree):
        with closing(Ledger(tree, "tiny", url)) as ledger:
            return ledger.running()

    with ThreadPoolExecutor(len(trees)) as drivers:
        assert list(drivers.map(running, trees)) == [[]] * len(trees)
    name = url.rpartition("/")[2]
    assert postgres.execute("select count(*) from studies", name) == (len(trees),)
    assert postgres.execute("select count(*) from version_info", name) == (1,)


DRIVER = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
from scheduling_bench import Bench
bench = Bench(pathlib.Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
try:
    print("done", bench.drive(workers=4, storage=sys.stdin.readline().strip()).done)
except ValueError as error:
    print("refused:", error)
"""


def test_of_two_drivers_of_one_tree_one_is_refused(bench, postgres):
    bench.behave({"ar": "wait", "dlm": "wait"})
    url, here = postgres.new_database(), str(Path(__file__).parents[1])
    command = [sys.executable, "-c", DRIVER, here, str(bench.folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    drivers = [subprocess.Popen(command, **pipes) for _ in range(2)]
    for driver in drivers:
        assert driver.stdout.readline() == "ready\n"
    for driver in drivers:
        driver.stdin.write(f"\n{url}\n")
        driver.stdin.close()
    try:
        wait_for(lambda: any(driver.poll() is not None for driver in drivers), seconds=300)
    finally:
        (bench.folder / "go").touch()
    said = sorted(driver.stdout.read().splitlines()[-1] for driver in drivers)
    for driver in drivers:
        driver.wait()
        driver.stdout.close()
    assert said[0] == "done 4"
    assert "must have one driver at a time" in said[1]
    assert states(bench, url) == {cell.logdir: ["COMPLETE"] for cell in bench.plan().cells}


@pytest.mark.parametrize("wrong", ["password", "database"])
def test_a_server_that_refuses_is_not_waited_for(bench, postgres, wrong):
    url = postgres.url("none") if wrong == "database" else postgres.url("postgres", "poppy {wrong}")
    with pytest.raises(
        ValueError, match=r"cannot open the storage postgresql://lab:\*\*\*@127\.0\.0\.1:"
    ) as caught:
        Ledger(bench.tree, "tiny-tiny", url)
    assert ('"none" does not exist' if wrong == "database" else "password authentication") in str(
        caught.value
    )
    assert not any(secret in str(caught.value) for secret in ("sesame", "poppy"))
    assert caught.value.__context__ is None

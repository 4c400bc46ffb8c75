"""Ray on this machine: a head and three nodes that are processes here, on loopback."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

ray = pytest.importorskip("ray", reason="needs ray: make setup EXTRAS=ray")

import psutil  # noqa: E402
from measuring_bench import Tree  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402
from rich.console import Console  # noqa: E402
from scheduling_bench import alive, trials, wait_for  # noqa: E402

from lab.scheduling.driver import driving  # noqa: E402
from lab.scheduling.executors import mirror, ray_executor  # noqa: E402
from lab.scheduling.executors.executor import Attempt, Ended  # noqa: E402
from lab.scheduling.executors.mirror import Mirror  # noqa: E402
from lab.scheduling.executors.process import rank_log  # noqa: E402
from lab.scheduling.executors.ray_executor import RayAttempt, RayExecutor, Submitted, Task  # noqa: E402
from lab.scheduling.places import Places  # noqa: E402
from lab.scheduling.progress import RunsProgress  # noqa: E402

pytestmark = [
    pytest.mark.extra(ray="ray"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Ray leaves its nodes' logs open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SEEDS = 50  # 200 cells
SLEEP = ("-c", "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
HEAD_SECONDS = 10  # after which a cluster is given up whose head is gone; Ray's own 60 would do
STORE = {"object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster():
    """A head without room for runs, and three nodes of two cores, two of which pretend to have devices."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    changed = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(HEAD_SECONDS),
        "PYTHONPATH": str(ray_executor.LAB_ROOT),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changed.items():
            patch.setenv(name, value)
        head = {"num_cpus": 0, "include_dashboard": False, **STORE}
        cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
        devices = ({}, {"num_gpus": 2}, {"resources": {"TPU": 1}})
        cluster.three = [cluster.add_node(num_cpus=2, wait=False, **more, **STORE) for more in devices]
        cluster.wait_for_nodes(timeout=300)
        patch.setenv("RAY_ADDRESS", cluster.address)
        yield cluster
        ray.shutdown()
        cluster.shutdown()
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    _, left = psutil.wait_procs(left, timeout=120)
    for process in left:
        process.kill()
    assert not left


@pytest.fixture
def executor(cluster, monkeypatch):
    """Makes executors on the cluster, for runs on the CPU unless told otherwise."""
    made = []

    def make(*arguments, platforms="cpu", **options):
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        made.append(RayExecutor(*arguments, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def attempt(tmp_path):
    def make(name="run"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text("c")
        return Attempt(tmp_path / name / "config.yaml", tmp_path / name, tmp_path / "cache")

    return make


def finish(handle):
    wait_for(lambda: handle.poll() is not None, seconds=300)
    return handle.poll()


def log(attempt):
    path = attempt.logdir / "log.txt"
    return path.read_text() if path.exists() else ""


def wait_for_lines(logs):
    wait_for(lambda: all(log.exists() and log.read_text().endswith("\n") for log in logs), seconds=300)


def environment(executor, attempts):
    """What each of several attempts at once sees."""
    handles = [executor.start(attempt) for attempt in attempts]
    wait_for_lines([rank_log(attempt.logdir, 0) for attempt in attempts])
    (attempts[0].logdir.parent / "go").touch()
    assert [finish(handle) for handle in handles] == [Ended(0)] * len(handles)
    return [json.loads(log(attempt).splitlines()[-1]) for attempt in attempts]


SHOW = (
    "-c",
    "import json, os, pathlib, sys, time\nprint(json.dumps(dict(os.environ)), flush=True)\n"
    "while not (pathlib.Path(sys.argv[5]).parent / 'go').exists():\n    time.sleep(0.1)",
)


def test_secrets_do_not_travel_and_a_run_on_the_cpu_sees_no_device(executor, attempt, monkeypatch):
    monkeypatch.setenv("STORAGE", "postgresql://me:sesame@host/name")
    monkeypatch.setenv("PGPASSWORD", "sesame")
    monkeypatch.setenv("XLA_FLAGS", "--mine")
    (seen,) = environment(executor(1, SHOW), [attempt()])
    assert "sesame" not in json.dumps(seen)
    assert os.environ["PGPASSWORD"] == "sesame"
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["JAX_PLATFORMS"]) == ("", "cpu")
    assert (seen["XLA_FLAGS"], seen["OMP_NUM_THREADS"]) == ("--mine", "1")
    assert len(seen["LAB_CPUS"].split(",")) == 1


def test_two_runs_have_a_gpu_each_or_share_one(executor, attempt):
    one_each = executor(0, SHOW, platforms="cuda")
    assert one_each.free() == 2
    seen = environment(one_each, [attempt("a"), attempt("b")])
    assert {pins["CUDA_VISIBLE_DEVICES"] for pins in seen} == {"0", "1"}
    assert "XLA_CLIENT_MEM_FRACTION" not in seen[0]
    one_each.close()
    halves = executor(0, SHOW, platforms="cuda", per_device=2)
    assert halves.free() == 2  # by its node's cores; by its GPUs four
    (shared,) = environment(halves, [attempt("c")])
    assert shared["XLA_CLIENT_MEM_FRACTION"] == "0.450"


def test_a_chip_is_pinned(executor, attempt):
    chips = executor(0, SHOW, platforms="tpu")
    assert chips.free() == 1
    (seen,) = environment(chips, [attempt()])
    assert (seen["TPU_VISIBLE_CHIPS"], seen["TPU_PROCESS_BOUNDS"]) == ("0", "1,1,1")


def test_the_only_chip_of_a_node_is_pinned_though_ray_sets_no_variable_for_it(monkeypatch, attempt):
    monkeypatch.delenv("TPU_VISIBLE_CHIPS", raising=False)
    context = SimpleNamespace(get_accelerator_ids=lambda: {"GPU": [], "TPU": ["0"]})
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    task = Task(attempt(), (), "tpu", 1, 1, 1.0, "", Path(), {}, Path())
    slot = ray_executor._slot(task, (0,))
    assert (slot.devices, slot.variables["TPU_VISIBLE_CHIPS"]) == (("0",), "0")


def test_a_soft_stop_waits_for_the_checkpoint(executor, attempt):
    code = (
        "import signal, sys, time\n"
        "def save(*_):\n    time.sleep(1); print('saved', flush=True); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, save); print('up', flush=True); time.sleep(600)"
    )
    run = attempt()
    handle = executor(1, ("-c", code)).start(run)
    wait_for(lambda: "up" in log(run), seconds=300)
    handle.stop(hard=False)
    assert finish(handle) == Ended(75)
    assert "saved" in log(run)
    handle.stop(hard=True)  # ended: nothing to do


def test_a_hard_stop_leaves_no_process(executor, attempt):
    run = attempt()
    handle = executor(1, SLEEP).start(run)
    wait_for(lambda: log(run).endswith("\n"), seconds=300)
    handle.stop(hard=True)
    assert finish(handle) == Ended(-signal.SIGKILL)
    wait_for(lambda: not alive(int(log(run))))


def test_a_run_that_waits_for_a_node_can_be_stopped(executor, attempt):
    chips = executor(0, SLEEP, platforms="tpu")
    runs = [attempt(name) for name in "ab"]
    first, second = (chips.start(run) for run in runs)
    assert chips.free() == 0
    wait_for(lambda: log(runs[0]).endswith("\n") or log(runs[1]).endswith("\n"), seconds=300)
    second.stop(hard=False)
    assert finish(second) == Ended(-signal.SIGTERM)
    first.stop(hard=True)
    finish(first)


RANK = (
    "import json, os, sys, time\n"
    "seen = {name.removeprefix('KERAS_DISTRIBUTION_'): value for name, value in os.environ.items()}\n"
    "names = ('NUM_PROCESSES', 'PROCESS_ID', 'JOB_ADDRESSES', 'RAY_RAYLET_PID')\n"
    "print(json.dumps([os.getpid(), *map(seen.get, names)]), flush=True)\n"
)


@pytest.mark.parametrize(("cores", "nodes"), [(1, 1), (2, 2)])
def test_ranks_of_an_attempt_meet_on_one_node_if_it_has_room_else_on_several(cores, nodes, executor, attempt):
    run = replace(attempt(), ranks=2)
    two = executor(0, ("-c", RANK), ranks=2, cores=cores)
    assert two.free() == (3 if nodes == 1 else 1)
    assert finish(two.start(run)) == Ended(0)
    seen = [json.loads(rank_log(run.logdir, rank).read_text()) for rank in range(2)]
    assert [pins[1:3] for pins in seen] == [["2", "0"], ["2", "1"]]
    assert seen[0][3] == seen[1][3]
    assert seen[0][3].startswith("127.0.0.1:") == (nodes == 1)
    assert len({pins[4] for pins in seen}) == nodes
    assert all(group["state"] == "REMOVED" for group in ray.util.placement_group_table().values())
    with pytest.raises(ValueError, match="`ranks` must be at most 2 in this executor, but got ranks=3"):
        two.start(replace(run, ranks=3))


def test_a_rank_that_fails_on_another_node_ends_the_attempt_with_its_words(executor, attempt):
    code = f"{RANK}if seen['PROCESS_ID'] == '1':\n    sys.exit('no such luck')\ntime.sleep(600)"
    run = replace(attempt(), ranks=2)
    assert finish(executor(0, ("-c", code), ranks=2, cores=2).start(run)) == Ended(1)
    said = log(run).splitlines()
    assert said[1:3] == ["", "[rank 1 ended:]"]
    assert said[-1] == "no such luck"
    wait_for(lambda: not alive(json.loads(said[0])[0]))


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """A folder as shared storage, where copies are made all the time and failures pass quickly."""
    for module, name in ((ray_executor, "COPY_SECONDS"), (mirror, "PAUSE_SECONDS")):
        monkeypatch.setattr(module, name, 0.2)
    return {"shared": f"file://{tmp_path}/shared", "root": tmp_path}


def test_results_travel_through_shared_storage(executor, attempt, tmp_path, shared):
    run = attempt()
    code = "import pathlib, sys; pathlib.Path(sys.argv[5], 'result.json').write_text('{}')"
    assert finish(executor(1, ("-c", code), **shared).start(run)) == Ended(0)
    copied = {path.name: path.read_text() for path in (tmp_path / "shared" / "run").iterdir()}
    assert copied == {"config.yaml": "c", "log.txt": "", "result.json": "{}"}


def test_progress_travels_through_shared_storage(executor, attempt, tmp_path, shared):
    run = attempt()
    code = (
        "import os, pathlib, sys, time\nlogdir = pathlib.Path(sys.argv[5])\nprint(os.getpid(), flush=True)\n"
        "(logdir / 'progress.json').write_text('half'); time.sleep(600)"
    )
    handle = executor(1, ("-c", code), **shared).start(run)
    node = run.cache_dir / "shared" / "run"  # where the driver's folder is not in the way
    wait_for(lambda: (node / "progress.json").exists(), seconds=300)
    assert not (run.logdir / "progress.json").exists()
    (tmp_path / "shared" / "run" / "progress.json").write_text("half")  # as a node does from time to time
    wait_for(lambda: handle.poll() is None and (run.logdir / "progress.json").exists())
    assert not (run.logdir / "log.txt").exists()
    handle.stop(hard=True)
    assert finish(handle) == Ended(-signal.SIGKILL)
    wait_for(lambda: not alive(int((node / "log.txt").read_text())))


def test_a_measurement_finds_its_runs_in_shared_storage_and_its_rows_come_back(executor, tmp_path):
    tree = Tree(tmp_path)
    tree.write_corpus()
    places = {"shared": f"file://{tmp_path}/shared", "root": tree.folder / "results"}
    runs, measured = tree.drive(executor(2, **places))
    assert (runs.done, measured.done, measured.failed) == (2, 1, {})
    rows, lines, trained = tree.rows(), tree.lines(), tree.trained()
    assert [len(row.stops) for row in rows] == [2, 2, 1]
    copy = tmp_path / "shared" / tree.logdir.relative_to(tree.folder / "results")
    assert (copy / "result.json").read_bytes() == (tree.logdir / "result.json").read_bytes()
    # What was measured is in the copy, and is not measured again.
    runs, measured = tree.drive(executor(2, **places), inference={"choice_items": 5})
    assert (runs.reused, measured.done) == (2, 1)
    assert tree.lines()[:3] == lines
    assert len(tree.lines()) == 4
    assert tree.rows()[:2] == rows[:2]
    assert tree.trained() == trained


def test_a_node_waits_for_a_copy_that_is_not_there_yet(executor, attempt, shared, monkeypatch):
    begin = Mirror.begin
    monkeypatch.setattr(Mirror, "begin", lambda self, logdir: None)
    code = "import pathlib, sys; pathlib.Path(sys.argv[5], 'result.json').write_text('{}')"
    run = attempt()
    pool = executor(1, ("-c", code), **shared)
    handle = pool.start(run)
    time.sleep(2)
    assert handle.poll() is None
    begin(pool._mirror, run.logdir)
    assert finish(handle) == Ended(0)
    assert (run.logdir / "result.json").exists()
    assert not (run.cache_dir / "shared" / "run").exists()


def test_ranks_and_shared_storage_go_together(executor, attempt, shared, monkeypatch):
    """Rank 1 fails; the first ends by itself and has what it leaves copied, then the words of the other."""
    code = (
        f"{RANK}import pathlib\n"
        "folder = pathlib.Path(sys.argv[5])\n"
        "if seen['PROCESS_ID'] == '1':\n    (folder / 'failing').touch(); sys.exit('no such luck')\n"
        "while not (folder / 'failing').exists():\n    time.sleep(0.1)\n"
        "(folder / 'metrics.jsonl').write_text('left')\n"
        "while not (folder.parent / 'told').exists():\n    time.sleep(0.1)\n"
        "sys.exit(-6)"
    )
    run = replace(attempt(), ranks=2)
    monkeypatch.setattr(ray_executor, "PUSH_SECONDS", 300.0)
    handle = executor(0, ("-c", code), ranks=2, cores=2, **shared).start(run)
    wait_for(lambda: handle.poll() is None and handle._blamed == 1, seconds=300)
    (run.cache_dir / "shared" / "told").touch()
    assert finish(handle) == Ended(1)
    assert (run.logdir / "metrics.jsonl").read_text() == "left"
    copy = run.logdir.parent / "shared" / "run" / "log.txt"
    assert copy.read_text() == log(run)
    assert log(run).splitlines()[-1] == "no such luck"


@pytest.mark.parametrize("hard", [False, True])
def test_a_stop_reaches_all_ranks(hard, executor, attempt):
    run = replace(attempt(), ranks=2)
    handle = executor(0, SLEEP, ranks=2, cores=2).start(run)
    logs = [rank_log(run.logdir, rank) for rank in range(2)]
    wait_for_lines(logs)
    handle.stop(hard)
    assert finish(handle) == Ended(-signal.SIGKILL if hard else -signal.SIGTERM)
    wait_for(lambda: not any(alive(int(log.read_text())) for log in logs))
    assert all(group["state"] == "REMOVED" for group in ray.util.placement_group_table().values())


def test_each_rank_has_a_gpu_of_its_own_or_a_process_has_both(executor, attempt):
    run = replace(attempt("two"), ranks=2)
    ranks = executor(0, SHOW, platforms="cuda", ranks=2)
    handle = ranks.start(run)
    logs = [rank_log(run.logdir, rank) for rank in range(2)]
    wait_for_lines(logs)
    (run.logdir.parent / "go").touch()
    assert finish(handle) == Ended(0)
    seen = [json.loads(log.read_text().splitlines()[-1]) for log in logs]
    assert {pins["CUDA_VISIBLE_DEVICES"] for pins in seen} == {"0", "1"}
    ranks.close()
    (both,) = environment(executor(0, SHOW, platforms="cuda", devices=2), [attempt("one")])
    assert sorted(both["CUDA_VISIBLE_DEVICES"].split(",")) == ["0", "1"]
    assert both["KERAS_DISTRIBUTION_NUM_PROCESSES"] == "1"  # whatever launcher started the node


def test_shared_storage_that_fails_for_a_while_is_waited_for(executor, attempt, shared, monkeypatch):
    failing = {"begin": 3, "pull": 3}

    def fails_at_first(name, real):
        def act(self, logdir):
            failing[name] -= 1
            if failing[name] >= 0:
                raise OSError("no route to host")
            real(self, logdir)

        return act

    for name in failing:
        monkeypatch.setattr(Mirror, name, fails_at_first(name, getattr(Mirror, name)))
    code = "import pathlib, sys; pathlib.Path(sys.argv[5], 'result.json').write_text('{}')"
    run = attempt()
    handle = executor(1, ("-c", code), **shared).start(run)
    assert handle.poll() is None  # the driver does not wait
    assert finish(handle) == Ended(0)
    assert failing == {"begin": -1, "pull": -1}


def test_shared_storage_that_fails_for_long_fails_the_attempt(executor, attempt, shared, monkeypatch):
    def begin(self, logdir):
        raise OSError("no route to host")

    monkeypatch.setattr(Mirror, "begin", begin)
    monkeypatch.setattr(mirror, "WAIT_SECONDS", 0.5)
    pool = executor(1, SLEEP, **shared)
    run = attempt()
    assert finish(pool.start(run)) == Ended(1)
    assert log(run) == "shared storage has failed for 0.5 s: OSError: no route to host\n"
    monkeypatch.setattr(mirror, "WAIT_SECONDS", 100.0)
    handle = pool.start(run)
    handle.stop(hard=False)  # nothing was submitted: nothing to wait for
    assert handle.poll() == Ended(-signal.SIGTERM)


def test_an_error_of_the_supervisor_is_told(executor, attempt):
    def fail():
        raise OSError("disk full")

    executor(1)
    run = attempt()
    handle = RayAttempt(lambda: Submitted((ray.remote(max_retries=0)(fail).remote(),)), run, None)
    assert finish(handle) == Ended(1)
    assert "OSError: disk full" in log(run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"workers": -1}, "`workers` must be >= 0 .*, but got workers=-1"),
        ({"ranks": 0}, "`ranks` must be >= 1, but got ranks=0"),
        ({"per_device": 2}, "`per_device` must be 1 on cpu, but got per_device=2"),
        ({"shared": "ftp://me:sesame@host/x"}, "`shared` must not hold a password"),
        ({"cores": 64}, r"the Ray cluster must have 1 x \{'CPU': 64\} for a run, but it has less"),
        # Six cores, but no more than two on a node.
        ({"cores": 3}, r"the Ray cluster must have 1 x \{'CPU': 3\} for a run, but it has less"),
    ],
)
def test_what_cannot_run_is_refused(executor, arguments, message):
    with pytest.raises(ValueError, match=message):
        executor(**arguments)
    assert not ray.is_initialized()


def test_a_node_is_killed_and_every_cell_is_done_once(cluster, executor, bench):
    plan = bench.plan(seeds=SEEDS)
    pool = executor(0, (str(bench.folder / "fake_run.py"),))
    assert pool.free() == 6
    bench.behave({"dlm": "wait"})

    def at_work():
        return [cell for cell in plan.cells if cell.config.arm == "dlm" and bench.tries(cell)]

    def kill():
        try:
            wait_for(lambda: len(at_work()) == 6, seconds=300)  # two on each node
            pids = [pid for cell in at_work() for pid in bench.tries(cell)]
            cluster.remove_node(cluster.three[0], allow_graceful=False)
            wait_for(lambda: sum(alive(pid) for pid in pids) == 4, seconds=300)
        finally:
            (bench.folder / "go").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    said = io.StringIO()
    with driving(
        plan, pool, Places(cache=bench.folder / "cache"), RunsProgress(Console(file=said, width=200))
    ) as driver:
        summary = driver.bring(plan)
    killer.join()
    assert (summary.done, summary.failed) == (len(plan.cells), {}), said.getvalue()
    told = {}
    for trial in trials(bench.tree):
        told.setdefault(trial.user_attrs["key"], []).append(trial)
    assert {key: [t.state.name for t in each].count("COMPLETE") for key, each in told.items()} == {
        cell.logdir: 1 for cell in plan.cells
    }
    values = {
        t.user_attrs["key"]: t.value for each in told.values() for t in each if t.state.name == "COMPLETE"
    }
    assert values == {cell.logdir: bench.value(cell) for cell in plan.cells}
    lost = [line for line in said.getvalue().splitlines() if "trying again" in line]
    assert len(lost) == sum("its machine is gone" in line for line in lost) >= 2, lost
    rest = executor(0, SLEEP)
    wait_for(lambda: rest.free() == 4, seconds=300)  # when the cluster has noticed


DRIVER = """
import sys, pathlib
sys.path.insert(0, {tests!r})
from scheduling_bench import Bench
from lab.scheduling.driver import driving
from lab.scheduling.places import Places
from lab.scheduling.progress import RunsProgress
from lab.scheduling.executors.ray_executor import RayExecutor
bench = Bench(pathlib.Path({folder!r}))
pool = RayExecutor(2, (str(bench.folder / "fake_run.py"),))
plan = bench.plan()
with driving(plan, pool, Places(cache=bench.folder / "cache"), RunsProgress(bench.quiet())) as driver:
    driver.bring(plan)
"""


def test_the_head_is_lost_and_the_same_command_goes_on(cluster, bench, monkeypatch):
    """The last of this file: it ends the cluster."""
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    bench.behave({"dlm": "wait"})
    plan = bench.plan()
    code = DRIVER.format(tests=str(Path(__file__).parents[1]), folder=str(bench.folder))

    def at_work():
        return [pid for cell in plan.cells if cell.config.arm == "dlm" for pid in bench.tries(cell)]

    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as driver:
        try:
            wait_for(lambda: len(at_work()) == 2 or driver.poll() is not None, seconds=300)
            cluster.remove_node(cluster.head_node, allow_graceful=False)
            said = driver.communicate(timeout=300)[1]
        finally:
            driver.kill()
    assert driver.returncode != 0
    assert "GCS may have been killed" in said
    nodes = [
        started.process
        for node in cluster.worker_nodes
        for several in node.all_processes.values()
        for started in several
    ]
    # A worker ends once its node's process is gone, which one that nobody waited for is not.
    wait_for(lambda: [node.poll() for node in nodes] and not any(map(alive, at_work())), seconds=300)
    (bench.folder / "go").touch()
    summary = bench.drive()
    assert (summary.done, summary.reused, summary.failed) == (2, 2, {})
    done = [trial.user_attrs["key"] for trial in trials(bench.tree) if trial.state.name == "COMPLETE"]
    assert sorted(done) == sorted(cell.logdir for cell in plan.cells)

"""kill -9 at any moment: the same command ends with the numbers of a run that was left alone."""

import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from training_bench import differences, numbers_of, rows_of

# What goes on after a kill is the same code under every backend; that each restores its state to the bit is
# in test_resume.py.
pytestmark = pytest.mark.slow

ARMS = ("dlm", "causal_mechanisms")  # a dense and a causal one; `ar` has nothing that the latter has not
KILLS = 3  # of each arm


def start(run, logdir, lab=("-m", "lab")):
    logdir.mkdir(parents=True, exist_ok=True)
    config = logdir.parent / f"{logdir.name}.yaml"
    config.write_text(run.config.to_yaml(), encoding="utf-8")
    command = [sys.executable, *lab, "run", "--config", str(config)]
    command += ["--logdir", str(logdir), "--cache", str(run.cache)]
    with (logdir.parent / f"{logdir.name}.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def kill(run, logdir, moments):
    """Run, and kill at random moments until the plan is through or a kill finds no process.

    The first kill comes at any time after the start; the others once the log has grown to a random length,
    and up to some 50 steps later. Returns where the log stood at each kill.
    """
    rows = len(rows_of(run.logdir))
    lengths = [0, *sorted(moments.sample(range(1, int(0.7 * rows)), KILLS - 1))]
    killed = []
    for length in lengths:
        process = start(run, logdir)
        while process.poll() is None and len(rows_of(logdir)) < length:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05) if length else moments.uniform(0.2, 2.5))
        process.kill()
        if (code := process.wait()) == 0:
            break
        assert code == -signal.SIGKILL, said(logdir)
        killed.append(len(rows_of(logdir)))
    return killed


def said(logdir):
    return (logdir.parent / f"{logdir.name}.log").read_text()


def kill_and_finish(run, logdir, seed):
    """Kill a run, begun anew if it ended before a kill, then let it finish; where the log stood at each."""
    moments = random.Random(seed)
    for _ in range(5):
        shutil.rmtree(logdir, ignore_errors=True)
        killed = kill(run, logdir, moments)
        if len(killed) == KILLS:
            break
    last = start(run, logdir)
    try:
        assert last.wait(timeout=1200) == 0, said(logdir)
    finally:
        last.kill()
    return killed


@pytest.fixture(scope="module")
def killed(undisturbed, tmp_path_factory):
    """The logdir of each arm's killed run and where the log stood at each kill; both arms side by side."""
    folder = tmp_path_factory.mktemp("killed")
    runs = [undisturbed(arm) for arm in ARMS]
    logdirs = [folder / arm for arm in ARMS]
    with ThreadPoolExecutor(len(ARMS)) as pool:
        found = list(pool.map(kill_and_finish, runs, logdirs, range(len(ARMS))))
    return dict(zip(ARMS, zip(logdirs, found, strict=True), strict=True))


@pytest.mark.parametrize("arm", ARMS)
def test_every_number_is_that_of_the_undisturbed_run(arm, killed, undisturbed):
    logdir, kills = killed[arm]
    assert len(kills) == KILLS, f"the run ended before a kill: {kills}"
    found, expected = numbers_of(logdir), numbers_of(undisturbed(arm).logdir)
    for name, value in expected.items():
        assert found[name] == value, f"{name} after kills at {kills} rows"


@pytest.mark.parametrize("arm", ARMS)
def test_the_log_has_each_row_once_and_in_order(arm, killed, undisturbed):
    logdir, _ = killed[arm]
    found, expected = (
        [
            {name: value for name, value in row.items() if name != "tokens_per_second"}
            for row in rows_of(folder)
        ]
        for folder in (logdir, undisturbed(arm).logdir)
    )
    places = [
        (row["kind"], row.get("reading"), row["step"], row.get("measured", {}).get("key")) for row in found
    ]
    assert len(places) == len(set(places))
    assert found == expected


@pytest.mark.parametrize("arm", ARMS)
def test_tensorboard_shows_each_point_once(arm, killed):
    logdir, _ = killed[arm]
    rows = rows_of(logdir)
    (file,) = logdir.glob("*tfevents*")
    tags = [value.tag for event in EventFileLoader(str(file)).Load() for value in event.summary.value]
    counts = {kind: sum(row["kind"] == kind for row in rows) for kind in ("train", "sample")}
    assert tags.count("sample") == counts["sample"] == 4
    assert tags.count("best/test/nll_nats_per_token") == tags.count("config") == 1
    for axis in ("", "by_epoch_x100/"):
        assert tags.count(f"{axis}train/train_loss_nats_per_token") == counts["train"] == 40
        for reading in ("annealed", "along_run"):
            assert tags.count(f"{axis}validation/{reading}/nll_nats_per_token") == 4


@pytest.mark.parametrize("arm", ARMS)
def test_the_weights_of_every_stop_and_the_checkpoints_are_those_of_the_undisturbed_run(
    arm, killed, undisturbed
):
    from lab.training.checkpoint import load_arrays

    logdir, _ = killed[arm]
    files, others = (
        {path.relative_to(folder) for path in (folder / "checkpoints").rglob("*.npz")}
        for folder in (logdir, undisturbed(arm).logdir)
    )
    assert files == others
    assert len(files) == 8 + 10
    for path in files:
        assert differences(load_arrays(logdir / path), load_arrays(undisturbed(arm).logdir / path)) == []

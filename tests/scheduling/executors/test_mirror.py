import errno
import os
from pathlib import Path

import pytest

fsspec = pytest.importorskip("fsspec", reason="needs fsspec: make setup EXTRAS=ray")

from lab.scheduling.executors import mirror as mirror  # noqa: E402
from lab.scheduling.executors.executor import Attempt  # noqa: E402
from lab.scheduling.executors.mirror import Mirror, SharedStorageError, Transfer  # noqa: E402

pytestmark = pytest.mark.extra(ray="fsspec")


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def write(folder, **texts):
    for name, text in texts.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(params=["file", "memory"])
def url(request, tmp_path):
    return f"file://{tmp_path}/shared" if request.param == "file" else f"memory://{tmp_path.name}"


@pytest.fixture
def node(tmp_path, url):
    """Makes a machine: its results folder, its logdir, its view of the shared storage."""

    def make(name):
        root = tmp_path / name
        logdir = root / "crossover" / "runs" / "ar"
        logdir.mkdir(parents=True)
        return logdir, Mirror(url, root)

    return make


def test_a_logdir_travels_from_node_to_node(node):
    (first, mirror), (second, other) = node("a"), node("b")
    write(first, config_yaml="c", metrics_jsonl="1", checkpoints__3__state_npz="three")
    mirror.push(first)
    other.pull(second)
    assert files(second) == files(first)
    write(second, metrics_jsonl="12", checkpoints__6__state_npz="six", result_json="{}")
    (second / "checkpoints/3/state.npz").unlink()
    other.push(second)
    mirror.pull(first)
    assert files(first) == files(second)
    assert "checkpoints/3/state.npz" not in files(first)


def test_locks_and_half_written_files_stay_at_home(node):
    (first, mirror), (second, other) = node("a"), node("b")
    write(first, run_lock="1", weights_tmp="half", config_yaml="c")
    (first / "log-1.txt").write_text("another rank's")
    (first / ".result.json.7.tmp").write_text("half")
    mirror.push(first)
    write(second, run_lock="2", stale_txt="old")
    other.pull(second)
    assert files(second) == {"run.lock": "2", "config.yaml": "c"}


def test_without_a_copy_a_logdir_stays_and_it_is_said(node):
    logdir, mirror = node("a")
    write(logdir, log_txt="mine")
    with pytest.raises(FileNotFoundError, match="crossover/runs/ar holds no run"):
        mirror.pull(logdir)
    assert files(logdir) == {"log.txt": "mine"}


def test_storage_that_cannot_be_listed_is_not_taken_for_empty(tmp_path, monkeypatch):
    mirror = Mirror(f"file://{tmp_path}/shared", tmp_path)
    write(tmp_path / "run", config_yaml="c", checkpoints__3__state_npz="three")
    mirror.begin(tmp_path / "run")
    mirror.push(tmp_path / "run")

    def stale(*arguments, **options):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "scandir", stale)
    for act in (mirror.pull, mirror.push):
        with pytest.raises(OSError, match="Stale file handle"):
            act(tmp_path / "run")
    monkeypatch.undo()
    monkeypatch.setattr(type(mirror._files), "info", stale)
    with pytest.raises(OSError, match="Stale file handle"):
        mirror.begin(tmp_path / "run")
    monkeypatch.undo()
    assert not (tmp_path / "shared" / "run.1").exists()
    assert (tmp_path / "run" / "checkpoints" / "3" / "state.npz").exists()


def test_the_result_is_copied_last_and_what_did_not_change_not_again(node, monkeypatch):
    logdir, mirror = node("a")
    write(logdir, result_json="{}", zz_txt="z", checkpoints__a_npz="a")
    opened = []
    real = type(mirror._files).open
    monkeypatch.setattr(
        type(mirror._files),
        "open",
        lambda self, path, *a, **k: opened.append(path) or real(self, path, *a, **k),
    )
    mirror.push(logdir)
    assert [path.rpartition("/")[2] for path in opened] == ["a.npz", "zz.txt", "result.json"]
    opened.clear()
    write(logdir, zz_txt="zz")
    mirror.push(logdir)
    assert [path.rpartition("/")[2] for path in opened] == ["zz.txt"]


def test_what_another_version_left_is_moved_aside(node, url):
    (first, mirror), (second, other) = node("a"), node("b")
    write(first, config_yaml="old", version_json="old", result_json="{}")
    mirror.begin(first)
    mirror.push(first)
    mirror.begin(first)  # the same again: nothing is moved
    other.pull(second)
    assert files(second) == {"config.yaml": "old", "version.json": "old", "result.json": "{}"}
    (first / "result.json").unlink()
    write(first, version_json="new one")
    mirror.begin(first)
    other.pull(second)
    assert files(second) == files(first) == {"config.yaml": "old", "version.json": "new one"}
    stored, base = fsspec.core.url_to_fs(url)
    assert stored.cat_file(f"{base}/crossover/runs/ar.1/result.json") == b"{}"
    assert not stored.exists(f"{base}/crossover/runs/ar.2")


def test_another_configuration_of_the_same_version_moves_nothing(node, url):
    (first, mirror), (second, other) = node("a"), node("b")
    write(second, config_yaml="old", version_json="one", metrics_jsonl="rows", weights_npz="w")
    other.push(second)
    write(first, config_yaml="a bigger evaluation", version_json="one", log_txt="of the driver")
    mirror.begin(first)
    other.pull(second)
    expected = {"version.json": "one", "metrics.jsonl": "rows", "weights.npz": "w"}
    assert files(second) == {"config.yaml": "a bigger evaluation", **expected}


def test_a_run_that_was_taken_back_is_offered_with_all_that_it_left(node):
    (first, mirror), (second, other) = node("a"), node("b")
    write(second, config_yaml="other", version_json="other", result_json="other")
    other.push(second)
    write(first, config_yaml="c", version_json="kept", metrics_jsonl="rows", weights_npz="w")
    mirror.begin(first)
    other.pull(second)
    assert files(second) == files(first)


def test_a_measurement_is_offered_with_the_runs_that_it_reads(node):
    (run, mirror), (second, other) = node("a"), node("b")
    logdir, remote = (folder.parents[1] / "measurements" / "inference" / "ar" for folder in (run, second))
    write(run, config_yaml="c", version_json="v", result_json="{}", weights_npz="w")
    write(logdir, config_yaml="which", metrics_jsonl="the driver's")
    attempt = Attempt(logdir / "config.yaml", logdir, Path(), command="measure", inputs=(run,))
    mirror.offer(attempt)
    for folder in (second, remote):
        other.pull(folder)
    assert files(second) == files(run)
    assert files(remote) == {"config.yaml": "which", "metrics.jsonl": "the driver's"}
    write(remote, metrics_jsonl="the driver's and more")
    other.push(remote)
    write(logdir, config_yaml="which else")
    mirror.offer(attempt)
    other.pull(remote)
    assert files(remote) == {"config.yaml": "which else", "metrics.jsonl": "the driver's and more"}
    assert files(second) == files(run)


def test_a_password_in_the_url_is_refused_and_not_repeated(tmp_path):
    with pytest.raises(ValueError, match="`shared` must not hold a password: give credentials by") as raised:
        Mirror("ftp://me:sesame@host/x", tmp_path)
    assert "sesame" not in str(raised.value)


def test_a_transfer_is_repeated_with_pauses_and_says_so_once(monkeypatch):
    now, said, left = [0.0], [], [3]
    monkeypatch.setattr(mirror.time, "monotonic", lambda: now[0])

    def act():
        left[0] -= 1
        if left[0] >= 0:
            raise OSError("no route to host")

    transfer = Transfer(act, said.append)
    done = []
    for second in range(20):
        now[0] = float(second)
        done.append(transfer.done())
    assert (done.index(True), left) == (15, [-1])
    assert said == ["shared storage fails (OSError: no route to host): asking again for up to 300 s"]


def test_a_transfer_is_given_up_at_last(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(mirror.time, "monotonic", lambda: now[0])

    def act():
        raise OSError("no route to host")

    transfer = Transfer(act, lambda text: None)
    assert not transfer.done()
    now[0] = 301.0
    with pytest.raises(SharedStorageError, match="has failed for 300 s: OSError: no route to host"):
        transfer.done()

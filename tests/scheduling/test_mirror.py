import pytest

fsspec = pytest.importorskip("fsspec", reason="the ray extra is not installed")

from lab.scheduling.mirror import Mirror  # noqa: E402


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
    (first / ".result.json.7.tmp").write_text("half")
    mirror.push(first)
    write(second, run_lock="2", stale_txt="old")
    other.pull(second)
    assert files(second) == {"run.lock": "2", "config.yaml": "c"}


def test_without_a_copy_a_logdir_stays(node):
    logdir, mirror = node("a")
    write(logdir, log_txt="mine")
    mirror.pull(logdir)
    assert files(logdir) == {"log.txt": "mine"}


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


@pytest.mark.parametrize("changed", ["config_yaml", "version_json"])
def test_what_another_version_left_is_moved_aside(node, url, changed):
    (first, mirror), (second, other) = node("a"), node("b")
    write(first, config_yaml="old", version_json="old", result_json="{}")
    mirror.begin(first)
    mirror.push(first)
    mirror.begin(first)  # the same again: nothing is moved
    other.pull(second)
    assert files(second) == {"config.yaml": "old", "version.json": "old", "result.json": "{}"}
    (first / "result.json").unlink()
    write(first, **{changed: "new one"})
    mirror.begin(first)
    other.pull(second)
    assert files(second) == {"config.yaml": "old", "version.json": "old"} | files(first)
    stored, base = fsspec.core.url_to_fs(url)
    assert stored.cat_file(f"{base}/crossover/runs/ar.1/result.json") == b"{}"


def test_a_password_in_the_url_is_refused_and_not_repeated(tmp_path):
    with pytest.raises(ValueError, match="`shared` must not hold a password: give credentials by") as raised:
        Mirror("ftp://me:sesame@host/x", tmp_path)
    assert "sesame" not in str(raised.value)

"""What every test folder shares: the backend is chosen before Keras is imported."""

import errno
import gc
import io
import os
import signal
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

import lab

# What JAX compiles serves the tests that come later, the processes that they start, and the next run of the
# tests. Where one process reads what another has half written, it compiles again (pyproject.toml lets the
# warning pass).
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(__file__).parent.parent / ".pytest_cache" / "jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Tests compile far more than they compute: what XLA spends on fast programs was most of the CPU time of many.
# Without its newer emitters, which heed no level, level 0 takes a fifth of it. The runs of test_wheel.py are
# compiled as a user's are; all are by `XLA_FLAGS= make test`.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes are not ours
# Looking for garbage as often as usual, among all that tracing leaves, took 3 to 14 % of the CPU time.
gc.set_threshold(100_000, 50, 100)
# A shell starts what it sends to the background deaf to Ctrl-C, and so are all processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# Files that read `undisturbed` runs, which are made once a worker: one worker takes all of them.
READERS = (
    "test_kill",
    "test_ending",
    "test_run",
    "test_finished",
    "test_other_text",
    "test_exported",
    "test_qwen3",
    "test_harness",
)
# The files that take longest, most of them waiting for processes of their own. They come first, so that no
# worker is left alone with one at the end (`--no-loadscope-reorder`: else files with the most tests would).
LONGEST = (
    *READERS,
    *("test_distribution_runs", "test_cross_backend", "test_new_ablation", "test_train_step", "test_standby"),
    *("test_pages", "test_chaos", "test_passes", "test_again", "test_tuning"),
)


# What a file with such tests has in it: with `-m backend`, to read the others took as long as many a test.
MARKED = {"backend": ("mark.backend", "NAMESPACES"), "extra": ("mark.extra",)}


def has_tests(path, mark):
    """Whether a file may have tests with a mark."""
    text = path.read_text(encoding="utf-8")
    return any(word in text for word in MARKED[mark])


def pytest_ignore_collect(collection_path, config):
    """Where tests with one mark are asked for, only files that may have some."""
    mark = config.option.markexpr
    return (
        mark in MARKED and collection_path.suffix == ".py" and not has_tests(collection_path, mark)
    ) or None


def pytest_collection_modifyitems(items):
    """Put the longest files first; else the order stays."""
    for mark in MARKED:
        marked = {item.path for item in items if item.get_closest_marker(mark)}
        lost = {path for path in marked if not has_tests(path, mark)}
        assert not lost, f"MARKED in tests/conftest.py must name what makes `{mark}` tests of {lost}"
    readers = {item.path.stem for item in items if "undisturbed" in item.fixturenames}
    assert readers <= set(READERS), f"READERS in tests/conftest.py must name {readers - set(READERS)} too"
    order = {stem: place for place, stem in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Whole files to a worker, since a file's tests share what its fixtures made, and all readers to one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "readers" if Path(file).stem in READERS else file

    return Scheduling(config, log)


def pytest_runtest_setup(item):
    """Skip what is marked `extra(name="module")` where that extra has not brought its module."""
    for mark in item.iter_markers("extra"):
        for extra, module in mark.kwargs.items():
            if not find_spec(module):
                pytest.skip(f"needs {module}: make setup EXTRAS={extra}")


@pytest.fixture(scope="session", autouse=True)
def one_backend():
    """One process runs one backend, in float32, from the first test to the last."""
    assert lab.__name__ == "lab"  # importing it sets the default backend
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        import tensorflow

        # As with XLA above: what is spent on rewriting graphs that run a few times. Whole runs, which are
        # processes of their own, have their graphs rewritten.
        tensorflow.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    if keras := sys.modules.get("keras"):
        assert keras.config.backend() == os.environ["KERAS_BACKEND"]
        assert keras.config.floatx() == "float32"
        assert keras.config.dtype_policy().name == "float32"


class LostFile:
    """An open file that the server of a network file system may know no longer."""

    def __init__(self, file, is_stale):
        self._file, self._is_stale = file, is_stale

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def write(self, data):
        if self._is_stale():
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return self._file.write(data)


@pytest.fixture
def stale(monkeypatch):
    """`stale(name)`: meanwhile no file whose path holds the name can be written, as with a stale handle."""
    real, names = io.open, []

    def opened(file, mode="r", *arguments, **named):
        made = real(file, mode, *arguments, **named)
        if mode.startswith("r"):
            return made
        return LostFile(made, lambda: any(name in str(file) for name in names))

    @contextmanager
    def stale(name):
        names.append(name)
        yield
        names.remove(name)

    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr("builtins.open", opened)
    return stale

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from lab.results import DamagedError
from lab.training.checkpoint import Checkpoints, load_arrays, save_arrays
from lab.version import Version, read_version

VERSION = Version({"seed": 0, "training.learning_rate": 1e-3, "data": "da7a"}, "c0de")


def arrays(step):
    numbers = np.random.default_rng(step)
    return {
        "a/kernel": numbers.normal(size=(3, 4)).astype(np.float32),
        "a/state": np.array([7, step], dtype=np.uint32),
        "file": np.array(step, dtype=np.int32),  # the name that np.savez keeps for itself
    }


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


@pytest.fixture
def checkpoints(tmp_path):
    """Checkpoints of steps 10 and 20."""
    made = Checkpoints(tmp_path / "checkpoints", VERSION)
    for step in (10, 20):
        made.save(step, arrays(step))
    return made


def newest(checkpoints):
    return checkpoints.folder / "step-000000000020"


def test_the_newest_comes_back_as_it_was_saved(checkpoints):
    step, found = checkpoints.load()
    assert step == 20
    same(found, arrays(20))


def test_none_is_there_before_the_first(tmp_path):
    assert Checkpoints(tmp_path / "nothing", VERSION).load() is None


def test_the_newest_two_are_kept_in_the_order_of_steps(tmp_path):
    made = Checkpoints(tmp_path, VERSION)
    for step in (5, 90, 100, 1000):
        made.save(step, arrays(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000000100", "step-000000001000"]
    assert made.load()[0] == 1000


def test_a_run_that_makes_an_earlier_stop_again_keeps_how_far_it_came(tmp_path):
    made = Checkpoints(tmp_path, VERSION)
    kept = {}
    for step in (600, 800, 200, 300, 400, 600, 800):
        made.save(step, arrays(step))
        assert made.load(step)[0] == step
        kept[step] = sorted(int(path.name.removeprefix("step-")) for path in tmp_path.iterdir())
    assert kept[200] == [200, 800]
    assert kept[300] == [200, 300, 800]
    assert kept[800] == [600, 800]


def test_remove_leaves_what_is_no_checkpoint(checkpoints):
    (checkpoints.folder / "stops").mkdir()
    for _ in range(2):
        checkpoints.remove()
        assert [path.name for path in checkpoints.folder.iterdir()] == ["stops"]


def test_saving_a_step_again_replaces_it(checkpoints):
    checkpoints.save(20, arrays(99))
    same(checkpoints.load()[1], arrays(99))


def falls_back(checkpoints):
    with pytest.warns(UserWarning, match=r"the checkpoint step-0+20 is damaged; the one before it is used\."):
        step, found = checkpoints.load()
    assert step == 10
    same(found, arrays(10))


@pytest.mark.parametrize("name", ["arrays.npz", "state.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_falls_back(checkpoints, name, share):
    path = newest(checkpoints) / name
    os.truncate(path, int(path.stat().st_size * share))
    falls_back(checkpoints)


@pytest.mark.parametrize("name", ["arrays.npz", "state.json"])
def test_any_flipped_bit_falls_back(checkpoints, name):
    path = newest(checkpoints) / name
    sound = path.read_bytes()
    places = random.Random(0)
    for _ in range(40):
        place, bit = places.randrange(len(sound)), places.randrange(8)
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << bit]) + sound[place + 1 :])
        falls_back(checkpoints)
    path.write_bytes(sound)
    assert checkpoints.load()[0] == 20


@pytest.mark.parametrize("name", ["arrays.npz", "state.json"])
def test_a_missing_file_falls_back(checkpoints, name):
    (newest(checkpoints) / name).unlink()
    falls_back(checkpoints)


@pytest.mark.parametrize("text", ["[]", "{}", '"text"', "not json"])
def test_a_state_of_another_form_falls_back(checkpoints, text):
    (newest(checkpoints) / "state.json").write_text(text)
    falls_back(checkpoints)


def test_if_all_are_damaged_there_is_none(checkpoints):
    for path in checkpoints.folder.glob("*/state.json"):
        path.unlink()
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoints.load() is None


@pytest.mark.parametrize(
    "other", [Version({**VERSION.values, "seed": 1}, "c0de"), Version(VERSION.values, "c")]
)
def test_another_run_is_refused(checkpoints, other):
    message = (
        rf"step-0+20 must be of schema 2 and of the run {other.digest()}, but it is .* another run: move it"
    )
    with pytest.raises(ValueError, match=message):
        Checkpoints(checkpoints.folder, other).load()


def test_another_schema_is_refused(checkpoints, monkeypatch):
    monkeypatch.setattr("lab.training.checkpoint.SCHEMA", 3)
    with pytest.raises(ValueError, match=r"must be of schema 3 .* but it is of schema 2"):
        checkpoints.load()


@pytest.mark.parametrize(("most", "expected"), [(25, 20), (20, 20), (19, 10), (10, 10), (9, None)])
def test_the_newest_up_to_a_step_is_loaded_and_later_ones_are_not_looked_at(checkpoints, most, expected):
    checkpoints.keep_all = True
    checkpoints.save(100, arrays(100))
    (checkpoints.folder / "step-000000000100" / "state.json").write_text("damaged, and no warning")
    found = checkpoints.load(most)
    assert (found and found[0]) == expected
    if found:
        same(found[1], arrays(expected))


def test_all_are_kept_where_it_is_asked_for(tmp_path):
    made = Checkpoints(tmp_path, VERSION, keep_all=True)
    for step in (5, 90, 100, 1000):
        made.save(step, arrays(step))
    assert len(list(tmp_path.iterdir())) == 4
    same(made.load(99)[1], arrays(90))
    Checkpoints(tmp_path, VERSION).save(2000, arrays(2000))
    assert len(list(tmp_path.iterdir())) == 2


def test_what_a_killed_save_left_is_ignored_and_removed(checkpoints):
    leftover = checkpoints.folder / "tmp-1"
    shutil.copytree(newest(checkpoints), leftover)
    (leftover / "arrays.npz").write_bytes(b"half")
    assert checkpoints.load()[0] == 20
    assert not leftover.exists()


class PowerCutError(Exception):
    """The moment at which a save is cut off."""


@pytest.mark.parametrize("survived", range(5))
def test_a_save_cut_off_at_any_write_leaves_the_previous_one(checkpoints, monkeypatch, survived):
    """A save syncs and renames the arrays, syncs the state, renames the folder, removes the oldest."""
    calls = []

    def cut(function):
        def wrapped(*arguments, **options):
            if len(calls) == survived:
                raise PowerCutError
            calls.append(function.__name__)
            return function(*arguments, **options)

        return wrapped

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", cut(os.fsync))
        patch.setattr(Path, "replace", cut(Path.replace))
        remove = cut(shutil.rmtree)
        patch.setattr(
            shutil, "rmtree", lambda path, **options: Path(path).exists() and remove(path, **options)
        )
        with pytest.raises(PowerCutError):
            checkpoints.save(30, arrays(30))
    assert calls == ["fsync", "replace", "fsync", "replace", "rmtree"][:survived]
    step, found = checkpoints.load()
    assert step == (30 if survived == 4 else 20)
    same(found, arrays(step))
    checkpoints.save(30, arrays(30))
    assert checkpoints.load()[0] == 30
    assert len(list(checkpoints.folder.iterdir())) == 2


SAVER = """
import json, pathlib, resource, sys
import numpy as np
from lab.training.checkpoint import Checkpoints
from lab.version import Version
folder, version, most = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
if most:
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
checkpoints = Checkpoints(folder, Version(**version))
for step in range(30, 10_000_000, 10):
    checkpoints.save(step, {"w": np.full(5000, step, np.int64)})
    print(step, flush=True)
"""


def saver(checkpoints, most=0):
    """A process that saves one checkpoint after the other; its files may have `most` bytes."""
    command = [sys.executable, "-c", SAVER, str(checkpoints.folder), json.dumps(asdict(VERSION)), str(most)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_hundred_kills_among_saves_never_leave_less_than_the_last_one_told(checkpoints):
    moments = random.Random(0)
    for _ in range(4):
        process = saver(checkpoints)
        told = int(process.stdout.readline())
        for _ in range(24):
            # A stopped process is where a killed one would be: its folder must hold a sound checkpoint.
            time.sleep(moments.uniform(0, 0.01))
            process.send_signal(signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            copy = Checkpoints(checkpoints.folder.with_name("copy"), VERSION)
            shutil.copytree(checkpoints.folder, copy.folder)
            step, found = copy.load()
            assert step >= told
            assert (found["w"] == step).all()
            shutil.rmtree(copy.folder)
            process.send_signal(signal.SIGCONT)
        process.kill()
        rest, _ = process.communicate()
        told = int(([told, *rest.split()])[-1])
        step, found = checkpoints.load()
        assert step >= told
        assert (found["w"] == step).all()
        shutil.rmtree(checkpoints.folder)


def test_a_full_disk_leaves_the_checkpoint_before(checkpoints):
    process = saver(checkpoints, most=20_000)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "OSError: [Errno 27] File too large" in said
    step, found = checkpoints.load()
    assert step == 20
    same(found, arrays(20))
    checkpoints.save(30, arrays(30))
    assert checkpoints.load()[0] == 30


@pytest.mark.parametrize("name", ["arrays", "state.json"])
def test_a_write_that_fails_is_named(checkpoints, stale, name):
    with stale(name), pytest.raises(OSError, match="Stale file handle") as caught:
        checkpoints.save(30, arrays(30))
    at = Path(caught.value.filename)
    assert (at.parent.parent, at.stem) == (checkpoints.folder, name.removesuffix(".json"))
    assert checkpoints.load()[0] == 20


@pytest.mark.parametrize("call", ["read_text", "file_digest"])
@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_a_checkpoint_that_the_system_fails_to_read_is_not_damaged(checkpoints, monkeypatch, call, code):
    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(Path if call == "read_text" else hashlib, call, fail)
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            checkpoints.load()
    file = "state.json" if call == "read_text" else "arrays.npz"
    assert caught.value.filename == str(newest(checkpoints) / file)
    assert checkpoints.load()[0] == 20


def test_a_read_of_weights_that_fails_is_named(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    save_arrays(tmp_path / "weights.npz", arrays(1))
    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(OSError, match="Stale file handle") as caught:
        load_arrays(tmp_path / "weights.npz")
    assert caught.value.filename == str(tmp_path / "weights.npz")


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "no archive"])
def test_damaged_weights_are_named(tmp_path, damage):
    path = tmp_path / "weights.npz"
    save_arrays(path, arrays(1))
    sound = path.read_bytes()
    middle = sound.index(arrays(1)["a/kernel"].tobytes()) + 5
    flipped = sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :]
    path.write_bytes(
        {"empty": b"", "cut": sound[: len(sound) // 2], "flipped": flipped, "no archive": b"x"}[damage]
    )
    with pytest.raises(DamagedError, match=rf"{path}: not weights as the lab writes them"):
        load_arrays(path)


def test_a_file_in_the_place_of_a_checkpoint_falls_back(checkpoints):
    shutil.rmtree(newest(checkpoints))
    newest(checkpoints).write_bytes(b"no folder")
    falls_back(checkpoints)


def test_the_state_says_what_it_is_of(checkpoints):
    state = json.loads((newest(checkpoints) / "state.json").read_text())
    assert {name: state[name] for name in ("schema", "step", "version")} == {
        "schema": 2,
        "step": 20,
        "version": asdict(VERSION),
    }
    assert read_version(checkpoints.folder.parent) == VERSION


def test_arrays_replace_a_file_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "weights.npz"
    save_arrays(path, arrays(1))

    def fail(_):
        raise PowerCutError

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(PowerCutError):
            save_arrays(path, arrays(2))
    same(load_arrays(path), arrays(1))
    save_arrays(path, arrays(2))
    same(load_arrays(path), arrays(2))
    assert [file.name for file in tmp_path.iterdir()] == ["weights.npz"]

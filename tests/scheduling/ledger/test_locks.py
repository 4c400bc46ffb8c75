import errno
import subprocess
import sys

import pytest
from filelock import FileLock

from lab.scheduling.ledger.locks import is_owned, sole_owner

HOLD = """
import pathlib, sys
from lab.scheduling.ledger.locks import sole_owner
with sole_owner(pathlib.Path(sys.argv[1]), "driver"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_owner_is_refused_until_the_first_is_dead(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout.readline() == b"held\n"
    assert (is_owned(tmp_path, "driver"), is_owned(tmp_path, "run")) == (True, False)
    message = rf"must have one driver at a time, but process {holder.pid} is at work there"
    for _ in range(2):
        with pytest.raises(ValueError, match=message), sole_owner(tmp_path, "driver"):
            pass
    with sole_owner(tmp_path, "run"):
        pass
    holder.kill()
    with sole_owner(tmp_path, "driver", wait_seconds=60):
        pass
    holder.communicate()
    assert not is_owned(tmp_path, "driver")
    assert (tmp_path / "driver.lock").is_file()


def test_a_folder_that_takes_no_files_is_no_users_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match=str(tmp_path)), sole_owner(tmp_path / "file" / "run", "run"):
        pass


def test_it_is_released_after_an_error(tmp_path):
    with pytest.raises(KeyError), sole_owner(tmp_path, "driver"):
        raise KeyError
    with sole_owner(tmp_path, "driver"):
        pass


def test_a_folder_that_may_not_be_written_to_is_named(tmp_path, monkeypatch):
    def acquire(self, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    message = f"cannot write to {tmp_path}: Permission denied"
    with pytest.raises(ValueError, match=message), sole_owner(tmp_path, "run"):
        pass


def test_to_look_who_owns_a_folder_keeps_nobody_out_and_changes_nothing(tmp_path):
    with sole_owner(tmp_path, "driver"):
        pass
    with sole_owner(tmp_path, "driver"):
        assert is_owned(tmp_path, "driver")
    for _ in range(3):
        assert is_owned(tmp_path, "driver") is False
    with sole_owner(tmp_path, "driver"):
        pass
    assert not is_owned(tmp_path / "none", "driver")
    assert [path.name for path in tmp_path.iterdir()] == ["driver.lock"]


def test_where_nothing_tells_who_owns_a_folder_none_is_the_answer(tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / "driver.lock").touch()
    monkeypatch.setattr("fcntl.flock", flock)
    assert is_owned(tmp_path, "driver") is None

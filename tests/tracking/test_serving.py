import os
import socket
import sys

import pytest

from lab.tracking.serving import HOST, serve_board


@pytest.fixture
def become(monkeypatch):
    """The command that this process would become."""
    seen = []
    monkeypatch.setattr(os, "execv", lambda program, command: seen.append(command))
    return seen


def test_tensorboard_gets_the_folder_and_the_port(become, tmp_path):
    expected = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tmp_path), "--host", "127.0.0.1"]
    serve_board(tmp_path, None)
    serve_board(tmp_path, 0)
    assert become == [expected, [*expected, "--port", "0"]]


def test_a_port_in_use_is_refused(become, tmp_path):
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            ValueError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"
        ):
            serve_board(tmp_path, port)
    serve_board(tmp_path, port)
    assert len(become) == 1


def test_no_folder_is_refused(become, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(ValueError, match="`path` must be a folder of runs, but got"):
            serve_board(path, None)
    assert not become

"""TensorBoard over the logs of runs, on loopback."""

import os
import socket
import sys
from pathlib import Path

HOST = "127.0.0.1"


def serve_board(path: Path, port: int | None) -> None:
    """Become a TensorBoard over a folder.

    Args:
        path: a folder with runs in it or below it.
        port: to listen on; 0 for any that is free, None for TensorBoard's own or the next.

    Raises:
        ValueError: if there is no such folder, or the port cannot be listened on.
    """
    if not path.is_dir():
        raise ValueError(f"`path` must be a folder of runs, but got {path}.")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(path), "--host", HOST]
    if port is not None:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as TensorBoard itself
            try:
                listener.bind((HOST, port))
            except OSError as error:
                raise ValueError(f"cannot listen on {HOST}:{port}: {error.strerror}.") from error
        command += ["--port", str(port)]
    os.execv(sys.executable, command)

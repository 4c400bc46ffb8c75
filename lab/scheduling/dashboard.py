"""optuna-dashboard over a ledger: on loopback, to look and not to touch.

It has no login and can delete studies, so it is shown the storage read-only, and only this machine can ask.
The storage is handed over in this process: a URL among its arguments would show in the list of processes.
"""

import getpass
import re
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from optuna.storages import BaseStorage
from optuna.trial import TrialState

from lab.scheduling.ledger.storage import JOURNAL, close_storage, view_storage
from lab.scheduling.status import find_trees
from lab.tracking.serving import HOST

IMPORTANCES = re.compile(r"/api/studies/(\d+)/param_importances/?")
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def serve_dashboard(path: Path, storage: str, port: int, say: Callable[[str], None]) -> None:
    """Serve the dashboard until the process is ended.

    Args:
        path: a result tree, or a folder that holds one; not used with a database.
        storage: an Optuna database URL; empty for the journal of the tree.
        port: to listen on; 0 for any that is free.
        say: told the address, and how to reach it from another machine.

    Raises:
        ValueError: if there is no tree, or several, the storage cannot be read, the port is taken, or
            optuna-dashboard is not installed.
    """
    try:
        from optuna_dashboard import wsgi
    except ImportError:
        raise ValueError("optuna-dashboard is missing; `make setup EXTRAS=dashboard` installs it.") from None
    view = view_storage(path if storage else only_tree(path), storage)
    try:
        server = make_server(HOST, port, read_only(without_division(wsgi(view), view)), _Server, _Handler)
    except OSError as error:
        close_storage(view)
        raise ValueError(f"cannot listen on {HOST}:{port}: {error.strerror}.") from None
    with server:
        port = server.server_port
        say(f"dashboard: http://{HOST}:{port}/ (Ctrl-C ends it)")
        here = f"{getpass.getuser()}@{socket.gethostname()}"
        say(f"from another machine: ssh -N -L {port}:{HOST}:{port} {here}")
        server.serve_forever()


def only_tree(path: Path) -> Path:
    """The one tree with a journal in a folder or below it.

    Raises:
        ValueError: naming them, if there are several; if there is none.
    """
    trees = [tree for tree in find_trees(path) if (tree / JOURNAL).is_file()]
    if len(trees) == 1:
        return trees[0]
    if not trees:
        raise ValueError(f"`tree` must hold a {JOURNAL}, but got {path}; STORAGE= names a database.")
    raise ValueError(f"`tree` must be one of {', '.join(map(str, trees))}, but got {path}.")


def read_only(app: Wsgi) -> Wsgi:
    """The same application, refusing every request that could change something."""

    def refusing(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return app(environ, start_response)
        start_response("403 Forbidden", [("Content-Type", "text/plain")])
        return [b"this dashboard is read-only\n"]

    return refusing


def without_division(app: Wsgi, storage: BaseStorage) -> Wsgi:
    """The same application, for which a study without parameters has no importances.

    optuna-dashboard 0.21 divides by their number. The ledger of an older lab has none.
    """

    def answering(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        asked = IMPORTANCES.fullmatch(environ["PATH_INFO"])
        if asked and _lacks_parameters(storage, int(asked[1])):
            start_response("200 OK", [("Content-Type", "application/json")])
            return [b'{"param_importances": [[]]}']
        return app(environ, start_response)

    return answering


def _lacks_parameters(storage: BaseStorage, study_id: int) -> bool:
    with suppress(KeyError):  # no such study
        done = storage.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
        return not any(trial.params for trial in done)
    return False


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Say nothing of each request."""

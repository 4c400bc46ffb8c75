"""A logdir's copy in storage that all machines of a cluster reach: a mounted folder or an object store."""

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

import fsspec

from lab.scheduling.executors.executor import Attempt

RESULT = "result.json"
CONFIG = "config.yaml"
VERSION = "version.json"
WATCHED = ("metrics.jsonl", "progress.json")  # how far a run has come
WAIT_SECONDS = 300.0  # for shared storage that fails: as long as a ledger waits for its database
PAUSE_SECONDS = 5.0  # between two tries: an object store asks its clients to slow down


class Mirror:
    """A folder of shared storage that holds copies of logdirs, under the same names.

    Args:
        url: an fsspec URL, such as `s3://bucket/folder`; credentials come from each machine's environment.
        root: the folder that the logdirs' names are relative to.

    Raises:
        ValueError: if the URL holds a password.
    """

    def __init__(self, url: str, root: Path) -> None:
        if urlsplit(url).password is not None:
            raise ValueError("`shared` must not hold a password: give credentials by the environment.")
        self._files, self._base = fsspec.core.url_to_fs(url)
        self._root = root.absolute()
        self._pushed: dict[Path, tuple[int, int]] = {}  # size and time of change (ns) of what was copied last

    def push(self, logdir: Path) -> None:
        """Copy what has changed, each file whole and the result last; drop what is no longer there."""
        place = self._place(logdir)
        files = sorted(_files(logdir), key=lambda path: (path.name == RESULT, path))
        for path in files:
            self._put(path, f"{place}/{path.relative_to(logdir).as_posix()}")
        here = {path.relative_to(logdir).as_posix() for path in files}
        for name in self._names(place):
            if name not in here:
                self._files.rm_file(f"{place}/{name}")

    def pull(self, logdir: Path) -> None:
        """Make the logdir what its copy is.

        Raises:
            FileNotFoundError: if there is no copy.
        """
        names = self._names(self._place(logdir))
        if CONFIG not in names:
            raise FileNotFoundError(f"{self._place(logdir)} holds no run")
        for path in _files(logdir):
            if path.relative_to(logdir).as_posix() not in names:
                path.unlink()
        self.fetch(logdir, sorted(names, key=lambda name: (name == RESULT, name)))

    def fetch(self, logdir: Path, names: Iterable[str]) -> None:
        """Fetch some files of a copy, each whole.

        Raises:
            FileNotFoundError: if the copy lacks one.
        """
        for name in names:
            path = logdir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}.part")
            self._files.get_file(f"{self._place(logdir)}/{name}", str(part))
            part.replace(path)

    def put(self, logdir: Path, name: str) -> None:
        """Copy one file, if it has changed."""
        self._put(logdir / name, f"{self._place(logdir)}/{name}")

    def watch(self, logdir: Path) -> None:
        """Fetch what tells how far a run has come."""
        self.fetch(logdir, sorted(self._names(self._place(logdir)) & set(WATCHED)))

    def offer(self, attempt: Attempt) -> None:
        """Make all that an attempt reads be there: its own folder, and of a measurement the weights too."""
        for folder in attempt.inputs:
            self.begin(folder)
            self.push(folder)
        self.begin(attempt.logdir)

    def begin(self, logdir: Path) -> None:
        """Offer a folder for an attempt: all of it, or what it is of if a copy of this version is there.

        What another version left in its place is moved aside, to `<place>.<number>`.
        """
        place = self._place(logdir)
        self._files.invalidate_cache()
        there = self._exists(place)
        if there and (logdir / VERSION).is_file() and not self._holds(place, (logdir / VERSION).read_bytes()):
            aside = (f"{place}.{number}" for number in range(1, 1000))
            self._files.mv(place, next(to for to in aside if not self._exists(to)), recursive=True)
            self._pushed = {path: state for path, state in self._pushed.items() if logdir not in path.parents}
            there = False
        if not there:
            self.push(logdir)
            return
        for name in (VERSION, CONFIG):
            self.put(logdir, name)

    def _holds(self, place: str, version: bytes) -> bool:
        """Whether a copy is of this version."""
        path = f"{place}/{VERSION}"
        return self._exists(path) and self._files.cat_file(path) == version

    def _place(self, logdir: Path) -> str:
        return f"{self._base.rstrip('/')}/{logdir.absolute().relative_to(self._root).as_posix()}"

    def _exists(self, path: str) -> bool:
        """Unlike `exists` of fsspec, which takes any error for a no."""
        try:
            self._files.info(path)
        except FileNotFoundError:
            return False
        return True

    def _names(self, place: str) -> set[str]:
        """The files of a copy, relative to it; unlike `find` of fsspec it leaves out none in silence."""
        self._files.invalidate_cache()
        if not self._exists(place):
            return set()
        base = self._files._strip_protocol(place).rstrip("/")
        return {
            f"{folder}/{name}"[len(base) + 1 :]
            for folder, _, files in self._files.walk(base, on_error="raise")
            for name in files
        }

    def _put(self, path: Path, remote: str) -> None:
        try:
            status = path.stat()
            state = status.st_size, status.st_mtime_ns
            if self._pushed.get(path) == state:
                return
            self._files.makedirs(remote.rpartition("/")[0], exist_ok=True)
            with (
                self._files.transaction,
                self._files.open(remote, "wb") as copy,
            ):  # appears whole or not at all
                copy.write(path.read_bytes())
        except FileNotFoundError:
            return  # removed meanwhile: an old checkpoint
        self._pushed[path] = state


class SharedStorageError(OSError):
    """Shared storage has failed for longer than anybody waits."""


class Transfer:
    """A transfer to or from shared storage, tried again while that fails.

    It is polled, since the driver that waits for it has other runs to watch.

    Args:
        act: makes it, whole or not at all in effect, since it may be made again.
        say: told once if it fails.
    """

    def __init__(self, act: Callable[[], None], say: Callable[[str], None] = print) -> None:
        self._act, self._say = act, say
        self._done = False
        self._began = self._tried = -1.0

    def done(self) -> bool:
        """Whether it is made; tries it if its time has come.

        Raises:
            SharedStorageError: if it has failed for `WAIT_SECONDS`.
        """
        now = time.monotonic()
        if self._done or (self._tried >= 0 and now - self._tried < PAUSE_SECONDS):
            return self._done
        self._began = now if self._began < 0 else self._began
        try:
            self._act()
            self._done = True
        except Exception as error:  # whatever the storage's driver raises
            reason = f"{type(error).__name__}: {error}"
            if now - self._began >= WAIT_SECONDS:
                raise SharedStorageError(
                    f"shared storage has failed for {WAIT_SECONDS:g} s: {reason}"
                ) from error
            if self._tried < 0:
                self._say(f"shared storage fails ({reason}): asking again for up to {WAIT_SECONDS:g} s")
            self._tried = time.monotonic()
        return self._done

    def finish(self) -> None:
        """Make it now, however long that takes up to the limit."""
        while not self.done():
            time.sleep(PAUSE_SECONDS / 10)


def _files(logdir: Path) -> list[Path]:
    """All files but locks, what is being written, and the logs of ranks other than the first."""
    return [
        path
        for path in logdir.rglob("*")
        if path.is_file()
        and not path.name.startswith((".", "tmp-", "log-"))
        and path.suffix not in (".lock", ".tmp")
    ]

"""A PostgreSQL server of the tests' own: loopback only, a free port, a password, gone afterwards."""

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg
from sqlalchemy.engine import URL

PASSWORD = "open {sesame}/@%3Apoppy"  # with all that a URL has to quote
INSTALL = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "postgresql")


def find_binaries():
    """The folder of `initdb` and `pg_ctl`; None where it is neither there nor to be installed."""
    if (folder := _installed()) or os.geteuid() or not shutil.which("apt-get"):
        return folder
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(INSTALL, env=environment, capture_output=True, timeout=300, check=False)
    return _installed()


def _installed():
    found = [Path(path).parent for path in [shutil.which("initdb")] if path]
    found += [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)]
    return next((folder for folder in found if (folder / "pg_ctl").exists()), None)


class PostgresServer:
    """A server on a folder of its own. It refuses to run as root, so then another user runs it."""

    def __init__(self, binaries):
        self._binaries = binaries
        self._user = {}
        self.folder = Path(tempfile.mkdtemp(prefix="lab-postgres-"))
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            self._user = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self._numbers = itertools.count()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        password = self.folder / "password"
        password.write_text(PASSWORD + "\n")
        password.chmod(0o644)
        self._run("initdb", "--username=lab", f"--pwfile={password}", "--auth=scram-sha-256", "--no-sync")
        password.unlink()

    def start(self):
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": 20,
        }
        text = " ".join(f"-c {name}='{value}'" for name, value in options.items())
        self._run("pg_ctl", "start", "--wait", f"--log={self.folder / 'log'}", f"--options={text}")

    def stop(self, mode):
        self._run("pg_ctl", "stop", "--wait", f"--mode={mode}")

    def remove(self):
        if (self.folder / "data" / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder)

    def new_database(self):
        """The URL of a database that is empty."""
        name = f"lab{next(self._numbers)}"
        self.execute(f"create database {name}")
        return self.url(name)

    def url(self, database, password=PASSWORD):
        url = URL.create("postgresql", "lab", password, "127.0.0.1", self.port, database)
        return url.render_as_string(hide_password=False)

    def execute(self, statement, database="postgres"):
        """Carry out a statement; its first row, if it has rows."""
        place = {"host": "127.0.0.1", "port": self.port, "user": "lab", "password": PASSWORD}
        with psycopg.connect(dbname=database, autocommit=True, **place) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchone() if cursor.description else None

    def _run(self, program, *arguments):
        command = [str(self._binaries / program), *arguments, f"--pgdata={self.folder / 'data'}"]
        environment = {"LC_ALL": "C", "PATH": os.environ["PATH"], "PGCTLTIMEOUT": "300"}
        how = {"cwd": self.folder, "env": environment, "stdout": subprocess.DEVNULL, **self._user}
        with tempfile.TemporaryFile() as told:  # no pipe: the server would keep it open
            ended = subprocess.run(command, stderr=told, check=False, **how)
            told.seek(0)
            assert ended.returncode == 0, told.read().decode()

"""A password planted in STORAGE is looked for in all that a driver and the commands write, say and start."""

import http.client
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from optuna.storages import BaseStorage

from lab.scheduling.ledger.ledger import Ledger
from lab.scheduling.ledger.storage import RetryPolicy, close_storage, view_storage

ROOT = Path(__file__).parents[3]
SECRETS = (b"sesame", b"poppy", b"tulip")  # of the URLs here, of the test server's, of PGPASSWORD
NEEDS_DASHBOARD = pytest.mark.extra(dashboard="optuna_dashboard")
NEEDS_POSTGRES = pytest.mark.extra(postgres="psycopg")

DRIVER = """
import os, pathlib, sys, traceback
sys.path.insert(0, sys.argv[1])
from scheduling_bench import Bench
bench = Bench(pathlib.Path(sys.argv[2]))
try:
    print(bench.drive(workers=2, storage=os.environ["STORAGE"]))
except ValueError as error:
    traceback.print_exception(error)
print(bench.said.getvalue())
"""

# The command line, with a stand-in for the corpus.
ABLATE = """
import sys, types
splits = {"train": (), "validation": (), "test": ()}
corpus = types.SimpleNamespace(**splits, hashes=dict.fromkeys(splits, "0" * 16), key="", left_out="")
import lab.data.dataset, lab.evaluation.held_out
lab.data.dataset.prepare = lambda *_: corpus
lab.evaluation.held_out.require_held_out = lambda *_: None
import lab.data.budget
lab.data.budget.budget = lambda *_: range(10**6)
sys.argv = ["lab", "ablate", "crossover", "--preset", "smoke", "--results", sys.argv[1]]
from lab.__main__ import app
app()
"""


def watch(command, folder, storage, until=lambda: False):
    """Run a command with a storage; what it said, and the command lines of all that it started."""
    environment = {**os.environ, "STORAGE": storage, "PGPASSWORD": "tulip", "PYTHONUNBUFFERED": "1"}
    said, lines = folder / "said", set()
    with said.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            if until():
                process.terminate()
            lines |= {line for line in command_lines(process.pid) if line}
            if any(b"fake_run.py" in line for line in lines):
                (folder / "go").touch()  # a run that waits until it was seen
            time.sleep(0.1)
    content = said.read_bytes()
    said.unlink()
    return content, b"\n".join(lines)


def command_lines(pid):
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            yield Path(f"/proc/{process.pid}/cmdline").read_bytes()
        except OSError:
            continue


def written(folder):
    """All that lies in a folder, names and contents, save the scripts of the tests."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"\n".join(bytes(path) + b"\n" + path.read_bytes() for path in files)


def assert_no_secret(*texts):
    for text in texts:
        assert [secret for secret in SECRETS if secret in text] == []


def python(code, *arguments):
    return [sys.executable, "-c", code, *map(str, arguments)]


def lab(*arguments):
    return [sys.executable, "-m", "lab", *map(str, arguments)]


@pytest.fixture(params=[pytest.param("postgresql", marks=NEEDS_POSTGRES), "sqlite"])
def storage(request, bench):
    """A URL with a secret that works."""
    if request.param == "sqlite":
        return f"sqlite:///file:{bench.folder / 'study.db'}?uri=true&key=sesame"
    return request.getfixturevalue("postgres").new_database()


def test_a_study_that_runs_tells_nobody_its_password(bench, storage):
    assert any(secret.decode() in storage for secret in SECRETS)
    bench.behave({"ar": "environment", "dlm": "raise", "wait": True})
    said, lines = watch(python(DRIVER, Path(__file__).parents[1], bench.folder), bench.folder, storage)
    assert b"done=2" in said
    assert b"fake_run.py" in lines
    dumps = list(bench.tree.rglob("environment.json"))
    assert len(dumps) == 2
    assert all('"PATH"' in dump.read_text() for dump in dumps)
    assert_no_secret(said, lines, written(bench.folder))
    view = view_storage(bench.tree, storage)
    assert_no_secret(everything(view))
    close_storage(view)


# A made-up tree of tests/reporting with one failed run, and its page.
REPORT = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
from fake_trees import FakeTree
from lab.sections import Curves
tree = FakeTree(pathlib.Path(sys.argv[2]), budgets=(20_000,), sections=(Curves(),)).write()
tree.fail("ar", 20_000, 0, "no such luck")
sys.argv = ["lab", "report", sys.argv[2]]
from lab.__main__ import app
app()
"""


def test_neither_status_nor_report_tell_a_password(bench):
    url = "postgresql://me:sesame@127.0.0.1:1/name"
    tree = bench.folder / "results" / "made-up"
    said, lines = watch(python(REPORT, ROOT / "tests" / "reporting", tree), bench.folder, url)
    assert (tree / "report" / "index.html").is_file()
    assert_no_secret(said, lines, written(bench.folder))
    said, lines = watch(lab("status", bench.folder / "results"), bench.folder, url)
    assert b"no such luck" in said
    assert_no_secret(said, lines)


def everything(view: BaseStorage):
    """All attributes of all studies and trials."""
    studies = view.get_all_studies()
    trials = [trial for study in studies for trial in view.get_all_trials(study._study_id)]
    assert len(trials) == 6  # two of the four cells failed twice
    return repr([(s.study_name, s.user_attrs, s.system_attrs) for s in studies] + trials).encode()


@NEEDS_DASHBOARD
def test_a_dashboard_tells_nobody_its_password(bench, storage):
    assert bench.drive(storage=storage).done == 4
    pages = []

    def asked():
        said = (bench.folder / "said").read_text()
        if "http://127.0.0.1:" not in said or pages:
            return bool(pages)
        port = int(said.partition("http://127.0.0.1:")[2].partition("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for path in ("/api/meta", "/api/studies", "/api/studies/1?after=0", "/api/studies/99", "/none"):
            connection.request("GET", path)
            pages.append(connection.getresponse().read())
        connection.close()
        return True

    said, lines = watch(lab("dashboard", bench.tree, "--port", "0"), bench.folder, storage, until=asked)
    assert b"tiny-tiny-" in pages[1]
    assert_no_secret(said, lines, *pages)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("postgresql://me:sesame@127.0.0.1:1/name", marks=NEEDS_POSTGRES),
        pytest.param("postgresql://127.0.0.1:1/name?password=sesame&sslcert=poppy", marks=NEEDS_POSTGRES),
        "postgresql://me:sesame@host:port/name",
        "mysql://me:sesame@127.0.0.1/name",
        "sqlite:////no/such/folder/study.db?key=sesame",
        "sqlite:///file:/no/such/folder/study.db?uri=true&key=sesame",
        "sesame",
    ],
)
def test_a_storage_that_does_not_open_tells_nobody_its_password(bench, url, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "tulip")
    for operation in (lambda: Ledger(bench.tree, "tiny", url), lambda: view_storage(bench.tree, url)):
        with pytest.raises(ValueError, match=r"storage") as caught:
            operation()
        assert_no_secret(repr(chain(caught.value)).encode())
    assert_no_secret(written(bench.folder))


def chain(error):
    """An error and all that hangs on it."""
    found = []
    while error is not None:
        found.append((str(error), repr(error), getattr(error, "__notes__", ())))
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////no/such/folder/study.db?key=sesame", b"sqlite:////no/such/folder/study.db: "),
        pytest.param(
            "postgresql://me:sesame@127.0.0.1:1/name",
            b"postgresql://me:***@127.0.0.1:1/name: ",
            marks=NEEDS_POSTGRES,
        ),
    ],
    ids=["sqlite", "postgresql"],
)
@pytest.mark.parametrize("command", ["drive", "ablate", pytest.param("dashboard", marks=NEEDS_DASHBOARD)])
def test_a_command_tells_nobody_the_password_of_a_storage_that_does_not_open(bench, command, url, shown):
    bench.plan().write()
    commands = {
        "drive": python(DRIVER, Path(__file__).parents[1], bench.folder),
        "ablate": python(ABLATE, bench.folder / "results"),
        "dashboard": lab("dashboard", bench.tree, "--port", "0"),
    }
    said, lines = watch(commands[command], bench.folder, url)
    assert b"cannot open the storage " + shown in said
    assert_no_secret(said, lines, written(bench.folder))


@NEEDS_POSTGRES
def test_a_database_that_went_away_for_good_is_named_without_its_password(bench, postgres):
    url = postgres.new_database()
    said = []
    ledger = Ledger(bench.tree, "tiny-tiny", url, RetryPolicy(0.2, 0.05, 0.1, said.append))
    postgres.stop("immediate")
    try:
        with pytest.raises(ValueError, match=r"cannot write the ledger postgresql://lab:\*\*\*@") as caught:
            ledger.done()
    finally:
        postgres.start()
        ledger.close()
    assert_no_secret(repr([*chain(caught.value), said]).encode())
    assert caught.value.__context__ is None

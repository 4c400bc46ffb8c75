"""The dashboard as a process of its own, asked over HTTP."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from browser import PROGRAM, Browser

from lab.scheduling.dashboard import only_tree, serve_dashboard
from lab.scheduling.jobs import RUN_VALUE
from lab.scheduling.ledger.ledger import Ledger
from lab.scheduling.ledger.trials import Parameters

ROOT = Path(__file__).parents[2]
FACTORS = {"arm", "data.unique_tokens", "seed"}
NEEDS_DASHBOARD = pytest.mark.extra(dashboard="optuna_dashboard")


@pytest.fixture
def dashboard():
    """Starts `python -m lab dashboard` on a free port; its port and what it said first."""
    started = []

    def start(tree, storage=""):
        command = [sys.executable, "-m", "lab", "dashboard", str(tree), "--port", "0"]
        environment = {**os.environ, "STORAGE": storage, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        started.append(process)
        said = process.stdout.readline() + process.stdout.readline()
        return int(said.partition("http://127.0.0.1:")[2].partition("/")[0]), said, process

    yield start
    for process in started:
        process.send_signal(signal.SIGINT)
    try:
        assert [process.wait(timeout=60) for process in started] == [130] * len(started)
    finally:
        for process in started:
            process.kill()
            process.stdout.close()


def ask(port, path, method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


@NEEDS_DASHBOARD
def test_it_shows_the_study_of_a_driver_at_work_and_changes_nothing(bench, dashboard):
    ledger = Ledger(bench.tree, "tiny-tiny")
    ledger.enqueue(map(bench.plan().job, bench.plan().cells))
    bench.plan().write()
    journal = bench.tree / "study.journal"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"the driver is writing th')
    port, said, _ = dashboard(bench.folder)
    assert f"ssh -N -L {port}:127.0.0.1:{port} " in said
    status, body = ask(port, "/api/studies")
    (study,) = json.loads(body)["study_summaries"]
    assert (status, study["study_name"]) == (200, "tiny-tiny")
    assert ask(port, "/dashboard/")[0] == 200
    assert ask(port, f"/api/studies/{study['study_id']}", "DELETE") == (403, b"this dashboard is read-only\n")
    assert journal.read_bytes() == whole + b'{"the driver is writing th'
    journal.write_bytes(whole)
    ledger.complete(ledger.take().number, 1.5)
    trials = json.loads(ask(port, f"/api/studies/{study['study_id']}?after=0")[1])["trials"]
    assert [trial["state"] for trial in trials] == ["Complete", *["Waiting"] * 3]


@NEEDS_DASHBOARD
def test_a_database_is_shown_without_its_url_in_the_list_of_processes(bench, dashboard):
    url = f"sqlite:///file:{bench.folder / 'study.db'}?uri=true&key=sesame"
    assert bench.drive(storage=url).done == 4
    port, said, process = dashboard(bench.tree, url)
    (study,) = json.loads(ask(port, "/api/studies")[1])["study_summaries"]
    assert study["study_name"].startswith("tiny-tiny-")
    assert b"sesame" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert "sesame" not in said


def finish(ledger, plan, *values):
    """Queue a plan's runs and finish one for each value."""
    ledger.enqueue(map(plan.job, plan.cells))
    for value in values:
        ledger.complete(ledger.take().number, value)


@NEEDS_DASHBOARD
@pytest.mark.parametrize("database", ["", "sqlite:///{}/study.db"], ids=["journal", "sqlite"])
def test_importances_are_shown_of_every_ledger(bench, dashboard, database, monkeypatch):
    storage = database.format(bench.folder)
    with monkeypatch.context() as before:
        before.setattr("lab.scheduling.ledger.ledger.parameters", lambda job, known: Parameters({}, {}))
        for name in ("old", "mixed"):
            finish(Ledger(bench.tree, name, storage), bench.plan(), 1.0, 2.0)
    finish(Ledger(bench.tree, "mixed", storage), bench.plan(seeds=2), 4.0, 3.0, 2.0, 1.0)
    finish(Ledger(bench.tree, "one", storage), bench.plan(), 1.0)
    finish(Ledger(bench.tree, "equal", storage), bench.plan(), 1.0, 1.0, 1.0)
    finish(Ledger(bench.tree, "some", storage), bench.plan(seeds=2), 1.0, 2.0, 3.0)
    bench.plan().write()
    port, _, _ = dashboard(bench.tree, storage)
    found = {}
    for study in json.loads(ask(port, "/api/studies")[1])["study_summaries"]:
        status, body = ask(port, f"/api/studies/{study['study_id']}/param_importances")
        (importances,) = json.loads(body)["param_importances"]
        name = study["study_name"].partition("-")[0]
        found[name] = status, {each["name"]: each["importance"] for each in importances}
    assert {name: status for name, (status, _) in found.items()} == dict.fromkeys(found, 200)
    assert {name: set(importances) for name, (_, importances) in found.items()} == {
        **{"old": set(), "one": set(), "mixed": FACTORS, "equal": FACTORS, "some": FACTORS}
    }
    assert sum(found["some"][1].values()) == pytest.approx(1)
    assert len(set(found["some"][1].values())) > 1
    assert ask(port, "/api/studies/99/param_importances")[0] == 404


@NEEDS_DASHBOARD
@pytest.mark.skipif(PROGRAM is None, reason="needs a Chromium: apt-get install chromium")
def test_a_browser_shows_the_importances_and_the_plots(bench, dashboard):
    finish(Ledger(bench.tree, "tiny-tiny"), bench.plan(seeds=2), 1.0, 2.0, 3.0)
    bench.plan().write()
    port, _, _ = dashboard(bench.tree)
    pages = {
        "": ("Hyperparameter Importance", *FACTORS, RUN_VALUE, "arm: ar"),
        "analytics": ("Slice", "Contour", "Rank", "arm", "dlm", f"EDF for {RUN_VALUE}"),
    }
    with Browser(bench.folder / "profile") as browser:
        for page, expected in pages.items():
            text = browser.read(f"http://127.0.0.1:{port}/dashboard/studies/0/{page}", *expected)
            assert [each for each in expected if each not in text] == []


@NEEDS_DASHBOARD
def test_it_listens_on_loopback_only(bench, dashboard):
    Ledger(bench.tree, "tiny-tiny")
    bench.plan().write()
    port, _, process = dashboard(bench.tree)
    import psutil

    listening = [
        c.laddr for c in psutil.Process(process.pid).net_connections() if c.status == psutil.CONN_LISTEN
    ]
    assert listening == [("127.0.0.1", port)]


def test_of_several_trees_one_must_be_given(bench, tmp_path):
    trees = [tmp_path / "results" / name / "tiny" for name in ("one", "two", "planned")]
    for tree in trees:
        tree.mkdir(parents=True)
        (tree / "plan.json").write_text("{}")
    for tree in trees[:2]:
        (tree / "study.journal").touch()
    assert only_tree(trees[0]) == only_tree(trees[0].parent) == trees[0]
    with pytest.raises(ValueError, match=rf"`tree` must be one of {trees[0]}, {trees[1]}, but got "):
        only_tree(tmp_path)
    with pytest.raises(
        ValueError, match=r"`tree` must hold a study\.journal, but got .*; STORAGE= names a data"
    ):
        only_tree(trees[2])


@NEEDS_DASHBOARD
def test_a_taken_port_is_named(bench):
    Ledger(bench.tree, "tiny-tiny")
    bench.plan().write()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            ValueError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"
        ):
            serve_dashboard(bench.tree, "", port, print)


def test_without_the_extra_it_says_what_to_install(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(
        ValueError, match="optuna-dashboard is missing; `make setup EXTRAS=dashboard` installs"
    ):
        serve_dashboard(bench.tree, "", 0, print)

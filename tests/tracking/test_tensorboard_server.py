"""The real TensorBoard over a small tree: what it serves, and what a browser shows of it."""

import json
import re
import subprocess
import sys
import time
from urllib.request import Request, urlopen

import pytest
from board_rows import measured_row, png, run_config, stop, train_row
from browser import PROGRAM, Browser

from lab.tracking.tensorboard import RunBoard, hparams_of, write_report_board

pytestmark = pytest.mark.slow

CONFIGS = {
    f"{arm}/unique_tokens={level}/seed={seed}": run_config(arm, seed=seed, data={"unique_tokens": level})
    for arm, level, seed in (("ar", 10_000, 0), ("dlm", 10_000, 0), ("dlm", 30_000, 1))
}
SECONDS = 300


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a TensorBoard over three finished runs and a report."""
    tree, place = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("server")
    for number, (name, config) in enumerate(CONFIGS.items()):
        with RunBoard(tree / name, config, [train_row(1), measured_row(2, "annealed")]) as board:
            board.finish(stop({"nll": 2.5 + number}, {"nll": 2.25 + number}))
    write_report_board(tree / "report", {"curves": png(30, 20)}, {"verdict": "**DLM**, on few tokens"})
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(tree)]
    with (place / "log").open("w") as log:
        process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", "0"], stderr=log)
    try:
        yield wait_for(lambda: re.search(r"http://127\.0\.0\.1:\d+/", (place / "log").read_text()))[0]
    finally:
        process.terminate()
        process.wait(SECONDS)


def wait_for(ask):
    """What is asked for, once it is there."""
    deadline = time.monotonic() + SECONDS
    while not (found := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def ask(server, path, **body):
    data = json.dumps(body).encode() if body else None
    with urlopen(Request(f"{server}data/{path}", data, {"Content-Type": "application/json"})) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def loaded(server):
    """The address, once every file was read."""
    wait_for(lambda: len(ask(server, "plugin/text/tags")) == len(CONFIGS) + 1)
    last = "best/test/nll_nats_per_token"
    wait_for(lambda: [last in tags for tags in scalar_tags(server).values()] == [True] * len(CONFIGS))
    return server


def scalar_tags(server):
    return ask(server, "plugin/scalars/tags")


def test_each_run_has_one_short_name_and_each_tag_one_axis(loaded):
    assert set(ask(loaded, "runs")) == {*CONFIGS, "report"}
    assert set(scalar_tags(loaded)) == set(CONFIGS)
    for run in CONFIGS:
        for tag, step in (("train/gradient_norm", 2048), ("by_epoch_x100/train/gradient_norm", 12)):
            points = ask(loaded, f"plugin/scalars/scalars?run={run.replace('=', '%3D')}&tag={tag}")
            assert [point[1:] for point in points] == [[step, 1.5]]


def test_the_table_of_hparams_has_every_run_with_its_settings_and_its_best_stop(loaded):
    statuses = [f"STATUS_{status}" for status in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")]
    wanted = {"allowedStatuses": statuses, "colParams": [], "startIndex": 0, "sliceSize": 100}
    groups = ask(loaded, "plugin/hparams/session_groups", **wanted)["sessionGroups"]
    assert {group["name"]: group["hparams"] for group in groups} == {
        run: hparams_of(config) for run, config in CONFIGS.items()
    }
    assert [group["sessions"][0]["status"] for group in groups] == ["STATUS_SUCCESS"] * len(CONFIGS)
    for number, group in enumerate(sorted(groups, key=lambda group: group["name"])):
        values = {metric["name"]["tag"]: metric["value"] for metric in group["metricValues"]}
        assert values["best/validation/nll_nats_per_token"] == 2.5 + number
        assert values["best/test/nll_nats_per_token"] == 2.25 + number
    columns = ask(loaded, "plugin/hparams/experiment", experimentName="")["hparamInfos"]
    differing = ["arm", "data.unique_tokens", "factors.compute", "factors.order", "seed"]
    assert [column["name"] for column in columns if column["differs"]] == differing
    assert [column["name"] for column in columns[:5]] == differing  # what the table shows unasked


def test_the_report_is_images_and_texts_beside_the_runs_configurations(loaded):
    assert {run: list(tags) for run, tags in ask(loaded, "plugin/images/tags").items()} == {
        "report": ["curves"]
    }
    (image,) = ask(loaded, "plugin/images/images?run=report&tag=curves&sample=0")
    with urlopen(f"{loaded}data/plugin/images/individualImage?{image['query']}") as answer:
        assert answer.read() == png(30, 20)
    texts = {run: set(tags) for run, tags in ask(loaded, "plugin/text/tags").items()}
    assert texts == {**{run: {"config"} for run in CONFIGS}, "report": {"verdict"}}
    (text,) = ask(loaded, "plugin/text/text?run=report&tag=verdict")
    assert "<strong>DLM</strong>" in text["text"]


@pytest.mark.skipif(PROGRAM is None, reason="needs a Chromium: apt-get install chromium")
def test_a_browser_shows_all_of_it(loaded, tmp_path):
    pages = {
        "timeseries": (*CONFIGS, "report", "best", "by_epoch_x100", "train", "validation"),
        "hparams": (*CONFIGS, "data.unique_tokens", "best/test/nll_nats_per_token", "dense", "4.2500"),
        "images": ("curves", "image of 30 x 20"),
        "text": ("verdict", "DLM", "learning_rate: 0.001"),
    }
    with Browser(tmp_path) as browser:
        for page, expected in pages.items():
            text = browser.read(f"{loaded}#{page}", *expected)
            assert [each for each in expected if each not in text] == [], page

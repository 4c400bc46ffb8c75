"""The speed benchmark runs, writes its table, and goes on where it was cut."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SIDES = ("lab, JAX", "matrix product, JAX")
COMMAND = [sys.executable, "-m", "benchmarks.speed", "--shape", "smoke", "--arm", "dlm", "--cores", "1"]
COMMAND += [
    "--rounds",
    "2",
    "--seconds",
    "0.01",
    "--once",
    *(word for side in SIDES for word in ("--side", side)),
]


def run(*more):
    return subprocess.run([*COMMAND, *map(str, more)], cwd=ROOT, capture_output=True, text=True)


def test_it_writes_a_table_and_measures_no_cell_twice(tmp_path):
    first = run("--out", tmp_path)
    assert first.returncode == 0, first.stderr
    found = json.loads((tmp_path / "speed.json").read_text())
    (cell,) = found["cells"]
    products = {"matrix product, PyTorch"} if find_spec("torch") else set()  # of all that there are
    assert set(cell["sides"]) == {*SIDES, *products}
    for side in cell["sides"].values():
        assert len(side["rate"]) == 2
        assert np.all(np.array(side["rate"]) > 0)
        assert side["peak_bytes"] > 2**20
    (row,) = [line for line in (tmp_path / "speed.md").read_text().splitlines() if "lab, JAX" in line]
    tokens = np.median(cell["sides"]["lab, JAX"]["rate"]) * 2 * 64
    assert f"| {round(tokens):,} |" in row
    assert run("--out", tmp_path).stdout == ""
    assert json.loads((tmp_path / "speed.json").read_text()) == found


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--shape", "large", "must be one of"),
        ("--side", "numpy", "must be one of"),
        ("--rounds", "0", "greater"),
    ],
)
def test_what_it_cannot_measure_is_refused(tmp_path, option, value, message):
    said = run(option, value, "--out", tmp_path)
    assert said.returncode == 2
    assert message in said.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_benchmark_of_populations_compares_three_ways_and_keeps_what_it_has(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.population",
        "--shape",
        "smoke",
        "--arm",
        "dlm",
        "--runs",
        "2",
    ]
    command += ["--rounds", "1", "--seconds", "0.01", "--out", str(tmp_path)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert made.stdout.startswith("smoke, dlm, float32, 2 runs, ")
    text = (tmp_path / "population.json").read_text(encoding="utf-8")
    (cell,) = json.loads(text)["cells"]
    assert list(cell["tokens_per_second"]) == ["one after the other", "map", "vmap"]
    assert all(rate > 0 for rates in cell["tokens_per_second"].values() for rate in rates)
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert again.stdout == ""
    assert (tmp_path / "population.json").read_text(encoding="utf-8") == text

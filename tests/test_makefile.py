"""What make is given is passed on or refused, and what it installs into is sound."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUN = [
    "PRESET",
    "DATA",
    "SEEDS",
    "LEVELS",
    "SET",
    "TUNE",
    "RESULTS",
    "WORKERS",
    "PER_DEVICE",
    "POPULATION",
    "DEVICES",
    "RANKS",
    "ENGINE",
    "SHARED",
]
OLD = """#!/bin/sh
case "$1" in
  --version) echo Python 3.10.12;;
  -m) mkdir -p "$3/bin"; cp "$0" "$3/bin/python";;
  *) exit 1;;
esac
"""
# `-m venv FOLDER` puts itself there, and there `-m pip` works once this file beside it says so.
NEW = """#!/bin/sh
echo "$0 $*" >>"$SAID"
case "$*" in
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; touch "$3/whole";;
  "-m pip --version") test -e "$(dirname "$0")/../whole";;
esac
"""


@pytest.fixture
def make(tmp_path):
    """Runs make with this as python3, without what the make that started the tests has set."""
    (tmp_path / "bin").mkdir()
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith("MAKE")}
    environment = {
        **{name: value for name, value in inherited.items() if name not in [*RUN, "MFLAGS", "EXTRAS"]},
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SAID": str(tmp_path / "said"),
    }

    def make(*arguments, python=NEW):
        program = tmp_path / "bin" / "python3"
        program.write_text(python)
        program.chmod(0o755)
        command = ["make", "-C", str(ROOT), f"VENV={tmp_path / 'venv'}", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return make


@pytest.mark.parametrize("target", ["crossover", "smoke", "ablate"])
def test_every_variable_of_a_run_reaches_the_command(make, target):
    # DATA goes through the environment (tests/data/test_paths.py).
    values = {name: f"v{number}" for number, name in enumerate(RUN) if name != "DATA"}
    name = ["NAME=mine.py"] if target == "ablate" else []
    said = make("-n", target, *name, *(f"{variable}={value}" for variable, value in values.items()))
    (command,) = (line for line in said.stdout.splitlines() if " -m lab ablate " in line)
    for variable, value in values.items():
        option = variable.lower().replace("_", "-")
        assert re.search(rf"--{option} '?{value}\b", command), variable


def test_help_tells_every_variable_of_a_run(make):
    said = make("help").stdout
    assert [
        variable for variable in RUN if not re.search(rf"^ *(\w+=, )?{variable}=", said, re.MULTILINE)
    ] == []


def test_the_port_and_the_tree_reach_the_board(make):
    said = make("-n", "board", "TREE=a/b", "PORT=7")
    assert "/bin/python -m lab board 'a/b' --port 7\n" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "strange", "nearest"),
    [
        ("crossover SEED=3", "SEED", "SEEDS"),
        ("crossover seeds=3", "seeds", "SEEDS"),
        ("smoke WORKER=1", "WORKER", "WORKERS"),
        ("board PROT=1", "PROT", "PORT"),
        ("crossover KERAS-BACKEND=torch", "KERAS-BACKEND", "KERAS_BACKEND"),
        ("report SEEDS=3", "SEEDS", ""),
        ("crossover TREE=x", "TREE", ""),
        ("crossover Q=", "Q", ""),
        ("SET=a XYZ=1", "SET", ""),
    ],
)
def test_a_variable_that_would_change_nothing_is_refused(make, arguments, strange, nearest):
    python = '#!/bin/sh\nexec python "$@"\n'
    said = make("-n", *arguments.split(), python=python)
    assert (said.returncode, said.stdout.count("lab")) == (2, 0)
    assert f"takes no {strange}=" in said.stderr
    assert re.findall(r"is (\S+)= meant\?", said.stderr) == ([nearest] if nearest else [])


@pytest.mark.parametrize(
    "arguments",
    [
        ("crossover", "KERAS_BACKEND=torch", "JAX_PLATFORMS=cpu", "STORAGE=sqlite:///x"),
        ("crossover", "SET=a=1 b=2", "DATA=x/*.md y"),
        ("crossover", "board", "SEEDS=2", "TREE=x"),
        ("type", "test-extras", "EXTRAS=ray,postgres"),
        ("test", "BACKENDS=torch"),
        ("bench", "SHAPE=0.3m, 64 x 32", "CORES=1"),
        ("dashboard", "PORT=1", "TREE=x", "EXTRAS=torch"),
        ("data", "DATA=x y", "PRESET=smoke", "SET=data.length=8"),
        ("help", "PYTHON=python3"),
    ],
)
def test_a_variable_that_its_target_takes_is_not_refused(make, arguments):
    said = make("-n", *arguments)
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize("extras", ["torhc", "ray,torhc", "ray torch"])
def test_extras_that_there_are_not_are_refused(make, extras, tmp_path):
    said = make("setup", f"EXTRAS={extras}")
    assert said.returncode == 2
    assert "EXTRAS must be of torch ray postgres" in said.stderr
    assert not (tmp_path / "said").exists()


def test_an_old_python_is_refused_and_leaves_nothing(make, tmp_path):
    said = make("setup", python=OLD)
    assert said.returncode == 2
    assert "the lab needs Python 3.11 or newer, but python3 is Python 3.10.12" in said.stderr
    assert not (tmp_path / "venv").exists()
    assert make("setup").returncode == 0


def test_an_environment_of_an_old_python_is_named_and_left(make, tmp_path):
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").symlink_to("gone")
    for made in ("gone", "old"):
        said = make("setup")
        assert said.returncode == 2, made
        assert f"a Python that is too old, or gone: rm -rf {tmp_path / 'venv'}" in said.stderr
        (folder / "python").unlink()
        (folder / "python").write_text(OLD)
        (folder / "python").chmod(0o755)


def test_an_interrupted_setup_does_not_spoil_the_next(make, tmp_path):
    folder = tmp_path / "venv" / "bin"
    folder.mkdir(parents=True)
    (folder / "python").write_text(NEW)  # without pip, which comes last
    (folder / "python").chmod(0o755)
    assert make("setup").returncode == 0
    said = (tmp_path / "said").read_text()
    assert f"python3 -m venv {tmp_path / 'venv'}\n" in said
    assert re.search(r"venv/bin/python -m pip install .*--editable \.\[dev\]\n$", said)
    assert (tmp_path / "venv" / ".installed").exists()
    (tmp_path / "said").unlink()
    assert make("setup").returncode == 0
    assert not (tmp_path / "said").exists()

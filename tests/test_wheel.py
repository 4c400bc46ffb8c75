"""The lab as a wheel, installed where no checkout answers in its place."""

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from lab.ablation import ABLATIONS_DIR, ablation_names
from lab.code import closure_hash
from lab.config import PRESETS_DIR, preset_names
from lab.version import ENGINE

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
SHORT = "model.layers=1 training.total_tokens=2048 evaluation.stops=2 evaluation.sample_tokens=0"
# What a user sees who has only the wheel, as JSON.
LOOK = """
import json, sys
import lab, lab.ablations, lab.configs
from importlib.resources import files
from lab.ablation import ablation_names, load_ablation
from lab.code import closure_hash
from lab.config import preset_names, read_preset
from lab.version import ENGINE
print(json.dumps({
    "lab": lab.__file__,
    "ablations": [load_ablation(name).name for name in ablation_names()],
    "presets": [name for name in preset_names() if read_preset(name)],
    "preset": files("lab.configs").joinpath("smoke.yaml").is_file(),
    "code": closure_hash(ENGINE),
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    offline = ["--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*PIP, "wheel", *offline, "--wheel-dir", folder, ROOT], check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder that the wheel is installed into."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([*PIP, "install", "--no-index", "--no-deps", "--target", folder, wheel], check=True)
    return folder


@pytest.fixture
def run(installed, tmp_path):
    """Run a command in an empty folder with the installed lab before any other."""

    def run(*command):
        environment = {**os.environ, "PYTHONPATH": str(installed)}
        environment.pop("XLA_FLAGS", None)  # once, what is compiled is optimized as it is for a user
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


def test_a_wheel_has_one_package_and_all_that_comes_with_it(wheel):
    names = [Path(name) for name in ZipFile(wheel).namelist()]
    assert {name.parts[0].partition("-")[0] for name in names} == {"lab", "ablation_lab"}
    inside = {name.relative_to("lab") for name in names if name.parts[0] == "lab"}
    packaged = [path for path in (ROOT / "lab").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    expected = {path.relative_to(ROOT / "lab") for path in packaged}
    expected |= {Path("ablations", path.name) for path in ABLATIONS_DIR.glob("*.py")}
    expected |= {Path("configs", path.name) for path in PRESETS_DIR.glob("*.yaml")}
    assert inside == expected
    assert Path("py.typed") in inside  # so that a type checker believes what the lab says


def test_an_installed_lab_has_its_ablations_presets_and_templates(run, installed):
    looked = run(sys.executable, "-c", LOOK)
    assert looked.returncode == 0, looked.stderr
    assert json.loads(looked.stdout) == {
        "lab": str(installed / "lab" / "__init__.py"),
        "ablations": ablation_names(),
        "presets": preset_names(),
        "preset": True,
        "code": closure_hash(ENGINE),  # so that a run of a checkout is one of the wheel's too
    }


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), ([], 2), (["ablate", "cross"], 2), (["report", "nowhere"], 2)]
)
def test_the_script_ends_as_the_module_does(run, installed, arguments, code):
    script, module = run(installed / "bin" / "lab", *arguments), run(sys.executable, "-m", "lab", *arguments)
    assert (script.returncode, module.returncode) == (code, code)
    assert script.stderr.replace("Usage: lab", "Usage: python -m lab") == module.stderr
    assert script.stdout.replace("Usage: lab", "Usage: python -m lab").split() == module.stdout.split()


def test_an_installed_lab_runs_an_ablation_to_its_page(run, installed, tmp_path):
    short = ["--levels", "data.unique_tokens=2000", "--set", SHORT]
    ended = run(installed / "bin" / "lab", "ablate", "crossover", "--preset", "smoke", *short)
    assert ended.returncode == 0, ended.stderr
    tree = tmp_path / "results" / "crossover" / "smoke"
    assert f"page: {tree.relative_to(tmp_path)}/report/index.html" in ended.stdout
    summary = json.loads((tree / "report" / "summary.json").read_text(encoding="utf-8"))
    assert summary["run_counts"] == {"done": 2, "failed": 0, "missing": 0}
    assert summary["headline"] in (tree / "report" / "index.html").read_text(encoding="utf-8")

"""The files that docs/new_ablation.md shows are real ones: they run as they stand, and have their page."""

import json
import math
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lab.__main__ import app
from lab.ablation import ABLATIONS_DIR, cells, load_ablation

DOCS = Path(__file__).parents[2] / "docs" / "new_ablation.md"
TINY = (
    "model.layers=1 training.total_tokens=4096 evaluation.validation_windows=2 evaluation.test_windows=2 "
    "evaluation.exact_windows=2 evaluation.choice_items=2 evaluation.stops=2 evaluation.sample_tokens=0"
)


def example(language):
    (source,) = re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    return source


@pytest.fixture
def folder(tmp_path):
    """A folder with the ablation and the preset of the docs."""
    assert len(example("python").splitlines()) < 50
    (tmp_path / "batch_size.py").write_text(example("python"), encoding="utf-8")
    (tmp_path / "short.yaml").write_text(example("yaml"), encoding="utf-8")
    return tmp_path


def test_the_example_runs_and_has_its_page(folder):
    preset = folder / "short.yaml"
    preset.write_text(example("yaml").replace("base: laptop", "base: smoke"), encoding="utf-8")
    command = ["ablate", str(folder / "batch_size.py"), "--preset", str(preset), "--set", TINY]
    places = ["--results", str(folder / "results"), "--cache", str(folder / "cache")]
    ended = CliRunner().invoke(app, command + places)
    assert ended.exit_code == 0, ended.output
    tree = folder / "results" / "batch-size" / "short"
    written = tree / "report" / "summary.json"
    summary = json.loads(written.read_text(encoding="utf-8"))
    typed = json.loads((tree / "plan.json").read_text(encoding="utf-8"))["command"]
    assert typed.startswith(f"python -m lab ablate {folder}/batch_size.py --preset {preset} ")
    assert summary["run_counts"] == {"done": 4, "failed": 0, "missing": 0}
    assert [section["kind"] for section in summary["sections"]] == [
        "curves",
        "differences",
        "quantity",
        "against",
        "fit",
    ]
    tables = {name: rows for section in summary["sections"] for name, rows in section["tables"].items()}
    assert [row["level"] for row in tables["differences_nll"]] == ["batch_size=8", "batch_size=16"]
    points = {(row["arm"], row["level"]): row for row in tables["against"]}
    small, large = (points["dlm", f"batch_size={rows}"] for rows in (8, 16))
    # Two levels: the law goes through both.
    (exponent,) = [row["exponent"] for row in tables["fit"] if row["arm"] == "dlm"]
    slope = math.log(large["nll"] / small["nll"]) / math.log(2)
    assert exponent == pytest.approx(slope, rel=1e-6)
    page = (written.parent / "index.html").read_text(encoding="utf-8")
    headings = re.findall(r"<h2 [^>]*>(.*?)</h2>", page)
    assert [section["title"] for section in summary["sections"]] == headings[:5]
    assert summary["headline"] in page
    assert "batch_size=16" in page


def test_the_example_of_a_preset_is_taken_with_the_scale_of_its_base(folder):
    ablation = load_ablation(str(folder / "batch_size.py"))
    made = cells(ablation, str(folder / "short.yaml"))
    like = cells(ablation, "laptop")
    assert [cell.label for cell in made] == [cell.label for cell in like]
    changed = {cell.config.training.total_tokens for cell in made}
    assert changed == {200_000}
    assert {cell.config.training.total_tokens for cell in like} == {800_000}


def test_no_ablation_is_longer_than_the_docs_promise():
    for path in ABLATIONS_DIR.glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, path.name

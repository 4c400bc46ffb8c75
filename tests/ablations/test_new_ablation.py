"""The ablation that docs/new_ablation.md shows is a real one: it runs as it stands, and has its page."""

import json
import math
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ablations
from lab.__main__ import app
from lab.ablation import ablation_names

DOCS = Path(__file__).parents[2] / "docs" / "new_ablation.md"
TINY = (
    "model.layers=1 training.total_tokens=2048 evaluation.validation_windows=2 evaluation.test_windows=2 "
    "evaluation.choice_items=2 evaluation.stops=2 evaluation.sample_tokens=0"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose modules count as ablations, the one of the docs among them."""
    (source,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(source.splitlines()) < 50
    (tmp_path / "model_size.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(ablations, "__path__", [*ablations.__path__, str(tmp_path)])
    return tmp_path


def test_the_example_runs_and_has_its_page(folder):
    assert "model-size" in ablation_names()
    command = ["ablate", "model-size", "--preset", "smoke", "--set", TINY]
    places = ["--results", str(folder / "results"), "--cache", str(folder / "cache")]
    ended = CliRunner().invoke(app, command + places)
    assert ended.exit_code == 0, ended.output
    (written,) = folder.rglob("summary.json")
    summary = json.loads(written.read_text(encoding="utf-8"))
    assert summary["run_counts"] == {"done": 4, "failed": 0, "missing": 0}
    assert [section["kind"] for section in summary["sections"]] == [
        "curves",
        "differences",
        "quantity",
        "against",
        "fit",
    ]
    tables = {name: rows for section in summary["sections"] for name, rows in section["tables"].items()}
    assert [row["level"] for row in tables["differences_nll"]] == ["size=0.1m", "size=0.3m"]
    points = {(row["arm"], row["level"]): row for row in tables["against"]}
    small, large = (points["dlm", f"size={size}"] for size in ("0.1m", "0.3m"))
    assert small["parameters"] < large["parameters"]
    # Two sizes: the law goes through both.
    (exponent,) = [row["exponent"] for row in tables["fit"] if row["arm"] == "dlm"]
    slope = math.log(large["nll"] / small["nll"]) / math.log(large["parameters"] / small["parameters"])
    assert exponent == pytest.approx(slope, rel=1e-6)
    page = (written.parent / "index.html").read_text(encoding="utf-8")
    headings = re.findall(r"<h2 [^>]*>(.*?)</h2>", page)
    assert [section["title"] for section in summary["sections"]] == headings[:5]
    assert summary["headline"] in page
    assert "size=0.3m" in page


def test_no_ablation_is_longer_than_the_docs_promise():
    for path in Path(ablations.__path__[0]).glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 60, path.name

"""The ablation that docs/new_ablation.md shows is a real one: it runs as it stands there."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ablations
from lab.__main__ import app
from lab.ablation import ablation_names

DOCS = Path(__file__).parents[2] / "docs" / "new_ablation.md"
TINY = (
    "training.total_tokens=2048 evaluation.validation_windows=2 evaluation.test_windows=2 "
    "evaluation.choice_items=2 evaluation.stops=2 evaluation.sample_tokens=0"
)


@pytest.fixture
def crops(tmp_path, monkeypatch):
    (source,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len(source.splitlines()) < 60
    (tmp_path / "crops.py").write_text(source, encoding="utf-8")
    monkeypatch.setattr(ablations, "__path__", [*ablations.__path__, str(tmp_path)])
    return tmp_path


def test_the_example_runs_and_reports_its_contrasts(crops):
    assert "crops" in ablation_names()
    command = ["ablate", "crops", "--preset", "smoke", "--set", TINY]
    places = ["--results", str(crops / "results"), "--cache", str(crops / "cache")]
    ended = CliRunner().invoke(app, command + places)
    assert ended.exit_code == 0, ended.output
    (summary,) = crops.rglob("summary.json")
    found = json.loads(summary.read_text(encoding="utf-8"))
    assert found["run_counts"] == {"done": 4, "failed": 0, "missing": 0}
    assert (summary.parent / "index.html").is_file()


def test_no_ablation_is_longer_than_the_docs_promise():
    for path in Path(ablations.__path__[0]).glob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path.name

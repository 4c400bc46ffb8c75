"""What every ablation module must be: data, with a docstring that says what to expect."""

import ast
import re
from pathlib import Path

import pytest

from lab.ablation import ABLATIONS_DIR, ablation_names, cells, load_ablation
from lab.config import preset_names
from lab.evaluation.measurements import SETS
from lab.metrics import METRICS
from lab.sections import COSTS, Against, Fit, metrics_of

ROOT = Path(__file__).parents[2]


def tree(name):
    return ast.parse((ABLATIONS_DIR / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ablation_names())
def test_holds_data_and_no_mechanism(name):
    kinds = {type(node) for node in ast.walk(tree(name))}
    assert not kinds & {ast.For, ast.While, ast.FunctionDef, ast.ClassDef, ast.If}


@pytest.mark.parametrize("name", ablation_names())
def test_docstring_gives_command_time_and_expectation(name):
    text = ast.get_docstring(tree(name))
    assert f"make {name}" in text
    assert "Expected:" in text
    assert "minute" in text


@pytest.mark.parametrize("name", ablation_names())
def test_every_scale_with_a_preset_makes_valid_cells(name):
    ablation = load_ablation(name)
    present = sorted(set(ablation.scales) & set(preset_names()))
    assert {"smoke", "laptop", "night", "gpu"} <= set(present)
    assert all(cells(ablation, preset) for preset in present)


@pytest.mark.parametrize("name", ablation_names())
def test_what_is_measured_of_finished_runs_exists(name):
    assert set(load_ablation(name).measurements) <= set(SETS)


@pytest.mark.parametrize("name", ablation_names())
def test_what_sections_are_drawn_against_is_a_cost_or_a_level_of_every_scale(name):
    ablation = load_ablation(name)
    drawn = [section for section in ablation.sections if isinstance(section, Against | Fit)]
    axes = {axis for section in drawn for axis in ([section.x] if isinstance(section.x, str) else section.x)}
    assert all(axes <= {*COSTS, *scale.levels} for scale in ablation.scales.values())


@pytest.mark.parametrize("name", ablation_names())
def test_sections_show_only_what_is_measured_and_every_page_says_what_was_found(name):
    ablation = load_ablation(name)
    after_runs = [
        s
        for s in ablation.sections
        if s.kind in ("texts", "frontier")
        or getattr(s, "measurement", "")
        or any(METRICS[key].after_runs for key in metrics_of(s))
    ]
    assert bool(after_runs) == bool(ablation.measurements)
    assert {section.kind for section in ablation.sections} & {"differences", "factorial", "quantity"}


def test_make_has_a_target_for_every_ablation_and_the_readme_names_them():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", "")
    assert sorted(re.search(r"^ABLATIONS := (.*)$", makefile, re.M)[1].split()) == ablation_names()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^\| `make ([a-z -]+)` \| the ablations \|$", readme, re.M)
    assert sorted(listed.split()) == ablation_names()

import pytest

from lab.ablation import cells, load_ablation
from lab.config import preset_names
from lab.evaluation.measurements import SETS

ABLATION = load_ablation("inference-compute")
(JUDGE,) = ABLATION.measurements.values()
PRESETS = sorted(set(ABLATION.scales) & set(preset_names()))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_judge_is_ar_on_the_whole_training_split_and_else_as_the_others(preset):
    by_arm = {cell.arm: cell.config for cell in cells(ABLATION, preset)}
    assert {JUDGE, "ar", "dlm"} <= set(by_arm)
    judge, ar = by_arm[JUDGE].model_dump(), by_arm["ar"].model_dump()
    assert judge["data"].pop("unique_tokens") is None
    assert ar["data"].pop("unique_tokens") is not None
    differ = {name for name in judge if judge[name] != ar[name]}
    assert differ == {"arm"}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_run_has_a_judge_of_another_seed(preset):
    assert ABLATION.scale(preset).seeds >= 2
    assert {getattr(section, "measurement", "") for section in ABLATION.sections} == {
        "generation",
        "choice",
        "",
    }
    assert set(ABLATION.measurements) == {"inference"} <= set(SETS)

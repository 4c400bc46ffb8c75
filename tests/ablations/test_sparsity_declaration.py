"""The arms are matched as the sections demand, exactly, at every scale."""

import pytest

from lab.ablation import cells, load_ablation
from lab.evaluation.flops import train_flops_per_token
from lab.models.footprint import parameters

ABLATION = load_ablation("sparsity")


@pytest.mark.parametrize("preset", ABLATION.scales)
def test_a_mixture_has_the_flops_of_the_dense_model_and_the_parameters_of_the_large_one(preset):
    total, active, flops = {}, {}, {}
    for cell in cells(ABLATION, preset, seeds=1):
        architecture = cell.config.model.architecture(256, cell.config.data.length)
        total[cell.arm], active[cell.arm] = parameters(architecture)
        flops[cell.arm] = train_flops_per_token(architecture, cell.config.factors.compute == "causal")
    for mixture in ("ar_mixture", "dlm_mixture", "dlm_expert_choice"):
        arm = mixture.split("_")[0]
        assert flops[mixture] == flops[arm] < flops[f"{arm}_large"]
        assert active[mixture] == active[arm] == total[arm]
        assert total[mixture] == total[f"{arm}_large"] > 2 * total[arm]

"""Does noise in its inputs or its network give AR what the DLM has.

    make ar-noise                 on 2 cores; docs/results.md has the time
    make ar-noise PRESET=smoke    in about a minute: does everything run?

The paper's own two sweeps (input masks at fixed ratios; dropout), the ratio uniform on (0, 1) of Gao et al.,
and their controls. Expected: by Ni et al. a ratio near 0.1 helps a little and no noise closes the gap; by Gao
et al. (arXiv:2510.04071) masks at U(0, 1) carry the whole effect, and AR with dropout is ahead of the DLM.
Found with `laptop`: plain AR is ahead of the DLM; seven mild kinds of noise help it in every seed,
undecided, and strong noise is worse within 50 epochs.
"""

from lab.ablation import Ablation, Scale
from lab.arms import arm_values
from lab.config import Values
from lab.registration import Registration
from lab.sections import compare, pairs

SMALL = {"data": {"unique_tokens": 10_000}, "training": {"total_tokens": 500_000}, "evaluation": {"stops": 7}}
NIGHT = {"data": {"unique_tokens": 100_000}, "training": {"total_tokens": 20_000_000}}

# Percent of the inputs, of the attention slots, or of the weights and features that are dropped.
NOISE: dict[str, Values] = {
    **{f"ar_mask_{p}": {"factors": {"input_noise": f"mask:{p / 100}"}} for p in (10, 30, 50, 70, 90)},
    "ar_mask_uniform": {"factors": {"input_noise": "mask:0-1"}},
    "ar_mask_uniform_hidden": {"factors": {"input_noise": "mask:0-1", "loss_on": "hidden"}},
    "ar_mask_uniform_frozen": {"factors": {"input_noise": "mask:0-1", "draws": 1}},
    **{f"ar_replace_{p}": {"factors": {"input_noise": f"replace:{p / 100}"}} for p in (5, 15)},
    "ar_attention_mask_30": {"factors": {"attention_mask_dropout": 0.3}},
    **{
        f"ar_dropout_{p}": {"model": {"attention_dropout": p / 100, "mlp_dropout": p / 100}}
        for p in (10, 30, 50, 70, 90)
    },
    "ar_mlp_dropout_10": {"model": {"mlp_dropout": 0.1}},
    "dlm": arm_values("dlm"),
}

ABLATION = Ablation(
    name="ar-noise",
    question="Does noise in AR's inputs, or dropout, close its gap to the DLM?",
    paper="Ni et al. 2025, arXiv:2511.03276, noise in AR; against it Gao et al. 2025, arXiv:2510.04071",
    arms={"ar": arm_values("ar"), **NOISE},
    scales={
        "smoke": Scale({}, seeds=1, budget="about a minute on 2 cores"),
        "laptop": Scale({}, seeds=3, budget="about 40 minutes on 2 cores", values=SMALL),
        "night": Scale({}, seeds=3, budget="not measured", values=NIGHT),
        "gpu": Scale({}, seeds=3, budget="not measured", values={"data": {"unique_tokens": 300_000}}),
    },
    metric="nll",
    expected="Small ratios help a little, large ones hurt (Ni); or the uniform ratio reaches the DLM (Gao).",
    primary=Registration(contrasts=pairs({"ar_mask_uniform": "dlm", "ar_dropout_30": "dlm"})),
    sections=compare(dict.fromkeys(NOISE, "ar")),
)

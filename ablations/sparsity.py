"""Is a mixture of experts better than the dense models that it is matched to, for AR and for the DLM.

    make sparsity                    on 2 cores in about 25 minutes
    make sparsity PRESET=smoke       in about two minutes: does everything run?

Three models of each: a dense one, a mixture of its FLOPs, and a dense one of the mixture's parameters, all
on the same tokens. A token chooses 3 of 24 experts, each with room for a whole window, since masks choose
alike; for the DLM there is a mixture whose experts choose, too. FLOPs and parameters agree exactly at every
width d: an expert has 3 d f, f = 56, the router 24 d; 3 and it are a dense layer of f = 176, all one of f =
1352. Expected: as in the paper, the mixture gains the DLM less than the large dense model does, and is the
worst of AR's. Found with `laptop`: undecided throughout.
"""

from lab.ablation import Ablation, Scale
from lab.arms import arm_values
from lab.config import merge
from lab.registration import Registration
from lab.sections import Curves, Differences, pairs

EXPERTS = {"experts": 24, "experts_per_token": 3, "ffn_width": 56}
TOKEN_CHOICE = {"feed_forward": "token_choice", "capacity_factor": 8.0, **EXPERTS}
EXPERT_CHOICE = {"feed_forward": "expert_choice", "capacity_factor": 1.0, **EXPERTS}
SIZES = {"": {"ffn_width": 176}, "_mixture": TOKEN_CHOICE, "_large": {"ffn_width": 1352}}
AR, DLM = ({f"{arm}{name}": model for name, model in SIZES.items()} for arm in ("ar", "dlm"))
DLM["dlm_expert_choice"] = EXPERT_CHOICE
MIXTURES = {"ar_mixture": "ar", "dlm_mixture": "dlm", "dlm_expert_choice": "dlm"}
ORDER = {"dlm_mixture": "dlm", "dlm_large": "dlm_mixture", "ar_mixture": "ar", "ar_large": "ar_mixture"}
SMOKE = {"model": {"size": "0.1m"}}
SMALL = {**SMOKE, "data": {"unique_tokens": 10_000}, "training": {"total_tokens": 800_000}}
LARGE = {"model": {"layers": 12, "width": 256, "heads": 4}, "data": {"unique_tokens": 300_000}}

ABLATION = Ablation(
    name="sparsity",
    question="Is a mixture of experts better than a dense model of its FLOPs, or of its parameters?",
    paper="Ni et al. 2025, arXiv:2511.03276: sparsity, 1B dense, 8B with 1B active, and 8B dense",
    arms={
        name: merge(arm_values(name.split("_")[0]), {"model": model}) for name, model in (AR | DLM).items()
    },
    scales={
        "smoke": Scale({}, seeds=1, budget="about two minutes on 2 cores", values=SMOKE),
        "laptop": Scale({}, seeds=3, budget="about 25 minutes on 2 cores", values=SMALL),
        "night": Scale({}, seeds=3, budget="not measured", values={"data": {"unique_tokens": 100_000}}),
        "gpu": Scale({}, seeds=3, budget="not measured", values=LARGE),
    },
    metric="nll",
    expected="DLM: large dense before mixture before dense. AR: dense before large dense before mixture.",
    primary=Registration(contrasts=pairs(ORDER)),
    sections=(
        Differences(
            contrasts=pairs(MIXTURES),
            title="At equal FLOPs",
            matched=("data", "held_out", "stops", "train_flops"),
        ),
        Differences(
            contrasts=pairs({mixture: f"{arm}_large" for mixture, arm in MIXTURES.items()}),
            title="At equal parameters",
        ),
        Curves(panels={"AR": tuple(AR), "DLM": tuple(DLM)}, x=("epoch", "train_flops")),
    ),
)

"""Does a larger model make masked diffusion overtake autoregression earlier.

    make model-size                   on 2 cores in about 18 minutes
    make model-size PRESET=smoke      in about two minutes: does everything run?

Several sizes at one small budget; AR has others, for the data potential. Equal size is not the fair pairing,
since on so few tokens a small AR may do better: each arm at its best size is compared too. Expected: as in
the paper, a larger AR overfits sooner and is passed earlier, and the DLM alone gains from size. Found
with `laptop`, in the means: a larger AR peaks sooner; the DLM is behind at every size, two of four decided.
"""

from lab.ablation import Ablation, Scale
from lab.arms import arm_values
from lab.registration import Registration
from lab.sections import UNIQUE_TOKENS, Against, Curves, Differences, Quantity, at_best, pairs

SIZE = "model.size"
ABLATION = Ablation(
    name="model-size",
    question="Does a larger model make a DLM overtake AR earlier, at one small budget of unique tokens?",
    paper="Ni et al. 2025, arXiv:2511.03276: the sweep over sizes, 1B to 8B at 1B unique of 96B tokens",
    arms={arm: arm_values(arm) for arm in ("ar", "dlm")},
    scales={
        "smoke": Scale(
            {UNIQUE_TOKENS: (2_000,), SIZE: ("0.1m", "0.3m")},
            seeds=1,
            budget="about two minutes on 2 cores",
            alone={"ar": {UNIQUE_TOKENS: (4_000,)}},
        ),
        "laptop": Scale(
            {UNIQUE_TOKENS: (10_000,), SIZE: ("0.1m", "0.2m", "0.3m", "0.8m")},
            seeds=3,
            budget="about 18 minutes on 2 cores",
            values={"training": {"total_tokens": 600_000}},
            alone={"ar": {UNIQUE_TOKENS: (20_000,)}},
        ),
        "night": Scale({UNIQUE_TOKENS: (100_000,), SIZE: ("0.1m", "0.3m", "0.8m", "3m")}, 3, "not measured"),
        "gpu": Scale(
            {UNIQUE_TOKENS: (1_000_000,), SIZE: ("3m", "10m", "25m", "85m")},
            seeds=3,
            budget="not measured",
            alone={"ar": {UNIQUE_TOKENS: (2_000_000,)}},
        ),
    },
    metric="nll",
    expected="The larger the model, the earlier the DLM passes AR's best; only the DLM gains from size.",
    primary=Registration(contrasts=pairs({"dlm": "ar"})),
    sections=(
        Curves(against={"dlm": "ar"}, marks=("best", "crossing")),
        Differences(contrasts=pairs({"dlm": "ar"}), title="At equal size"),
        Differences(
            contrasts=at_best({"dlm": "ar"}, SIZE),
            matched=("data", "held_out", "stops"),
            title="Each at its best size by validation",
        ),
        Against(x="parameters"),
        Quantity(names=("crossing",), reference="ar"),
        Quantity(names=("data_potential",), reference="ar"),
    ),
)

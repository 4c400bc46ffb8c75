"""With few unique tokens and many epochs, does masked diffusion overtake autoregression.

    make crossover                   on 2 cores in about 17 minutes
    make crossover PRESET=smoke      in under a minute: does everything run?

Both arms see the same number of tokens in total. Only that of unique ones changes; a smaller set is part of a
larger one. AR alone has further budgets, for the data potential. Expected: as in the paper, with the fewest
the DLM ends below AR's best. Found with `laptop` and a quarter of `night`: AR is ahead (decided).
"""

from lab.ablation import Ablation, Scale
from lab.arms import arm_values
from lab.registration import Registration
from lab.sections import UNIQUE_TOKENS, Against, Curves, Differences, Quantity, pairs

ABLATION = Ablation(
    name="crossover",
    question="At how few unique tokens does a DLM overtake AR, when both see equally many tokens in total?",
    paper="Ni et al. 2025, arXiv:2511.03276: the sweep over unique-data budgets, 0.5B to 96B of 96B tokens",
    arms={arm: arm_values(arm) for arm in ("ar", "dlm")},
    scales={
        "smoke": Scale(
            {UNIQUE_TOKENS: (2_000, 4_000)},
            seeds=1,
            budget="under a minute on 2 cores",
            alone={"ar": {UNIQUE_TOKENS: (8_000,)}},
        ),
        "laptop": Scale(
            {UNIQUE_TOKENS: (10_000, 40_000)},
            seeds=3,
            budget="about 17 minutes on 2 cores",
            values={"training": {"total_tokens": 800_000}},
            twins=1,
            alone={"ar": {UNIQUE_TOKENS: (5_000, 20_000)}},
        ),
        "night": Scale({UNIQUE_TOKENS: (100_000,)}, seeds=3, budget="some 4 hours on 2 cores (reckoned)"),
        "gpu": Scale(
            {UNIQUE_TOKENS: (300_000, 1_000_000, 8_000_000)},
            seeds=3,
            budget="not measured",
            alone={"ar": {UNIQUE_TOKENS: (150_000, 600_000, 2_000_000, 4_000_000)}},
        ),
    },
    strong=("ar", "dlm"),
    metric="nll",
    expected="The DLM is ahead at the smallest budget, AR at the largest; more data, a later crossover.",
    primary=Registration(contrasts=pairs({"dlm": "ar"}), levels="first"),
    sections=(
        Curves(against={"dlm": "ar"}, x=("epoch", "train_flops"), marks=("best", "crossing", "equal_tokens")),
        Differences(contrasts=pairs({"dlm": "ar"}), title="At the best stop"),
        Quantity(names=("crossing", "equal_tokens"), reference="ar", title="Where the curves cross"),
        Quantity(
            names=("data_potential",),
            reference="ar",
            note="The paper has more than 3, by accuracy: a DLM on 0.5B unique tokens answers 47.4 % of "
            "HellaSwag, and AR on 1.5B answers 46.6 %.",
        ),
        Against(x=UNIQUE_TOKENS),
    ),
)

"""How much compute does a DLM need at test time to write as well as AR, and to choose as well.

    make inference-compute                   on 2 cores in about 20 minutes
    make inference-compute PRESET=smoke      in about a minute: does everything run?

After training, each arm continues held-out prompts. The DLM does so in n, n/2, ..., 1 passes for n tokens;
an independent judge, AR trained on the whole corpus, says how surprising the texts are: with n passes at
several temperatures, and so at equal entropy. Multiple choice has several numbers of Monte Carlo draws.
Expected: one token a pass costs the DLM about n times AR's FLOPs, and fewer passes cost quality.
Found at laptop scale: the price; at equal entropy its text is behind AR's in every seed, undecided.
"""

from lab.ablation import Ablation, Scale
from lab.arms import arm_values
from lab.config import merge
from lab.registration import Registration
from lab.sections import Against, Frontier, Quantity, Texts, pairs

UNIQUE_TOKENS = "unique_tokens"
TEXT, CHOICE = ("judge_nll", "distinct", "parse_rate"), ("choice_accuracy", "option_gap")
FEW = {"inference": {"prompts": 8, "draws": (1, 2), "choice_items": 8, "temperatures": (0.5, 1.5)}}
SINGLE = "A judge NLL alone misleads: less varied text, as at a low temperature, surprises a judge less."
SMALL = {"data": {UNIQUE_TOKENS: 10_000}, "training": {"total_tokens": 800_000}}
LARGE = {"data": {UNIQUE_TOKENS: 300_000}, "inference": {"prompts": 512}}

ABLATION = Ablation(
    name="inference-compute",
    question="How many times AR's inference FLOPs does a DLM need to match AR's text, and its choices?",
    paper="Ni et al. 2025, arXiv:2511.03276: inference at 16 to 4700 times AR's FLOPs for 16 to 4096 tokens",
    arms={
        "judge": merge(arm_values("ar"), {"data": {UNIQUE_TOKENS: None}}),
        **{arm: arm_values(arm) for arm in ("ar", "dlm", "any_order_ar")},
    },
    scales={
        "smoke": Scale({}, seeds=2, budget="about a minute on 2 cores", values=FEW),
        "laptop": Scale({}, seeds=3, budget="about 20 minutes on 2 cores", values=SMALL),
        "night": Scale({}, 3, "not measured", {"data": {UNIQUE_TOKENS: 100_000}}),
        "gpu": Scale({}, seeds=3, budget="not measured", values=LARGE),
    },
    metric="judge_nll",
    expected="One token a pass costs the DLM as many times AR's FLOPs as there are tokens; fewer, quality.",
    measurements={"inference": "judge"},
    primary=Registration(contrasts=pairs({"dlm": "ar"}), metric="nll"),  # before any price: as good a model
    sections=(
        Frontier(reference="ar", note=SINGLE),
        Against(x="flops", metrics=TEXT, measurement="generation", reference="ar", title="Text"),
        Quantity(
            names=("match_ratio",), measurement="generation", reference="ar", title="To match AR's text"
        ),
        Texts(),
        Against(x="num_draws", metrics=CHOICE, measurement="choice", reference="ar", title="Multiple choice"),
        Quantity(
            names=("match_ratio",),
            measurement="choice",
            metric="choice_accuracy",
            reference="ar",
            title="To match AR's choices",
        ),
    ),
)

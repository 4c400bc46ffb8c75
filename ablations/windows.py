"""What cutting windows anew at each epoch is worth, to AR and to the DLM.

    make windows                     on 2 cores in 17 to 20 minutes
    make windows PRESET=smoke        in about a minute: does everything run?

A corpus that is cut into windows once shows AR each token behind the same context, epoch after epoch; cut
anew, it comes behind others, as in the loader released with the paper. AR, AR with dropout, AR with masked
inputs and the DLM, each under both. Expected: fixed windows cost AR more than any of the paper's three
factors gains, and a DLM, which draws its own contexts, next to nothing.
Found with `laptop`: worth 0.29 nats/token to AR (decided at 5 seeds), for the DLM undecided.
"""

from lab.ablation import Ablation, Scale
from lab.arms import arm_values
from lab.registration import Registration
from lab.sections import Curves, Differences, between_levels, pairs

WINDOWS = "data.windows"
LEVELS = {WINDOWS: ("fixed", "jittered")}
ANEW = ("jittered", "fixed")
SMALL = {"data": {"unique_tokens": 10_000}, "training": {"total_tokens": 800_000}}
ARMS = {
    "ar": arm_values("ar"),
    "ar_dropout": {
        **arm_values("ar"),
        "arm": "ar_dropout",
        "model": {"attention_dropout": 0.3, "mlp_dropout": 0.3},
    },
    "ar_masked": arm_values("ar_masked"),
    "dlm": arm_values("dlm"),
}
OTHERS = dict.fromkeys(("ar_dropout", "ar_masked", "dlm"), "ar")

ABLATION = Ablation(
    name="windows",
    question="What is it worth to AR, and to a DLM, that windows are cut anew at each epoch?",
    paper="Ni et al. 2025, arXiv:2511.03276: its loader cuts anew at each repeat, unmentioned",
    arms=ARMS,
    scales={
        "smoke": Scale(LEVELS, seeds=1, budget="about a minute on 2 cores"),
        "laptop": Scale(LEVELS, seeds=3, budget="about 20 minutes on 2 cores (estimated)", values=SMALL),
        "night": Scale(LEVELS, seeds=3, budget="not measured", values={"data": {"unique_tokens": 100_000}}),
        "gpu": Scale(LEVELS, seeds=3, budget="not measured", values={"data": {"unique_tokens": 300_000}}),
    },
    metric="nll",
    expected="Fixed windows cost AR more than any factor gains it, and the DLM next to nothing.",
    primary=Registration(contrasts=between_levels(("ar", "dlm"), WINDOWS, *ANEW)),
    sections=(
        Differences(contrasts=between_levels(ARMS, WINDOWS, *ANEW), title="Cut anew against fixed"),
        Differences(contrasts=pairs(OTHERS), title="Against AR"),
        Curves(against=OTHERS),
    ),
)

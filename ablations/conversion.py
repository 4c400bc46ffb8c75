"""Is a DLM that is made from AR, or an AR that is made from a DLM, as good as one trained so from the start.

    make conversion                   on 2 cores in 9 to 14 minutes
    make conversion PRESET=smoke      in about two minutes: does everything run?

All arms have the same parameters, so a run can go on from another's best stop under another objective. A
converted run sees half of the tokens before, at most, and half after, so no more than one from scratch, and
the same unique ones. Expected: AR learns fast and the DLM lasts, so a DLM made from AR is ahead of one from
scratch, and an AR made from a DLM is little better than AR, as it overfits all the same.
Found with `laptop`, by the table: a DLM made from AR is ahead of one from scratch and behind AR.
"""

from lab.ablation import Ablation, Scale
from lab.arms import ARMS, arm_values
from lab.registration import Registration
from lab.sections import Curves, Differences, pairs

HALF = {"training": {"total_share": 0.5}}
SMALL = {"data": {"unique_tokens": 10_000}, "training": {"total_tokens": 800_000}}
FROM_SCRATCH = {"dlm_from_ar": "dlm", "ar_from_dlm": "ar"}

ABLATION = Ablation(
    name="conversion",
    question="Is a DLM made from AR, or AR made from a DLM, better than one trained so from the start?",
    paper="Ni et al. 2025, arXiv:2511.03276: both arms from scratch; conversion is not in it",
    arms={
        "ar": arm_values("ar"),
        "dlm": arm_values("dlm"),
        "ar_half": {"factors": ARMS["ar"], **HALF},
        "dlm_half": {"factors": ARMS["dlm"], **HALF},
        "dlm_from_ar": {"factors": ARMS["dlm"], "training": {"total_share": 0.5, "start_from": "ar_half"}},
        "ar_from_dlm": {"factors": ARMS["ar"], "training": {"total_share": 0.5, "start_from": "dlm_half"}},
    },
    scales={
        "smoke": Scale({}, seeds=1, budget="about two minutes on 2 cores"),
        "laptop": Scale({}, seeds=3, budget="about 14 minutes on 2 cores", values=SMALL),
        "night": Scale({}, seeds=3, budget="not measured", values={"data": {"unique_tokens": 100_000}}),
        "gpu": Scale({}, seeds=3, budget="not measured", values={"data": {"unique_tokens": 1_000_000}}),
    },
    metric="nll",
    expected="A DLM made from AR is ahead of one from scratch; an AR made from a DLM gains little.",
    primary=Registration(contrasts=pairs(FROM_SCRATCH)),
    sections=(
        Differences(
            contrasts=(*pairs(FROM_SCRATCH), *pairs({"dlm_from_ar": "ar"})),
            matched=("data", "held_out", "parameters"),  # not stops: halves are half as long
            title="Against one from scratch",
            note="With the tokens before it a conversion has at most as many as one from scratch.",
        ),
        Differences(
            contrasts=pairs({"dlm_from_ar": "dlm_half", "ar_from_dlm": "ar_half"}),
            title="What the start is worth",
            note="The same half of the tokens, from the other arm's weights and from drawn ones.",
        ),
        Curves(panels={"DLM": ("dlm", "dlm_from_ar", "dlm_half"), "AR": ("ar", "ar_from_dlm", "ar_half")}),
    ),
)

"""Is a validation loss that rises an ability that is lost, through overfitting.

    make loss-vs-accuracy                   on 2 cores in about 15 minutes
    make loss-vs-accuracy PRESET=smoke      in about a minute: does everything run?

Both arms train far beyond AR's best stop. Each stop answers 1,000 items: the NLL of their true and of their
wrong options, the gap, the accuracy; and its test NLL is taken again after a temperature is refitted on
validation. Expected: as in the paper, AR's loss rises and its accuracy holds, since the NLL of wrong options
rises as well; the temperature wins back much of the loss, if over-confidence is the cause. Found of AR with
`laptop`: so it is; whether its accuracy holds is undecided. The DLM did not overfit.
"""

from lab.ablation import Ablation, Scale
from lab.arms import arm_values
from lab.registration import Registration
from lab.sections import Against, Curves, Differences, Quantity, over_best

ARMS = ("ar", "dlm")
CHOICE = ("choice_accuracy", "option_gap", "choice_true_nll", "choice_wrong_nll")
LOSS = ("nll", "nll_calibrated", "temperature")
# 1,000 items of 4 options of 6 tokens are 24,000 rows a stop for the DLM: 22 s of one core.
SMALL = {
    "data": {"unique_tokens": 5_000},
    "training": {"total_tokens": 800_000},
    "evaluation": {"choice_items": 1_000},
}
LARGE = {"training": {"kept_megabytes": 8192}, "evaluation": {"choice_items": 1_000}}

ABLATION = Ablation(
    name="loss-vs-accuracy",
    question="While the validation loss rises through overfitting, does multiple-choice accuracy fall?",
    paper="Ni et al. 2025, arXiv:2511.03276: rising validation loss does not imply worse accuracy",
    arms={arm: arm_values(arm) for arm in ARMS},
    scales={
        "smoke": Scale({}, seeds=1, budget="about a minute on 2 cores"),
        "laptop": Scale({}, seeds=3, budget="about 15 minutes on 2 cores", values=SMALL),
        "night": Scale(
            {}, seeds=3, budget="not measured", values={"data": {"unique_tokens": 100_000}, **LARGE}
        ),
        "gpu": Scale(
            {}, seeds=3, budget="not measured", values={"data": {"unique_tokens": 300_000}, **LARGE}
        ),
    },
    metric="choice_accuracy",
    expected="AR's loss rises while its accuracy holds, as the NLL of wrong options rises too.",
    measurements={"ability": ""},
    primary=Registration(contrasts=over_best(ARMS), place="end", margin=0.02),
    sections=(
        Curves(metric="nll", against={"dlm": "ar"}, marks=("best", "onset")),
        Differences(
            contrasts=over_best(ARMS),
            metrics=(*CHOICE, "nll", "nll_calibrated"),
            at=("end",),
            title="The last stop against the best",
        ),
        Against(x="epoch", metrics=CHOICE, at="every", title="Multiple choice through overfitting"),
        Against(x="epoch", metrics=LOSS, at="every", title="The loss, and what one temperature wins back"),
        Quantity(names=("onset",), metric="nll", title="Where overfitting begins"),
    ),
)

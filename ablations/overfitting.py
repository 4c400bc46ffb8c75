"""When does a DLM overfit, at which unique tokens and size, and what do both arms memorise.

    make overfitting                   on 2 cores; not measured, by count in about 20 minutes
    make overfitting PRESET=smoke      in about a minute: does everything run?

Both arms see tiny budgets for up to 480 epochs; a run ends after two stops in a row that are worse than its
best, so AR, which overfits in tens of epochs, ends early. The onset is fitted as U^a / N^b and predicted for
the largest budget and size, which the fit leaves out. Of the best and the last stop: the NLL of training
windows, and how many of them greedy sampling writes exactly, with held-out windows as the control.
Expected: AR overfits first; the DLM later with more tokens and earlier with more parameters, and it
memorises less at equal loss, the less the fewer passes it samples in.
"""

from lab.ablation import Ablation, Scale
from lab.arms import arm_values
from lab.registration import Registration
from lab.sections import UNIQUE_TOKENS, Against, Curves, Differences, Fit, Quantity, over_best, pairs

SIZE = "model.size"
KEPT = ("train_nll", "nll", "extraction_rate", "extraction_rate_held_out")
EXTRACTION = ("extraction_rate", "extraction_rate_held_out")
LONG = {"total_epochs": 480, "patience": 2}
STOPS = {"stops": 12, "stop_ratio": 1.6}  # the first after 2.7 of 480 epochs
NO_STOPS = ("data", "held_out", "parameters")  # as runs that end early have others

ABLATION = Ablation(
    name="overfitting",
    question="After how many epochs does a DLM overfit, and what have AR and the DLM memorised by then?",
    paper="Ni et al. 2025, arXiv:2511.03276: the DLM overfits too, later with more data; Luo 2026, arXiv:2603.02333",
    arms={arm: arm_values(arm) for arm in ("ar", "dlm")},
    scales={
        "smoke": Scale(
            {UNIQUE_TOKENS: (500, 1_000), SIZE: ("0.1m", "0.3m")},
            seeds=1,
            budget="about a minute on 2 cores",
            values={"training": {"total_epochs": 12}, "memorisation": {"windows": 8}},
        ),
        "laptop": Scale(
            {UNIQUE_TOKENS: (1_500, 3_000, 6_000), SIZE: ("0.1m", "0.3m")},
            seeds=2,
            budget="not measured",
            values={
                "training": {"batch_size": 16, **LONG},
                "evaluation": STOPS,
                "memorisation": {"windows": 20},
            },
        ),
        "night": Scale(
            {UNIQUE_TOKENS: (4_000, 16_000, 64_000), SIZE: ("0.1m", "0.3m", "0.8m")},
            seeds=3,
            budget="not measured",
            values={"training": {"total_epochs": 1_000, "patience": 2}, "evaluation": STOPS},
        ),
        "gpu": Scale(
            {UNIQUE_TOKENS: (100_000, 300_000, 1_000_000), SIZE: ("3m", "10m", "25m")},
            seeds=3,
            budget="not measured",
            values={"training": {**LONG, "kept_megabytes": 8192}, "evaluation": STOPS},
        ),
    },
    metric="nll",
    expected="The DLM overfits after hundreds of epochs, later with more tokens and earlier with more parameters.",
    measurements={"memorisation": ""},
    primary=Registration(contrasts=pairs({"dlm": "ar"}), levels="first"),
    sections=(
        Curves(against={"dlm": "ar"}, marks=("best", "onset")),
        Quantity(names=("onset",), title="Where overfitting begins"),
        Fit(
            y="onset",
            x=(UNIQUE_TOKENS, "parameters"),
            held_out="last",
            published={UNIQUE_TOKENS: 0.39, "parameters": -0.55},
            published_by="Quokka",
        ),
        Differences(contrasts=pairs({"dlm": "ar"}), matched=NO_STOPS, title="At the best stop"),
        Differences(
            contrasts=over_best(("ar", "dlm")),
            metrics=("train_nll", "extraction_rate"),
            at=("end",),
            title="What is memorised after the best stop",
        ),
        Against(x=UNIQUE_TOKENS, metrics=KEPT, matched=NO_STOPS, title="Memorised at the best stop"),
        Against(x=UNIQUE_TOKENS, metrics=KEPT, matched=NO_STOPS, at="end", title="Memorised at the end"),
        Against(
            x="steps",
            metrics=EXTRACTION,
            measurement="extraction",
            levels="first",
            matched=NO_STOPS,
            title="Exact extraction by sampling passes",
        ),
    ),
)

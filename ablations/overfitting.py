"""When does a DLM overfit, at which unique tokens and size, and what do both arms memorise.

    make overfitting                   on 2 cores in about 20 minutes
    make overfitting PRESET=smoke      in about two minutes: does everything run?

Both arms see tiny budgets for up to 480 epochs; a run ends after two stops in a row that are worse than its
best. The onset is fitted as U^a / N^b, without the largest budget and size, which it then predicts. Of the
best and the last stop: the NLL of training windows, and how many of them greedy sampling writes exactly.
Expected: AR overfits in tens of epochs, the DLM in hundreds, later with more tokens and earlier with more
parameters; it memorises less at equal loss, the less the fewer passes it samples in. Found: it overfits later
than AR, is behind AR's best at all settings, and memorises little.
"""

from lab.ablation import Ablation, Scale
from lab.arms import arm_values
from lab.registration import Registration
from lab.sections import UNEVEN, UNIQUE_TOKENS, Against, Curves, Differences, Fit, Quantity, over_best, pairs

SIZE, ARMS = "model.size", ("ar", "dlm")
RATES = ("extraction_rate", "extraction_rate_held_out")
LONG = {"total_epochs": 480, "patience": 2}
STOPS = {"stops": 12, "stop_ratio": 1.6}  # the first after 2.7 of 480 epochs
FEW = {"training": {"total_epochs": 12}, "memorisation": {"windows": 8}}
TINY = {"training": {"batch_size": 16, **LONG}, "evaluation": STOPS, "memorisation": {"windows": 15}}
HOURS = {"training": {**LONG, "total_epochs": 1_000}, "evaluation": STOPS, "memorisation": {"windows": 60}}
LARGE = {"training": {"kept_megabytes": 8192, **LONG}, "evaluation": STOPS}
SMALL, MORE, LARGER = ("0.1m", "0.3m"), ("0.1m", "0.3m", "0.8m"), ("3m", "10m", "25m")
QUOKKA = {UNIQUE_TOKENS: 0.39, "parameters": -0.55}  # exponents of the onset

ABLATION = Ablation(
    name="overfitting",
    question="After how many epochs does a DLM overfit, and what have AR and the DLM memorised by then?",
    paper="Ni et al. 2025, arXiv:2511.03276: the DLM overfits too, later with more unique data",
    arms={arm: arm_values(arm) for arm in ARMS},
    scales={
        "smoke": Scale({UNIQUE_TOKENS: (500, 1_000), SIZE: SMALL}, 1, "about two minutes on 2 cores", FEW),
        "laptop": Scale(
            {UNIQUE_TOKENS: (1_000, 2_000, 4_000), SIZE: SMALL}, 3, "about 20 minutes on 2 cores", TINY
        ),
        "night": Scale({UNIQUE_TOKENS: (4_000, 16_000, 64_000), SIZE: MORE}, 3, "not measured", HOURS),
        "gpu": Scale({UNIQUE_TOKENS: (10**5, 3 * 10**5, 10**6), SIZE: LARGER}, 3, "not measured", LARGE),
    },
    metric="nll",
    expected="AR overfits first; the DLM later with more tokens, and earlier with more parameters.",
    measurements={"memorisation": ""},
    primary=Registration(contrasts=pairs({"dlm": "ar"}), levels="first"),
    sections=(
        Curves(against={"dlm": "ar"}, marks=("best", "onset")),
        Quantity(names=("onset",), title="Where overfitting begins"),
        Fit(y="onset", x=tuple(QUOKKA), held_out="last", published=QUOKKA, published_by="Quokka"),
        Differences(contrasts=pairs({"dlm": "ar"}), matched=UNEVEN),
        Differences(
            contrasts=over_best(ARMS), metrics=("train_nll", RATES[0]), at=("end",), title="Memorised"
        ),
        Against(x=UNIQUE_TOKENS, metrics=("train_nll", "nll", *RATES), at="end", matched=UNEVEN),
        Against(x="steps", metrics=RATES, measurement="extraction", levels="first", matched=UNEVEN),
    ),
)

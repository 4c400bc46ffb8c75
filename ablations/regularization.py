"""Does the crossover survive an AR that is regularised and tuned as hard as the DLM.

    make regularization                 on 2 cores in about 45 minutes
    make regularization PRESET=smoke    in about two minutes: does everything run?

AR and the DLM on few unique tokens, at three weight decays, without and with dropout (attention and MLP
alike), and each tuned at equal budget: learning rate, weight decay and both dropouts, chosen on validation
by as many trials for AR as for the DLM, then judged on fresh seeds. Expected: the regularised and tuned AR
gains more than the DLM does (Gao et al.: AR with dropout is ahead), so that little of the crossover is left.
Found with `laptop`: AR is ahead in every seed, tuned or not (tuned: undecided by little).
"""

from lab.ablation import Ablation, Scale
from lab.arms import ARMS
from lab.registration import Registration
from lab.sections import compare, pairs

STOPS = {"evaluation": {"stops": 6}}
SMALL = {"data": {"unique_tokens": 10_000}, "training": {"total_tokens": 1_000_000}, **STOPS}
NIGHT = {"data": {"unique_tokens": 100_000}, "training": {"total_tokens": 20_000_000}}
LARGE = {"data": {"unique_tokens": 300_000}}
DECAYS = (0.1, 1.0, 3.2)
DROPOUTS = (0.0, 0.2)
SETTINGS = {
    f"wd{decay:g}_drop{round(100 * dropout)}": {
        "training": {"weight_decay": decay},
        "model": {"attention_dropout": dropout, "mlp_dropout": dropout},
    }
    for decay in DECAYS
    for dropout in DROPOUTS
}
TUNED = ("ar_tuned", "dlm_tuned")

ABLATION = Ablation(
    name="regularization",
    question="Does the DLM still overtake an AR that is regularised, and tuned, as hard as the DLM is?",
    paper="Ni et al. 2025, arXiv:2511.03276: AR is not tuned in it; against it Gao et al., arXiv:2510.04071",
    arms={
        "ar_tuned": {"factors": ARMS["ar"]},
        "dlm_tuned": {"factors": ARMS["dlm"]},
        **{
            f"{arm}_{name}": {"factors": ARMS[arm], **values}
            for name, values in SETTINGS.items()
            for arm in ("ar", "dlm")
        },
    },
    scales={
        "smoke": Scale({}, seeds=1, budget="about two minutes on 2 cores", tune=3),
        "laptop": Scale({}, seeds=3, budget="about 45 minutes on 2 cores", values=SMALL, tune=12),
        "night": Scale({}, seeds=3, budget="not measured", values=NIGHT, tune=12),
        "gpu": Scale({}, seeds=3, budget="not measured", values=LARGE, tune=24),
    },
    metric="nll",
    expected="A regularised and tuned AR gains more than the DLM does; little of the crossover is left.",
    primary=Registration(contrasts=pairs({"dlm_tuned": "ar_tuned"})),
    sections=compare({"dlm_tuned": "ar_tuned", **{f"dlm_{name}": f"ar_{name}" for name in SETTINGS}}),
    tuned=TUNED,
)

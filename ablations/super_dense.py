"""Same data, more compute: does it help, and is it what makes a dense pass better.

    make super-dense                 on 2 cores; docs/results.md has the time
    make super-dense PRESET=smoke    in about a minute: does everything run?

Compute without parameters or data: dense passes in place of causal ones at equal draws, R passes a visit
with a draw each, the block stack applied r times. The page has the curves against epochs, FLOPs and time.
Expected: the factor stands if more compute on the same data lowers the loss, and falls if it does not.
Found with `laptop`: undecided. More passes help the DLM in every seed, at equal FLOPs fewer are ahead in the
means; loops bring nothing in the means.
"""

from lab.ablation import Ablation, Scale
from lab.arms import ARMS, arm_values
from lab.registration import Registration
from lab.sections import compare, pairs

SMALL = {"data": {"unique_tokens": 10_000}, "training": {"total_tokens": 600_000}, "evaluation": {"stops": 6}}
PASSES = {f"{arm}_passes_{count}": (arm, count) for arm in ("dlm", "any_order_ar") for count in (2, 4)}
LOOPS = {f"{arm}_loops_{count}": (arm, count) for arm in ("ar", "dlm") for count in (2, 4)}

ABLATION = Ablation(
    name="super-dense",
    question="Does more compute on the same data and parameters lower the loss, for AR and for the DLM?",
    paper="Ni et al. 2025, arXiv:2511.03276: super-dense compute, credited and not varied at fixed data",
    arms={
        **{arm: arm_values(arm) for arm in ("ar", "any_order_ar", "dlm", "suffix_denoiser")},
        **{name: {"factors": {**ARMS[arm], "passes": count}} for name, (arm, count) in PASSES.items()},
        **{name: {"factors": ARMS[arm], "model": {"loops": count}} for name, (arm, count) in LOOPS.items()},
    },
    scales={
        "smoke": Scale({}, seeds=1, budget="about a minute on 2 cores"),
        "laptop": Scale({}, seeds=3, budget="about 45 minutes on 2 cores", values=SMALL),
        "night": Scale({}, seeds=3, budget="not measured", values={"data": {"unique_tokens": 100_000}}),
        "gpu": Scale({}, seeds=3, budget="not measured", values={"data": {"unique_tokens": 300_000}}),
    },
    metric="nll",
    expected="Unregularised AR gains nothing from loops; the DLM gains from passes, at their full price.",
    primary=Registration(contrasts=pairs({"dlm_passes_4": "dlm", "ar_loops_4": "ar"})),
    sections=compare(
        {
            "dlm": "any_order_ar",
            "suffix_denoiser": "ar",
            **{name: arm for name, (arm, _) in (PASSES | LOOPS).items()},
        }
    ),
)

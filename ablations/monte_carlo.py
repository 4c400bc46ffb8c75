"""How many draws does each sequence need, of which noise levels, and how often.

    make monte-carlo                 on 2 cores; docs/results.md has the time
    make monte-carlo PRESET=smoke    in about a minute: does everything run?

Visit v of a text uses draw v mod K: K = 1 freezes one mask (or one order) of it, K = inf never repeats one.
Expected: if new draws carry the DLM, a small K overfits as AR does (no published test of this is known).
Found with `laptop`: K = 1 does (it also leaves tokens untaught); K = 4 and more cannot be told from inf.
"""

from lab.ablation import Ablation, Scale
from lab.arms import ARMS, arm_values
from lab.config import Values
from lab.registration import Registration
from lab.sections import compare, pairs

COUNTS = (1, 4, 16, 64)
SMALL = {"data": {"unique_tokens": 10_000}, "training": {"total_tokens": 800_000}, "evaluation": {"stops": 6}}
NIGHT = {"data": {"unique_tokens": 100_000}, "training": {"total_tokens": 20_000_000}}

# What changes against `dlm`: the number of draws, pairs, when they are drawn, and how many tokens are hidden.
DLM: dict[str, Values] = {
    **{f"dlm_k{count}": {"draws": count} for count in COUNTS},
    "dlm_k2_pairs": {"draws": 2, "complementary": True},
    "dlm_pairs": {"complementary": True},
    "dlm_per_epoch": {"redraw": "epoch"},
    "dlm_low": {"noise_window": "low"},
    "dlm_mid": {"noise_window": "mid"},
    "dlm_high": {"noise_window": "high"},
    "dlm_15_percent": {"noise_window": "fixed:0.15"},
}
ANY_ORDER_AR: dict[str, Values] = {f"any_order_ar_k{count}": {"draws": count} for count in COUNTS}

ABLATION = Ablation(
    name="monte-carlo",
    question="How many draws of masks does a DLM need for each sequence, and does any-order AR need as many?",
    paper="Ni et al. 2025, arXiv:2511.03276: Monte Carlo augmentation, credited and not tested on the DLM",
    arms={
        "dlm": arm_values("dlm"),
        **{name: {"factors": {**ARMS["dlm"], **change}} for name, change in DLM.items()},
        "any_order_ar": arm_values("any_order_ar"),
        **{name: {"factors": {**ARMS["any_order_ar"], **change}} for name, change in ANY_ORDER_AR.items()},
    },
    scales={
        "smoke": Scale({}, seeds=1, budget="about a minute on 2 cores"),
        "laptop": Scale({}, seeds=3, budget="about 45 minutes on 2 cores", values=SMALL),
        "night": Scale({}, seeds=3, budget="not measured", values=NIGHT),
        "gpu": Scale({}, seeds=3, budget="not measured", values={"data": {"unique_tokens": 300_000}}),
    },
    metric="nll",
    expected="Fewer draws overfit sooner; a frozen draw a window is as bad as AR, 16 are near endless ones.",
    primary=Registration(contrasts=pairs({"dlm_k16": "dlm", "any_order_ar_k16": "any_order_ar"})),
    sections=compare({**dict.fromkeys(DLM, "dlm"), **dict.fromkeys(ANY_ORDER_AR, "any_order_ar")}),
)

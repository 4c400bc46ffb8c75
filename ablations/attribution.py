"""Which of the diffusion model's three advantages earns its gain over autoregression.

    make attribution                 on 2 cores in 20 to 40 minutes
    make attribution PRESET=smoke    in about a minute: does everything run?

The eight corners of the cube (any-order modelling, super-dense compute, Monte Carlo augmentation: off or on)
and two controls, all else equal (docs/cube.md). The gain from `ar` to `dlm` is divided. Expected: not known.
Found: no gain to divide. Order or compute alone costs, given the other it helps; new draws help (decided).
"""

from lab.ablation import Ablation, Scale
from lab.arms import ARMS, arm_values
from lab.registration import Registration
from lab.sections import Curves, Differences, Factorial, pairs

METRICS = ("nll", "choice_accuracy", "option_gap")
PANELS = {
    "left to right, causal": ("ar", "ar_masked", "ar_masked_frozen"),
    "any order, causal": ("order_frozen", "any_order_ar"),
    "left to right, dense": ("suffix_frozen", "suffix_denoiser"),
    "any order, dense": ("dlm_frozen", "dlm_complementary", "dlm"),
}

ABLATION = Ablation(
    name="attribution",
    question="Which earns the gain of a DLM over AR: any-order modelling, super-dense compute or new draws?",
    paper="Ni et al. 2025, arXiv:2511.03276: the three factors that it credits and does not separate",
    arms={arm: arm_values(arm) for arm in ARMS},
    scales={
        "smoke": Scale({}, seeds=2, budget="about a minute on 2 cores"),
        "laptop": Scale(
            {},
            seeds=3,
            budget="20 to 40 minutes on 2 cores",
            values={"data": {"unique_tokens": 10_000}, "training": {"total_tokens": 1_200_000}},
        ),
        "night": Scale({}, seeds=3, budget="not measured", values={"data": {"unique_tokens": 100_000}}),
        "gpu": Scale({}, seeds=5, budget="not measured", values={"data": {"unique_tokens": 300_000}}),
    },
    metric="nll",
    expected="Not known: no published experiment separates the three.",
    primary=Registration(contrasts=pairs({"dlm": "ar"})),
    sections=(
        Factorial(metrics=METRICS),
        Differences(
            contrasts=pairs({"ar_masked_frozen": "ar", "ar_masked": "ar_masked_frozen"}),
            metrics=METRICS,
            title="Control: masks on AR, frozen and fresh",
            note="On AR the cube adds masks and renews them at once; the control adds and freezes them.",
        ),
        Differences(
            contrasts=pairs({"dlm_complementary": "dlm_frozen", "dlm": "dlm_complementary"}),
            metrics=METRICS,
            title="Control: every token supervised",
            note="A frozen dense draw teaches only what it hides, half of them, so draws on also brings "
            "every token under supervision. The control has two frozen draws, a mask and its complement.",
        ),
        Curves(panels=PANELS),
    ),
)

"""How many factorization orders does it take, and does it matter whether the pass is causal or dense.

    make any-order                 on 2 cores; docs/results.md has the time
    make any-order PRESET=smoke    in about a minute: does everything run?

A dose of orders: left to right, 1, 4, 16 or 256 fixed random permutations, a new one at each visit; and a
share of windows read right to left. Expected: the loss falls with the number of orders (Prabhudesai et al.
2025: 16, natural order among them, come near masked diffusion), and one random order is worse than natural.
Found with `laptop`: orders help a dense pass and cost a causal one, which is best left to right (both
decided, within 80 epochs); in the means one fixed order brings a dense pass most of it.
"""

from lab.ablation import Ablation, Scale
from lab.registration import Registration
from lab.sections import compare, pairs

SMALL = {"data": {"unique_tokens": 10_000}, "training": {"total_tokens": 800_000}, "evaluation": {"stops": 6}}
NIGHT = {"data": {"unique_tokens": 100_000}, "training": {"total_tokens": 20_000_000}}
ORDERS = {
    "left_to_right": "left_to_right",
    **{f"fixed_{count}": f"fixed:{count}" for count in (1, 4, 16, 256)},
    "any": "any",
    "right_to_left_half": "right_to_left:0.5",
}
COMPUTE = ("causal", "dense")

ABLATION = Ablation(
    name="any-order",
    question="How many orders must a model be trained on to resist overfitting, causal or dense?",
    paper="Ni et al. 2025, arXiv:2511.03276, any-order modelling; Prabhudesai et al. 2025, arXiv:2507.15857",
    arms={
        f"{compute}_{name}": {"factors": {"order": order, "compute": compute}}
        for compute in COMPUTE
        for name, order in ORDERS.items()
    },
    scales={
        "smoke": Scale({}, seeds=1, budget="about a minute on 2 cores"),
        "laptop": Scale({}, seeds=3, budget="about 30 minutes on 2 cores", values=SMALL),
        "night": Scale({}, seeds=3, budget="not measured", values=NIGHT),
        "gpu": Scale({}, seeds=3, budget="not measured", values={"data": {"unique_tokens": 300_000}}),
    },
    metric="nll",
    expected="More orders, less overfitting; one random order is worse than left to right.",
    primary=Registration(
        contrasts=pairs({f"{compute}_any": f"{compute}_left_to_right" for compute in COMPUTE})
    ),
    sections=compare(
        {
            f"{compute}_{name}": f"{compute}_left_to_right"
            for compute in COMPUTE
            for name in ORDERS
            if name != "left_to_right"
        }
    ),
)

"""How does the size of blocks lead from autoregression to masked diffusion.

    make block-diffusion                  on 2 cores in about 20 minutes
    make block-diffusion PRESET=smoke     in about a minute: does everything run?

Blocks of B tokens are modelled left to right, the tokens within one by masked diffusion: at B = 1 each from
all before it, as in AR, but from a mask in a second stream of as many slots, which doubles the FLOPs. With
one block it is the DLM. Expected: NLL between AR's and the DLM's, nearer AR's the smaller the blocks. Found
with `laptop`: so it is in every seed of short runs, though B = 1 is behind AR.
"""

from lab.ablation import Ablation, Scale
from lab.arms import ARMS, arm_values
from lab.registration import Registration
from lab.sections import UNIQUE_TOKENS, Against, Contrast, Curves, Differences, Quantity

BLOCK, SIZES, WINDOW = "factors.block", (1, 4, 16), "window"
ONE, ALONE, NOTE = {BLOCK: (WINDOW,)}, {"blocks": {BLOCK: SIZES}}, "One block for the window is the DLM."
AGAINST_AR, AGAINST_DLM = (
    tuple(
        Contrast(arm="blocks", reference=reference, level={BLOCK: size}, reference_level={BLOCK: WINDOW})
        for size in sizes
    )
    for reference, sizes in (("ar", (*SIZES, WINDOW)), ("blocks", SIZES))
)

ABLATION = Ablation(
    name="block-diffusion",
    question="Between AR and the DLM, which size of blocks makes the most of few unique tokens?",
    paper="Arriola et al. 2025, arXiv:2503.09573: block diffusion between AR and diffusion, on ample data",
    arms={"ar": arm_values("ar"), "blocks": {"factors": ARMS["dlm"]}},
    scales={
        "smoke": Scale(
            {UNIQUE_TOKENS: (2_000,), **ONE}, seeds=1, budget="about a minute on 2 cores", alone=ALONE
        ),
        "laptop": Scale(
            {UNIQUE_TOKENS: (10_000, 40_000), **ONE},
            seeds=3,
            budget="about 20 minutes on 2 cores",
            values={"training": {"total_tokens": 400_000}},
            alone={**ALONE, "ar": {UNIQUE_TOKENS: (20_000, 80_000)}},
        ),
        "night": Scale({UNIQUE_TOKENS: (100_000,), **ONE}, seeds=3, budget="not measured", alone=ALONE),
        "gpu": Scale(
            {UNIQUE_TOKENS: (300_000, 8_000_000), **ONE},
            seeds=3,
            budget="not measured",
            alone={**ALONE, "ar": {UNIQUE_TOKENS: (600_000, 1_000_000, 2_000_000)}},
        ),
    },
    metric="nll",
    expected="NLL between AR's and the DLM's, nearer AR's the smaller the blocks.",
    primary=Registration(contrasts=AGAINST_AR),
    sections=(
        Against(x=BLOCK, note=NOTE, title="NLL against the size of blocks"),
        Differences(contrasts=(*AGAINST_AR, *AGAINST_DLM), title="Blocks against AR and the DLM", note=NOTE),
        Quantity(names=("data_potential",), reference="ar", note=NOTE),
        Curves(),
    ),
)

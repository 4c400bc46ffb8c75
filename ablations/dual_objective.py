"""Does a model that is trained both left to right and by masked diffusion beat one trained either way.

    make dual-objective                  on 2 cores in about 20 minutes
    make dual-objective PRESET=smoke     in about two minutes: does everything run?

A share of the rows of every batch trains on the AR loss, the rest on the DLM's, through the same weights; a
share of 0 is `dlm`, of 1 is `ar`. Both arms train so and are read in one of two ways, in dense passes or in a
causal one; at the ends they are one and the same run. The fewer unique tokens, the more often each is seen.
Expected: as in the paper, a share in between is best, a small one where text is repeated often. Found with
`laptop`, in the means at 10 and 40 epochs: the more of AR the better.
"""

from lab.ablation import Ablation, Scale
from lab.arms import ARMS
from lab.registration import Registration
from lab.sections import UNIQUE_TOKENS, Against, Curves, Differences, between_levels

SHARE = "factors.ar_share"
READINGS = ("dense", "causal")
SHARES = (0.0, 0.25, 0.75, 1.0)
CONTRASTS = tuple(
    contrast
    for share in SHARES[1:-1]
    for end in (0.0, 1.0)
    for contrast in between_levels(READINGS, SHARE, share, end)
)

ABLATION = Ablation(
    name="dual-objective",
    question="Which share of AR's loss beside the DLM's is best, and how does it fall with repetition?",
    paper="Samuel and Charpentier 2025, arXiv:2512.14549: AR and masked diffusion mixed beat either alone",
    arms={read_as: {"factors": {**ARMS["dlm"], "read_as": read_as}} for read_as in READINGS},
    scales={
        "smoke": Scale(
            {UNIQUE_TOKENS: (2_000,), SHARE: SHARES}, seeds=1, budget="about two minutes on 2 cores"
        ),
        "laptop": Scale(
            {UNIQUE_TOKENS: (10_000, 40_000), SHARE: SHARES},
            seeds=3,
            budget="about 20 minutes on 2 cores",
            values={"training": {"total_tokens": 400_000}},
        ),
        "night": Scale({UNIQUE_TOKENS: (100_000, 1_000_000), SHARE: SHARES}, seeds=3, budget="not measured"),
        "gpu": Scale({UNIQUE_TOKENS: (1_000_000, 8_000_000), SHARE: SHARES}, seeds=3, budget="not measured"),
    },
    metric="nll",
    expected="A share in between beats both ends; the more repeats, the smaller the best share of AR.",
    primary=Registration(
        contrasts=(
            *between_levels(("dense",), SHARE, 0.25, 0.0),
            *between_levels(("causal",), SHARE, 0.75, 1.0),
        )
    ),
    sections=(
        Against(x=SHARE, title="NLL against the share of AR"),
        Differences(contrasts=CONTRASTS, title="Against the DLM (share 0) and AR (share 1)"),
        Curves(marks=("best", "onset")),
        Against(x=UNIQUE_TOKENS),
    ),
)

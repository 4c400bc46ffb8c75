"""Does better text help AR more than a DLM, and does it delay the crossover.

    make data-quality                 on 2 cores in about 15 minutes
    make data-quality PRESET=smoke    in about two minutes: does everything run?

Each tier of the training split gives as many unique tokens, and held-out text is the same for all. Python
source is judged by its share of documentation, your records by `data.quality_field` (lab/data/quality.py). A
tier is text of another kind, too, not of another worth alone. Expected: as in the paper, both arms gain from
quality, AR more, and the DLM overtakes AR slightly later. Found: undecided, and the DLM overtakes AR nowhere.
"""

from lab.ablation import Ablation, Scale
from lab.arms import arm_values
from lab.registration import Registration
from lab.sections import Curves, Differences, Interaction, Quantity, between_levels, pairs

ARMS = ("ar", "dlm")
QUALITY = "data.quality"
TIERS = {QUALITY: ("low", "medium", "high")}
EPOCHS = {"training": {"total_epochs": 96}}  # as in the paper

ABLATION = Ablation(
    name="data-quality",
    question="Does AR gain more from better text than a DLM, and does the DLM overtake it later there?",
    paper="Ni et al. 2025, arXiv:2511.03276: text of low, medium and high quality, 96 epochs of each",
    arms={arm: arm_values(arm) for arm in ARMS},
    scales={
        "smoke": Scale(TIERS, seeds=1, budget="about two minutes on 2 cores"),
        "laptop": Scale(
            TIERS,
            seeds=3,
            budget="about 15 minutes on 2 cores",
            values={"data": {"unique_tokens": 10_000}, **EPOCHS},
        ),
        "night": Scale(
            TIERS, seeds=3, budget="not measured", values={"data": {"unique_tokens": 100_000}, **EPOCHS}
        ),
        "gpu": Scale(
            TIERS, seeds=3, budget="not measured", values={"data": {"unique_tokens": 1_000_000}, **EPOCHS}
        ),
    },
    strong=ARMS,
    metric="nll",
    expected="Both gain from quality, AR more; the better the text, the later the crossover.",
    primary=Registration(contrasts=between_levels(ARMS, QUALITY, "high", "low")),
    sections=(
        Interaction(arm="ar", reference="dlm", key=QUALITY, level="high", reference_level="low"),
        Curves(against={"dlm": "ar"}, marks=("best", "crossing")),
        Quantity(names=("crossing", "best_level"), reference="ar", title="Where the curves cross"),
        Differences(
            contrasts=tuple(
                one for tier in ("high", "medium") for one in between_levels(ARMS, QUALITY, tier, "low")
            ),
            matched=("held_out", "parameters", "stops"),
            title="Better text against the worst",
        ),
        Differences(contrasts=pairs({"dlm": "ar"}), title="The DLM against AR on each text"),
    ),
)

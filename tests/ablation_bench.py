"""What the tests share that need an ablation: a tiny one, and a preset for it."""

from lab.ablation import Ablation, Scale
from lab.arms import arm_values
from lab.sections import compare

TINY = {
    "data": {"length": 16},
    "model": {"size": "0.1m"},
    "training": {"total_tokens": 1024},
    "evaluation": {"choice_context_tokens": 8, "choice_option_tokens": 8},
}


def tiny_ablation(**changes):
    declared = {
        "name": "tiny",
        "question": "Does it run?",
        "paper": "none",
        "arms": {arm: arm_values(arm) for arm in ("ar", "dlm")},
        "scales": {"tiny": Scale({"data.unique_tokens": (1000, 2000)}, seeds=1, budget="no time")},
        "metric": "nll",
        "expected": "It does.",
        "sections": compare({"dlm": "ar"}),
    }
    return Ablation(**{**declared, **changes})

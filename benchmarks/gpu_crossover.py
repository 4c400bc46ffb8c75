"""Crossover on one GPU that is lent for minutes: as many seeds as a small model leaves time for.

    lab ablate benchmarks/gpu_crossover.py --preset gpu        on one H100; not measured yet
    lab ablate benchmarks/gpu_crossover.py --preset smoke      in about a minute on 2 cores

The runs of an arm are trained together, in populations (docs/cluster.md). The time, reckoned: a dense
training pass of this model is 20 MFLOP a token, so at a fifth of an H100's 990 TFLOP/s a population would see
10 M tokens/s. Half of that is reckoned with. 45 runs of 12 M tokens, and a quarter more for the branches of
stops, are 675 M tokens: 135 s. The corpus takes 40 s; three compilations and measuring 60 s: 235 s.
Expected: at the fewest unique tokens AR overfits within the run; AR on masked inputs and the DLM do not yet.
"""

from dataclasses import replace

from lab.ablation import Scale, load_ablation
from lab.arms import arm_values
from lab.sections import UNIQUE_TOKENS, Against, Curves, Differences, pairs

CROSSOVER = load_ablation("crossover")
CONTRASTS = {"dlm": "ar", "ar_masked": "ar"}
SHORT = {
    "model": {"size": "3m"},
    "training": {
        **{"batch_size": 64, "total_tokens": 12_000_000, "learning_rate": 0.001, "warmup_steps": 50},
        **{"log_steps": 50, "checkpoint_steps": 250, "kept_megabytes": 0},
    },
    "evaluation": {"stops": 7, "validation_windows": 64, "test_windows": 128, "exact_windows": 32},
}

ABLATION = replace(
    CROSSOVER,
    name="gpu-crossover",
    arms={arm: arm_values(arm) for arm in ("ar", "ar_masked", "dlm")},
    scales={
        "smoke": Scale({UNIQUE_TOKENS: (2_000,)}, seeds=1, budget="under a minute on 2 cores"),
        "gpu": Scale(
            {UNIQUE_TOKENS: (100_000, 300_000, 1_000_000)},
            seeds=5,
            budget="about 4 minutes on one H100, not measured",
            values=SHORT,
        ),
    },
    strong=(),
    sections=(
        Curves(against=CONTRASTS, x=("epoch",), marks=("best", "crossing")),
        Differences(contrasts=pairs(CONTRASTS), title="At the best stop"),
        Against(x=UNIQUE_TOKENS),
    ),
)

"""Does a DLM write code that runs better than AR's, from few unique functions.

    make coder                    on 2 cores in about 20 minutes
    make coder PRESET=smoke       in about two minutes: does everything run?

Small Python functions, made by rule: a docstring says what the body does. Bodies of functions whose structure
no training text has are written by AR left to right and by the DLM in as many passes, run behind walls, and
judged by what they return. Beside them: bodies of the most similar training prompt, and those that an n-gram
writes. Infilling hides a line of a body. Expected: as in the paper, the DLM is ahead where tokens are few.
Found at laptop scale: AR is ahead in every seed; the DLM had not learnt enough by then.
"""

from lab.ablation import Ablation, Scale
from lab.arms import arm_values
from lab.registration import Registration
from lab.sections import UNIQUE_TOKENS, Against, Curves, Differences, pairs

PASS = ("pass_at_1", "pass_at_k", "infilling_pass_at_1")
BASELINES = ("retrieval_pass_at_1", "ngram_pass_at_1", "code_parses")
CORPUS = {
    "data": {"corpus": "functions", "tokenizer": "bpe:512", "length": 128},
    "evaluation": {"choice_context_tokens": 48, "choice_option_tokens": 6},
}
# One sampler, and no more tokens than the longest body has: a dense arm takes a pass for each.
CODE = {"problems": 32, "samples": 10, "new_tokens": 60, "samplers": ["confidence"]}
FEW = {**CORPUS, "code": {**CODE, "problems": 8, "samples": 2}}
# Small batches: in 292 updates, of 32 windows, a DLM does not leave the frequencies of single tokens.
SMALL = {
    **CORPUS,
    "code": CODE,
    "training": {"total_tokens": 1_200_000, "learning_rate": 0.003, "batch_size": 8},
}
MORE = {**CORPUS, "code": {"problems": 200, "new_tokens": 60}}
BUDGETS = {UNIQUE_TOKENS: (20_000, 200_000)}

ABLATION = Ablation(
    name="coder",
    question="Does a DLM write code that passes more of its tests than AR's, from few unique tokens?",
    paper="Ni et al. 2025, arXiv:2511.03276: a coder of 1.7B, 10B unique tokens, HumanEval and MBPP",
    arms={arm: arm_values(arm) for arm in ("ar", "dlm")},
    scales={
        "smoke": Scale({UNIQUE_TOKENS: (8_000,)}, 1, "about two minutes on 2 cores", FEW),
        "laptop": Scale(BUDGETS, 3, "about 20 minutes on 2 cores", SMALL),
        "night": Scale(BUDGETS, 3, "not measured", MORE),
        "gpu": Scale({UNIQUE_TOKENS: (100_000, 700_000)}, 3, "not measured", MORE),
    },
    metric="pass_at_1",
    expected="The DLM's passes more where tokens are few; both beat looking up and counting.",
    measurements={"code": ""},
    primary=Registration(contrasts=pairs({"dlm": "ar"}), margin=0.02),
    sections=(
        Against(x=UNIQUE_TOKENS, metrics=(*PASS, *BASELINES), title="Code that passes"),
        Differences(contrasts=pairs({"dlm": "ar"}), metrics=PASS, title="The DLM against AR"),
        Curves(metric="nll", against={"dlm": "ar"}, marks=("best", "crossing")),
    ),
)

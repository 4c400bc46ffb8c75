"""The lab: `Engine.fit` as a run calls it, under the backend that KERAS_BACKEND names."""

from benchmarks.sides.case import (
    BETAS,
    CLIP_NORM,
    EPSILON,
    LEARNING_RATE,
    WEIGHT_DECAY,
    Case,
    Updates,
    windows,
)
from lab.config import RunConfig
from lab.training.engine import Engine
from lab.training.progress import StepLog

FACTORS = {"ar": {}, "dlm": {"compute": "dense", "order": "any"}}
LOG_STEPS = 20


def config(case: Case, seed: int = 0) -> RunConfig:
    """The configuration of the run that is timed."""
    dtype = {"float32": "float32", "bfloat16": "mixed_bfloat16"}[case.dtype]
    return RunConfig.model_validate(
        {
            "arm": case.arm,
            "seed": seed,
            "data": {"length": case.length},
            "model": {**case.shape, "dtype": dtype},
            "factors": FACTORS[case.arm],
            "training": {
                **{"batch_size": case.batch, "total_steps": 2**29 - 1, "learning_rate": LEARNING_RATE},
                **{"weight_decay": WEIGHT_DECAY, "beta_1": BETAS[0], "beta_2": BETAS[1]},
                **{"epsilon": EPSILON, "clip_norm": CLIP_NORM, "warmup_steps": 0, "log_steps": LOG_STEPS},
            },
        }
    )


def make(case: Case) -> Updates:
    """Build the engine of a run."""
    chosen = config(case)
    engine = Engine(chosen, windows(case).reshape(-1), case.vocab_size)
    made = 0

    def updates(count: int) -> None:
        nonlocal made
        log = StepLog(made, 1, LOG_STEPS, case.tokens, lambda *_: None, lambda _: None)
        engine.fit(made, made + count, [log])
        made += count

    return updates

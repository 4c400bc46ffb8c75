"""What the tests of training share: a small corpus, a tiny run, learners and batches."""

import json
import random
from pathlib import Path

import numpy as np

from lab.arms import arm_values
from lab.config import RunConfig, make_config
from lab.results import RunResult, read_result

LENGTH = 16
MODEL = {"size": "0.1m", "layers": 1, "width": 16, "heads": 2, "ffn_width": 32}
DROPOUT = {"attention_dropout": 0.1, "mlp_dropout": 0.1}
# Every mechanism that changes a step, as far as one arm can have them together.
CAUSAL_MECHANISMS = {
    "model": {"loops": 2},
    "factors": {
        "order": "any",
        "passes": 2,
        "input_noise": "replace:0-0.5",
        "loss_on": "hidden",
        "attention_mask_dropout": 0.1,
    },
}
DENSE_MECHANISMS = {
    "model": {"loops": 2},
    "factors": {"passes": 2, "complementary": True, "redraw": "epoch", "attention_mask_dropout": 0.1},
}
# Experts with too little room, so that some tokens find none.
MIXTURE = {
    "model": {
        "feed_forward": "token_choice",
        "experts": 4,
        "experts_per_token": 2,
        "ffn_width": 16,
        "capacity_factor": 1.0,
    }
}
TINY = {
    "data": {"corpus": "text", "length": LENGTH, "validation_share": 0.2, "test_share": 0.2},
    "model": MODEL,
    "training": {
        "batch_size": 4,
        "learning_rate": 0.01,
        "total_steps": 60,
        "warmup_steps": 5,
        "log_steps": 5,
        "checkpoint_steps": 20,
    },
    "evaluation": {
        "stops": 3,
        "validation_windows": 8,
        "validation_positions": 4,
        "test_windows": 8,
        "test_positions": 8,
        "exact_windows": 4,
        "nelbo_draws": 2,
        "choice_items": 8,
        "choice_context_tokens": 8,
        "choice_option_tokens": 4,
        "sample_tokens": 8,
        "batch_size": 32,
    },
}


def write_corpus(folder: Path) -> Path:
    """Forty documents of random words, some 200 bytes each."""
    words = random.Random(0)
    folder.mkdir(parents=True)
    for number in range(40):
        text = " ".join(f"{words.choice('abcd') * words.randint(1, 3)}{number}" for _ in range(40))
        (folder / f"{number:02}.txt").write_text(text, encoding="utf-8")
    return folder


def tiny_config(arm: str, *layers: dict, corpus: Path = Path("unread")) -> RunConfig:
    """A run of a one-layer model on `corpus`; the layers go on top."""
    return make_config(TINY, {"data": {"paths": [str(corpus)]}}, arm_values(arm), *layers)


def batch(rows: int, vocab_size: int, seed: int = 0) -> dict[str, np.ndarray]:
    """`StepInputs` of random tokens."""
    random_numbers = np.random.default_rng(seed)
    return {
        "tokens": random_numbers.integers(0, vocab_size, (rows, LENGTH)).astype(np.int32),
        "places": np.arange(rows * LENGTH, dtype=np.int32).reshape(rows, LENGTH),
        "visits": np.zeros(rows, dtype=np.int32),
        "rows": np.arange(rows, dtype=np.int32),
    }


def fit(learner, batches, callbacks=()) -> None:
    """One micro-batch after the other."""
    data = ((inputs,) for inputs in batches)
    learner.fit(data, steps_per_epoch=len(batches), shuffle=False, verbose=0, callbacks=list(callbacks))


def state_of(learner) -> list:
    """All variables of a learner and of its optimizer."""
    return [*learner.variables, *learner.optimizer.variables]


def differences(left: dict, right: dict) -> list[str]:
    """The names under which two dictionaries of arrays are not bit-equal."""
    assert left.keys() == right.keys()
    return [name for name in left if left[name].tobytes() != right[name].tobytes()]


def numbers_of(result: RunResult | Path) -> dict:
    """All that a result says, or the one in a folder, but for the time that it took."""
    result = read_result(result) if isinstance(result, Path) else result
    return {**result.model_dump(mode="json"), "wall_seconds": 0.0}


def weights_of_stops(logdir: Path) -> dict[str, bytes]:
    """The files of the weights of a run's stops, by name."""
    return {path.name: path.read_bytes() for path in (logdir / "checkpoints" / "stops").iterdir()}


def rows_of(logdir: Path) -> list[dict]:
    """The whole lines of a run's metrics.jsonl."""
    path = logdir / "metrics.jsonl"
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]

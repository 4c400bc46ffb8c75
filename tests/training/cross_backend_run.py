"""A short run of two arms on this process's backend, from given weights: numbers to compare across backends.

Usage: KERAS_BACKEND=... python cross_backend_run.py WEIGHTS.npz OUT.json
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from training_bench import tiny_config

VOCAB, STEPS, ROWS, WINDOWS = 24, 200, 8, 40
LAYER = {
    "model": {"width": 32, "ffn_width": 64},
    "training": {"learning_rate": 3e-3, "total_steps": STEPS, "schedule": "cosine", "batch_size": ROWS},
}
ARMS = ("ar", "dlm")


def config_of(arm):
    return tiny_config(arm, LAYER)


def text(count, seed):
    """Tokens each of which mostly follows from the one before: (count,) int32."""
    numbers = np.random.default_rng(seed)
    tokens = np.zeros(count, np.int32)
    for place in range(1, count):
        follows = numbers.random() < 0.8
        tokens[place] = (5 * tokens[place - 1] + 3) % VOCAB if follows else numbers.integers(VOCAB)
    return tokens


def draws_hash():
    """The digest of a few thousand draws, made by the backend."""
    from keras import ops

    from lab.objectives.draws import draw, hidden_positions
    from lab.threefry import Stream

    digest = hashlib.sha256()
    for order in ("any", "fixed:4", "right_to_left:0.5"):
        ids = np.arange(512, dtype=np.int32)
        drawn = draw(7, Stream.TRAINING_DRAWS, ops.array(ids), ops.array(ids % 5), 16, order, ops)
        for array in (*drawn, hidden_positions(drawn, ops)):
            digest.update(ops.convert_to_numpy(array).astype(np.int32).tobytes())
    return digest.hexdigest()


def train(arm, weights):
    import keras

    from lab.data.windows import TrainingWindows, evaluation_windows
    from lab.evaluation.chain_rule import chain_rule_nll
    from lab.evaluation.nelbo import nelbo
    from lab.evaluation.yardstick import make_scorer
    from lab.training.build import build_learner
    from lab.training.checkpoint import assign_variables
    from lab.training.schedule import main_decay

    config = config_of(arm)
    learner = build_learner(config, VOCAB)
    assign_variables(learner.trainable_variables, weights)
    learner.optimizer.set_decay(main_decay(config.training, STEPS))
    windows = TrainingWindows(text(WINDOWS * 16, 0), 16, ROWS, config.seed)
    losses = []
    learner.fit(
        ((windows.batch(step)._asdict(),) for step in range(STEPS)),
        steps_per_epoch=STEPS,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: losses.append(logs["loss"]))
        ],
    )
    held_out = evaluation_windows(text(1000, 1), 16, 16)
    scorer = make_scorer(learner.transformer, config)
    found = {
        "first_train_loss": float(losses[0]),
        "last_train_loss": float(losses[-1]),
        "nll": float(chain_rule_nll(scorer, held_out).mean()),
    }
    if arm == "dlm":
        found["nelbo"] = nelbo(scorer, held_out, 4).nelbo
    return found


if __name__ == "__main__":
    from lab.training.checkpoint import load_arrays

    weights = load_arrays(Path(sys.argv[1]))
    numbers = {arm: train(arm, weights) for arm in ARMS}
    Path(sys.argv[2]).write_text(json.dumps({**numbers, "draws": draws_hash()}))

"""A short run of some arms on this process's backend, from given weights: numbers to compare across backends.

Usage: KERAS_BACKEND=... python cross_backend_run.py WEIGHTS.npz OUT.json
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from training_bench import CAUSAL_MECHANISMS, DENSE_MECHANISMS, tiny_config

VOCAB, ROWS, WINDOWS = 24, 8, 40
LAYER = {
    "model": {"width": 32, "ffn_width": 64},
    "training": {"learning_rate": 3e-3, "schedule": "cosine", "batch_size": ROWS},
}
# What is trained, for how many steps, and by how many nats/token it must then beat a uniform predictor.
ARMS = {
    "ar": ("ar", {}, 200, 0.5),
    "dlm": ("dlm", {}, 200, 0.5),
    "causal_mechanisms": ("any_order_ar", CAUSAL_MECHANISMS, 100, 0.1),
    "dense_mechanisms": ("dlm", DENSE_MECHANISMS, 100, 0.1),
}
NOISE = ("mask:0.5", "mask:0-1", "replace:0.3", "replace:0-1")
FACTORS = [
    *({"order": order, "input_noise": noise} for order in ("left_to_right", "any") for noise in NOISE),
    {"order": "any", "input_noise": "mask:0-1", "loss_on": "hidden", "attention_mask_dropout": 0.3},
    {"order": "left_to_right", "compute": "dense"},
    {"order": "any", "compute": "dense", "estimator": "bernoulli", "noise_schedule": "cosine"},
    {"order": "any", "compute": "dense", "stratified": True, "passes": 2},
    {"order": "any", "compute": "dense", "complementary": True},
    {"order": "any", "compute": "dense", "complementary": True, "draws": 2, "redraw": "epoch"},
    *(
        {"order": "any", "compute": "dense", "noise_window": window}
        for window in ("low", "mid", "high", "fixed:0.15")
    ),
]


def config_of(arm):
    name, mechanisms, steps, _ = ARMS[arm]
    return tiny_config(name, LAYER, mechanisms, {"training": {"total_steps": steps}})


def text(count, seed):
    """Tokens each of which mostly follows from the one before: (count,) int32."""
    numbers = np.random.default_rng(seed)
    tokens = np.zeros(count, np.int32)
    for place in range(1, count):
        follows = numbers.random() < 0.8
        tokens[place] = (5 * tokens[place - 1] + 3) % VOCAB if follows else numbers.integers(VOCAB)
    return tokens


def draws_hash(xp):
    """The digest of a few thousand draws, made by `numpy` or by the backend through `keras.ops`."""
    from lab.config import FactorsConfig
    from lab.objectives.draws import draw, hidden_positions
    from lab.objectives.objective import Objective
    from lab.threefry import Stream

    digest = hashlib.sha256()

    def add(*arrays):
        for array in arrays:
            digest.update(np.asarray(to_host(array)).astype(np.int32).tobytes())

    to_host = np.asarray if xp is np else xp.convert_to_numpy
    ids, numbers = (
        xp.array(values) for values in np.stack([np.arange(512), np.arange(512) % 5]).astype("int32")
    )
    for order in ("any", "fixed:4", "right_to_left:0.5"):
        drawn = draw(7, Stream.TRAINING_DRAWS, ids, numbers, 16, order, xp)
        add(*drawn, hidden_positions(drawn, xp))
    tokens = xp.array(text(512 * 16, 2).reshape(512, 16))
    places = xp.array(np.arange(512 * 16, dtype=np.int32).reshape(512, 16) + np.int32(5))
    for factors in FACTORS:
        for windows in ("fixed", "jittered"):
            objective = Objective(FactorsConfig(**factors), 16, VOCAB, windows, ROWS)
            example = objective.example(tokens, places, numbers, ids, 7, xp)
            # A backend may divide by multiplying, so of the weights only which are positive.
            visible = () if example.visible is None else (example.visible,)
            add(example.tokens, example.positions, example.targets, example.weights > 0, *visible)
    return digest.hexdigest()


def train(arm, weights):
    import keras

    from lab.data.held_out import held_out_windows
    from lab.data.windows import TrainingWindows
    from lab.evaluation.arm import make_scorer
    from lab.evaluation.chain_rule import chain_rule_nll
    from lab.evaluation.nelbo import nelbo
    from lab.training.build import build_learner
    from lab.training.schedule import main_decay
    from lab.training.variables import assign_variables

    config = config_of(arm)
    learner = build_learner(config, VOCAB)
    assign_variables(learner.trainable_variables, weights)
    steps = ARMS[arm][2]
    learner.optimizer.set_decay(main_decay(config.training, steps))
    windows = TrainingWindows(text(WINDOWS * 16, 0), 16, ROWS, config.seed)
    losses = []
    learner.fit(
        ((windows.batch(step)._asdict(),) for step in range(steps)),
        steps_per_epoch=steps,
        shuffle=False,
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: losses.append(logs["loss"]))
        ],
    )
    held_out = held_out_windows(text(1000, 1), -1, 16, 16, 0).windows
    scorer = make_scorer(learner.transformer, config)
    found = {
        "first_train_loss": float(losses[0]),
        "last_train_loss": float(losses[-1]),
        "nll": float(chain_rule_nll(scorer, held_out).mean()),
    }
    if arm != "ar":
        found["nelbo"] = nelbo(scorer, held_out, 4).nelbo
    return found


if __name__ == "__main__":
    from keras import ops

    from lab.training.checkpoint import load_arrays

    weights = load_arrays(Path(sys.argv[1]))
    numbers = {arm: train(arm, weights) for arm in ARMS}
    Path(sys.argv[2]).write_text(json.dumps({**numbers, "draws": draws_hash(ops)}))

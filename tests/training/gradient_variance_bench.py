"""How much a gradient varies from update to update: windows and draws, with and without stratified levels.

    KERAS_BACKEND=jax python tests/training/gradient_variance_bench.py [updates]

For each arm, its weights after 200 updates of a 0.1m model on 10,000 unique tokens, all else as in the
`laptop` preset; then gradients of updates that are not made. Printed is their total variance, as a share of
that with fixed windows and no strata: of other updates of the run, and of the same windows at other visits,
where the draw alone differs.
"""

import sys
from pathlib import Path

import jax
import keras
import numpy as np
from keras import ops

from lab.arms import arm_values
from lab.config import make_config, read_preset
from lab.data.dataset import prepare
from lab.training.engine import Engine

TRAINED, FIRST = 200, 20_000  # updates made, and the number of the first that is looked at
SMALL = {"data": {"unique_tokens": 10_000}, "model": {"size": "0.1m"}}
SETTINGS = {
    "fixed": {"data": {"windows": "fixed"}},
    "fixed, stratified": {"data": {"windows": "fixed"}, "factors": {"stratified": True}},
    "jittered": {},
    "jittered, stratified": {"factors": {"stratified": True}},
}


def engine_of(arm, layer):
    config = make_config(read_preset("laptop"), SMALL, arm_values(arm), layer)
    dataset = prepare(config.data, Path(".cache"))
    return Engine(config, dataset.train, dataset.tokenizer.vocab_size)


def gradient_of(learner):
    """Inputs -> the gradient of their mean loss, as one vector."""
    trainable = [variable.value for variable in learner.trainable_variables]
    others = [variable.value for variable in learner.non_trainable_variables]

    def loss(weights, inputs):
        return ops.mean(learner.stateless_call(weights, others, inputs, training=False)[0].losses)

    gradient = jax.jit(jax.grad(loss))
    return lambda inputs: np.concatenate([np.ravel(part) for part in gradient(trainable, inputs)])


def variance(gradients):
    return np.var(np.stack(gradients), axis=0, ddof=1, dtype=np.float64).sum()


def at_other_visits(batch, number):
    """The same windows in an update that is `number` later, seen as many times more."""
    rows = batch.rows + np.int32(number * len(batch.rows))
    return batch._replace(visits=batch.visits + np.int32(number), rows=rows)


def main(updates):
    for arm in ("dlm", "suffix_denoiser", "ar_masked"):
        trained = engine_of(arm, {})
        trained.fit(0, TRAINED)
        weights, first = trained.weights(), None
        for name, layer in SETTINGS.items():
            keras.utils.clear_session()
            engine = engine_of(arm, layer)
            engine.assign_weights(weights)
            gradient, windows = gradient_of(engine.learner), engine.windows
            other = [gradient(windows.batch(FIRST + step)._asdict()) for step in range(updates)]
            batch = windows.batch(FIRST)
            same = [gradient(at_other_visits(batch, number)._asdict()) for number in range(updates)]
            found = np.array([variance(other), variance(same)])
            first = found if name == "fixed" else first
            print(f"{arm:16} {name:22} updates %.2f   draws alone %.2f" % tuple(found / first), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)

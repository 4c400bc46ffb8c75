"""Do once, ahead of a run, what every process has to do before its first step."""

from pathlib import Path

import keras

from lab.config import RunConfig
from lab.data.budget import budget
from lab.data.dataset import prepare
from lab.data.windows import TrainingWindows
from lab.training.build import build_learner


def rehearse(config: RunConfig, cache_dir: Path) -> None:
    """Build a run's learner, make one step, and forget both.

    What remains is what JAX keeps in a process: small programs compiled, tracing caches filled. No number of
    a later run depends on it: all its draws come from its own seeds, and Keras' names start over.
    """
    dataset = prepare(config.data, cache_dir)
    tokens = budget(dataset.train, config.data.unique_tokens, config.data.length)
    rows = config.training.batch_size // config.training.accumulation
    windows = TrainingWindows(
        tokens, config.data.length, config.training.batch_size, config.seed, config.data.windows
    )
    learner = build_learner(config, dataset.tokenizer.vocab_size)
    learner.fit(iter([(windows.batch(0, 0, rows)._asdict(),)]), steps_per_epoch=1, shuffle=False, verbose=0)
    keras.utils.clear_session()

"""Do once, ahead of a run, what every process has to do before its first step."""

from pathlib import Path

import keras

from lab.config import RunConfig
from lab.data.dataset import prepare
from lab.training.engine import Engine


def rehearse(config: RunConfig, cache_dir: Path) -> None:
    """Build a run's engine, make one step, and forget both.

    What remains is what JAX keeps in a process: small programs compiled, tracing caches filled. No number of
    a later run depends on it: all its draws come from its own seeds, and Keras' names start over.
    """
    dataset = prepare(config.data, cache_dir)
    Engine(config, dataset.train, dataset.tokenizer.vocab_size).fit(0, 1)
    keras.utils.clear_session()

"""From a configuration to a learner that is ready to train."""

import numpy as np

from lab.config import RunConfig
from lab.models.transformer import Transformer
from lab.objectives.objective import Objective
from lab.threefry import Stream, threefry2x32, uniform
from lab.training.learner import Learner
from lab.training.optimizer import ScheduledAdamW
from lab.training.variables import assign_variables, read_variables


def build_transformer(config: RunConfig, vocab_size: int) -> Transformer:
    """The network of a run, with its initial weights."""
    model = config.model
    transformer = Transformer(
        model.architecture(vocab_size, config.data.length),
        model.attention_dropout,
        model.mlp_dropout,
        config.training_seed,
        config.training.rematerialise,
        dtype=model.dtype,
        name="transformer",
    )
    transformer.build()
    return transformer


def build_learner(config: RunConfig, vocab_size: int) -> Learner:
    """The learner of a run, compiled, with its optimizer's slots made."""
    transformer = build_transformer(config, vocab_size)
    if config.training.perturbation:
        _perturb(transformer, config.training.perturbation, config.training_seed)
    data, rows = config.data, config.training.batch_size
    objective = Objective(config.factors, data.length, transformer.mask_id, data.windows, rows)
    learner = Learner(transformer, objective, config.training_seed)
    optimizer = ScheduledAdamW(config.training)
    optimizer.build(learner.trainable_variables)
    learner.compile(optimizer=optimizer)
    return learner


def _perturb(transformer: Transformer, size: float, seed: int) -> None:
    """Multiply each weight by 1 + size z, z standard normal, in float64 until it is stored."""
    weights = read_variables(transformer.trainable_variables)
    for number, (name, values) in enumerate(weights.items()):
        weights[name] = (values * (1 + size * _normal(values.shape, seed, number))).astype(values.dtype)
    assign_variables(transformer.trainable_variables, weights)


def _normal(shape: tuple[int, ...], seed: int, series: int) -> np.ndarray:
    """Standard normal numbers, float64, by the transform of Box and Muller 1958."""
    key = (np.full(1, seed, np.int32), np.full(1, Stream.PERTURBATION, np.int32))
    counter = (np.arange(np.prod(shape, dtype=int), dtype=np.int32), np.full(1, series, np.int32))
    radius, angle = (uniform(word, np).astype(np.float64) for word in threefry2x32(key, counter, np))
    return (np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle)).reshape(shape)

"""From a configuration to a learner that is ready to train."""

from lab.config import RunConfig
from lab.models.transformer import Transformer
from lab.objectives.objective import Objective
from lab.training.learner import Learner
from lab.training.optimizer import ScheduledAdamW


def build_transformer(config: RunConfig, vocab_size: int) -> Transformer:
    """The network of a run, with its initial weights."""
    model = config.model
    transformer = Transformer(
        model.architecture(vocab_size, config.data.length),
        model.attention_dropout,
        model.mlp_dropout,
        config.seed,
        dtype=model.dtype,
        name="transformer",
    )
    transformer.build()
    return transformer


def build_learner(config: RunConfig, vocab_size: int) -> Learner:
    """The learner of a run, compiled, with its optimizer's slots made."""
    transformer = build_transformer(config, vocab_size)
    data, rows = config.data, config.training.batch_size
    objective = Objective(config.factors, data.length, transformer.mask_id, data.windows, rows)
    learner = Learner(transformer, objective, config.seed)
    optimizer = ScheduledAdamW(config.training)
    optimizer.build(learner.trainable_variables)
    learner.compile(optimizer=optimizer)
    return learner

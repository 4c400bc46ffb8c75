"""Which runs could be trained together: those whose train step is the same program."""

from lab.config import RunConfig
from lab.version import digest

# Numbers that a step reads from variables: as different as they like, if all runs have them or none.
SWITCHED = {"model": ("attention_dropout", "mlp_dropout"), "training": ("ema",)}
# Of training, what a program does not depend on: its length, its numbers, and how it is logged and kept.
FREE = (
    *("total_epochs", "total_tokens", "total_steps", "total_share", "decay_share", "warmup_steps"),
    *("learning_rate", "final_learning_rate_share", "weight_decay", "weight_decay_warmup_steps"),
    *("beta_1", "beta_2", "epsilon", "clip_norm", "log_steps", "checkpoint_steps", "kept_megabytes"),
    *("start_from", "patience", "perturbation"),
)
DATA = ("length", "windows", "tokenizer", "corpus", "paths")  # the corpus, since it decides the vocabulary


def kind_of(config: RunConfig) -> str:
    """16 hex digits that runs have in common whose train steps are one program."""
    values = config.model_dump(mode="json")
    for section, names in SWITCHED.items():
        values[section] |= {name: values[section][name] > 0 for name in names}
    training = {name: value for name, value in values["training"].items() if name not in FREE}
    data = {name: values["data"][name] for name in DATA}
    reading = values["evaluation"]["batch_size"]
    return digest([data, values["model"], values["factors"], training, reading])

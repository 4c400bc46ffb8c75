"""A finished run as an arm to measure: its network with the weights of its best stop."""

from pathlib import Path

from lab.config import load_config
from lab.evaluation.inference import FinishedArm
from lab.evaluation.yardstick import make_scorer
from lab.tracking.records import read_json
from lab.training.build import build_transformer
from lab.training.checkpoint import assign_variables, load_arrays, stop_weights_path


def load_finished(logdir: Path, vocab_size: int) -> FinishedArm:
    """Load the best stop of a finished run, in its headline reading.

    Args:
        logdir: of a run that has its `result.json`.
        vocab_size: of its tokenizer.

    Raises:
        ValueError: if the run has no result, or its weights are gone.
    """
    config = load_config(logdir / "config.yaml")
    reading, stop = next(iter(read_json(logdir / "result.json")["best"].items()))
    path = stop_weights_path(logdir, reading, stop["step"])
    if not path.is_file():
        raise ValueError(
            f"expected the weights of the best stop at {path}, but there are none: "
            f"move {logdir / 'result.json'} away to train the run again."
        )
    transformer = build_transformer(config, vocab_size)
    assign_variables(transformer.trainable_variables, load_arrays(path))
    place = {name: stop[name] for name in ("step", "tokens_seen", "epoch")}
    return FinishedArm(config, make_scorer(transformer, config), {"reading": reading, **place})

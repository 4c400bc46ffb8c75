"""The weights of a finished run's stop as an arm to measure."""

from pathlib import Path

from lab.config import RunConfig
from lab.evaluation.arm import Arm, make_scorer
from lab.results import StopReference
from lab.training.build import build_transformer
from lab.training.checkpoint import load_arrays, stop_weights_path
from lab.training.variables import assign_variables
from lab.version import read_version


def load_arm(logdir: Path, stop: StopReference, vocab_size: int, config: RunConfig) -> Arm:
    """Load the network of a run with the weights of a stop.

    Args:
        logdir: of the run.
        stop: which of its stops.
        vocab_size: of its tokenizer.
        config: of the run; what its weights do not depend on may be other than it was.

    Raises:
        ValueError: if the folder holds another run, or the weights are gone or damaged.
    """
    version = read_version(logdir)
    if version is None or version.digest() != stop.run:
        raise ValueError(
            f"{logdir} must hold the run {stop.run}, but it holds {version and version.digest()}."
        )
    path = stop_weights_path(logdir, stop.reading, stop.step)
    if not path.is_file():
        raise ValueError(
            f"expected the weights of a stop at {path}, but there are none: they were not kept "
            "(training.kept_megabytes), or were removed; move the run's result.json away to train it again."
        )
    transformer = build_transformer(config, vocab_size)
    assign_variables(transformer.trainable_variables, load_arrays(path))
    return Arm(config, make_scorer(transformer, config), stop)

"""The weights of a finished run's stop as an arm to measure."""

from pathlib import Path

from lab.config import RunConfig
from lab.evaluation.arm import Arm, make_scorer
from lab.results import RESULT, RunResult, StopReference, read_result
from lab.training.build import build_transformer
from lab.training.checkpoint import load_arrays, stop_weights_path
from lab.training.variables import Arrays, assign_variables
from lab.version import read_version


def finished_result(logdir: Path) -> RunResult:
    """The result of a finished run.

    Raises:
        ValueError: if the folder has none, or a damaged one.
    """
    result = read_result(logdir)
    if result is None:
        raise ValueError(f"expected the folder of a finished run, but {logdir} has no {RESULT}.")
    return result


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
    weights = _load_stop(logdir, stop)
    transformer = build_transformer(config, vocab_size)
    assign_variables(transformer.trainable_variables, weights)
    return Arm(config, make_scorer(transformer, config), stop)


def _load_stop(logdir: Path, stop: StopReference) -> Arrays:
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
    return load_arrays(path)

"""The weights of a finished run's stop: as an arm to measure, and as the start of another run."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lab.config import RunConfig
from lab.data.dataset import Dataset, content_hash, prepare
from lab.data.tokenizers import Tokenizer, find_tokenizer
from lab.evaluation.arm import Arm, make_scorer
from lab.results import PLAN, RESULT, RunResult, Stop, StopReference, read_result
from lab.training.build import build_transformer
from lab.training.checkpoint import load_arrays, stop_weights_path
from lab.training.distribution import Ranks
from lab.training.variables import Arrays, assign_variables
from lab.version import read_version, result_digest

# Of an architecture what training alone reads: a run may begin from weights that were trained with another.
_OF_TRAINING = ("capacity_factor", "balance_weight", "router_z_weight")


def finished_result(logdir: Path) -> RunResult:
    """The result of a finished run.

    Raises:
        ValueError: if the folder has none, or a damaged one.
    """
    result = read_result(logdir)
    if result is None:
        raise ValueError(f"{logdir} must be the folder of a finished run, but {_lacks(logdir)}.")
    return result


def _lacks(logdir: Path) -> str:
    """What a folder is in place of a finished run's."""
    if not logdir.is_dir():
        return "it is a file" if logdir.exists() else "there is none"
    if (logdir / PLAN).is_file():
        # Beside a run lie measurements of it, which have results too.
        results = sorted(path.relative_to(logdir) for path in logdir.glob(f"runs/**/{RESULT}"))
        runs = [logdir / path for path in results if "measurements" not in path.parts]
        return f"it is a result tree{f', which holds {runs[0].parent}' if runs else ' without one'}"
    return f"it has no {RESULT}"


def find_stop(result: RunResult, which: str) -> Stop:
    """The best or the last stop of a run, by the reading that arms are compared by.

    Raises:
        ValueError: if neither is asked for.
    """
    if which not in ("best", "last"):
        raise ValueError(f"`stop` must be best or last, but got stop={which!r}.")
    return result.best() if which == "best" else result.end()


def corpus_of(logdir: Path, config: RunConfig, cache_dir: Path) -> Dataset:
    """The corpus of a finished run.

    Args:
        logdir: of the run.
        config: of the run; its data may have moved.
        cache_dir: where tokenized corpora are kept.

    Raises:
        ValueError: if it is not there, or is not what it was.
    """
    dataset = prepare(config.data, cache_dir)
    require_corpus(logdir, dataset)
    return dataset


def require_corpus(logdir: Path, dataset: Dataset) -> None:
    """Refuse another corpus than that of a run.

    Raises:
        ValueError: if the run was trained on other tokens.
    """
    version = read_version(logdir)
    trained = version and version.values.get("data")
    if trained != dataset.hash:
        raise ValueError(
            f"{logdir} must be measured on the corpus that it was trained on, whose hash is {trained}, "
            f"but got {dataset.hash}."
        )


def tokenizer_of(logdir: Path, config: RunConfig, cache_dir: Path) -> Tokenizer:
    """The tokenizer of a finished run, which is that of its corpus where it was trained on it.

    Raises:
        ValueError: if it cannot be loaded, or needs the corpus, which is not there or is not what it was.
    """
    tokenizer = find_tokenizer(config.data.tokenizer)
    return tokenizer or corpus_of(logdir, config, cache_dir).tokenizer


def tokenizer_beside(logdir: Path, config: RunConfig, dataset: Dataset, cache_dir: Path) -> Tokenizer:
    """The tokenizer of a finished run: that of a dataset, if the run was trained on it.

    Raises:
        ValueError: as `tokenizer_of`.
    """
    version = read_version(logdir)
    if version and version.values.get("data") == dataset.hash:  # which is over the tokenizer too
        return dataset.tokenizer
    return tokenizer_of(logdir, config, cache_dir)


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


def at_stop(arm: Arm, logdir: Path, stop: StopReference) -> Arm:
    """The same network with the weights of another stop of its run; the arm that was has them too.

    Args:
        arm: one of the run.
        logdir: of the run.
        stop: which of its stops.

    Raises:
        ValueError: if the weights are gone or damaged.
    """
    assign_variables(arm.scorer.transformer.trainable_variables, _load_stop(logdir, stop))
    return replace(arm, stop=stop)


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


class Start(NamedTuple):
    """What a run begins with in place of drawn weights: those of the best stop of a finished run.

    Attributes:
        stop: which.
        digest: `result_digest` of its run.
        weights: the trained variables by path.
    """

    stop: StopReference
    digest: str
    weights: Arrays


def load_start(
    config: RunConfig,
    logdir: Path | None,
    ranks: Ranks,
    dataset: Dataset,
    cache_dir: Path,
) -> Start | None:
    """What a run begins with, read by rank 0 for all; None if its weights are drawn.

    Args:
        config: of the run that is to begin.
        logdir: of the finished run.
        ranks: of the run that is to begin.
        dataset: of the run that is to begin.
        cache_dir: where tokenized corpora are kept.

    Raises:
        ValueError: if there is a folder and `training.start_from` is not set, or the reverse; if the folder
            is no finished run's, or of one with another tokenizer or network, or the weights are gone or
            damaged.
    """
    name = config.training.start_from
    if bool(name) != (logdir is not None):
        raise ValueError(
            "`start` must be given with training.start_from, and not without it: the folder of that run, "
            f"but got start={logdir and str(logdir)!r}, training.start_from={name!r}."
        )
    if logdir is None:
        return None
    reference, evaluation, network, tokenizer = ranks.share(partial(_describe_best, logdir))
    if tokenizer != config.data.tokenizer:
        raise ValueError(
            f"`start` must be a run with the tokenizer {config.data.tokenizer}, "
            f"but that of {logdir} is {tokenizer}."
        )
    for field, value in _network(config).items():
        if field not in _OF_TRAINING and network[field] != value:
            raise ValueError(
                f"`start` must be a run with model.{field}={value}, "
                f"but that of {logdir} has model.{field}={network[field]}."
            )
    own = content_hash([], dataset.tokenizer)
    if (ids := ranks.share(partial(_hash_tokenizer, logdir, dataset, cache_dir))) != own:
        raise ValueError(
            f"`start` must be a run with the same {tokenizer}, whose hash is {own}, "
            f"but that of {logdir} has {ids}."
        )
    stop = StopReference(**reference)
    weights = ranks.share_arrays(partial(_load_stop, logdir, stop))
    return Start(stop, result_digest(stop.run, evaluation), weights)


def _describe_best(logdir: Path) -> tuple[dict[str, Any], str, dict[str, Any], str]:
    """The best stop of a finished run, the digest of what decided it, its network and tokenizer."""
    result = finished_result(logdir)
    stop = result.reference(result.best()).model_dump()
    return stop, result.evaluation, _network(result.config), result.data.tokenizer


def _network(config: RunConfig) -> dict[str, Any]:
    """The fields of a run's architecture, but for the sizes that its data decide."""
    return asdict(config.model.architecture(vocab_size=1, length=1))


def _hash_tokenizer(logdir: Path, dataset: Dataset, cache_dir: Path) -> str:
    """A hash of the content of a finished run's tokenizer."""
    return content_hash([], tokenizer_beside(logdir, finished_result(logdir).config, dataset, cache_dir))

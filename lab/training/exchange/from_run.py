"""From a finished run to a model that travels."""

from pathlib import Path
from typing import Any

from lab.data.tokenizers import Tokenizer
from lab.results import RunResult, Stop
from lab.training.exchange.card import run_card
from lab.training.exchange.description import Description
from lab.training.exchange.exported import refuse_full, write_model
from lab.training.exchange.qwen3 import write_qwen3
from lab.training.finished import find_stop, finished_result, load_arm, tokenizer_of
from lab.training.variables import read_variables

TARGETS = ("lab", "qwen3")


def export_run(
    run: Path, folder: Path, stop: str = "best", target: str = "lab", cache_dir: Path = Path(".cache")
) -> Description:
    """Write the weights of a finished run's stop into a new folder, with all that it takes to use them.

    Args:
        run: its folder.
        folder: a new or empty one.
        stop: the best, by validation NLL, or the last, in the headline reading.
        target: the lab's own form, or that of the Qwen3 class of `transformers`.
        cache_dir: tokenized corpora, for the tokenizer where it was trained on one.

    Returns:
        What the model says of itself.

    Raises:
        ValueError: if there is no such stop or target, the run is not finished, its weights are gone or
            damaged, its corpus is not what it was and the tokenizer was trained on it, the folder holds
            something, or Qwen3 cannot hold the arm.
    """
    if target not in TARGETS:
        raise ValueError(f"`to` must be one of {list(TARGETS)}, but got to={target!r}.")
    result = finished_result(run)
    refuse_full(folder)
    chosen = find_stop(result, stop)
    tokenizer = tokenizer_of(run, result.config, cache_dir)
    arm = load_arm(run, result.reference(chosen), tokenizer.vocab_size, result.config)
    weights = read_variables(arm.scorer.transformer.trainable_variables)
    description = _describe(result, chosen, tokenizer)
    card = run_card(description, result, chosen, stop)
    if target == "lab":
        write_model(folder, description, weights, tokenizer, card)
    else:
        write_qwen3(folder, description, weights, tokenizer, card)
    return description


def _describe(result: RunResult, stop: Stop, tokenizer: Tokenizer) -> Description:
    config, data = result.config, result.data
    origin: dict[str, Any] = {
        "run": result.run,
        "seed": config.seed,
        "reading": stop.reading,
        "step": stop.step,
        "tokens_seen": stop.tokens_seen,
        "epoch": stop.epoch,
        "corpus": data.corpus,
        "data_hash": data.hash,
        "unique_tokens": data.unique_tokens,
    }
    return Description(
        arm=config.arm,
        factors=config.factors,
        architecture=config.model.architecture(tokenizer.vocab_size, config.data.length),
        dtype=config.model.dtype,
        tokenizer=data.tokenizer,
        end_id=tokenizer.end_id,
        origin=origin,
    )

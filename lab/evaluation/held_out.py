"""Whether the held-out splits are long enough for what a run measures on them."""

from collections.abc import Iterator
from typing import NamedTuple

from lab.config import RunConfig
from lab.data.dataset import Dataset

LEAST = 2  # of windows, items and prompts: a standard error needs two


class _Need(NamedTuple):
    """What one setting takes of a split: tokens, and its largest value for which the split has enough."""

    key: str
    value: int
    split: str
    tokens: int
    most: int


def require_held_out(config: RunConfig, dataset: Dataset, *sections: str) -> None:
    """Refuse a corpus whose splits are too short for the evaluation.

    Args:
        config: the run.
        dataset: its corpus.
        sections: of the configuration: `evaluation`, `inference` or both.

    Raises:
        ValueError: naming each split that is too short, and what to set.
    """
    needs = (need for need in _needs(config, dataset) if need.key.split(".")[0] in sections)
    missing = [need for need in needs if need.most < need.value]
    if not missing:
        return
    shortages = "; ".join(
        f"{need.key}={need.value} takes {need.tokens:,} tokens of {need.split}, "
        f"which has {len(getattr(dataset, need.split)):,}"
        for need in missing
    )
    shares = " and ".join(f"data.{split}_share" for split in dict.fromkeys(need.split for need in missing))
    most = {need.key: min(other.most for other in missing if other.key == need.key) for need in missing}
    settings = " ".join(f"{key}={value}" for key, value in most.items())
    lower = f", or measure on less: --set '{settings}', SET= for make" if min(most.values()) >= LEAST else ""
    raise ValueError(
        f"the held-out splits must be long enough for the evaluation, but {shortages}. "
        f"Give more text, raise {shares}{lower}."
    )


def _needs(config: RunConfig, dataset: Dataset) -> Iterator[_Need]:
    evaluation, length = config.evaluation, config.data.length
    span = evaluation.choice_context_tokens + evaluation.choice_option_tokens

    def windows(key: str, value: int, split: str) -> _Need:
        return _Need(key, value, split, value * length, len(getattr(dataset, split)) // length)

    def items(key: str, value: int, split: str) -> _Need:
        # And a wrong option besides (lab/evaluation/choice.py).
        return _Need(key, value, split, (value + 1) * span, len(getattr(dataset, split)) // span - 1)

    yield windows("evaluation.validation_windows", evaluation.validation_windows, "validation")
    yield windows("evaluation.test_windows", evaluation.test_windows, "test")
    for split in ("validation", "test"):
        yield items("evaluation.choice_items", evaluation.choice_items, split)
    yield windows("inference.prompts", config.inference.prompts, "test")
    yield items("inference.choice_items", config.inference.choice_items, "test")

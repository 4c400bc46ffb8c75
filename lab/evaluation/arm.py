"""A trained arm as measurements see it: its network with the weights of one stop, and what they return."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lab.config import RunConfig
from lab.data.windows import window_documents
from lab.evaluation.scorer import SlotScorer
from lab.results import Examples, StopReference, Text


@dataclass(frozen=True)
class Arm:
    """A network with trained weights.

    Attributes:
        config: its run's configuration.
        scorer: the network, to score and to sample with.
        stop: whose weights it has.
    """

    config: RunConfig
    scorer: SlotScorer
    stop: StopReference


class Finding(NamedTuple):
    """What a measurement gives: the fields of `Measured` that it fills.

    Attributes:
        values: metric -> value.
        examples: the values that a mean is taken of.
        texts: samples.
        costs: FLOPs at test time.
        flops: of measuring.
    """

    values: dict[str, float | None]
    examples: Examples | None = None
    texts: tuple[Text, ...] = ()
    costs: dict[str, float] = {}  # noqa: RUF012
    flops: float = 0.0


def make_scorer(transformer: Any, config: RunConfig) -> SlotScorer:
    """The scorer of a run's arm."""
    return SlotScorer(transformer, config.factors.compute == "causal", config.evaluation.batch_size)


def window_examples(
    metric: str, by_window: np.ndarray, tokens: np.ndarray, length: int, end_id: int
) -> Examples:
    """A metric by window of `evaluation_windows`, with the document that each begins in."""
    documents = window_documents(tokens, len(by_window), length, end_id)
    return Examples(metric=metric, values=tuple(by_window.tolist()), documents=tuple(documents.tolist()))


def standard_error(values: np.ndarray) -> float:
    """Of the mean of independent values."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))

"""A trained arm as measurements see it: its network with the weights of one stop, and what they return."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from lab.config import RunConfig
from lab.data.windows import window_documents
from lab.evaluation.generation import SlotLogits
from lab.evaluation.scorer import Scorer
from lab.results import Examples, StopReference, Text


@dataclass(frozen=True)
class Arm:
    """A network with trained weights.

    Attributes:
        config: its run's configuration.
        scorer: the network, scoring.
        stop: whose weights it has.
    """

    config: RunConfig
    scorer: Scorer
    stop: StopReference

    @cached_property
    def sampler(self) -> SlotLogits:
        """The same network, sampling."""
        return SlotLogits(self.scorer.transformer, self.scorer.causal)


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


def make_scorer(transformer: Any, config: RunConfig) -> Scorer:
    """The scorer of a run's arm."""
    return Scorer(transformer, config.factors.compute == "causal", config.evaluation.batch_size)


def window_examples(
    metric: str, by_window: np.ndarray, tokens: np.ndarray, length: int, end_id: int
) -> Examples:
    """A metric by window of `evaluation_windows`, with the document that each begins in."""
    documents = window_documents(tokens, len(by_window), length, end_id)
    return Examples(metric=metric, values=tuple(by_window.tolist()), documents=tuple(documents.tolist()))


def standard_error(values: np.ndarray) -> float:
    """Of the mean of independent values."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))

"""A trained arm as measurements see it: its network with the weights of one stop, and what they return."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lab.config import RunConfig
from lab.data.held_out import HeldOut, document_means
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


def window_examples(metric: str, by_window: np.ndarray, held_out: HeldOut) -> Examples:
    """A metric by window, with the document that each is of."""
    documents = tuple(held_out.documents.tolist())
    return Examples(metric=metric, values=tuple(by_window.tolist()), documents=documents)


def over_documents(metric: str, by_window: np.ndarray, held_out: HeldOut) -> dict[str, float | None]:
    """The mean over documents of their windows' means, with its standard error over the documents.

    Args:
        metric: its key.
        by_window: (n,), in the metric's unit.
        held_out: the windows.

    Returns:
        `<metric>` and `<metric>_standard_error`.
    """
    means, _ = document_means(by_window, held_out.documents)
    return {metric: float(means.mean()), f"{metric}_standard_error": standard_error(means)}


def standard_error(values: np.ndarray) -> float | None:
    """Of the mean of independent values; None of a single one."""
    if len(values) == 1:
        return None
    return float(values.std(ddof=1) / np.sqrt(len(values)))

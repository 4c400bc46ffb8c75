"""A trained arm as measurements see it: its network with the weights of one stop, and what they return."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from lab.config import RunConfig
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
    batch_size = config.evaluation.batch_size
    return SlotScorer(transformer, config.factors.reads_causally, batch_size, config.read_block_size)

"""Held-out functions of `data.corpus: functions`, whose bodies are to be written and run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lab.data.functions import Problem, problems
from lab.data.shuffling import shuffled
from lab.evaluation.retrieval import documents_of
from lab.evaluation.sandbox import Sandbox
from lab.threefry import Stream

if TYPE_CHECKING:
    from lab.config import RunConfig
    from lab.data.dataset import Dataset

SPLIT = "test"


def held_out_problems(dataset: Dataset, count: int, sample: int) -> list[Problem]:
    """A replicate's problems: a random part of the functions of the test split.

    Args:
        dataset: of corpus=functions.
        count: how many.
        sample: the replicate's number.

    Raises:
        ValueError: if the split has fewer.
    """
    documents = documents_of(getattr(dataset, SPLIT), dataset.tokenizer)
    if count > len(documents):
        raise ValueError(
            f"`code.problems` must be at most {len(documents)}, the functions of the {SPLIT} split, "
            f"but got {count}."
        )
    order = shuffled(len(documents), sample, stream=Stream.HELD_OUT)
    return problems([documents[place] for place in order[:count]])


def require_code(config: RunConfig, dataset: Dataset) -> None:
    """Refuse, before anything is trained, code that could not be written or run after it.

    Raises:
        ValueError: if the corpus cannot be run, the split has too few functions, a prompt leaves no room for
            a body, or this system has no walls for programs that nobody trusts (`Sandbox.require`).
    """
    if config.data.corpus != "functions":
        raise ValueError(f"`data.corpus` must be functions for code to be run, but got {config.data.corpus}.")
    asked = held_out_problems(dataset, config.code.problems, config.replicate)
    longest = int(np.max([len(dataset.tokenizer.encode(problem.prompt)) for problem in asked]))
    if config.code.new_tokens > (most := config.data.length - longest):
        raise ValueError(
            f"`code.new_tokens` must fit behind the longest prompt in data.length={config.data.length}, "
            f"at most {most}, but got {config.code.new_tokens}."
        )
    Sandbox().require()

"""Held-out functions of `data.corpus: functions`, whose bodies are to be written and run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.data.documents import documents_of
from lab.data.functions import Problem, problems
from lab.data.shuffling import shuffled
from lab.evaluation.sandbox import Sandbox
from lab.threefry import Stream

if TYPE_CHECKING:
    from lab.config import RunConfig
    from lab.data.dataset import Dataset


def held_out_problems(config: RunConfig, dataset: Dataset) -> list[Problem]:
    """A replicate's problems: a random part of the functions of the test split.

    Raises:
        ValueError: if the corpus cannot be run, the split has fewer functions than `code.problems`, or a
            prompt leaves no room for `code.new_tokens` in a window.
    """
    if config.data.corpus != "functions":
        raise ValueError(f"`data.corpus` must be functions for code to be run, but got {config.data.corpus}.")
    documents, count = list(documents_of(dataset.test, dataset.tokenizer)), config.code.problems
    if count > len(documents):
        raise ValueError(
            f"`code.problems` must be at most {len(documents)}, the functions of the test split, "
            f"but got {count}."
        )
    order = shuffled(len(documents), config.replicate, stream=Stream.HELD_OUT)
    asked = problems([documents[place] for place in order[:count]])
    most = config.data.length - max(len(dataset.tokenizer.encode(problem.prompt)) for problem in asked)
    if config.code.new_tokens > most:
        raise ValueError(
            f"`code.new_tokens` must fit behind the longest prompt in data.length={config.data.length}, "
            f"at most {most}, but got {config.code.new_tokens}."
        )
    return asked


def require_code(config: RunConfig, dataset: Dataset) -> None:
    """Refuse, before anything is trained, code that could not be written or run after it.

    Raises:
        ValueError: as `held_out_problems`, or if this system has no walls for programs that nobody trusts
            (`Sandbox.require`).
    """
    held_out_problems(config, dataset)
    Sandbox().require()

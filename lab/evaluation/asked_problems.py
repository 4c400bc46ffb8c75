"""The problems whose bodies an arm is to write: held-out functions, or those of published files."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lab.data.documents import documents_of
from lab.data.functions import problems
from lab.data.shuffling import shuffled
from lab.evaluation.code_problems import Problem, published_problems
from lab.evaluation.sandbox import Call, Sandbox
from lab.threefry import Stream

if TYPE_CHECKING:
    from lab.config import RunConfig
    from lab.data.dataset import Dataset


class Asked(NamedTuple):
    """What is asked.

    Attributes:
        problems: their number in the test split, or in the files -> the problem.
        left_out: how many more there are whose prompt leaves no room for a body.
    """

    problems: dict[int, Problem]
    left_out: int = 0


def asked_problems(config: RunConfig, dataset: Dataset) -> Asked:
    """A replicate's problems: those of the files that are named, or a part of the test split's functions.

    Raises:
        ValueError: if a prompt of a function leaves no room for `code.new_tokens` in a window, or all but one
            of the files' do; if the split has fewer functions than `code.problems`, or the corpus none; or as
            of `published_problems`.
    """
    return _published(config, dataset) if config.code.form else _held_out_functions(config, dataset)


def judge_of(config: RunConfig) -> Sandbox:
    """What runs their bodies. The tests of plus sets import NumPy."""
    return Sandbox(packages=("numpy",) if config.code.form else ())


def require_code(config: RunConfig, dataset: Dataset) -> None:
    """Refuse, before anything is trained, code that could not be written or run after it.

    Raises:
        ValueError: as `asked_problems`, or if this system has no walls for programs that nobody trusts
            (`Sandbox.require`).
    """
    asked_problems(config, dataset)
    judge_of(config).require()


def _published(config: RunConfig, dataset: Dataset) -> Asked:
    length, new_tokens = config.data.length, config.code.new_tokens
    named = published_problems(config.code).problems
    sizes = [len(dataset.tokenizer.encode(problem.prompt)) for problem in named]
    fit = {number: problem for number, problem in enumerate(named) if sizes[number] + new_tokens <= length}
    if len(fit) < 2:  # a standard error needs two
        raise ValueError(
            f"two prompts or more must leave room for code.new_tokens={new_tokens} in data.length={length}, "
            f"but {len(fit)} of {len(named)} do; the shortest takes {min(sizes)} tokens."
        )
    return Asked(fit, len(named) - len(fit))


def _held_out_functions(config: RunConfig, dataset: Dataset) -> Asked:
    if config.data.corpus != "functions":
        raise ValueError(
            f"`data.corpus` must be functions for code to be run, but got {config.data.corpus}; "
            "with any other, `code.form` and `code.files` must name published problems."
        )
    documents, count = list(documents_of(dataset.test, dataset.tokenizer)), config.code.functions
    if count > len(documents):
        raise ValueError(
            f"`code.problems` must be at most {len(documents)}, the functions of the test split, "
            f"but got {count}."
        )
    places = shuffled(len(documents), config.replicate, stream=Stream.HELD_OUT)[:count].tolist()
    found = problems([documents[place] for place in places])
    most = config.data.length - max(len(dataset.tokenizer.encode(one.prompt)) for one in found)
    if config.code.new_tokens > most:
        raise ValueError(
            f"`code.new_tokens` must fit behind the longest prompt in data.length={config.data.length}, "
            f"at most {most}, but got {config.code.new_tokens}."
        )
    calls = [tuple(Call(*call) for call in one.calls) for one in found]
    asked = [
        Problem(str(place), one.prompt, one.body, one.prompt, calls=own)
        for place, one, own in zip(places, found, calls, strict=True)
    ]
    return Asked(dict(zip(places, asked, strict=True)))

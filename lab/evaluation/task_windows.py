"""The questions of a task as tokens that fit in an arm's window."""

from typing import NamedTuple

import numpy as np

from lab.data.tokenizers import Tokenizer
from lab.evaluation.task_files import Question, Questions

LEAST = 2  # of questions, windows, items and prompts: a standard error needs two


class Fitted(NamedTuple):
    """The questions that fit.

    Attributes:
        questions: in their order.
        contexts: of each, (C,) int32.
        options: of each, (O,) int32 of every option.
        cut: of how many the beginning of the context was cut.
        left_out: how many more there are, of which an option does not fit in the window even alone.
    """

    questions: tuple[Question, ...]
    contexts: list[np.ndarray]
    options: list[list[np.ndarray]]
    cut: int
    left_out: int


def require_fit(asked: Questions, tokenizer: Tokenizer, length: int) -> None:
    """Refuse a task of which too few questions fit, before anything is trained.

    Raises:
        ValueError: as of `fit_questions`.
    """
    _option_ids(asked, tokenizer, length)


def fit_questions(asked: Questions, tokenizer: Tokenizer, length: int) -> Fitted:
    """Encode questions, and cut from the left the contexts that a window has no room for.

    Context and option are encoded apart, so that an option's tokens are those of its own characters whatever
    stands before it, and all options of a question have the same context. White space at a context's end goes
    to the options, as tokenizers of words in pieces have it at the start of a word. An empty context is the
    end of the document before. A context is cut so that the longest option of its question fits.

    Args:
        asked: the questions.
        tokenizer: of the arm.
        length: L, tokens of its window.

    Raises:
        ValueError: if an option has no tokens, or fewer than two questions fit.
    """
    options = _option_ids(asked, tokenizer, length)
    before = [_split(asked.questions[number], asked)[0] for number in options]
    contexts, cut = [], 0
    for ids, own in zip(tokenizer.encode_batch(before), options.values(), strict=True):
        context = ids.astype(np.int32) if len(ids) else np.array([tokenizer.end_id], np.int32)
        room = length - max(map(len, own))
        cut += len(context) > room
        contexts.append(context[max(0, len(context) - room) :])
    kept = tuple(asked.questions[number] for number in options)
    return Fitted(kept, contexts, list(options.values()), cut, len(asked.questions) - len(kept))


def _option_ids(asked: Questions, tokenizer: Tokenizer, length: int) -> dict[int, list[np.ndarray]]:
    """The tokens of the options of each question whose options fit: its number -> (O,) int32 each."""
    texts = [_split(question, asked)[1] for question in asked.questions]
    encoded = iter(tokenizer.encode_batch([text for own in texts for text in own]))
    ids = [[_tokens(next(encoded), text) for text in own] for own in texts]
    longest = [max(map(len, own)) for own in ids]
    fit = {number: own for number, own in enumerate(ids) if longest[number] <= length}
    if len(fit) < LEAST:
        raise ValueError(
            f"{LEAST} questions or more must have options that fit in data.length={length} tokens, "
            f"but {len(fit)} of {len(ids)} have; those with the shortest take {min(longest)}."
        )
    return fit


def _split(question: Question, asked: Questions) -> tuple[str, list[str]]:
    """The text before the options, and theirs."""
    text = asked.before[question.subject] + question.context
    context = text.rstrip()
    return context, [text[len(context) :] + question.joint + option for option in question.options]


def _tokens(ids: np.ndarray, text: str) -> np.ndarray:
    if not len(ids):
        raise ValueError(f"each option must have tokens, but {text!r} has none.")
    return ids.astype(np.int32)

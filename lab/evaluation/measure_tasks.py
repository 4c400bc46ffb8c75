"""Measure a benchmark task from files: how often an arm finds the right option, or the last word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.evaluation.arm import Arm, Finding
from lab.evaluation.chain_rule import place_logits, span_nll
from lab.evaluation.choice import Items, OptionWindows, option_windows
from lab.evaluation.choice_draws import span_draws
from lab.evaluation.documents import standard_error
from lab.evaluation.flops import pass_flops
from lab.evaluation.inference_flops import passes_of_option
from lab.evaluation.scorer import SlotScorer
from lab.evaluation.task_files import Question, read_questions
from lab.evaluation.task_windows import fit_questions
from lab.results import Task

if TYPE_CHECKING:
    from lab.data.dataset import Dataset

REPLICATES = 2  # of Monte Carlo draws: their difference is the error that draws make
_ROWS = 4096  # options at once: what is held of each is a few windows


def measure(task: Task, arms: Sequence[Arm], dataset: Dataset) -> Finding:
    """Measure one arm.

    Args:
        task: its settings are those of one of the `tasks` of the arm's configuration, which says where its
            files lie; with `num_draws` options are scored by so many draws and not by the chain rule.
        arms: one.
        dataset: whose tokenizer it has.

    Returns:
        `task_accuracy`, the share of questions whose right option has the lowest NLL, summed over its tokens;
        `task_accuracy_norm`, the lowest NLL by character of the option as its file has it; `task_nll`, of the
        right option, nats/answer. A tie counts as wrong. Of `lambada` the accuracy is the share of words of
        which each token is the most likely one, and there is nothing to normalise. Each with its standard
        error over the questions; with draws, all is the mean of two replicates, and what draws add to the
        error is known from their difference. Beside them `task_questions`, how many they are, and the shares
        `task_cut` and `task_left_out` (`fit_questions`).
    """
    (arm,) = arms
    scorer, length, settings = arm.scorer, arm.config.data.length, task.settings
    asked = read_questions(arm.config.tasks.find(settings))
    fitted = fit_questions(asked, dataset.tokenizer, length)
    spans = option_windows(Items(fitted.contexts, fitted.options), length)
    sizes = spans.stops - spans.starts
    a_pass = pass_flops(arm.config, dataset.tokenizer.vocab_size)
    count = len(fitted.questions)
    shares: dict[str, float | None] = {
        "task_questions": count,
        "task_cut": fitted.cut / count,
        "task_left_out": fitted.left_out / len(asked.questions),
    }
    if settings["form"] == "lambada":
        said, nll = last_words(scorer, spans)
        rows = count if scorer.causal else int(sizes.sum())
        values = _over_questions("task_accuracy", said[None]) | _over_questions("task_nll", nll[None])
        return Finding(values | shares, flops=rows * a_pass)
    num_draws: int = settings.get("num_draws", 0)
    ids = np.repeat(
        np.arange(count, dtype=np.int32), [len(question.options) for question in fitted.questions]
    )
    sums = np.concatenate([_sums(scorer, *part, num_draws) for part in _parts(spans, ids)], axis=1)
    each = [passes_of_option(size, scorer.causal, scorer.block_size) for size in sizes]
    rows = REPLICATES * num_draws * len(ids) if num_draws else sum(each)
    scores = np.stack([rank(fitted.questions, one) for one in sums], axis=1)  # (3, replicates, questions)
    metrics = ("task_accuracy", "task_accuracy_norm", "task_nll")
    values = {}
    for metric, by_replicate in zip(metrics, scores, strict=True):
        values |= _over_questions(metric, by_replicate)
    return Finding(values | shares, flops=rows * a_pass)


def rank(questions: Sequence[Question], sums: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which questions NLLs answer rightly.

    Args:
        questions: n of them.
        sums: (options of all,) NLL of each option, nats.

    Returns:
        (n,) 0 or 1 by sums, (n,) 0 or 1 by sums over characters, and (n,) the NLL of the right option.
    """
    characters = np.array([len(option) for question in questions for option in question.options])
    firsts = np.cumsum([0, *(len(question.options) for question in questions)])
    scores = []
    for values in (sums, sums / characters):
        own = np.split(values, firsts[1:-1])
        scores.append([_first(nll, question.answer) for nll, question in zip(own, questions, strict=True)])
    answers = firsts[:-1] + [question.answer for question in questions]
    return np.array(scores[0], float), np.array(scores[1], float), sums[answers]


def _first(nll: np.ndarray, answer: int) -> bool:
    """Whether an option has the lowest NLL; a tie counts as wrong."""
    return bool(nll[answer] < np.delete(nll, answer).min())


def last_words(scorer: SlotScorer, spans: OptionWindows) -> tuple[np.ndarray, np.ndarray]:
    """Whether each token of a word is the most likely one after what is before it, and the word's NLL.

    Args:
        scorer: the arm.
        spans: a word for each window.

    Returns:
        (rows,) 0 or 1, where a tie counts as wrong, and (rows,) nats.
    """
    windows, starts, stops = spans
    sizes = stops - starts
    said, nll = np.ones(len(windows)), np.zeros(len(windows))
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        places = starts[rows, None] + np.arange(size)
        targets = np.take_along_axis(windows[rows], places, axis=1).ravel()
        for numbers, logits in place_logits(scorer, windows[rows], places):
            own = np.take_along_axis(logits, targets[numbers, None], axis=1)
            of = rows[numbers // size]
            np.minimum.at(said, of, (logits >= own).sum(axis=1) == 1)
            np.add.at(nll, of, np.logaddexp.reduce(logits, axis=1) - own[:, 0])
    return said, nll


def _parts(spans: OptionWindows, ids: np.ndarray) -> Iterator[tuple[OptionWindows, np.ndarray]]:
    for first in range(0, len(ids), _ROWS):
        some = slice(first, first + _ROWS)
        yield OptionWindows(*(values[some] for values in spans)), ids[some]


def _sums(scorer: SlotScorer, spans: OptionWindows, ids: np.ndarray, num_draws: int) -> np.ndarray:
    """The NLL of each option, nats: (1, rows) exactly, or (REPLICATES, rows) by draws."""
    if num_draws:
        return span_draws(scorer, spans, ids, num_draws, REPLICATES) * (spans.stops - spans.starts)
    return np.array([[nll.sum() for nll in span_nll(scorer, *spans)]])


def _over_questions(metric: str, values: np.ndarray) -> dict[str, float | None]:
    """The mean of (replicates, questions) with its standard errors: over questions, and from draws.

    The draws of a question's two replicates are independent, and so are those of two questions.
    """
    means = values.mean(axis=0)
    found = {metric: float(means.mean()), f"{metric}_standard_error": standard_error(means)}
    if len(values) == 1:
        return found
    variances = np.square(values[0] - values[1]) / 4
    return {**found, f"{metric}_draw_standard_error": float(np.sqrt(variances.sum()) / len(means))}

"""Measure text: held-out text itself, and what an arm writes in its place, as other arms judge it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.data.characters import decode_behind, decode_whole
from lab.data.held_out import dataset_windows
from lab.data.tokenizers import Tokenizer
from lab.evaluation.arm import Arm, Finding
from lab.evaluation.chain_rule import chain_rule_nll
from lab.evaluation.documents import over_documents, standard_error, window_examples
from lab.evaluation.inference_flops import InferenceCounter
from lab.evaluation.sampling import sample
from lab.evaluation.text_quality import distinct_ngrams, parse_rate, repetition, unigram_entropy
from lab.results import Task, Text

if TYPE_CHECKING:
    from lab.data.dataset import Dataset

KEPT_TEXTS = 2  # of each sampler and number of steps, to be looked at


def measure(task: Task, arms: Sequence[Arm], dataset: Dataset) -> Finding:
    """Measure held-out text, or an arm's continuations of its first parts.

    Args:
        task: `real_text` or `generation`. Its settings say how many `prompts` of which `sample` and how
            many `prompt_tokens`, whether the text is `python`, and of a generation the `sampler`, its
            `steps` and the `temperature`, if it is not 1.
        arms: the arm that writes, and after it the causal arms that judge, whose NLLs are averaged.
        dataset: its corpus.

    Returns:
        `judge_nll`, nats/token, the mean over documents with its standard error over them, and by text;
        `entropy` of the tokens within a text, nats/token, the mean likewise with its standard error;
        `distinct`, `repetition`, `parse_rate` (of Python's whole lines) with their standard errors and the
        number of `lines`; the costs `flops` and `flops_computed` a generated token.
    """
    arm, *judges = arms
    settings = task.settings
    length = arm.config.data.length
    held_out = dataset_windows(dataset, task.split, settings["prompts"], length, settings["sample"])
    windows = held_out.windows
    first = settings["prompt_tokens"]
    costs: dict[str, float] = {}
    if task.measurement == "generation":
        windows = _write(task, arm, windows[:, :first])
        counter = InferenceCounter(
            arm.config.model,
            length,
            dataset.tokenizer.vocab_size,
            arm.scorer.causal,
            arm.scorer.block_size,
        )
        cost = counter.per_generated_token(first, length - first, settings["steps"])
        costs = {"flops": cost.needed, "flops_computed": cost.computed}
    nll = np.mean([chain_rule_nll(judge.scorer, windows, first) for judge in judges], axis=0)
    by_window = nll.mean(axis=1)
    texts = windows[:, first:]
    tokenizer: Tokenizer = dataset.tokenizer
    decoded = [decode_behind(tokenizer, window[:first], window[first:]) for window in windows]
    repeated = repetition(texts)
    return Finding(
        {
            **over_documents("judge_nll", by_window, held_out),
            **over_documents("entropy", unigram_entropy(texts), held_out),
            "distinct": distinct_ngrams(texts),
            "repetition": float(repeated.mean()),
            "repetition_standard_error": standard_error(repeated),
            **(_parsing(decoded) if settings["python"] else {}),
        },
        window_examples("judge_nll", by_window, held_out),
        tuple(
            Text(prompt=decode_whole(tokenizer, window[:first]), text=text)
            for window, text in zip(windows[:KEPT_TEXTS], decoded, strict=False)
        ),
        costs,
    )


def _write(task: Task, arm: Arm, prompts: np.ndarray) -> np.ndarray:
    how = (task.settings["sampler"], task.settings["steps"], arm.config.training_seed)
    temperature, new_tokens = task.settings.get("temperature", 1.0), arm.config.data.length - prompts.shape[1]
    return np.stack(sample(arm.scorer, prompts, new_tokens, *how, temperature=temperature))


def _parsing(texts: Sequence[str]) -> dict[str, float | None]:
    lines = parse_rate(texts)
    if not lines.lines:
        return {"parse_rate": None, "parse_rate_standard_error": None, "lines": None}
    rate = lines.parsed / lines.lines
    error = float(np.sqrt(rate * (1 - rate) / lines.lines))
    return {"parse_rate": rate, "parse_rate_standard_error": error, "lines": float(lines.lines)}

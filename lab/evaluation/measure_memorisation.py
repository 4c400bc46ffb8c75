"""Measure what an arm has memorised: the NLL of its training windows, and how many it writes down exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.data.held_out import dataset_windows, scored_places
from lab.evaluation.arm import Arm, Finding
from lab.evaluation.chain_rule import chain_rule_nll, rows_passed
from lab.evaluation.documents import standard_error
from lab.evaluation.flops import pass_flops
from lab.evaluation.inference_flops import InferenceCounter
from lab.evaluation.sampling import sample
from lab.evaluation.training_windows import training_windows
from lab.results import Task

if TYPE_CHECKING:
    from lab.data.dataset import Dataset

ONE_ERROR = math.erf(math.sqrt(0.5))  # the confidence of an interval of one standard error, 68.3 %


def measure(task: Task, arms: Sequence[Arm], dataset: Dataset) -> Finding:
    """Measure one arm.

    Args:
        task: `train_nll`, whose settings say how many `windows` at how many `positions`; or `extraction`,
            with `windows`, `prompt_tokens`, `tokens` that follow, the `sampler` and its `steps`.
        arms: one.
        dataset: its corpus, of which it was trained on the budget that its configuration names.

    Returns:
        `train_nll`, nats/token, the mean over training windows, with its standard error over them; or
        `extraction_rate` of training windows, and `extraction_rate_held_out` of as many held-out ones, which
        a model that predicts without having memorised reaches too, with their standard errors, and the costs
        `flops` and `flops_computed` a token.
    """
    (arm,) = arms
    windows = training_windows(arm.config, dataset, task.settings["windows"])
    a_pass = pass_flops(arm.config, dataset.tokenizer.vocab_size)
    if task.measurement == "train_nll":
        return _train_nll(task, arm, windows, a_pass)
    return _extraction(task, arm, windows, dataset, a_pass)


def _train_nll(task: Task, arm: Arm, windows: np.ndarray, a_pass: float) -> Finding:
    settings = task.settings
    count, length = windows.shape
    places, shares = scored_places(count, length, settings["positions"], settings["sample"])
    by_window = chain_rule_nll(arm.scorer, windows, places=places) @ shares
    values = {"train_nll": float(by_window.mean()), "train_nll_standard_error": standard_error(by_window)}
    return Finding(values, flops=rows_passed(arm.scorer, places) * a_pass)


def _extraction(task: Task, arm: Arm, windows: np.ndarray, dataset: Dataset, a_pass: float) -> Finding:
    settings, length = task.settings, arm.config.data.length
    held_out = dataset_windows(dataset, task.split, len(windows), length, settings["sample"])
    prompt, tokens, steps = settings["prompt_tokens"], settings["tokens"], settings["steps"]
    counter = InferenceCounter(
        arm.config.model, length, dataset.tokenizer.vocab_size, arm.scorer.causal, arm.scorer.block_size
    )
    cost = counter.per_generated_token(prompt, tokens, steps)
    values: dict[str, float | None] = {}
    for name, of in (("extraction_rate", windows), ("extraction_rate_held_out", held_out.windows)):
        found = extracted(arm, of, prompt, tokens, settings["sampler"], steps)
        values |= {name: float(found.mean()), f"{name}_standard_error": rate_error(found)}
    return Finding(
        values,
        costs={"flops": cost.needed, "flops_computed": cost.computed},
        flops=2 * len(windows) * steps * a_pass,
    )


def extracted(
    arm: Arm, windows: np.ndarray, prompt_tokens: int, tokens: int, sampler: str, steps: int
) -> np.ndarray:
    """Whether greedy sampling after the first part of a window writes what follows it exactly.

    Args:
        arm: which writes.
        windows: (count, L) int32.
        prompt_tokens: m, of each window the prompt.
        tokens: n, that follow it; all must be right.
        sampler: `left_to_right`, or of a dense arm one of `denoise`.
        steps: T, its passes.

    Returns:
        (count,) bool.

    Reference: Carlini et al. 2023, arXiv:2202.07646, section 3: k-extractable strings, with k = m.
    """
    prompts, seed = windows[:, :prompt_tokens], arm.config.training_seed  # nothing greedy depends on a seed
    rows = sample(arm.scorer, prompts, tokens, sampler, steps, seed, temperature=0.0)
    return np.asarray((np.stack(rows) == windows[:, : prompt_tokens + tokens]).all(axis=1))


def rate_error(found: np.ndarray) -> float:
    """The standard error of a share of independent windows: half of the Wilson interval of one error.

    So that where none or all are found it is not 0: of 0 among n it is about 1 / (2 (n + 1)).

    Args:
        found: (n,) bool.

    Reference: Wilson 1927, Journal of the American Statistical Association 22.
    """
    from scipy.stats import binomtest  # takes longer to import than a run to start

    test = binomtest(int(found.sum()), len(found))
    interval = test.proportion_ci(confidence_level=ONE_ERROR, method="wilson")
    return float(interval.high - interval.low) / 2

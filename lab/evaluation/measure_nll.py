"""Measure the exact NLL of held-out windows, left to right: the yardstick that every arm is compared by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.data.windows import evaluation_windows
from lab.evaluation.arm import Arm, Finding, standard_error, window_examples
from lab.evaluation.chain_rule import chain_rule_nll
from lab.evaluation.flops import pass_flops
from lab.results import Task

if TYPE_CHECKING:
    from lab.data.dataset import Dataset


def measure(task: Task, arms: Sequence[Arm], dataset: Dataset) -> Finding:
    """Measure one arm.

    Args:
        task: its settings say how many `windows`.
        arms: one.
        dataset: its corpus.

    Returns:
        `nll`, nats/token, with `nll_standard_error` over the windows; `bits_per_byte`, summed over all
        windows and divided by their bytes. `nll` by window.
    """
    (arm,) = arms
    tokens, length = getattr(dataset, task.split), arm.config.data.length
    windows = evaluation_windows(tokens, task.settings["windows"], length)
    nll = chain_rule_nll(arm.scorer, windows)
    by_window = nll.mean(axis=1)
    window_bytes = int(dataset.tokenizer.byte_lengths[windows].sum())
    values: dict[str, float | None] = {
        "nll": float(nll.mean()),
        "nll_standard_error": standard_error(by_window),
        "bits_per_byte": float(nll.sum() / (np.log(2) * window_bytes)),
    }
    rows = len(windows) * (1 if arm.scorer.causal else length)
    return Finding(
        values,
        window_examples("nll", by_window, tokens, length, dataset.tokenizer.end_id),
        flops=rows * pass_flops(arm.config, dataset.tokenizer.vocab_size),
    )

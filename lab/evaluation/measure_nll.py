"""Measure the exact NLL of held-out text, left to right: the yardstick that every arm is compared by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.data.held_out import dataset_windows, scored_places
from lab.evaluation.arm import Arm, Finding
from lab.evaluation.chain_rule import chain_rule_nll, rows_passed
from lab.evaluation.documents import nll_values, over_documents, window_examples
from lab.evaluation.flops import pass_flops
from lab.results import Task

if TYPE_CHECKING:
    from lab.data.dataset import Dataset


def measure(task: Task, arms: Sequence[Arm], dataset: Dataset) -> Finding:
    """Measure one arm, or the mean of the probabilities that the members of an ensemble give.

    Args:
        task: `nll`, `nll_exact` of all places, or `ensemble`. Its settings say how many `windows` of which
            `sample`, and at how many `positions` of each.
        arms: one, or the members.
        dataset: its corpus.

    Returns:
        What `nll_values` gives, and `nll` by window. Of `nll_exact` itself and its standard error alone.
    """
    arm, settings = arms[0], task.settings
    length = arm.config.data.length
    held_out = dataset_windows(dataset, task.split, settings["windows"], length, settings["sample"])
    places, shares = scored_places(
        len(held_out.windows), length, settings.get("positions", 0), settings["sample"]
    )
    nll = np.stack([chain_rule_nll(each.scorer, held_out.windows, places=places) for each in arms])
    by_window = (np.log(len(arms)) - np.logaddexp.reduce(-nll, axis=0)) @ shares
    metric = "nll_exact" if task.measurement == "nll_exact" else "nll"
    values = (
        over_documents(metric, by_window, held_out)
        if metric == "nll_exact"
        else nll_values(by_window, held_out, dataset.tokenizer.byte_lengths)
    )
    rows = len(arms) * rows_passed(arm.scorer, places)
    return Finding(
        values,
        window_examples(metric, by_window, held_out),
        flops=rows * pass_flops(arm.config, dataset.tokenizer.vocab_size),
    )

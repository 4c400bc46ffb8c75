"""Measure the any-order bound of an arm that is trained on random orders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.data.held_out import dataset_windows
from lab.evaluation.arm import Arm, Finding
from lab.evaluation.flops import pass_flops
from lab.evaluation.nelbo import nelbo
from lab.results import Task

if TYPE_CHECKING:
    from lab.data.dataset import Dataset


def measure(task: Task, arms: Sequence[Arm], dataset: Dataset) -> Finding:
    """Measure one arm.

    Args:
        task: its settings say how many `windows` of which `sample`, and how many `draws` of each.
        arms: one.
        dataset: its corpus.

    Returns:
        `nelbo`, an upper bound on the NLL, nats/token, the mean over documents as the NLL's, with its
        standard errors over documents and masks.
    """
    (arm,) = arms
    length, settings = arm.config.data.length, task.settings
    held_out = dataset_windows(dataset, task.split, settings["windows"], length, settings["sample"])
    draws = settings["draws"]
    bound = nelbo(arm.scorer, held_out.windows, draws, held_out.documents)
    values: dict[str, float | None] = {
        "nelbo": bound.nelbo,
        "nelbo_example_standard_error": bound.example_standard_error,
        "nelbo_mask_standard_error": bound.mask_standard_error,
    }
    flops = len(held_out.windows) * draws * pass_flops(arm.config, dataset.tokenizer.vocab_size)
    return Finding(values, flops=flops)

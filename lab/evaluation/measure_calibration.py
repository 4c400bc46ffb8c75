"""Measure what one temperature, fitted on the validation split, makes of the NLL of the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.data.held_out import HeldOut, dataset_windows, scored_places
from lab.evaluation.arm import Arm, Finding
from lab.evaluation.calibration import fit_temperature, tempered_nll
from lab.evaluation.chain_rule import place_logits
from lab.evaluation.documents import over_documents, window_examples
from lab.evaluation.flops import pass_flops
from lab.results import Split, Task

if TYPE_CHECKING:
    from lab.data.dataset import Dataset


def measure(task: Task, arms: Sequence[Arm], dataset: Dataset) -> Finding:
    """Measure one arm.

    Args:
        task: its settings say how many `windows` of which `sample` of its split at how many `positions`, as
            those of the NLL do, and of the validation split `validation_windows` and `validation_positions`.
        arms: one.
        dataset: its corpus.

    Returns:
        `nll_calibrated`, nats/token, the mean over documents as the NLL's, with its standard error over them,
        and by window; `temperature`, which minimises the NLL of the validation split.
    """
    (arm,) = arms
    validation, places, shares = _places(task, arm, dataset, "validation")
    logits = np.empty((places.size, dataset.tokenizer.vocab_size), np.float32)
    for numbers, own in place_logits(arm.scorer, validation.windows, places):
        logits[numbers] = own
    targets = np.take_along_axis(validation.windows, places, axis=1).ravel()
    by_window = document_weights(validation.documents)
    temperature = fit_temperature(logits, targets, np.outer(by_window, shares).ravel())
    held_out, test_places, test_shares = _places(task, arm, dataset, task.split)
    targets = np.take_along_axis(held_out.windows, test_places, axis=1).ravel()
    nll = np.empty(test_places.size)
    for numbers, own in place_logits(arm.scorer, held_out.windows, test_places):
        nll[numbers] = tempered_nll(own, targets[numbers], temperature)
    calibrated = nll.reshape(test_places.shape) @ test_shares
    passes = sum(len(each) if arm.scorer.causal else each.size for each in (places, test_places))
    return Finding(
        {**over_documents("nll_calibrated", calibrated, held_out), "temperature": temperature},
        window_examples("nll_calibrated", calibrated, held_out),
        flops=passes * pass_flops(arm.config, dataset.tokenizer.vocab_size),
    )


def document_weights(documents: np.ndarray) -> np.ndarray:
    """The weight of each window in the mean over documents: (n,) float64, in sum 1."""
    _, number, counts = np.unique(documents, return_inverse=True, return_counts=True)
    return np.asarray(1 / (len(counts) * counts[number]))


def _places(task: Task, arm: Arm, dataset: Dataset, split: Split) -> tuple[HeldOut, np.ndarray, np.ndarray]:
    """The windows of a split, the places of them that are predicted, and the parts that these stand for."""
    settings: Mapping[str, Any] = task.settings
    prefix = "" if split == task.split else f"{split}_"
    length, sample = arm.config.data.length, settings["sample"]
    held_out = dataset_windows(dataset, split, settings[f"{prefix}windows"], length, sample)
    return held_out, *scored_places(len(held_out.windows), length, settings[f"{prefix}positions"], sample)

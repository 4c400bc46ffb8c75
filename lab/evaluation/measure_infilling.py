"""Measure infilling: the NLL of the middle of held-out windows, and telling it from the middles of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.data.held_out import dataset_windows
from lab.evaluation.arm import Arm, Finding
from lab.evaluation.documents import over_documents, window_examples
from lab.evaluation.flops import pass_flops
from lab.evaluation.inference_flops import passes_of_option
from lab.evaluation.infilling import gap_nll, gap_options, option_nll
from lab.results import Task

if TYPE_CHECKING:
    from lab.data.dataset import Dataset


def measure(task: Task, arms: Sequence[Arm], dataset: Dataset) -> Finding:
    """Measure one arm.

    Args:
        task: its settings say how many `windows` of which `sample`, how many `left_tokens` come before the
            gap, how many `tokens` it has, and how many `options` there are for it.
        arms: one. Whether it sees both sides follows from the orders that it was trained on.
        dataset: its corpus.

    Returns:
        `infilling_left_nll` of the true middle given the left side alone; of an arm that sees both,
        `infilling_nll` given both, both in nats/token; `infilling_accuracy` of choosing it among the options
        (a tie counts as wrong), by window too. All are means over documents with their standard errors.
    """
    (arm,) = arms
    scorer, settings = arm.scorer, task.settings
    length, options = arm.config.data.length, settings["options"]
    both_sides = arm.config.sees_both_sides
    held_out = dataset_windows(dataset, task.split, settings["windows"], length, settings["sample"])
    gap = settings["left_tokens"], settings["tokens"]
    left = gap_nll(scorer, held_out.windows, *gap, both_sides=False)
    nll = option_nll(scorer, gap_options(held_out.windows, *gap, options), *gap, both_sides)
    correct = (nll[:, 0] < nll[:, 1:].min(axis=1)).astype(float)
    scored = settings["tokens"] if both_sides else length - settings["left_tokens"]
    each = passes_of_option(settings["tokens"], scorer.causal, scorer.block_size)
    each += options * passes_of_option(scored, scorer.causal, scorer.block_size)
    return Finding(
        {
            **over_documents("infilling_accuracy", correct, held_out),
            **over_documents("infilling_left_nll", left, held_out),
            **(over_documents("infilling_nll", nll[:, 0], held_out) if both_sides else {}),
        },
        window_examples("infilling_accuracy", correct, held_out),
        flops=len(left) * each * pass_flops(arm.config, dataset.tokenizer.vocab_size),
    )

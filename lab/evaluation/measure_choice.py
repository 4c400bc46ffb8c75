"""Measure multiple choice made from held-out text, exactly or by Monte Carlo draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lab.evaluation.arm import Arm, Finding
from lab.evaluation.choice import make_items, option_nll, rank_options
from lab.evaluation.choice_draws import sampled_option_nll
from lab.evaluation.flops import pass_flops
from lab.evaluation.inference_flops import InferenceCounter, passes_of_option
from lab.results import Task

if TYPE_CHECKING:
    from lab.data.dataset import Dataset


def measure(task: Task, arms: Sequence[Arm], dataset: Dataset) -> Finding:
    """Measure one arm.

    Args:
        task: its settings say how many `items` of which `sample` with how many `options`, their
            `context_tokens` and `option_tokens`, and `num_draws` where options are scored by draws and not
            by the chain rule.
        arms: one.
        dataset: its corpus.

    Returns:
        `choice_accuracy` in [0, 1], `option_gap`, `choice_true_nll` and `choice_wrong_nll`, nats/token, with
        their standard errors over the items; the costs `flops` and `flops_computed` an item
        (lab/evaluation/inference_flops.py).
    """
    (arm,) = arms
    settings, vocab_size = task.settings, dataset.tokenizer.vocab_size
    num_draws: int | None = settings.get("num_draws")
    shape = (settings["options"], settings["context_tokens"], settings["option_tokens"])
    items = make_items(getattr(dataset, task.split), settings["items"], *shape, settings["sample"])
    score = rank_options(
        option_nll(arm.scorer, items)
        if num_draws is None
        else sampled_option_nll(arm.scorer, items, num_draws)
    )
    scorer, length = arm.scorer, arm.config.data.length
    counter = InferenceCounter(arm.config.model, length, vocab_size, scorer.causal, scorer.block_size)
    cost = counter.per_choice_item(*shape, num_draws)
    each = num_draws or passes_of_option(settings["option_tokens"], scorer.causal, scorer.block_size)
    rows = settings["items"] * settings["options"] * each
    return Finding(
        {
            "choice_accuracy": score.accuracy,
            "option_gap": score.option_gap,
            "choice_true_nll": score.true_nll,
            "choice_wrong_nll": score.wrong_nll,
            "choice_accuracy_standard_error": score.accuracy_standard_error,
            "option_gap_standard_error": score.option_gap_standard_error,
            "choice_true_nll_standard_error": score.true_nll_standard_error,
            "choice_wrong_nll_standard_error": score.wrong_nll_standard_error,
        },
        costs={"flops": cost.needed, "flops_computed": cost.computed},
        flops=rows * pass_flops(arm.config, vocab_size),
    )

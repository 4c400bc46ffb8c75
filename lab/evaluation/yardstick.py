"""One yardstick for every arm: the same windows, items and draws at every stop."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.config import RunConfig
from lab.data.dataset import Dataset
from lab.data.windows import evaluation_windows
from lab.evaluation.chain_rule import chain_rule_nll
from lab.evaluation.choice import Items, make_items, score_items
from lab.evaluation.flops import forward_flops_per_token, shape_of
from lab.evaluation.held_out import require_held_out
from lab.evaluation.nelbo import nelbo
from lab.evaluation.scorer import Scorer


@dataclass(frozen=True)
class HeldOut:
    """What one split is measured on: windows (count, L) int32, their UTF-8 bytes, multiple-choice items."""

    windows: np.ndarray
    window_bytes: int
    items: Items


class Yardstick:
    """Measures an arm on the validation and test splits.

    Args:
        config: the run.
        dataset: the corpus.

    Raises:
        ValueError: if a split is too short for the windows or items asked for.
    """

    def __init__(self, config: RunConfig, dataset: Dataset) -> None:
        require_held_out(config, dataset, "evaluation")
        self.config = config
        self._vocab_size = dataset.tokenizer.vocab_size
        counts = {"validation": config.evaluation.validation_windows, "test": config.evaluation.test_windows}
        self._splits = {split: self._hold_out(dataset, split, count) for split, count in counts.items()}

    def measure(self, scorer: Scorer, split: str) -> dict[str, float]:
        """All metrics of one split.

        Args:
            scorer: the arm.
            split: `validation` or `test`.

        Returns:
            `nll`, exact and left to right, nats/token, with `nll_standard_error` over the windows;
            `bits_per_byte`; `choice_accuracy` in [0, 1]; `option_gap`, nats/token; and for arms trained on
            random orders `nelbo`, a bound, nats/token, with its two standard errors.
        """
        held_out = self._splits[split]
        nll = chain_rule_nll(scorer, held_out.windows)
        by_window = nll.mean(axis=1)
        choice = score_items(scorer, held_out.items)
        metrics = {
            "nll": float(nll.mean()),
            "nll_standard_error": float(by_window.std(ddof=1) / np.sqrt(len(by_window))),
            "bits_per_byte": float(nll.sum() / (np.log(2) * held_out.window_bytes)),
            "choice_accuracy": choice.accuracy,
            "option_gap": choice.option_gap,
        }
        if self.config.factors.order == "any":
            bound = nelbo(scorer, held_out.windows, self.config.evaluation.nelbo_draws)
            metrics["nelbo"] = bound.nelbo
            metrics["nelbo_example_standard_error"] = bound.example_standard_error
            metrics["nelbo_mask_standard_error"] = bound.mask_standard_error
        return metrics

    def flops(self, split: str) -> float:
        """FLOPs of measuring one split once: passes of L slots, times the count of one pass."""
        held_out = self._splits[split]
        length = self.config.data.length
        causal = self.config.factors.compute == "causal"
        windows = len(held_out.windows)
        options = held_out.items.options.shape[0] * held_out.items.options.shape[1]
        passes = float(windows + options)
        if not causal:
            passes = float(windows * length + options * held_out.items.options.shape[2])
        if self.config.factors.order == "any":
            passes += windows * self.config.evaluation.nelbo_draws
        model = self.config.model
        each = forward_flops_per_token(shape_of(model), length, self._vocab_size, causal, model.loops)
        return passes * length * each

    def _hold_out(self, dataset: Dataset, split: str, count: int) -> HeldOut:
        tokens = getattr(dataset, split)
        evaluation = self.config.evaluation
        windows = evaluation_windows(tokens, count, self.config.data.length)
        items = make_items(
            tokens,
            evaluation.choice_items,
            evaluation.choice_options,
            evaluation.choice_context_tokens,
            evaluation.choice_option_tokens,
        )
        return HeldOut(windows, int(dataset.tokenizer.byte_lengths[windows].sum()), items)


def make_scorer(transformer: Any, config: RunConfig) -> Scorer:
    """The scorer of a run's arm."""
    return Scorer(transformer, config.factors.compute == "causal", config.evaluation.batch_size)

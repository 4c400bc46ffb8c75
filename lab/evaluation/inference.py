"""What a finished arm makes of more or less compute at test time: its samples and its choices, measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lab.config import RunConfig
from lab.data.dataset import Dataset
from lab.data.windows import evaluation_windows
from lab.evaluation.chain_rule import chain_rule_nll
from lab.evaluation.choice import ChoiceScore, Items, make_items, option_nll, rank_options
from lab.evaluation.choice_draws import sampled_option_nll
from lab.evaluation.denoising import denoise
from lab.evaluation.generation import SlotLogits, sample_left_to_right
from lab.evaluation.held_out import require_held_out
from lab.evaluation.inference_file import (
    GENERATION,
    LEFT_TO_RIGHT,
    REAL,
    InferenceFile,
    Row,
    Task,
    prompt_and_generated,
)
from lab.evaluation.inference_flops import InferenceCounter
from lab.evaluation.scorer import Scorer
from lab.evaluation.text_quality import NGRAM, distinct_ngrams, parse_rate, repetition

EXAMPLES = 2  # texts of each sampler and number of steps that are kept to be looked at


@dataclass(frozen=True)
class FinishedArm:
    """A trained arm, with the weights of its best stop.

    Attributes:
        config: its run's configuration.
        scorer: its network, scoring; its sampler shares the weights.
        stop: `reading` and `step` of the stop.
    """

    config: RunConfig
    scorer: Scorer
    stop: Row

    @cached_property
    def sampler(self) -> SlotLogits:
        """The same network, sampling."""
        return SlotLogits(self.scorer.transformer, self.scorer.causal)


def measure_inference(
    arm: FinishedArm,
    judges: Sequence[Scorer],
    dataset: Dataset,
    file: InferenceFile,
    advance: Callable[[Task], None] = lambda task: None,
) -> None:
    """Measure what the file misses, row by row.

    Args:
        arm: what is measured.
        judges: causal arms that score the samples left to right; their NLLs are averaged.
        dataset: its corpus; prompts and items come from the test split.
        file: where the rows go.
        advance: told of each task that is done.

    Raises:
        ValueError: if the test split is too short for the prompts or items.
    """
    prompt, generated = prompt_and_generated(arm.config)
    about = {"stop": arm.stop, "prompt_tokens": prompt, "generated_tokens": generated, "ngram": NGRAM}
    bench = _Bench(arm, judges, dataset)
    for task in file.missing:
        file.add({**task.values, **bench.measure(task)}, **about)
        advance(task)


class _Bench:
    """The prompts, the items and the judges that every task of one arm shares."""

    def __init__(self, arm: FinishedArm, judges: Sequence[Scorer], dataset: Dataset) -> None:
        self._arm, self._judges, self._dataset = arm, judges, dataset
        config = arm.config
        require_held_out(config, dataset, "inference")
        self._windows = evaluation_windows(dataset.test, config.inference.prompts, config.data.length)
        self._prompt, self._generated = prompt_and_generated(config)
        self._counter = InferenceCounter(
            config.model, config.data.length, dataset.tokenizer.vocab_size, arm.scorer.causal
        )

    @cached_property
    def _items(self) -> Items:
        evaluation = self._arm.config.evaluation
        return make_items(
            self._dataset.test,
            self._arm.config.inference.choice_items,
            evaluation.choice_options,
            evaluation.choice_context_tokens,
            evaluation.choice_option_tokens,
        )

    def measure(self, task: Task) -> Row:
        if task.kind == REAL:
            return self._text(self._windows)
        if task.kind == GENERATION:
            return self._text(self._sample(task)) | self._generation_flops(task)
        return self._choice(task)._asdict() | self._choice_flops(task)

    def _sample(self, task: Task) -> np.ndarray:
        config, prompts = self._arm.config, self._windows[:, : self._prompt]
        length, seed, rows = config.data.length, config.seed, config.evaluation.batch_size
        if task.sampler == LEFT_TO_RIGHT:
            return sample_left_to_right(self._arm.sampler, prompts, length, seed, rows)
        return denoise(self._arm.sampler, prompts, length, task.sampler, task.steps, seed, rows)

    def _text(self, windows: np.ndarray) -> Row:
        """What whole windows are like after their prompts."""
        nll = np.mean([chain_rule_nll(judge, windows, self._prompt) for judge in self._judges], axis=0)
        by_window = nll.mean(axis=1)
        texts = windows[:, self._prompt :]
        repeated = repetition(texts)
        decoded = [self._dataset.tokenizer.decode(text) for text in texts]
        lines = parse_rate(decoded) if self._arm.config.data.corpus == "stdlib" else None
        parsing: Row = {"parse_rate": None, "parse_rate_standard_error": None, "lines": None}
        if lines and lines.lines:
            rate = lines.parsed / lines.lines
            error = float(np.sqrt(rate * (1 - rate) / lines.lines))
            parsing = {"parse_rate": rate, "parse_rate_standard_error": error, "lines": lines.lines}
        return {
            "judge_nll": float(by_window.mean()),
            "judge_nll_standard_error": _standard_error(by_window),
            "distinct": distinct_ngrams(texts),
            "repetition": float(repeated.mean()),
            "repetition_standard_error": _standard_error(repeated),
            **parsing,
            "examples": [
                {"prompt": self._dataset.tokenizer.decode(window[: self._prompt]), "text": text}
                for window, text in zip(windows[:EXAMPLES], decoded, strict=False)
            ],
        }

    def _choice(self, task: Task) -> ChoiceScore:
        if task.num_draws is None:
            return rank_options(option_nll(self._arm.scorer, self._items))
        return rank_options(sampled_option_nll(self._arm.scorer, self._items, task.num_draws))

    def _generation_flops(self, task: Task) -> Row:
        flops = self._counter.per_generated_token(self._prompt, self._generated, task.steps)
        return {"flops": flops.needed, "flops_computed": flops.computed}

    def _choice_flops(self, task: Task) -> Row:
        evaluation = self._arm.config.evaluation
        flops = self._counter.per_choice_item(
            evaluation.choice_options,
            evaluation.choice_context_tokens,
            evaluation.choice_option_tokens,
            task.num_draws,
        )
        return {"flops": flops.needed, "flops_computed": flops.computed}


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))

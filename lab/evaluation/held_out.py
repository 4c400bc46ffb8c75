"""Whether the held-out splits, and the training text, have room for what is measured on them."""

from collections.abc import Iterator
from typing import NamedTuple

from lab.config import RunConfig
from lab.data.dataset import HELD_OUT, Dataset
from lab.data.held_out import held_out_room
from lab.evaluation.asked_problems import require_code
from lab.evaluation.task_files import read_questions
from lab.evaluation.task_windows import LEAST, require_fit
from lab.evaluation.training_windows import training_room

BUDGET = "the training budget"


class _Need(NamedTuple):
    """What one setting takes of a split, what there is, and the largest value for which that is enough.

    Attributes:
        key: of the setting.
        value: of the setting.
        split: the held-out split, or `the training budget`.
        takes: what the value takes, in words.
        has: what the split has, in words.
        most: the largest value.
    """

    key: str
    value: int
    split: str
    takes: str
    has: str
    most: int


def require_held_out(config: RunConfig, dataset: Dataset, *sections: str) -> None:
    """Refuse a corpus whose held-out splits, or a budget that, have no room for what is measured on them, and
    files of tasks that cannot be read, or do not fit in a window.

    Args:
        config: the run.
        dataset: its corpus.
        sections: of the configuration: `evaluation`, `inference`, `memorisation`, `infilling`, `tasks`, or
            several.

    Raises:
        ValueError: naming each text that is too short, and what to set; or what is wrong with a task.
    """
    if "code" in sections:
        require_code(config, dataset)
    for task in config.tasks.tasks if "tasks" in sections else ():
        require_fit(read_questions(task), dataset.tokenizer, config.data.length)
    needs = (need for need in _needs(config, dataset) if need.key.split(".")[0] in sections)
    missing = [need for need in needs if need.most < need.value]
    if not missing:
        return
    shortages = "; ".join(
        f"{need.key}={need.value} takes {need.takes} of {need.split}, which has {need.has}"
        for need in missing
    )
    short = dict.fromkeys(need.split for need in missing)
    texts = " and ".join(dict.fromkeys("budget" if text == BUDGET else "held-out splits" for text in short))
    shares = " and ".join("data.unique_tokens" if text == BUDGET else f"data.{text}_share" for text in short)
    most = {need.key: min(other.most for other in missing if other.key == need.key) for need in missing}
    settings = " ".join(f"{key}={value}" for key, value in most.items())
    lower = f", or measure on less: --set '{settings}', SET= for make" if min(most.values()) >= LEAST else ""
    raise ValueError(
        f"the {texts} must be long enough for the evaluation, but {shortages}. "
        f"Give more text, raise {shares}{lower}."
    )


def _needs(config: RunConfig, dataset: Dataset) -> Iterator[_Need]:
    evaluation, length = config.evaluation, config.data.length
    span = evaluation.choice_context_tokens + evaluation.choice_option_tokens
    room = {split: held_out_room(dataset, split, length).windows for split in HELD_OUT}
    tokens = {split: len(getattr(dataset, split)) for split in HELD_OUT}

    def windows(key: str, value: int, split: str) -> _Need:
        takes = f"{value:,} windows of {length} tokens"
        return _Need(key, value, split, takes, f"room for {room[split]:,}", room[split])

    def items(key: str, value: int, split: str) -> _Need:
        # And a wrong option besides (lab/evaluation/choice.py).
        takes = f"{(value + 1) * span:,} tokens"
        return _Need(key, value, split, takes, f"{tokens[split]:,}", tokens[split] // span - 1)

    yield windows("evaluation.validation_windows", evaluation.validation_windows, "validation")
    yield windows("evaluation.test_windows", evaluation.test_windows, "test")
    yield windows("evaluation.exact_windows", evaluation.exact_windows, "test")
    yield items("evaluation.choice_items", evaluation.choice_items, "test")
    yield windows("inference.prompts", config.inference.prompts, "test")
    yield items("inference.choice_items", config.inference.choice_items, "test")
    yield windows("infilling.windows", config.infilling.windows, "test")
    room[BUDGET] = training_room(config, dataset)
    for text in ("test", BUDGET):
        yield windows("memorisation.windows", config.memorisation.windows, text)

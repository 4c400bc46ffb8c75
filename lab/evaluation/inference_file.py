"""What is measured of inference, and the file that keeps it. Imports no Keras: reports read it too."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.config import RunConfig
from lab.tracking.records import code_hash, read_json, write_json

Row = dict[str, Any]

SCHEMA = 1
FILE = "inference.json"  # in a run's logdir
JUDGE = "judge"  # the arm that scores the others' samples and is itself not compared
REAL, GENERATION, CHOICE = "real", "generation", "choice"
LEFT_TO_RIGHT = "left_to_right"


@dataclass(frozen=True)
class Task:
    """One measurement: real text, a sampler at a number of steps, or multiple choice at a number of draws.

    Attributes:
        kind: `real`, `generation` or `choice`.
        sampler: of `generation`, else empty.
        steps: of `generation`, else 0.
        num_draws: of `choice`; None for the exact chain rule.
    """

    kind: str
    sampler: str = ""
    steps: int = 0
    num_draws: int | None = None

    @property
    def values(self) -> Row:
        """What names the task in its row."""
        return {"kind": self.kind, "sampler": self.sampler, "steps": self.steps, "num_draws": self.num_draws}


def tasks(config: RunConfig) -> list[Task]:
    """What is measured of an arm.

    A causal arm samples left to right. A dense one takes each sampler with n, n/2, n/4, ..., 1 passes for n
    tokens. Arms trained on random orders answer multiple choice with each number of draws beside the exact
    chain rule.
    """
    _, generated = prompt_and_generated(config)
    if config.factors.compute == "causal":
        generations = [Task(GENERATION, LEFT_TO_RIGHT, generated)]
    else:
        counts = [generated >> halvings for halvings in range(generated.bit_length())]
        samplers = config.inference.samplers
        generations = [Task(GENERATION, sampler, steps) for sampler in samplers for steps in counts[::-1]]
    draws = config.inference.draws if config.factors.order == "any" else ()
    return [
        Task(REAL),
        *generations,
        Task(CHOICE),
        *(Task(CHOICE, num_draws=number) for number in draws),
    ]


def passes(config: RunConfig, task: Task) -> int:
    """Rows that a task passes through the network, about: what a progress bar needs."""
    evaluation, items = config.evaluation, config.inference.choice_items
    if task.kind == CHOICE:
        dense = config.factors.compute == "dense"
        each = task.num_draws or (evaluation.choice_option_tokens if dense else 1)
        return items * evaluation.choice_options * each
    return config.inference.prompts * (1 + task.steps)


def prompt_and_generated(config: RunConfig) -> tuple[int, int]:
    """Tokens of a prompt, and tokens generated after it: together the window."""
    prompt = int(config.inference.prompt_share * config.data.length)
    return prompt, config.data.length - prompt


class InferenceFile:
    """A run's `inference.json`, which grows by one row at a time and is whole at any moment.

    Args:
        path: where it is.
        config: of the run.
        judges: keys of the judges' configurations.

    Rows found there are kept if the file is of the same run, judges, code and schema, and forgotten if not.
    """

    def __init__(self, path: Path, config: RunConfig, judges: Sequence[str]) -> None:
        self._path = path
        self._identity = {
            "schema": SCHEMA,
            "config_key": config.key(),
            "judges": sorted(judges),
            "code_hash": code_hash(),
        }
        self._tasks = tasks(config)
        self.content: Row = {**self._identity, "rows": []}
        if path.is_file():
            found = read_json(path)
            if all(found.get(name) == value for name, value in self._identity.items()):
                self.content = found

    @property
    def missing(self) -> list[Task]:
        """The tasks without a row, in order."""
        done = [{name: row[name] for name in Task(REAL).values} for row in self.content["rows"]]
        return [task for task in self._tasks if task.values not in done]

    def add(self, row: Row, **about: Any) -> None:
        """Write one more row, and what else there is to say about the run."""
        self.content = {**self.content, **about, "rows": [*self.content["rows"], row]}
        write_json(self._path, {**self.content, "complete": not self.missing})

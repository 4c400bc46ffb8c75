"""What can be measured of trained weights, declared: which tasks a run has, what names them, what they cost.

A measurement is a module `lab/evaluation/measure_<name>.py` with a function `measure`. What it gives depends
on the weights of some stops, on its settings, on the held-out text and on the code that the module imports:
these four name its row, and a row that is there is not measured again. Imports no Keras: drivers plan by it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.code import closure_hash
from lab.config import RunConfig, StopConfig
from lab.evaluation.code_problems import published_problems
from lab.evaluation.task_files import read_questions
from lab.results import Measured, Split, StopChoice, StopReference, Task
from lab.version import digest

if TYPE_CHECKING:
    from lab.data.dataset import Dataset
    from lab.evaluation.arm import Arm

NLL, NLL_EXACT, CHOICE, NELBO = "nll", "nll_exact", "choice", "nelbo"
ENSEMBLE = "ensemble"
CALIBRATION = "calibration"
TRAIN_NLL, EXTRACTION = "train_nll", "extraction"
INFILLING = "infilling"
REAL_TEXT, GENERATION = "real_text", "generation"
TASK = "task"
CODE, CODE_INFILLING, CODE_BASELINES = "code", "code_infilling", "code_baselines"
LEFT_TO_RIGHT = "left_to_right"
PYTHON_CORPORA = ("packages", "stdlib", "functions")

# The module of each measurement; its import closure is the measurement's code.
MODULES: Mapping[str, str] = {
    NLL: "lab.evaluation.measure_nll",
    NLL_EXACT: "lab.evaluation.measure_nll",
    ENSEMBLE: "lab.evaluation.measure_nll",
    CHOICE: "lab.evaluation.measure_choice",
    NELBO: "lab.evaluation.measure_nelbo",
    REAL_TEXT: "lab.evaluation.measure_text",
    GENERATION: "lab.evaluation.measure_text",
    CALIBRATION: "lab.evaluation.measure_calibration",
    TRAIN_NLL: "lab.evaluation.measure_memorisation",
    EXTRACTION: "lab.evaluation.measure_memorisation",
    TASK: "lab.evaluation.measure_tasks",
    INFILLING: "lab.evaluation.measure_infilling",
    CODE: "lab.evaluation.measure_code",
    CODE_INFILLING: "lab.evaluation.measure_code",
    CODE_BASELINES: "lab.evaluation.measure_code",
}
# What is read beside the split that a task is of: of `train` the part that the run was trained on.
READ_BESIDE: Mapping[str, tuple[str, ...]] = {
    CALIBRATION: ("validation",),
    TRAIN_NLL: ("train",),
    EXTRACTION: ("train",),
    CODE_BASELINES: ("train",),
}
JUDGED = {REAL_TEXT, GENERATION}  # what other arms judge
TOGETHER = JUDGED | {ENSEMBLE}  # what is measured with others; the rest reads the subject alone
STOPS = "lab.training.timeline"  # where the stops lie


def yardstick(config: RunConfig, split: Split) -> list[Task]:
    """What a run measures of its stops: on the validation split of each, on the test split of a few.

    The first picks the stops, and is the NLL alone. The NLL at all places is of the best stop alone.
    """
    evaluation = config.evaluation
    if split == "validation":
        windows, positions = evaluation.validation_windows, evaluation.validation_positions
        return [_task(config, NLL, split, windows=windows, positions=positions)]
    windows, positions = evaluation.test_windows, evaluation.test_positions
    tasks = [
        _task(config, NLL, split, windows=windows, positions=positions),
        _choice(config, split, evaluation.choice_items),
    ]
    if config.sees_both_sides:
        tasks.append(_task(config, NELBO, split, windows=windows, draws=evaluation.nelbo_draws))
    return [*tasks, _task(config, NLL_EXACT, split, windows=evaluation.exact_windows)]


def inference(config: RunConfig) -> list[Task]:
    """What an arm makes of more or less compute at test time, and of other temperatures.

    A causal arm, and one of blocks, samples left to right. A dense one takes each sampler with n, n/2, n/4,
    ..., 1 passes for n tokens. The first way of sampling is taken with n passes at the other temperatures
    too: settings without one are at 1. Arms trained on random orders answer multiple choice with each number
    of draws beside the exact chain rule.
    """
    prompt, generated = config.inference.prompt_and_generated(config.data.length)
    text = {
        "prompts": config.inference.prompts,
        "prompt_tokens": prompt,
        "python": config.data.corpus in PYTHON_CORPORA,
    }
    samplings = _samplings(config, config.inference.samplers, generated)
    first = max(samplings, key=lambda sampling: sampling[1])
    others = [temperature for temperature in config.inference.temperatures if temperature != 1]
    generations = [
        *({"sampler": sampler, "steps": steps} for sampler, steps in samplings),
        *({"sampler": first[0], "steps": first[1], "temperature": temperature} for temperature in others),
    ]
    draws = config.inference.draws if config.sees_both_sides else ()
    return [
        _task(config, REAL_TEXT, "test", **text),
        *(_task(config, GENERATION, "test", **text, **settings) for settings in generations),
        *(_choice(config, "test", config.inference.choice_items, number) for number in (None, *draws)),
    ]


def ensemble(config: RunConfig) -> list[Task]:
    """The NLL of a run's members together, measured as that of a run alone is."""
    nll = next(task for task in yardstick(config, "test") if task.measurement == NLL)
    return [nll.model_copy(update={"measurement": ENSEMBLE})]


def ability(config: RunConfig) -> list[Task]:
    """Whether a loss that rises is an ability that is lost: NLL, the same recalibrated, and multiple choice.

    As the yardstick has them, so that what a run has measured of a stop is not measured again.
    """
    evaluation = config.evaluation
    nll = next(task for task in yardstick(config, "test") if task.measurement == NLL)
    calibration = {
        "windows": evaluation.test_windows,
        "positions": evaluation.test_positions,
        "validation_windows": evaluation.validation_windows,
        "validation_positions": evaluation.validation_positions,
    }
    choice = _choice(config, "test", evaluation.choice_items)
    return [nll, choice, _task(config, CALIBRATION, "test", **calibration)]


def memorisation(config: RunConfig) -> list[Task]:
    """What an arm has kept of its own training text, and as a control what it can say of held-out text.

    Continuations are greedy, a dense arm's by each sampler in n, n/2, ..., 1 passes. The first task of them
    is the first sampler's in n passes.
    """
    windows = config.memorisation.windows
    prompt, tokens = config.memorisation.prompt_and_continuation(config.data.length)
    samplings = _samplings(config, config.memorisation.samplers, tokens)
    first = max(samplings, key=lambda sampling: sampling[1])
    samplings = [first, *(sampling for sampling in samplings if sampling != first)]
    text = {"windows": windows, "prompt_tokens": prompt, "tokens": tokens}
    return [
        _task(config, TRAIN_NLL, "test", windows=windows, positions=config.evaluation.test_positions),
        *(
            _task(config, EXTRACTION, "test", **text, sampler=sampler, steps=steps)
            for sampler, steps in samplings
        ),
    ]


def file_tasks(config: RunConfig) -> list[Task]:
    """The benchmark tasks whose files the configuration names.

    Raises:
        ValueError: if it names none.
    """
    if not config.tasks.tasks:
        raise ValueError("`tasks.files` must name the files of a task, but got none.")
    by_draws = config.sees_both_sides
    return [
        Task(
            measurement=TASK,
            split="test",
            settings={
                **task.settings,
                **({"num_draws": task.draws} if task.draws and by_draws else {}),
                **_reading(config),
            },
        )
        for task in config.tasks.tasks
    ]


def infilling(config: RunConfig) -> list[Task]:
    """How well an arm fills a gap in the middle of held-out windows."""
    left_tokens, tokens = config.infilling.left_and_gap(config.data.length)
    gap = {"left_tokens": left_tokens, "tokens": tokens, "options": config.infilling.options}
    return [_task(config, INFILLING, "test", windows=config.infilling.windows, **gap)]


def code(config: RunConfig) -> list[Task]:
    """What an arm's code does when it is run, and beside it code that is looked up, or written by counting.

    A dense arm writes by each sampler in as many passes as tokens. Infilling is by the first, and of held-out
    functions. Published problems are the same in every replicate.
    """
    own, form = config.code, config.code.form
    of_files = {"form": form, **({"problems": own.problems} if own.problems else {})}
    source = of_files if form else {"sample": config.replicate, "problems": own.functions}
    written = {"samples": own.samples, "temperature": own.temperature}
    samplers, new_tokens = _samplers(config, own.samplers), own.new_tokens

    def task(measurement: str, **settings: Any) -> Task:
        return Task(
            measurement=measurement, split="test", settings={**source, **settings, **_reading(config)}
        )

    return [
        *(task(CODE, **written, new_tokens=new_tokens, sampler=sampler) for sampler in samplers),
        *[task(CODE_INFILLING, **written, sampler=samplers[0])] * (not form),
        task(CODE_BASELINES, samples=own.samples, new_tokens=new_tokens),
    ]


def _samplers(config: RunConfig, samplers: Sequence[str]) -> Sequence[str]:
    """By which samplers an arm continues a prompt: those of a dense one, or left to right."""
    return [LEFT_TO_RIGHT] if config.factors.reads_causally or config.read_block_size else samplers


def _samplings(config: RunConfig, samplers: Sequence[str], tokens: int) -> list[tuple[str, int]]:
    """How an arm continues a prompt: samplers with their passes."""
    own = _samplers(config, samplers)
    if LEFT_TO_RIGHT in own:
        return [(LEFT_TO_RIGHT, tokens)]
    counts = [tokens >> halvings for halvings in range(tokens.bit_length())]
    return [(sampler, steps) for sampler in own for steps in counts[::-1]]


class TaskSet(NamedTuple):
    """Tasks that are measured of a finished run together.

    Attributes:
        tasks: of an arm, by its configuration.
        section: of the configuration, which says how much text they take.
        stops: of which of the run's stops under the headline reading.
    """

    tasks: Callable[[RunConfig], list[Task]]
    section: str
    stops: StopChoice = "best"


# What may be measured of finished runs, by name.
SETS: Mapping[str, TaskSet] = {
    "ability": TaskSet(ability, "evaluation", stops="every"),
    "code": TaskSet(code, "code"),
    ENSEMBLE: TaskSet(ensemble, "evaluation"),
    "inference": TaskSet(inference, "inference"),
    INFILLING: TaskSet(infilling, "infilling"),
    "memorisation": TaskSet(memorisation, "memorisation", stops="picked"),
    "tasks": TaskSet(file_tasks, "tasks"),
    "yardstick": TaskSet(lambda config: yardstick(config, "test"), "evaluation"),
}


def find_set(name: str) -> TaskSet:
    """The set of tasks of this name.

    Raises:
        ValueError: if there is none.
    """
    if name not in SETS:
        raise ValueError(f"`measurement` must be one of {sorted(SETS)}, but got measurement={name!r}.")
    return SETS[name]


def load_measurements() -> None:
    """Import every measurement and hash its code at once: an edit may come before one is used."""
    for module in MODULES.values():
        importlib.import_module(module)
        closure_hash(module)


def text_hash(task: Task, hashes: Mapping[str, str], config: RunConfig) -> str:
    """What names the text that a task reads: of files what they ask, wherever they lie.

    Args:
        task: what is measured.
        hashes: split -> hash of its content.
        config: of the subject.

    Raises:
        ValueError: if the files of a benchmark are not there, or not of its form.
    """
    if task.measurement == TASK:
        return read_questions(config.tasks.find(task.settings)).digest
    of_files = task.measurement in (CODE, CODE_BASELINES) and "form" in task.settings
    own = published_problems(config.code).digest if of_files else hashes[task.split]
    beside = READ_BESIDE.get(task.measurement, ())
    return digest([own, *(hashes[split] for split in beside)]) if beside else own


def row_key(task: Task, stops: Sequence[StopReference], held_out_hash: str) -> str:
    """16 hex digits that name one measurement of some weights.

    Args:
        task: what is measured.
        stops: whose weights: the subject's, then those of what it is measured with.
        held_out_hash: of the content of the text that the task reads (`text_hash`).
    """
    code = closure_hash(MODULES[task.measurement])
    read = [stop.model_dump() for stop in stops[: _arms_read(task)]]
    return digest([task.model_dump(), read, held_out_hash, code])


def wanted_rows(
    name: str, config: RunConfig, stops: Sequence[StopConfig], hashes: Mapping[str, str]
) -> dict[str, tuple[Task, StopConfig]]:
    """The rows of a set of tasks: key -> what is measured, and at which of the subject's stops.

    Args:
        name: of the set.
        config: the subject's.
        stops: its own, the best first, and those of what it is measured with.
        hashes: split -> hash of its content.
    """
    own = [stop for stop in stops if stop.run == stops[0].run]
    beside = [StopReference.to(stop) for stop in stops if stop not in own]
    return {
        row_key(task, [StopReference.to(stop), *beside], text_hash(task, hashes, config)): (task, stop)
        for stop in own
        for task in find_set(name).tasks(config)
    }


def _arms_read(task: Task) -> int | None:
    """How many of the arms a task reads; None for all."""
    return None if task.measurement in TOGETHER else 1


def rows_digest(keys: Iterable[str]) -> str:
    """16 hex digits that name a list of rows, whatever their order."""
    return digest(sorted(keys))


def code_digest(tasks: Iterable[Task]) -> str:
    """16 hex digits over the code of all these tasks."""
    return digest({task.measurement: closure_hash(MODULES[task.measurement]) for task in tasks})


def evaluation_digest(config: RunConfig, hashes: Mapping[str, str]) -> str:
    """16 hex digits that name what is to be measured of a run, and by which code, but not its weights.

    Args:
        config: the run's configuration.
        hashes: split -> hash of its content.
    """
    evaluation = config.evaluation
    tasks = [*yardstick(config, "validation"), *yardstick(config, "test")]
    return digest(
        {
            "stops": [evaluation.stops, evaluation.stop_ratio, closure_hash(STOPS)],
            "tasks": [task.model_dump() for task in tasks],
            "held_out": {split: hashes[split] for split in ("validation", "test")},
            "code": code_digest(tasks),
        }
    )


def measure(task: Task, arms: Sequence[Arm], dataset: Dataset) -> Measured:
    """Measure trained weights.

    Args:
        task: what is measured.
        arms: the subject, and after it what it is measured with.
        dataset: its corpus.

    Raises:
        ValueError: if the split is too short for the task.
    """
    arms = arms[: _arms_read(task)]
    finding = importlib.import_module(MODULES[task.measurement]).measure(task, arms, dataset)
    stops = tuple(arm.stop for arm in arms)
    key = row_key(task, stops, text_hash(task, dataset.hashes, arms[0].config))
    return Measured(key=key, task=task, stops=stops, **finding._asdict())


def passes(config: RunConfig, task: Task) -> int:
    """Rows that a task passes through the network, about: what a progress bar needs."""
    settings = task.settings
    dense, block = not config.factors.reads_causally, config.read_block_size or config.data.length
    match task.measurement:
        case "choice":
            each = settings.get("num_draws") or (min(settings["option_tokens"], block) if dense else 1)
            return int(settings["items"] * settings["options"] * each)
        case "nll" | "nll_exact" | "ensemble" | "train_nll" | "calibration":
            calibrated = task.measurement == CALIBRATION  # which takes a row for each place, in blocks too
            prefixes, most = (("", "validation_"), config.data.length) if calibrated else (("",), block)
            each = {prefix: min(settings.get(f"{prefix}positions") or most, most) for prefix in prefixes}
            return sum(settings[f"{prefix}windows"] * (each[prefix] if dense else 1) for prefix in prefixes)
        case "extraction":
            return int(2 * settings["windows"] * settings["steps"])  # and of held-out text as many
        case "nelbo":
            return int(settings["windows"] * settings["draws"])
        case "task":
            asked = read_questions(config.tasks.find(settings)).questions
            options = [option for question in asked for option in question.options]
            if draws := settings.get("num_draws"):
                return int(2 * draws * len(options))
            # A dense arm takes one for each token, of which an option has no more than bytes.
            return sum(min(len(option.encode()), block) if dense else 1 for option in options)
        case "infilling":
            gap, rest = settings["tokens"], config.data.length - settings["left_tokens"]
            spans = [gap] + settings["options"] * [gap if config.sees_both_sides else rest]
            return int(settings["windows"] * sum(min(span, block) if dense else 1 for span in spans))
        case "code" | "code_infilling":
            of_files = "form" in settings
            count = len(published_problems(config.code).problems) if of_files else settings["problems"]
            return int(count * settings["samples"] * settings.get("new_tokens", 16))
        case "code_baselines":
            return 0
        case _:
            return int(settings["prompts"] * (1 + settings.get("steps", 0)))


def _task(config: RunConfig, measurement: str, split: Split, **settings: Any) -> Task:
    """A task on the held-out sample of the run's replicate."""
    settings = {"sample": config.replicate, **settings, **_reading(config)}
    return Task(measurement=measurement, split=split, settings=settings)


def _reading(config: RunConfig) -> dict[str, str]:
    """How weights are read that may have been read otherwise before."""
    both = 0 < config.factors.ar_share < 1 and config.factors.reads_causally
    return {"read_as": "causal"} if both else {}


def _choice(config: RunConfig, split: Split, items: int, num_draws: int | None = None) -> Task:
    evaluation = config.evaluation
    settings = {
        "items": items,
        "options": evaluation.choice_options,
        "context_tokens": evaluation.choice_context_tokens,
        "option_tokens": evaluation.choice_option_tokens,
    }
    return _task(config, CHOICE, split, **settings, **({} if num_draws is None else {"num_draws": num_draws}))

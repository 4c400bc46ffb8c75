"""Benchmark tasks in their published file forms, as questions with options.

Texts are put together as lm-evaluation-harness does (github.com/EleutherAI/lm-evaluation-harness,
lm_eval/tasks), so that numbers compare:

- `hellaswag` (Zellers et al. 2019, arXiv:1905.07830; JSONL or parquet): the context is "activity: ctx_a
  Ctx_b", each option one of 4 `endings`. " [title]" becomes ". "; other brackets, left over from WikiHow, go.
- `mmlu` (Hendrycks et al. 2021, arXiv:2009.03300; a .csv without a header: question, A, B, C, D, answer, the
  subject in its name; or JSONL or parquet: question, subject, choices, answer): a line names the subject,
  after it stand the question, its lettered choices and "Answer:". The options are the letters.
- `lambada` (Paperno et al. 2016, arXiv:1606.06031; `text`): the last word, given all before it.
- `blimp` (Warstadt et al. 2020, arXiv:1912.00582; `sentence_good`, `sentence_bad`): two sentences without a
  context. (The harness puts a space before each; here there is none.)
- `choice`, of your own (`context`, `options`, and `answer`, the number of the right one from 0): an option
  follows its context as it stands, without a space between.

Where all fields are texts a .csv with a header will do, and any file may be packed (lab/data/records.py).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from lab.config import TaskConfig
from lab.data.faults import Faults
from lab.data.paths import existing, matches
from lab.data.records import ALL_KINDS, Record, kind_of, reading, scan_records, spelled, text_of
from lab.version import digest

LETTERS = "ABCD"
_MMLU_COLUMNS = ("question", *LETTERS, "answer")
_MMLU_HEADER = "The following are multiple choice questions (with answers) about {}.\n\n"
_BETWEEN = "\n\n"  # of a question and its examples


class Question(NamedTuple):
    """What an arm is asked.

    Attributes:
        context: what is given.
        options: its continuations; of a last word the one.
        answer: which of them is right.
        joint: what stands between the context and an option.
        subject: of mmlu; empty elsewhere.
    """

    context: str
    options: tuple[str, ...]
    answer: int
    joint: str = ""
    subject: str = ""

    @property
    def solved(self) -> str:
        """The context with its right answer."""
        return f"{self.context}{self.joint}{self.options[self.answer]}"


class Questions(NamedTuple):
    """All questions of a task.

    Attributes:
        questions: in the order of the files.
        before: subject -> what stands before each question of it: a header, and examples.
        digest: 16 hex digits that name all of this text.
    """

    questions: tuple[Question, ...]
    before: Mapping[str, str]
    digest: str


def read_questions(task: TaskConfig) -> Questions:
    """The questions of a task's files; a process reads files once until they change.

    Raises:
        ValueError: naming the files, and the lines or rows, that are missing, are not of the task's form or
            hold no question; if there are too few examples, or a question is one of them.
    """
    faults = Faults()
    files, dev = _find(task.files, "files", faults), _find(task.dev_files, "dev_files", faults)
    faults.refuse()
    return _read(task, files, dev, tuple(map(_stamp, (*files, *dev))))


def _find(patterns: Sequence[str], key: str, faults: Faults) -> tuple[Path, ...]:
    found: list[Path] = []
    for pattern in patterns:
        with faults.gather(), reading(Path(pattern)):
            path = existing(pattern)
            own = [path] if path else sorted(map(Path, matches(pattern)))
            if not own:
                raise ValueError(f"`tasks.{key}` must exist, but there is no file {pattern!r}.")
            found += own
    return tuple(dict.fromkeys(found))


def _stamp(path: Path) -> tuple[int, int]:
    with reading(path):
        status = path.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=16)
def _read(task: TaskConfig, files: Sequence[Path], dev: Sequence[Path], stamps: object) -> Questions:
    faults = Faults()
    questions = tuple(
        question
        for path in files
        for question in _questions_of(path, task.form, faults)[: task.questions or None]
    )
    examples = [question for path in dev for question in _questions_of(path, task.form, faults)]
    faults.refuse()
    asked = set(questions)
    before = {
        subject: _before(task, subject, examples, asked)
        for subject in dict.fromkeys(question.subject for question in questions)
    }
    return Questions(questions, before, digest([questions, before]))


def _before(task: TaskConfig, subject: str, examples: Sequence[Question], asked: set[Question]) -> str:
    """The header and the examples of a subject, the first of its `dev_files`."""
    shots = [example for example in examples if example.subject == subject][: task.shots]
    if len(shots) < task.shots:
        of = f" of the subject {subject!r}" if subject else ""
        raise ValueError(
            f"`tasks.dev_files` must hold {task.shots} questions{of}, "
            f"but {list(task.dev_files)} hold {len(shots)}."
        )
    if known := [example for example in shots if example in asked]:
        raise ValueError(
            "`tasks.dev_files` must hold other questions than `tasks.files`, "
            f"but both hold {known[0].context[:60]!r}."
        )
    header = _MMLU_HEADER.format(subject.replace("_", " ")) if task.form == "mmlu" else ""
    return header + "".join(example.solved + _BETWEEN for example in shots)


def _questions_of(path: Path, form: str, faults: Faults) -> list[Question]:
    headless = form == "mmlu" and (kind_of(path, ALL_KINDS) or "").startswith("csv")
    subject = re.sub(r"(?i)(_(test|val|dev))?\.csv(\.\w+)?$", "", path.name)

    def question_of(record: Record) -> Question:
        return _FORMS[form](_lettered(record, subject) if headless else record)

    faulty = len(faults)
    records = scan_records(path, columns=_MMLU_COLUMNS if headless else ())
    questions = [*faults.read(records, question_of)]
    if not questions and len(faults) == faulty:
        faults.add(ValueError(f"{spelled(path)}: expected questions, but the file holds none."))
    return questions


def _lettered(record: Record, subject: str) -> Record:
    """A row of a file of mmlu without a header, as one of a file with one."""
    choices = [record.fields[letter] for letter in LETTERS]
    return record._replace(fields={**record.fields, "choices": choices, "subject": subject})


def _hellaswag(record: Record) -> Question:
    if "ctx_a" in record.fields and "ctx_b" in record.fields:
        context = f"{_text(record, 'ctx_a')} {_text(record, 'ctx_b', blank=True).capitalize()}"
    else:
        context = _text(record, "ctx")
    endings = _texts(record, "endings", 4)
    cleaned = tuple(_without_brackets(ending) for ending in endings)
    if not all(ending.strip() for ending in cleaned):
        raise ValueError(f"{record.place}: expected words in each of 'endings', but got {list(endings)}.")
    question = _without_brackets(f"{_text(record, 'activity_label')}: {context}")
    return Question(question, cleaned, _number(record, "label", 4), " ")


def _without_brackets(text: str) -> str:
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _mmlu(record: Record) -> Question:
    choices = _texts(record, "choices", len(LETTERS), blank=True)
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True)]
    context = "\n".join([_text(record, "question").strip(), *lines, "Answer:"])
    return Question(
        context, tuple(LETTERS), _number(record, "answer", len(LETTERS)), " ", _text(record, "subject")
    )


def _lambada(record: Record) -> Question:
    context, _, word = _text(record, "text").strip().rpartition(" ")
    if not context:
        raise ValueError(f"{record.place}: expected words before the last one in 'text', but got {word!r}.")
    return Question(context, (word,), 0, " ")


def _blimp(record: Record) -> Question:
    return Question("", (_text(record, "sentence_good"), _text(record, "sentence_bad")), 0)


def _choice(record: Record) -> Question:
    options = _texts(record, "options")
    return Question(_text(record, "context", blank=True), options, _number(record, "answer", len(options)))


_FORMS: Mapping[str, Callable[[Record], Question]] = {
    "hellaswag": _hellaswag,
    "mmlu": _mmlu,
    "lambada": _lambada,
    "blimp": _blimp,
    "choice": _choice,
}


def _value(record: Record, name: str) -> object:
    if name not in record.fields:
        raise ValueError(f"{record.place}: expected the field {name!r}, but got {sorted(record.fields)}.")
    return record.fields[name]


def _text(record: Record, name: str, blank: bool = False) -> str:
    text = text_of(record, name, _value(record, name))
    if not (blank or text.strip()):
        raise ValueError(f"{record.place}: expected words in {name!r}, but got {text!r}.")
    return text


def _texts(record: Record, name: str, count: int = 0, blank: bool = False) -> tuple[str, ...]:
    """A list of texts, `count` of them or, with 0, two and more."""
    values = _value(record, name)
    if not isinstance(values, list) or (len(values) != count if count else len(values) < 2):
        got = f"{len(values)}" if isinstance(values, list) else type(values).__name__
        raise ValueError(f"{record.place}: expected {count or '2 or more'} texts in {name!r}, but got {got}.")
    texts = tuple(text_of(record, name, value) for value in values)
    if not (blank or all(text.strip() for text in texts)):
        raise ValueError(f"{record.place}: expected words in each of {name!r}, but got {values}.")
    return texts


def _number(record: Record, name: str, count: int) -> int:
    """Which option is right: a number from 0, also as text, or a letter."""
    value = _value(record, name)
    number = value if isinstance(value, int) and not isinstance(value, bool) else -1
    if isinstance(value, str) and value.isascii():
        number = int(value) if value.isdigit() else (LETTERS.find(value) if len(value) == 1 else -1)
    if not 0 <= number < count:
        raise ValueError(
            f"{record.place}: expected {name!r} to be 0 to {count - 1}, or its letter, but got {value!r}."
        )
    return number

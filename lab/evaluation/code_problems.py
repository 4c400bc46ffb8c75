"""Programming problems of published files: HumanEval, HumanEval+, MBPP and MBPP+."""

import ast
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from lab.config import CodeConfig
from lab.data.faults import Faults
from lab.data.paths import existing
from lab.data.records import Record, reading, scan_records, spelled, text_of
from lab.evaluation.literals import literal
from lab.evaluation.sandbox import Call, Program, Sandbox, Verdict
from lab.version import digest

# Before which a body ends. HumanEval: Chen et al. 2021, arXiv:2107.03374, section 3.2. MBPP: the BigCode
# harness (github.com/bigcode-project/bigcode-evaluation-harness, bigcode_eval/tasks/mbpp.py).
HUMANEVAL_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
MBPP_STOPS = ("\nclass", "\nassert", '\n"""', "\nprint", "\nif", "\n<|/", "\n```")


class Problem(NamedTuple):
    """A problem and its test, or the calls that take its place.

    Attributes:
        id: as in its file, such as `HumanEval/0` or `2`.
        prompt: the text that a model goes on from.
        reference: a right body.
        opening: what stands before a body in a program: HumanEval's prompt; nothing for MBPP, whose bodies
            are whole.
        entry_point: the function that is tested.
        test: source that raises unless it is right.
        setup: source that the test needs.
        stops: before which of these, or at the end of the document, a body ends.
        calls: what a body is judged by that has no test.
    """

    id: str
    prompt: str
    reference: str
    opening: str
    entry_point: str = ""
    test: str = ""
    setup: str = ""
    stops: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()

    def program(self, body: str) -> Program:
        """What a model wrote behind the prompt, with the test."""
        return Program(self.opening + body, self.calls, self.test, self.entry_point, self.setup)


class Published(NamedTuple):
    """The problems of files.

    Attributes:
        problems: in the order of the files.
        digest: 16 hex digits that name all of them.
    """

    problems: tuple[Problem, ...]
    digest: str


def published_problems(config: CodeConfig) -> Published:
    """The problems of the files that a configuration names; a process reads files once until they change.

    Raises:
        ValueError: naming the file, if one is missing or not of the form (`read_problems`), or two hold one
            task.
    """
    files = tuple(existing(file) or Path(file) for file in config.files)
    return _read(files, config.form, config.problems, tuple(map(_stamp, files)))


def _stamp(path: Path) -> tuple[int, int]:
    with reading(path):
        status = path.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4)
def _read(files: Sequence[Path], form: str, most: int | None, stamps: object) -> Published:
    problems = [problem for path in files for problem in read_problems(path, form)[:most]]
    ids = [problem.id for problem in problems]
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise ValueError(f"`code.files` must hold each task once, but {twice!r} is in two of them.")
    return Published(tuple(problems), digest(problems))


def read_problems(path: Path, form: str = "") -> list[Problem]:
    """The problems of a file, in its order.

    What kind it is the fields tell. HumanEval: `entry_point`, with `prompt`, `canonical_solution` and `test`;
    HumanEval+ may add inputs (`base_input`, `plus_input`, `atol`) on which a function must agree with the
    reference, to the tolerance and by the rule of its authors. MBPP: `code` and `test_list`, with `text` or
    `prompt`, and `test_setup_code` or `test_imports`; MBPP+ adds `test`, which then counts in place of
    the list. `challenge_test_list` does not count, as is usual. The plus sets need
    `Sandbox(packages=("numpy",))`.

    MBPP's prompt is a docstring of the task and its first test, for models that go on with code, as of Fried
    et al. 2022 (InCoder, arXiv:2204.05999) and the BigCode harness. (Austin et al. 2021, arXiv:2108.07732,
    gave larger models three solved tasks before.)

    Args:
        path: one record a problem, of a kind that `lab.data.records` reads: .jsonl, .jsonl.gz, .parquet.
        form: `humaneval` or `mbpp`, where they must be of one.

    Raises:
        ValueError: naming file and line of the records that are of none of these kinds, or not of the form,
            lack a field, have one of the wrong type, repeat an id, or hold a test or reference that is not
            Python.
    """
    problems: dict[str, Problem] = {}

    def add(record: Record) -> None:
        tested_by_name = "entry_point" in record.fields
        if form and tested_by_name != (form == "humaneval"):
            has = "no" if tested_by_name else "the"
            raise ValueError(
                f"{record.place}: expected a problem of form={form}, with {has} field 'entry_point', "
                f"but got {sorted(record.fields)}."
            )
        problem = _humaneval(record) if tested_by_name else _mbpp(record)
        if problem.id in problems:
            raise ValueError(f"{record.place}: expected each task once, but {problem.id!r} came before.")
        for name, source in (("reference", problem.opening + problem.reference), ("setup", problem.setup)):
            _parsed(record, name, source)
        _parsed(record, "test", problem.test)
        problems[problem.id] = problem

    faults = Faults()
    for _ in faults.read(scan_records(path), add):
        pass
    faults.refuse()
    if not problems:
        raise ValueError(f"{spelled(path)}: expected problems, but there is none.")
    return list(problems.values())


def failing_references(problems: Sequence[Problem], sandbox: Sandbox) -> dict[str, Verdict]:
    """The problems, by id, whose own reference does not pass: no program can, so they measure nothing.

    Raises:
        ValueError: as `Sandbox.run`.
    """
    verdicts = sandbox.run([problem.program(problem.reference) for problem in problems])
    return {
        problem.id: verdict
        for problem, verdict in zip(problems, verdicts, strict=True)
        if verdict.outcome != "passed"
    }


# Beside HumanEval's own `check`: the rule of evalplus/eval/__init__.py, without NumPy.
_AGREES = """
import copy

def _is_floats(value):
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)

def _close(value, expected, atol):
    if isinstance(expected, (list, tuple)):
        return (type(value) is type(expected) and len(value) == len(expected)
                and all(_close(one, other, atol) for one, other in zip(value, expected)))
    return abs(value - expected) <= atol + 1e-7 * abs(expected)

def _agrees(value, expected, atol):
    if value == expected:
        return True
    atol = atol or (1e-6 if _is_floats(expected) else 0)
    return atol != 0 and type(value) is type(expected) and _close(value, expected, atol)
"""


def _humaneval(record: Record) -> Problem:
    prompt, entry_point = _text(record, "prompt"), _text(record, "entry_point")
    if not entry_point.isidentifier():
        raise ValueError(
            f"{record.place}: `entry_point` must be the name of a function, but got {entry_point!r}."
        )
    reference = _text(record, "canonical_solution")
    test, setup = [], prompt
    has_inputs = any(name in record.fields for name in ("base_input", "plus_input"))
    if "test" in record.fields or not has_inputs:
        test += [_text(record, "test"), f"check({entry_point})"]
    if has_inputs:
        if not _text(record, "task_id").startswith("HumanEval/"):
            raise ValueError(
                f"{record.place}: expected inputs of HumanEval+, which are as JSON has them, but got those "
                f"of {record.fields['task_id']!r}. MBPP+ needs the form with `code`, `test_list` and `test`."
            )
        setup += f"{reference}\n_reference = {entry_point}\n{_AGREES}"
        test.append(_agreement(record, entry_point))
    test_and_setup = ("\n".join(test), f"{setup}\n")
    return Problem(
        *(_text(record, "task_id"), prompt, reference, prompt), entry_point, *test_and_setup, HUMANEVAL_STOPS
    )


def _agreement(record: Record, entry_point: str) -> str:
    """Source that asks whether the function agrees with the reference on the inputs of a record."""
    inputs = [each for name in ("base_input", "plus_input") for each in _list(record, name)]
    atol = record.fields.get("atol", 0)
    if not all(isinstance(each, list) for each in inputs):
        raise ValueError(f"{record.place}: inputs must be lists of arguments, but got another.")
    if isinstance(atol, bool) or not isinstance(atol, int | float) or not 0 <= atol < 1:
        raise ValueError(f"{record.place}: `atol` must be in [0, 1), but got {atol!r}.")
    try:
        written = literal(inputs)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{record.place}: inputs: {error}") from error
    agrees = "_agrees(_value, _reference(*copy.deepcopy(_input)), {atol})"
    if entry_point == "find_zero":  # any zero is right
        agrees = "abs(poly(*_input, _value)) <= {atol}"
    return (
        f"for _input in {written}:\n"
        f"    _value = {entry_point}(*_input)\n"
        f"    assert {agrees.format(atol=atol)}, f'{{_input!r:.100}} gave {{_value!r:.100}}'\n"
    )


def _mbpp(record: Record) -> Problem:
    task = _field(record, "task_id")
    if isinstance(task, bool) or not isinstance(task, int | str):
        raise ValueError(f"{record.place}: `task_id` must be a number or a text, but got {task!r}.")
    text = _text(record, "text" if "text" in record.fields else "prompt")
    reference = _text(record, "code").replace("\r\n", "\n")
    tests, imports = _texts(record, "test_list"), _texts(record, "test_imports", optional=True)
    if not tests:
        raise ValueError(f"{record.place}: `test_list` must hold a test, but it is empty.")
    module = _parsed(record, "code", reference)
    # Some tests use what the reference happens to import.
    imports += [ast.unparse(node) for node in module.body if isinstance(node, ast.Import | ast.ImportFrom)]
    setup = "\n".join([*imports, _text(record, "test_setup_code", optional=True)])
    test = _text(record, "test") if "test" in record.fields else "\n".join(tests)
    entry_point = _tested(record, module, test)
    prompt = f'"""\n{text}\n{tests[0]}\n"""\n'
    test_and_setup = (f"{test}\n", f"{setup}\n")
    return Problem(str(task), prompt, f"{reference}\n", "", entry_point, *test_and_setup, MBPP_STOPS)


def _tested(record: Record, reference: ast.Module, test: str) -> str:
    """The name of the function of the reference that a test calls."""
    functions = [node.name for node in reference.body if isinstance(node, ast.FunctionDef)]
    names = {node.id for node in ast.walk(_parsed(record, "test", test)) if isinstance(node, ast.Name)}
    called = [name for name in dict.fromkeys(functions) if name in names]
    if len(called) != 1:
        raise ValueError(
            f"{record.place}: the test must call one function of `code`, which has {functions}, "
            f"but calls {called}."
        )
    return called[0]


def _parsed(record: Record, name: str, source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{record.place}: the {name} must be Python, but it is not: {error}.") from error


def _field(record: Record, name: str) -> Any:
    if name not in record.fields:
        raise ValueError(f"{record.place}: expected the field {name!r}, but got {sorted(record.fields)}.")
    return record.fields[name]


def _list(record: Record, name: str) -> list[Any]:
    value = _field(record, name)
    if not isinstance(value, list):
        raise ValueError(f"{record.place}: expected a list in {name!r}, but got {type(value).__name__}.")
    return value


def _text(record: Record, name: str, optional: bool = False) -> str:
    """A text; where it is optional, none is an empty one."""
    return "" if optional and record.fields.get(name) is None else text_of(record, name, _field(record, name))


def _texts(record: Record, name: str, optional: bool = False) -> list[str]:
    """A list of texts; where it is optional, none is an empty one."""
    if optional and record.fields.get(name) is None:
        return []
    return [text_of(record, name, value) for value in _list(record, name)]

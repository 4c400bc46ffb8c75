"""Small files of the published forms. The fields are theirs; the tasks are made up."""

import gzip
import json

import pytest

from lab.evaluation.code_problems import failing_references, read_problems
from lab.evaluation.sandbox import Sandbox, Verdict

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'import math\n\n\ndef double(x):\n    """ Twice x.\n    >>> double(2)\n    4\n    """\n',
    "entry_point": "double",
    "canonical_solution": "    return math.floor(2 * x)\n",
    "test": "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate(2) == 4\n"
    "    assert candidate(-3) == -6\n",
}
# A part of the prompt helps the test: HumanEval has three such.
HELPED = {
    "task_id": "HumanEval/1",
    "prompt": 'def shift(s):\n    return s[1:] + s[:1]\n\n\ndef unshift(s):\n    """ Undo shift. """\n',
    "entry_point": "unshift",
    "canonical_solution": "    return s[-1:] + s[:-1]\n",
    "test": "def check(candidate):\n    assert candidate(shift('abc')) == 'abc'\n",
}
HUMANEVAL_PLUS = HUMANEVAL | {
    "contract": "    assert isinstance(x, int)\n",
    "base_input": [[2], [-3]],
    "plus_input": [[10**30], [0]],
    "atol": 0,
}
MBPP = {
    "task_id": 2,
    "text": "Write a function to double a number.",
    "code": "import sys\r\ndef helper(x):\r\n  return x\r\ndef double(x):\r\n  return 2 * helper(x)",
    "test_setup_code": "two = 2",
    "test_list": [
        "assert double(1) == two",
        "assert double(2) < sys.maxsize",
        "assert double([1]) == [1, 1]",
    ],
    "challenge_test_list": ["assert double(None) is None"],
}
SANITIZED = {
    "source_file": "a notebook",
    "task_id": 3,
    "prompt": "Write a function to double a number.",
    "code": "def double(x):\n  return 2.0 * x",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(double(0.1), 0.2)"],
}
MBPP_PLUS = SANITIZED | {
    "test_imports": [],
    "test": "import numpy as np\n\ndef assertion(out, exp, atol):\n    assert np.allclose(out, exp)\n\n"
    "inputs = [[1], [2.5]]\nresults = [2, 5.0]\n"
    "for i, (inp, exp) in enumerate(zip(inputs, results)):\n    assertion(double(*inp), exp, 0)\n",
}


def without(record, name):
    return {key: value for key, value in record.items() if key != name}


@pytest.fixture
def problems_of(tmp_path):
    def problems_of(*records, name="problems.jsonl", opener=open):
        path = tmp_path / name
        with opener(path, "wt", encoding="utf-8") as file:
            file.writelines(
                record if isinstance(record, str) else f"{json.dumps(record)}\n" for record in records
            )
        return read_problems(path)

    return problems_of


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox(packages=("numpy",))
    try:
        sandbox.require()
    except ValueError as error:
        pytest.skip(str(error))
    return sandbox


FORMS = {
    "HumanEval": (HUMANEVAL, "    return x + 2\n"),
    "HumanEval with a helper": (HELPED, "    return s\n"),
    "HumanEval+": (HUMANEVAL_PLUS, "    return 2 * x if x else 1\n"),
    "HumanEval+ without its old test": (without(HUMANEVAL_PLUS, "test"), "    return 2 * x if x else 1\n"),
    "MBPP": (MBPP, "def double(x):\n  return 2 * x if x != [1] else 2\n"),
    "MBPP, sanitized": (SANITIZED, "def double(x):\n  return x + 2\n"),
    "MBPP+": (MBPP_PLUS, "def double(x):\n  return 2 if x == 1 else 4\n"),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_reference_passes_and_what_is_broken_does_not(form, problems_of, sandbox):
    record, broken = FORMS[form]
    (problem,) = problems_of(record)
    assert failing_references([problem], sandbox) == {}
    (verdict,) = sandbox.run([problem.program(broken)])
    assert verdict.outcome == "failed"
    assert verdict.detail.startswith("AssertionError")
    assert problem.id == str(record["task_id"])


def test_prompts_are_what_a_model_goes_on_from(problems_of):
    humaneval, mbpp, sanitized = problems_of(HUMANEVAL, MBPP, SANITIZED)
    assert humaneval.prompt == HUMANEVAL["prompt"]
    assert humaneval.program("    return 1\n").source == HUMANEVAL["prompt"] + "    return 1\n"
    assert mbpp.prompt == '"""\nWrite a function to double a number.\nassert double(1) == two\n"""\n'
    assert mbpp.program("def double(x): return 1\n").source == "def double(x): return 1\n"
    assert "\r" not in mbpp.reference
    assert sanitized.prompt == (
        '"""\nWrite a function to double a number.\nassert math.isclose(double(0.1), 0.2)\n"""\n'
    )


def test_a_prompt_that_is_redefined_helps_no_program(problems_of, sandbox):
    """As the test has its own."""
    (problem,) = problems_of(HELPED)
    cheat = "    return s\n\n\ndef shift(s):\n    return s\n"
    assert sandbox.run([problem.program(cheat)])[0].outcome == "failed"


@pytest.mark.parametrize(
    ("atol", "body", "outcome"),
    [
        (0, "    return 0.2\n", "passed"),  # floats agree to 1e-6 unless said otherwise
        (0, "    return 0.2 + 5e-7\n", "passed"),
        (0, "    return 0.2 + 5e-6\n", "failed"),
        (1e-4, "    return 0.2 + 5e-5\n", "passed"),
        (1e-4, "    return 0.2 + 5e-4\n", "failed"),
        (1e-4, "    return '0.2'\n", "failed"),
        (1e-4, "    return float('nan')\n", "failed"),
    ],
)
def test_inputs_are_compared_with_the_reference_to_a_tolerance(atol, body, outcome, problems_of, sandbox):
    record = without(HUMANEVAL_PLUS, "test") | {
        "canonical_solution": "    return 0.1 + 0.1 * x\n",
        "base_input": [],
        "plus_input": [[1]],
        "atol": atol,
    }
    (problem,) = problems_of(record)
    assert sandbox.run([problem.program(body)])[0].outcome == outcome


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("[x, 0.5]", "passed"),
        ("[x, 0.5 + 5e-7]", "passed"),
        ("[x, 0.6]", "failed"),
        ("(x, 0.5)", "failed"),
        ("[x]", "failed"),
    ],
)
def test_lists_of_floats_are_compared_item_by_item(value, outcome, problems_of, sandbox):
    record = without(HUMANEVAL_PLUS, "test") | {
        "canonical_solution": "    return [x, 0.5]\n",
        "plus_input": [[1.5]],
    }
    (problem,) = problems_of(record | {"base_input": []})
    assert sandbox.run([problem.program(f"    return {value}\n")])[0].outcome == outcome


def test_any_zero_is_right_where_a_zero_is_asked_for(problems_of, sandbox):
    record = {
        "task_id": "HumanEval/32",
        "prompt": "def poly(xs, x):\n    return sum(c * x**i for i, c in enumerate(xs))\n\n\n"
        'def find_zero(xs):\n    """ A zero. """\n',
        "entry_point": "find_zero",
        "canonical_solution": "    return 1.0\n",
        "base_input": [[[-1, 0, 1]]],
        "plus_input": [],
        "atol": 1e-4,
    }
    (problem,) = problems_of(record)
    verdicts = sandbox.run([problem.program(f"    return {zero}\n") for zero in (1.0, -1.0, 0.0)])
    assert [verdict.outcome for verdict in verdicts] == ["passed", "passed", "failed"]


def test_references_that_fail_are_named(problems_of, sandbox):
    objects = SANITIZED | {
        "task_id": 601,
        "code": "class Pair:\n  def __init__(self, a):\n    self.a = a\ndef double(x):\n  return 2 * x.a",
        "test_list": ["assert double(Pair(1)) == 2"],
    }
    failing = failing_references(problems_of(SANITIZED, objects), sandbox)
    assert failing == {
        "601": Verdict("failed", "NameError: name 'Pair' is not defined at 'assert double(Pair(1)) == 2'")
    }


def test_files_may_be_packed_or_have_blank_lines(problems_of):
    records = (HUMANEVAL, "\n", HELPED)
    plain = problems_of(*records)
    assert [problem.id for problem in plain] == ["HumanEval/0", "HumanEval/1"]
    assert problems_of(*records, name="problems.jsonl.gz", opener=gzip.open) == plain


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", r"line 2: expected one JSON object, but it is not JSON"),
        ("[]", r"line 2: expected an object, but got list"),
        ({}, r"line 2: expected the field 'task_id', but got \[\]\."),
        (HUMANEVAL, r"line 2: expected each task once, but 'HumanEval/0' came before\."),
        (without(HELPED, "test"), r"line 2: expected the field 'test', but got \['canonical_solution',"),
        (without(HELPED, "prompt"), r"line 2: expected the field 'prompt'"),
        (without(HELPED, "canonical_solution"), r"line 2: expected the field 'canonical_solution'"),
        (HELPED | {"task_id": 7}, r"line 2: expected text in 'task_id', but got int\."),
        (HELPED | {"prompt": None}, r"line 2: expected text in 'prompt', but got NoneType\."),
        (
            HELPED | {"entry_point": "f()"},
            r"line 2: `entry_point` must be the name of a function, but got 'f\(\)'",
        ),
        (HELPED | {"test": "def check("}, r"line 2: the test must be Python, but it is not: '\(' was never"),
        (HELPED | {"canonical_solution": "return ("}, r"line 2: the reference must be Python, but it is not"),
        (HELPED | {"canonical_solution": "    '\0'"}, r"line 2: the reference must be Python, but it is not"),
        (HELPED | {"plus_input": []}, r"line 2: expected the field 'base_input'"),
        (
            HELPED | {"base_input": 1, "plus_input": []},
            r"line 2: expected a list in 'base_input', but got int\.",
        ),
        (HELPED | {"base_input": [1], "plus_input": []}, r"line 2: inputs must be lists of arguments"),
        (
            HELPED | {"base_input": [[float("nan")]], "plus_input": []},
            r"line 2: inputs: a value must equal itself",
        ),
        (
            HELPED | {"base_input": [], "plus_input": [], "atol": "0"},
            r"line 2: `atol` must be in \[0, 1\), but got '0'",
        ),
        (
            HELPED | {"base_input": [], "plus_input": [], "atol": -1},
            r"line 2: `atol` must be in \[0, 1\), but got -1",
        ),
        (
            HELPED | {"task_id": "Mbpp/2", "base_input": [], "plus_input": []},
            r"line 2: expected inputs of HumanEval\+, .* of 'Mbpp/2'\. MBPP\+ needs the form with `code`",
        ),
        (
            HELPED | {"canonical_solution": "    return '\ud800'"},
            r"line 2: expected Unicode text in 'canonical_sol",
        ),
        (without(MBPP, "text"), r"line 2: expected the field 'prompt'"),
        (without(MBPP, "code"), r"line 2: expected the field 'code'"),
        (without(MBPP, "test_list"), r"line 2: expected the field 'test_list'"),
        (MBPP | {"task_id": True}, r"line 2: `task_id` must be a number or a text, but got True\."),
        (MBPP | {"task_id": 2.5}, r"line 2: `task_id` must be a number or a text, but got 2\.5\."),
        (MBPP | {"test_list": "assert"}, r"line 2: expected a list in 'test_list', but got str\."),
        (
            MBPP | {"test_list": ["a", 1]},
            r"line 2: expected text in 'test_list', but got int\.",
        ),
        (MBPP | {"test_list": []}, r"line 2: `test_list` must hold a test, but it is empty\."),
        (MBPP | {"test_imports": "import os"}, r"line 2: expected a list in 'test_imports', but got str\."),
        (MBPP | {"test_setup_code": "def"}, r"line 2: the setup must be Python, but it is not"),
        (MBPP | {"code": "def"}, r"line 2: the code must be Python, but it is not"),
        (MBPP | {"test_list": ["assert ("]}, r"line 2: the test must be Python, but it is not"),
        (
            MBPP | {"test_list": ["assert triple(1)"]},
            r"line 2: the test must call one function of `code`, which has \['helper', 'double'\], but calls",
        ),
        (MBPP | {"test_list": ["double(helper(1))"]}, r"line 2: .* but calls \['helper', 'double'\]\."),
    ],
)
def test_a_malformed_line_is_refused_with_its_place(record, message, problems_of):
    record = f"{record}\n" if isinstance(record, str) else record
    with pytest.raises(ValueError, match=r"problems\.jsonl, " + message):
        problems_of(HUMANEVAL, record)


def test_all_lines_that_are_malformed_are_listed(problems_of):
    with pytest.raises(
        ValueError, match=r"(?s)^3 faults:.*, line 1: .*, line 3: .*, line 4: .*came before\.$"
    ):
        problems_of("[\n", HUMANEVAL, "{}\n", HUMANEVAL)


def test_a_file_without_problems_is_refused(problems_of):
    with pytest.raises(ValueError, match=r"problems\.jsonl: expected problems, but there is none\."):
        problems_of("\n")
    with pytest.raises(ValueError, match=r"problems\.jsonl: expected text, but the file is empty\."):
        problems_of()

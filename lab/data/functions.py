"""A corpus made by rule: small Python functions over lists of ints, whose bodies are judged by running them.

A function is a chain of 1 to 4 steps, said in words in its docstring and done in its body, a line for each:

    def f(xs):
        \"\"\"scale each by 3, keep the odd, sum\"\"\"
        xs = [x * 3 for x in xs]
        xs = [x for x in xs if x % 2]
        return sum(xs)

Its *structure* is the sequence of its operations, without their numbers, names and words. There are more
structures than functions in any corpus of a usual size: an unseen one has to be composed. Structures of which
two functions compute the same, such as filters in another order, are one *group*, which no split cuts.

Every draw is of the lab's own generator, so the corpus is the same under every Python and on every machine.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count as numbered
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from lab.threefry import below, threefry2x32

Value = Any  # a list of ints, or behind a reduction an int
Structure = tuple[str, ...]  # the names of operations


class Operation(NamedTuple):
    """One kind of step.

    Attributes:
        name: what structures call it.
        apply: what it makes of a list, and of a number where it has one.
        code: the same in Python: {xs} is the list, {x} an item of it and {k} the number.
        words: the same in words, in each way that there is.
        numbers: what the number may be; empty where it has none.
    """

    name: str
    apply: Callable[[list[int], int], Value]
    code: str
    words: tuple[str, ...]
    numbers: range


NONE, DIGITS, FACTORS, MODULI, ODD = range(0), range(1, 10), range(2, 6), range(3, 10), range(3, 8, 2)


def _each(name: str, one: Callable[[int, int], int], code: str, *words: str, k: range = NONE) -> Operation:
    """An operation that replaces every item."""
    return Operation(name, lambda xs, k: [one(x, k) for x in xs], f"[{code} for {{x}} in {{xs}}]", words, k)


def _keep(name: str, holds: Callable[[int, int], bool], code: str, *words: str, k: range = NONE) -> Operation:
    """An operation that keeps some items."""
    code = f"[{{x}} for {{x}} in {{xs}} if {code}]"
    return Operation(name, lambda xs, k: [x for x in xs if holds(x, k)], code, words, k)


def _all(
    name: str, of: Callable[[list[int], int], Value], code: str, *words: str, k: range = NONE
) -> Operation:
    """An operation on the list as a whole."""
    return Operation(name, of, code, words, k)


LISTS = (
    _each("add", lambda x, k: x + k, "{x} + {k}", "add {k} to each", "raise each by {k}", k=DIGITS),
    _each("subtract", lambda x, k: x - k, "{x} - {k}", "take {k} from each", "lower each by {k}", k=DIGITS),
    _each(
        "multiply", lambda x, k: x * k, "{x} * {k}", "multiply each by {k}", "scale each by {k}", k=FACTORS
    ),
    _each("divide", lambda x, k: x // k, "{x} // {k}", "divide each by {k}", "split each by {k}", k=FACTORS),
    _each("modulo", lambda x, k: x % k, "{x} % {k}", "take each modulo {k}", "wrap each at {k}", k=MODULI),
    _each(
        "cap", lambda x, k: min(x, k), "min({x}, {k})", "cap each at {k}", "make each at most {k}", k=DIGITS
    ),
    _each(
        "lift",
        lambda x, k: max(x, k),
        "max({x}, {k})",
        "lift each to {k}",
        "make each at least {k}",
        k=DIGITS,
    ),
    _each("square", lambda x, k: x * x, "{x} * {x}", "square each", "take squares"),
    _each("negate", lambda x, k: -x, "-{x}", "negate each", "flip each sign"),
    _each("absolute", lambda x, k: abs(x), "abs({x})", "take absolute values", "drop each sign"),
    _keep("odd", lambda x, k: x % 2 == 1, "{x} % 2", "keep the odd", "drop the even"),
    _keep("even", lambda x, k: x % 2 == 0, "{x} % 2 == 0", "keep the even", "drop the odd"),
    _keep("above", lambda x, k: x > k, "{x} > {k}", "keep those above {k}", "drop those up to {k}", k=DIGITS),
    _keep(
        "below", lambda x, k: x < k, "{x} < {k}", "keep those below {k}", "drop those from {k} on", k=DIGITS
    ),
    _keep(
        "divisible",
        lambda x, k: x % k == 0,
        "{x} % {k} == 0",
        "keep multiples of {k}",
        "keep what {k} divides",
        k=ODD,
    ),
    _all("reverse", lambda xs, k: xs[::-1], "{xs}[::-1]", "reverse", "turn around"),
    _all("sort", lambda xs, k: sorted(xs), "sorted({xs})", "sort", "put in order"),
    _all("first", lambda xs, k: xs[:k], "{xs}[:{k}]", "keep the first {k}", "stop after {k}", k=FACTORS),
    _all("skip", lambda xs, k: xs[k:], "{xs}[{k}:]", "drop the first {k}", "start after {k}", k=range(1, 4)),
    _all("alternate", lambda xs, k: xs[::2], "{xs}[::2]", "keep every second", "drop every other"),
    _all(
        "once", lambda xs, k: [*dict.fromkeys(xs)], "[*dict.fromkeys({xs})]", "drop repeats", "keep each once"
    ),
)
REDUCTIONS = (
    _all("sum", lambda xs, k: sum(xs), "sum({xs})", "sum", "add up"),
    _all("count", lambda xs, k: len(xs), "len({xs})", "count", "take the length"),
    _all("max", lambda xs, k: max(xs, default=0), "max({xs}, default=0)", "take the largest", "take the top"),
    _all(
        "min", lambda xs, k: min(xs, default=0), "min({xs}, default=0)", "take the smallest", "take the least"
    ),
)

_LENGTHS = (1, 2, 2, 3, 3, 3, 4, 4)  # steps of a function, each as likely as it stands here
MOST_STEPS = max(_LENGTHS)
_LAST = (*LISTS, *4 * REDUCTIONS)  # what the last step is drawn of: reductions more often
_NAMES = ("f", "g", "h")
_VARIABLES = {"xs": "x", "ys": "y", "ns": "n"}  # a list's name: its items'

# What every function is called with: lists of both signs, even and odd, with repeats, none of them in order.
INPUTS = (
    (3, -7, 12, 5, 3, -2, 8, 0, 9),
    (14, 6, -5, 6, 1, 11, -8, 4),
    (-4, 7, 7, 2, 18, -1, 10, 13, -9, 5),
    (9, 1, -3, 16, 4, 4, 15, -6),
    (-11, 8, 0, 5, 20, -2, 3, 8, 17, 6),
    (2, 10, -6, 19, 7, -1, 2, 12, 1),
)
_LEAST_RESULTS = 4  # different ones of INPUTS: a function must depend on what it is given
_PROBES = 10  # further lists, on which two functions must agree to compute the same

# Its first word is no seed, which is >= 0: no other draw of the lab shares a random word with these.
_KEY = (np.full(1, -1, np.int32), np.zeros(1, np.int32))
_CANDIDATES = 1 << 12  # drawn at once

_PROMPT = re.compile(r'def (\w+)\((\w+)\):\n    """(.+)"""')
_NUMBER = re.compile(r"\d+")
_WORDINGS = {
    words: (operation, wording)
    for operation in (*LISTS, *REDUCTIONS)
    for wording, words in enumerate(operation.words)
}


class Step(NamedTuple):
    """One step of a chain: an operation, its number (0 where it has none), and which of its words say so."""

    operation: Operation
    number: int
    wording: int


class Call(NamedTuple):
    """A hidden test: what a function of this name must give for these arguments."""

    name: str
    arguments: tuple[list[int], ...]
    expected: Value


class Problem(NamedTuple):
    """A body to be written.

    Attributes:
        prompt: signature and docstring, up to the line break before the body: a place that no token of bytes
            or `bpe:N` crosses, so that it is met as in training.
        body: the reference: what follows in the document.
        calls: what prompt and body are judged by.
    """

    prompt: str
    body: str
    calls: tuple[Call, ...]


class Function(NamedTuple):
    """One function.

    Attributes:
        name: its name.
        variable: its parameter's.
        steps: what it does, in order.
    """

    name: str
    variable: str
    steps: tuple[Step, ...]

    @property
    def structure(self) -> Structure:
        """The names of its operations, in order."""
        return tuple(step.operation.name for step in self.steps)

    @property
    def prompt(self) -> str:
        """Its signature and docstring; see `Problem`."""
        said = ", ".join(step.operation.words[step.wording].format(k=step.number) for step in self.steps)
        return f'def {self.name}({self.variable}):\n    """{said}"""'

    @property
    def body(self) -> str:
        """Its statements, with the line break before each."""
        xs, x = self.variable, _VARIABLES[self.variable]
        done = [step.operation.code.format(xs=xs, x=x, k=step.number) for step in self.steps]
        return "".join([*(f"\n    {xs} = {code}" for code in done[:-1]), f"\n    return {done[-1]}"])

    @property
    def text(self) -> str:
        """The whole of it, as it is in the corpus."""
        return self.prompt + self.body

    def problem(self) -> Problem:
        """Its body as one to be written."""
        calls = (Call(self.name, (list(xs),), run(self.steps, xs)) for xs in INPUTS)
        return Problem(self.prompt, self.body, tuple(calls))


def run(steps: Iterable[Step], xs: Sequence[int]) -> Value:
    """What a chain makes of a list: by the meaning of its steps, not by their code."""
    value: Value = list(xs)
    for step in steps:
        value = step.operation.apply(value, step.number)
    return value


def make_functions(count: int) -> Iterator[tuple[Function, Structure]]:
    """So many different functions, each with the structure that names its group.

    Functions of one structure share a group, and so do structures of which two functions among these give
    the same for every one of a set of lists; a chain of such pairs joins too. No function is constant or has
    a step that changes nothing, and none repeats the step before with another number.
    """
    probes = [*INPUTS, *_probes()]
    functions, computing = [], defaultdict(set)
    for function in _draw(count):
        functions.append(function)
        computing[repr([run(function.steps, xs) for xs in probes])].add(function.structure)
    groups = _joined(computing.values())
    for function in functions:
        yield function, groups[function.structure]


def functions_of(texts: Iterable[str]) -> list[Function]:
    """The functions among texts; what is none that this corpus can have, such as a part of one, is left out.

    Args:
        texts: such as what stands between two ends in the tokens of a budget.
    """
    found = ((text, _from_prompt(text)) for text in texts)
    return [function for text, function in found if function is not None and function.text == text]


def problems(texts: Iterable[str]) -> list[Problem]:
    """The bodies to be written of functions, such as those of a held-out split.

    Args:
        texts: the documents; all there is to know of a function follows from its text.

    Raises:
        ValueError: if one is none that this corpus can have.
    """
    return [_function(text).problem() for text in texts]


def count_structures(texts: Iterable[str]) -> int:
    """How many structures the functions of these texts have.

    Raises:
        ValueError: as `problems`.
    """
    return len({_function(text).structure for text in texts})


def _function(text: str) -> Function:
    if not (found := functions_of([text])):
        raise ValueError(f"`texts` must be whole functions of corpus=functions, but got {text!r:.200}.")
    return found[0]


def _from_prompt(text: str) -> Function | None:
    """The function that the prompt of a text asks for, if it is one of this corpus."""
    prompt = _PROMPT.match(text)
    if prompt is None:
        return None
    name, variable, said = prompt.groups()
    steps = []
    for words in said.split(", "):
        operation, wording = _WORDINGS.get(_NUMBER.sub("{k}", words), (None, 0))
        number = _NUMBER.search(words)
        if operation is None or (number and int(number[0]) not in operation.numbers):
            return None
        steps.append(Step(operation, int(number[0]) if number else 0, wording))
    known = name in _NAMES and variable in _VARIABLES and len(steps) <= MOST_STEPS
    return Function(name, variable, tuple(steps)) if known and _ends_where_it_reduces(steps) else None


def _ends_where_it_reduces(steps: Sequence[Step]) -> bool:
    return not any(step.operation in REDUCTIONS for step in steps[:-1])


def _draw(count: int) -> Iterator[Function]:
    """So many different functions, in the order in which they are drawn."""
    drawn: set[str] = set()
    for first in numbered(0, _CANDIDATES):
        for function in _candidates(first):
            if len(drawn) == count:
                return
            if function.text not in drawn and _is_sound(function.steps):
                drawn.add(function.text)
                yield function


def _candidates(first: int) -> Iterator[Function]:
    """Functions number `first` and after, sound or not."""
    index = np.arange(3 + 3 * MOST_STEPS, dtype=np.int32)
    number = np.arange(first, first + _CANDIDATES, dtype=np.int32)
    words = threefry2x32(_KEY, (index, number[:, None]), np)[0]
    lengths, names, variables = (
        np.array(options)[below(words[:, place], len(options), np)].tolist()
        for place, options in enumerate((_LENGTHS, _NAMES, tuple(_VARIABLES)))
    )
    operation_words, number_words, wording_words = np.moveaxis(words[:, 3:].reshape(-1, MOST_STEPS, 3), 2, 0)
    is_last = np.arange(1, MOST_STEPS + 1) == np.array(lengths)[:, None]
    operations = below(operation_words, np.where(is_last, len(_LAST), len(LISTS)).astype(np.int32), np)
    options = np.array([max(1, len(operation.numbers)) for operation in _LAST], np.int32)
    chosen = zip(
        operations.tolist(),
        below(number_words, options[operations], np).tolist(),
        below(wording_words, 2, np).tolist(),
        strict=True,
    )
    for length, name, variable, of_steps in zip(lengths, names, variables, chosen, strict=True):
        steps = tuple(
            Step(_LAST[place], _LAST[place].numbers[option] if _LAST[place].numbers else 0, wording)
            for place, option, wording in list(zip(*of_steps, strict=True))[:length]
        )
        yield Function(name, variable, steps)


def _is_sound(steps: tuple[Step, ...]) -> bool:
    """Whether the results on INPUTS depend on the input, and on every step."""
    if any(step.operation is after.operation for step, after in pairwise(steps)):
        return False
    results = [run(steps, xs) for xs in INPUTS]
    if len(set(map(repr, results))) < _LEAST_RESULTS:
        return False
    return all(
        [run((*steps[:place], *steps[place + 1 :]), xs) for xs in INPUTS] != results
        for place in range(len(steps))
    )


def _probes() -> list[list[int]]:
    """Further lists, of 6 to 10 items in -12 .. 20."""
    words = threefry2x32(
        _KEY, (np.arange(11, dtype=np.int32), -1 - np.arange(_PROBES, dtype=np.int32)[:, None]), np
    )[0]
    sizes = 6 + below(words[:, 0], 5, np)
    items = below(words[:, 1:], 33, np) - 12
    return [row[:size] for row, size in zip(items.tolist(), sizes.tolist(), strict=True)]


def _joined(sets: Iterable[set[Structure]]) -> dict[Structure, Structure]:
    """Of each structure the first one, by the order of names, of those that a chain of sets joins it to."""
    before: dict[Structure, Structure] = {}

    def first(structure: Structure) -> Structure:
        while before.setdefault(structure, structure) != structure:
            before[structure] = structure = before[before[structure]]
        return structure

    for structures in sets:
        least = min(map(first, structures))
        for structure in structures:
            before[first(structure)] = least
    return {structure: first(structure) for structure in list(before)}

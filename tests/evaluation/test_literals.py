import ast
import math
from collections import Counter, OrderedDict, namedtuple
from enum import IntEnum
from itertools import combinations

import numpy as np
import pytest

from lab.evaluation.literals import literal

VALUES = [
    *(None, True, False, 0, 1, -1, 2**64, -(10**5000), 0.5, -1.5, 1e300, 1e-300, math.inf, -math.inf, 2j),
    *(
        1 + 2j,
        complex(math.inf, -1),
        "",
        "a'b\"c\n\\",
        "é\u2028\0",
        "\ud800",
        "😀",
        b"",
        b"\x00'\xff",
        (),
        (1,),
    ),
    *((1, (2, "3")), [], [[1], [2.0]], set(), {1, "a", None}, {}, {"a": [1], 2: {"b": ()}}, {(1, 2): {3}}),
    *([True], [1.0], (1.0,), {True}, {1.0}, {True: 1}, {1: True}, "1", "None", b"1", "(1,)"),
]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_it_is_one_line_of_ascii_that_reads_back(value, exact):
    text = literal(value, exact)
    assert text.isascii()
    assert text.isprintable()
    again = ast.literal_eval(text)
    assert again == value
    assert type(again) is type(value)


def test_two_values_have_one_text_only_if_they_are_the_same():
    for one, other in combinations(VALUES, 2):
        assert literal(one) != literal(other), (one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.0, -0.0),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"b", "a", "c", "d"}, {"d", "c", "b", "a"}),
        (frozenset("abc"), frozenset("cba")),
        ([{1: {2, 3}, 4: 5}], [{4: 5, 1: {3, 2}}]),
    ],
)
def test_values_that_are_equal_have_one_text(one, other):
    assert literal(one) == literal(other)


def test_a_frozen_set_is_no_set():
    assert literal(frozenset({1})) != literal({1})
    assert literal(frozenset({1}), exact=False) == literal({1})


class Level(IntEnum):
    LOW = 1


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "base"),
    [
        (Counter("aab"), {"a": 2, "b": 1}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Point(1, [Level.LOW]), (1, [1])),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
        (type("Text", (str,), {})("a"), "a"),
        (type("Data", (bytes,), {})(b"a"), b"a"),
    ],
)
def test_subclasses_are_what_they_are_based_on_or_refused(value, base):
    assert literal(value, exact=False) == literal(base, exact=False)
    with pytest.raises(ValueError, match=r"must be of Python's own types, but got one of"):
        literal([value])


def test_the_order_of_a_dict_is_kept_where_a_reader_may_see_it():
    assert list(ast.literal_eval(literal({"b": 1, "a": 2}, exact=False))) == ["b", "a"]


def test_nothing_of_a_class_is_called_where_types_must_be_exact():
    class Loud(list):
        def __getattribute__(self, name):
            pytest.fail(f"{name} was asked for")

        __iter__ = __len__ = __repr__ = __eq__ = lambda *_: pytest.fail("was called")
        __hash__ = None

    with pytest.raises(ValueError, match="but got one of Loud"):
        literal((1, Loud()))


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, r"a value must equal itself, but nan does not\."),
        ([1, {"a": math.nan}], r"nan does not"),
        (complex(math.nan, 0), r"nan does not"),
        (object(), r"a value must be of Python's own types, but got one of object\."),
        (iter([1]), r"but got one of list_iterator"),
        ([range(3)], r"but got one of range"),
        (int, r"but got one of type"),
    ],
)
def test_other_values_are_refused(value, message, exact):
    with pytest.raises(ValueError, match=message):
        literal(value, exact)


def test_what_is_too_deep_or_holds_itself_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(RecursionError):
        literal(loop)

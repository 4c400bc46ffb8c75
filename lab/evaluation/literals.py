"""Values as text: what a program that nobody trusts may hand over, so that no reader runs anything of it."""

from typing import Any

_KINDS: tuple[Any, ...] = (bool, int, float, complex, str, bytes, tuple, list, set, frozenset, dict)


def literal(value: Any, exact: bool = True) -> str:
    """A value of Python's own types as one line of ASCII, in the form of a literal.

    Two values have the same text exactly if they have the same types all through and are equal, so that to
    compare texts is to compare values, and nothing that a value's class defines is ever called. 0.0 and -0.0
    are equal.

    Args:
        value: None, or a bool, int, float, complex, str, bytes, tuple, list, set, frozenset or dict of such.
        exact: refuse what is of a subclass (a Counter), and sort dicts, whose order does not count. Else
            write a subclass as the type that it is based on, a frozenset as a set, an array as a list, and
            keep the order of dicts: then `ast.literal_eval` reads the text.

    Raises:
        ValueError: if something in it is of another type, or not a number.
        RecursionError: if it is too deep, or holds itself.
    """
    kind = type(value)
    if value is None or kind is bool:
        return repr(value)
    if kind is int:
        return repr(value) if value.bit_length() <= 64 else hex(value)  # decimals are slow, and limited
    if kind is float or kind is complex:
        if value != value:
            raise ValueError("a value must equal itself, but nan does not.")
        return repr(value + 0.0).replace("inf", "1e999")
    if kind is str:
        return ascii(value)
    if kind is bytes:
        return repr(value)
    if kind is tuple:
        return "(" + "".join(f"{literal(item, exact)}," for item in value) + ")"
    if kind is list:
        return "[" + ",".join(literal(item, exact) for item in value) + "]"
    if kind is set:
        return "{" + ",".join(sorted(literal(item, exact) for item in value)) + "}" if value else "set()"
    if kind is frozenset:
        inner = literal(set(value), exact)
        return f"frozenset({inner})" if exact else inner
    if kind is dict:
        pairs = [f"{literal(key, exact)}:{literal(item, exact)}" for key, item in value.items()]
        return "{" + ",".join(sorted(pairs) if exact else pairs) + "}"
    if not exact:
        for base in _KINDS:
            if isinstance(value, base):
                return literal(base(value), exact)
        if hasattr(value, "tolist"):
            return literal(value.tolist(), exact)
    raise ValueError(f"a value must be of Python's own types, but got one of {kind.__name__}.")

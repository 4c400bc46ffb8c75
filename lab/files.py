"""Files that are written whole or not at all, and errors that name the file."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # one JSON object, one line of a table


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the path into an error of the system that has none: that of a write or a sync, to an open file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader, at any moment and after any kill, sees the old bytes or the new ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path), temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document atomically.

    Raises:
        ValueError: naming the key, if a number is NaN or infinite.
    """
    try:
        text = json.dumps(value, indent=1, allow_nan=False)
    except ValueError:
        refuse_non_finite(value, path.name)  # says where
        raise
    write_atomic(path, f"{text}\n".encode())


def read_json(path: Path) -> Any:
    """Read one JSON document.

    Raises:
        ValueError: if the file is missing or is not JSON.
    """
    if not path.is_file():
        raise ValueError(f"expected a JSON file at {path}, but there is none.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}).") from error


def refuse_non_finite(value: Any, name: str, key: str = "") -> None:
    """Refuse a document that JSON cannot hold.

    Raises:
        ValueError: naming the key, if a number is NaN or infinite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: {key or 'the value'} must be a finite number, but got {value}.")
    if isinstance(value, Mapping):
        for inner, item in value.items():
            refuse_non_finite(item, name, f"{key}.{inner}" if key else str(inner))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            refuse_non_finite(item, name, f"{key}[{index}]")

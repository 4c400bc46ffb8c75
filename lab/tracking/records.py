"""Run records: JSON files written whole or not at all, and the append-only log of a run's measurements."""

import ast
import hashlib
import json
import math
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

LAB_DIR = Path(__file__).parent.parent

# The distributions whose version can change a run's numbers.
PACKAGES = (
    "keras",
    "keras-hub",
    "jax",
    "jaxlib",
    "tensorflow",
    "torch",
    "numpy",
    "scipy",
    "tokenizers",
    "optuna",
)

# The modules and packages of the lab that decide a run's numbers.
NUMERIC_PARTS = ("config", "threefry", "data", "models", "objectives", "training", "evaluation")

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

Row = dict[str, Any]


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
    _refuse_non_finite(value, path.name)
    write_atomic(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


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


class MetricsLog:
    """A run's `metrics.jsonl`: one JSON object a line, in the order of writing.

    A line torn by a kill in the midst of its write is cut away when the log is opened.

    Args:
        path: the file; it and its folder are made when missing.

    Raises:
        ValueError: if a whole line is not a JSON object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        self._rows = [self._parse(number, line) for number, line in enumerate(whole.splitlines(), start=1)]
        if whole != data:
            os.truncate(path, len(whole))

    @property
    def rows(self) -> list[Row]:
        """Every row, oldest first."""
        return list(self._rows)

    def append(self, row: Row) -> None:
        """Add one row, in a single write.

        Raises:
            ValueError: naming the key, if a number is NaN or infinite.
        """
        line = _line(row, self.path.name)
        with naming(self.path), self.path.open("ab", buffering=0) as file:
            file.write(line)
        self._rows.append(row)

    def keep(self, predicate: Callable[[Row], bool]) -> None:
        """Drop the rows for which `predicate` is false: those after the checkpoint, when a run resumes."""
        self._rows = [row for row in self._rows if predicate(row)]
        write_atomic(self.path, b"".join(_line(row, self.path.name) for row in self._rows))

    def _parse(self, number: int, line: bytes) -> Row:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{self.path}, line {number}: not JSON ({error}).") from error
        if not isinstance(row, dict):
            raise ValueError(f"{self.path}, line {number}: expected a JSON object, but got {line.decode()}.")
        return row


class MemoryLog:
    """The rows of a `MetricsLog` where nothing is written: on the ranks of a run other than the first.

    Args:
        rows: those so far, oldest first.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = list(rows)

    @property
    def rows(self) -> list[Row]:
        """Every row, oldest first."""
        return list(self._rows)

    def append(self, row: Row) -> None:
        """Add one row."""
        self._rows.append(row)

    def keep(self, predicate: Callable[[Row], bool]) -> None:
        """Drop the rows for which `predicate` is false."""
        self._rows = [row for row in self._rows if predicate(row)]


def versions() -> dict[str, str]:
    """Versions of Python and of each installed package in `PACKAGES`, none of them imported."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def code_hash() -> str:
    """16 hex digits over the names and the meaning of the modules that decide a run's numbers.

    Comments, docstrings and layout have none. The command line, the scheduler and the report decide no
    number.

    Raises:
        SyntaxError: if a module is not Python.
    """
    files = {
        path.relative_to(LAB_DIR).as_posix(): path
        for part in NUMERIC_PARTS
        for path in [*LAB_DIR.glob(f"{part}.py"), *(LAB_DIR / part).rglob("*.py")]
    }
    return _hash_of_meaning(tuple((name, files[name].read_bytes()) for name in sorted(files)))


@lru_cache(maxsize=1)
def _hash_of_meaning(sources: tuple[tuple[str, bytes], ...]) -> str:
    digest = hashlib.sha256()
    for name, source in sources:
        tree = ast.parse(source, name)
        for node in ast.walk(tree):
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
                del node.body[0]
        text = ast.unparse(tree).encode()
        digest.update(f"{name}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()[:16]


def _line(row: Row, name: str) -> bytes:
    _refuse_non_finite(row, name)
    return (json.dumps(row, allow_nan=False) + "\n").encode()


def _refuse_non_finite(value: Any, name: str, key: str = "") -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: {key or 'the value'} must be a finite number, but got {value}.")
    if isinstance(value, Mapping):
        for inner, item in value.items():
            _refuse_non_finite(item, name, f"{key}.{inner}" if key else str(inner))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _refuse_non_finite(item, name, f"{key}[{index}]")

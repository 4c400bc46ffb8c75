"""Which code decides a number: the modules of the lab that a module imports, and a hash of their meaning.

The source is read and not imported. Comments, docstrings and layout have no meaning. What only types need
(`if TYPE_CHECKING:`) does not run. Configurations (`lab.config`) do not count: they check values, and the
values themselves are in the key of whatever depends on them. Nor do records (`lab.results`), which hold what
was found, nor the train step of another backend.

A process asks once: the code that it runs does not change with the files.
"""

import ast
import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

LAB_DIR = Path(__file__).parent
UNCOUNTED = {"lab", "lab.config", "lab.results"}
BACKENDS = ("jax", "tensorflow", "torch")

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def closure(*modules: str) -> list[str]:
    """The modules that decide what these compute: themselves and all that they import from the lab, sorted.

    Args:
        modules: dotted names, such as `lab.training.engine`.

    Raises:
        ValueError: if there is no such module.
        SyntaxError: if one is not Python.
    """
    if missing := [module for module in modules if _find(module) is None]:
        raise ValueError(f"`modules` must be modules of the lab, but there is no {', '.join(missing)}.")
    reached: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        path = _find(module)
        if path is None or module in reached | UNCOUNTED or _of_another_backend(module):
            continue
        reached.add(module)
        waiting += _imported(_parse(path))
        waiting += [module.rpartition(".")[0]]  # the package, whose `__init__` runs first
    return sorted(reached)


def closure_hash(*modules: str) -> str:
    """16 hex digits over the names and the meaning of the modules in the closure, as first asked for."""
    return _hash(LAB_DIR, os.environ["KERAS_BACKEND"], modules)


def forget_hashes() -> None:
    """Have the next hash be of the files as they are then."""
    _hash.cache_clear()


@lru_cache(maxsize=1024)
def _hash(folder: Path, backend: str, modules: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for module in closure(*modules):
        path = _find(module)
        text = _meaning(path.read_bytes()) if path else ""
        digest.update(f"{module}\0{len(text)}\0{text}".encode())
    return digest.hexdigest()[:16]


def _find(module: str) -> Path | None:
    """The file of a module of the lab; None for any other name."""
    first, *rest = module.split(".")
    if first != "lab":
        return None
    place = LAB_DIR.joinpath(*rest)
    for path in (place.with_suffix(".py") if rest else place, place / "__init__.py"):
        if path.is_file():
            return path
    return None


def _of_another_backend(module: str) -> bool:
    backend = module.rpartition("_")[2]
    return backend in BACKENDS and backend != os.environ["KERAS_BACKEND"]


def _parse(path: Path) -> ast.Module:
    try:
        return _tree(path.read_bytes())
    except SyntaxError as error:
        error.filename = str(path)
        raise


@lru_cache(maxsize=1024)
def _tree(source: bytes) -> ast.Module:
    return ast.parse(source)


@lru_cache(maxsize=1024)
def _meaning(source: bytes) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.unparse(tree)


def _imported(node: ast.AST) -> Iterator[str]:
    """The names that code imports when it runs: modules, and what may be one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        yield from (name for child in node.orelse for name in _imported(child))
    else:
        for child in ast.iter_child_nodes(node):
            yield from _imported(child)

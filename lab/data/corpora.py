"""Corpora: which text there is, one document at a time, and a digest of every byte it comes from."""

import glob
import gzip
import hashlib
import io
import json
import os
import sysconfig
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.config import DataConfig
from lab.data.packages import find_packages

KINDS = {".txt": "text", ".md": "text", ".py": "text", ".jsonl": "jsonl", ".parquet": "parquet"}

# Tests are not modules people import, and installed packages are not the standard library.
_EXCLUDED_FOLDERS = {"test", "tests", "idle_test"}
# Written when Python is built, with the paths of the machine that built it: another text on every machine.
_EXCLUDED_PREFIX = "_sysconfigdata"


@dataclass(frozen=True)
class Document:
    """One text. `name` says where it came from and decides nothing."""

    name: str
    text: str


class _EmptyError(ValueError):
    """A source holds no text."""


class _NotTextError(ValueError):
    """A source holds bytes that are not UTF-8 text."""


_NO_TEXT = (_EmptyError, _NotTextError)


@dataclass(frozen=True)
class Source:
    """One file of a corpus.

    Attributes:
        path: where it is.
        name: its name in error messages and documents.
        kind: how to read it: text, jsonl or parquet, with `.gz` if compressed.
        skipped: the errors that leave it out instead of stopping.
    """

    path: Path
    name: str
    kind: str
    skipped: tuple[type[ValueError], ...] = ()

    def digest(self) -> str:
        """The sha256 of the file's bytes as they lie on disk, in hex."""
        return hashlib.sha256(_read_bytes(self.path)).hexdigest()


def read_corpus(config: DataConfig) -> list[Document]:
    """Every document of the configured corpus, whole, in a fixed order.

    Raises:
        ValueError: naming the file that is missing, empty, binary, not UTF-8 or lacks the text field.
        OSError: if the system fails to read a file that is there.
    """
    documents: list[Document] = []
    for source in find_sources(config):
        try:
            documents += _read_documents(source, config.text_field)
        except source.skipped:
            continue
    if not documents:
        raise ValueError(
            f"corpus={config.corpus} must hold text, but all its files are empty: {list(config.paths)}."
        )
    return documents


def find_sources(config: DataConfig) -> list[Source]:
    """The files of the configured corpus, each once, in a fixed order.

    Raises:
        ValueError: if a path is missing, remote, of an unknown kind, or leads to no file that can be read; or
            if a package is not installed.
        OSError: if the system fails to list a folder that is there.
    """
    if config.corpus == "packages":
        return [
            Source(path, name, "text", skipped=_NO_TEXT)
            for package in find_packages()
            for name, path in package.files().items()
        ]
    if config.corpus == "stdlib":
        root = Path(sysconfig.get_path("stdlib"))
        with _reading(root):
            return _stdlib_sources(root)
    sources: dict[Path, Source] = {}
    for path in config.paths:
        for source in _path_sources(path):
            sources.setdefault(source.path.resolve(), source)
    return list(sources.values())


def _stdlib_sources(root: Path) -> list[Source]:
    """The modules of the standard library; a folder that is no package name (`site-packages`) has none."""
    sources = [
        Source(path, path.relative_to(root).as_posix(), "text", skipped=_NO_TEXT)
        for path in _walk(root, lambda folder: folder.isidentifier() and folder not in _EXCLUDED_FOLDERS)
        if path.suffix == ".py" and not path.name.startswith(_EXCLUDED_PREFIX)
    ]
    if not sources:
        raise ValueError(
            "corpus=stdlib needs the source files of the running Python's standard library, "
            f"but there are none in {root} (a Python that keeps them in a zip file?); "
            "give your own files by corpus=text and paths."
        )
    return sources


def _path_sources(path: str) -> list[Source]:
    if "://" in path:
        raise ValueError(f"`paths` must be files, folders or globs on this machine, but got {path!r}.")
    given = Path(path).expanduser()
    with _reading(given):
        return _found_sources(path, given)


def _found_sources(path: str, given: Path) -> list[Source]:
    if given.is_dir():
        found = [(file, file.relative_to(given).as_posix()) for file in _walk(given, _is_visible)]
    elif given.exists():
        kind = _kind(given)
        if kind is None or not given.is_file():
            raise ValueError(f"`paths` must be files ending in {_suffixes()}, but got {path!r}.")
        return [Source(given, path, kind)]
    elif glob.has_magic(path):
        found = [(Path(file), file) for file in sorted(glob.glob(str(given), recursive=True))]  # noqa: PTH207
    else:
        raise ValueError(f"`paths` must exist, but there is no file or folder {path!r}.")
    # A folder of code has empty __init__.py files; only a file that was asked for by name must hold text.
    sources = [
        Source(file, name, kind, skipped=(_EmptyError,))
        for file, name in found
        if _is_visible(file.name) and file.is_file() and (kind := _kind(file))
    ]
    if not sources:
        raise ValueError(f"`paths` must lead to files ending in {_suffixes()}, but {path!r} has none.")
    return sources


def _walk(root: Path, enters: Callable[[str], bool]) -> Iterator[Path]:
    """The files under a folder in a fixed order; links to folders are not followed.

    Raises:
        OSError: if a folder that is there cannot be listed: what it holds must not be missing unsaid.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise error

    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if enters(name))
        yield from (Path(folder, name) for name in sorted(files))


def _is_visible(name: str) -> bool:
    return not name.startswith(".")


def _kind(path: Path) -> str | None:
    name = path.name.lower()
    stem = name.removesuffix(".gz")
    kind = KINDS.get(Path(stem).suffix)
    return kind if kind is None or stem == name else f"{kind}.gz"


def _suffixes() -> str:
    return ", ".join(KINDS) + " (each also with .gz)"


def _read_bytes(path: Path) -> bytes:
    with _reading(path):
        return path.read_bytes()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell what the user can mend from what another moment may (a stale handle, a failing disk).

    Raises:
        ValueError: naming the path, if it is not there or may not be read.
        OSError: with the path, for any other error of the system.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise ValueError(f"{error.filename or path}: could not be read: {error.strerror}.") from error
    except OSError as error:
        # An error of reading an open file has no path.
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _read_documents(source: Source, text_field: str) -> list[Document]:
    data = _read_bytes(source.path)
    kind = source.kind
    if kind.endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{source.path}: not a readable gzip file: {error}.") from error
        kind = kind.removesuffix(".gz")
    if not data:
        raise _EmptyError(f"{source.path}: expected text, but the file is empty.")
    if kind == "text":
        named = [(source.name, _decode(data, source.path))]
    elif kind == "jsonl":
        named = list(_jsonl_texts(data, source, text_field))
    else:
        named = list(_parquet_texts(data, source, text_field))
    documents = [Document(name, text) for name, text in named if text.strip()]
    if not documents:
        raise _EmptyError(f"{source.path}: expected text, but the file holds only white space.")
    return documents


def _decode(data: bytes, path: Path) -> str:
    if b"\0" in data:
        raise _NotTextError(f"{path}: expected UTF-8 text, but the file is binary (it holds zero bytes).")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _NotTextError(
            f"{path}: expected UTF-8 text, but byte {error.start} is not: {error.reason}."
        ) from error


def _jsonl_texts(data: bytes, source: Source, text_field: str) -> Iterator[tuple[str, str]]:
    # Not splitlines(): a JSON text may hold other line separators, such as U+2028.
    for number, line in enumerate(_decode(data, source.path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{source.path}, line {number}"
        try:
            record = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{where}: expected one JSON object, but it is not JSON: {error}.") from error
        if not isinstance(record, dict) or text_field not in record:
            found = sorted(record) if isinstance(record, dict) else type(record).__name__
            raise ValueError(f"{where}: expected an object with the field {text_field!r}, but got {found}.")
        yield f"{source.name}:{number}", _checked_text(record[text_field], where, text_field)


def _parquet_texts(data: bytes, source: Source, text_field: str) -> Iterator[tuple[str, str]]:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(io.BytesIO(data))
        names = file.schema_arrow.names
        texts = (
            file.read(columns=[text_field]).column(text_field).to_pylist() if text_field in names else None
        )
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{source.path}: not a readable parquet file: {error}.") from error
    if texts is None:
        raise ValueError(f"{source.path}: expected a column {text_field!r}, but there are {names}.")
    for row, text in enumerate(texts):
        yield f"{source.name}:{row}", _checked_text(text, f"{source.path}, row {row}", text_field)


def _checked_text(value: Any, where: str, text_field: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where}: expected text in {text_field!r}, but got {type(value).__name__}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair, which UTF-8 cannot
        raise ValueError(f"{where}: expected Unicode text in {text_field!r}, but {error.reason}.") from error
    return value

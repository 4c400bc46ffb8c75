"""Corpora: which files there are, their documents one at a time, and a digest of every byte they hold."""

import glob
import hashlib
import os
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path

from lab.config import DataConfig
from lab.data.functions import make_functions
from lab.data.packages import find_packages
from lab.data.quality import Quality, QualityField, documentation_share
from lab.data.records import (
    TEXT,
    EmptyFileError,
    NotTextError,
    Record,
    kind_of,
    read_records,
    reading,
    suffixes,
    text_of,
)

# Tests are not modules people import, and installed packages are not the standard library.
_EXCLUDED_FOLDERS = {"test", "tests", "idle_test"}
# Written when Python is built, with the paths of the machine that built it: another text on every machine.
_EXCLUDED_PREFIX = "_sysconfigdata"


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes:
        name: says where it came from and decides nothing.
        text: the whole of it, or of one longer than PART its first part (lab/data/parts.py).
        rest: what follows, a part at a time; read once, before the next document.
        quality: how good the text is taken to be (lab/data/quality.py); None if nothing judges it. Of Python
            source that has a rest, the first part is judged.
        group: which documents must lie in one split, where the corpus says so of all; empty where near
            duplicates must.
    """

    name: str
    text: str
    rest: Iterable[str] = field(default=(), compare=False)
    quality: Quality | None = field(default=None, compare=False)
    group: str = field(default="", compare=False)

    def parts(self) -> Iterator[str]:
        """All of the text."""
        return chain((self.text,), self.rest)


_NO_TEXT = (EmptyFileError, NotTextError)


@dataclass(frozen=True, slots=True)
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

    def stamp(self) -> tuple[int, ...]:
        """Size, and what changes with every write: the times in nanoseconds, and which file it is."""
        with reading(self.path):
            status = self.path.stat()
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino

    def digest(self) -> str:
        """The sha256 of the file's bytes as they lie on disk, in hex."""
        with reading(self.path), self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def read_corpus(config: DataConfig) -> Iterator[Document]:
    """Every document of the configured corpus in a fixed order.

    Raises:
        ValueError: naming the file that is missing, empty, binary, not UTF-8 or lacks a field, and the record
            whose text or quality is none.
        OSError: if the system fails to read a file that is there.
    """
    if config.corpus == "functions":
        for number, (function, group) in enumerate(make_functions(config.functions)):
            yield Document(f"function {number}", function.text, group=" ".join(group))
        return
    empty = True
    judge = _judge(config)
    for source in find_sources(config):
        try:
            for document in _read_documents(source, config, judge):
                empty = False
                yield document
        except source.skipped:
            continue
    if empty:
        raise ValueError(
            f"corpus={config.corpus} must hold text, but all its files are empty: {list(config.paths)}."
        )


def find_sources(config: DataConfig) -> list[Source]:
    """The files of the configured corpus, each once, in a fixed order; a corpus that is made has none.

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
    if config.corpus == "functions":
        return []
    if config.corpus == "stdlib":
        root = Path(sysconfig.get_path("stdlib"))
        with reading(root):
            return _stdlib_sources(root)
    sources: dict[str, Source] = {}
    resolved = cache(os.path.realpath)
    for path in config.paths:
        for source in _path_sources(path):
            # A folder is resolved once for all its files.
            linked = source.path.is_symlink()
            place = resolved(source.path) if linked else f"{resolved(source.path.parent)}/{source.path.name}"
            sources.setdefault(place, source)
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
    with reading(given):
        return _sources_of(path, given)


def _sources_of(path: str, given: Path) -> list[Source]:
    if given.is_dir():
        files = [(file, file.relative_to(given).as_posix()) for file in _walk(given, _is_visible)]
    elif given.exists():
        kind = kind_of(given)
        if kind is None or not given.is_file():
            raise ValueError(f"`paths` must be files ending in {suffixes()}, but got {path!r}.")
        return [Source(given, path, kind)]
    elif glob.has_magic(path):
        files = [(Path(file), file) for file in sorted(glob.glob(str(given), recursive=True))]  # noqa: PTH207
    else:
        raise ValueError(f"`paths` must exist, but there is no file or folder {path!r}.")
    # A folder of code has empty __init__.py files; only a file that was asked for by name must hold text.
    sources = [
        Source(file, name, kind, skipped=(EmptyFileError,))
        for file, name in files
        if _is_visible(file.name) and file.is_file() and (kind := kind_of(file))
    ]
    if not sources:
        raise ValueError(f"`paths` must lead to files ending in {suffixes()}, but {path!r} has none.")
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


def _judge(config: DataConfig) -> Callable[[Record], Quality | None]:
    """What says how good a record of the configured corpus is."""
    if config.corpus != "text":
        return lambda record: documentation_share(record.fields[TEXT])
    return QualityField(config.quality_field) if config.quality_field else lambda record: None


def _read_documents(
    source: Source, config: DataConfig, judge: Callable[[Record], Quality | None]
) -> Iterator[Document]:
    whole = source.kind.startswith("text")
    field = TEXT if whole else config.text_field
    empty = True
    for record in read_records(source.path, [field, *filter(None, [config.quality_field])]):
        text = text_of(record, field, record.fields[field])
        if text and not text.isspace():
            empty = False
            name = source.name if whole else f"{source.name}:{record.number}"
            yield Document(name, text, record.rest, judge(record))
    if empty:
        raise EmptyFileError(f"{source.path}: expected text, but the file holds only white space.")

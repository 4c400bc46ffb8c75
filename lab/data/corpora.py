"""Corpora: which files there are, their documents one at a time, and a digest of every byte they hold."""

import glob
import hashlib
import os
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path

from lab.config import DataConfig
from lab.data.faults import Faults
from lab.data.functions import make_functions
from lab.data.packages import find_packages
from lab.data.paths import existing, is_visible, matches, walk
from lab.data.quality import Quality, QualityField, documentation_share
from lab.data.records import (
    ALL_KINDS,
    KINDS,
    TABLES,
    TEXT,
    EmptyFileError,
    NotTextError,
    Record,
    ending_of,
    kind_of,
    reading,
    scan_records,
    spelled,
    suffixes,
    text_of,
)
from lab.data.shortage import counted, listed

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
# What a path may lead to besides; of folders only links, as others are entered.
_NO_FILES = ("folder", "broken link", "special file")


@dataclass(frozen=True, slots=True)
class Source:
    """One file of a corpus.

    Attributes:
        path: where it is.
        name: its name in error messages and documents.
        kind: how to read it: text, jsonl, csv, tsv or parquet, with `.gz`, `.bz2` or `.zst` if packed.
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


@dataclass(frozen=True, slots=True)
class Files:
    """What the paths of a corpus lead to.

    Attributes:
        sources: the files that are read, each once, in a fixed order.
        left_out: how many are not, by the end of their names or what else they are; none that is hidden.
    """

    sources: list[Source]
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def note(self) -> str:
        """What is left out, in a line; empty if nothing is."""
        if not self.left_out:
            return ""
        were = "was" if self.left_out.total() == 1 else "were"
        note = f"Of the text {_numbers(self.left_out)} {were} not read."
        if named := sorted(ending for ending in self.left_out if kind_of(Path(f"x{ending}"), ALL_KINDS)):
            note += f" By its name, or by a glob such as '*{named[0]}', can be read: {listed(named)}."
        return note


def read_corpus(config: DataConfig) -> Iterator[Document]:
    """Every document of the configured corpus in a fixed order; none behind the first that is wrong.

    Raises:
        ValueError: naming the files that are missing, empty, binary, not UTF-8 or lack a field, and the
            records whose text or quality is none: as many as `Faults` gathers.
        OSError: if the system fails to read a file that is there.
    """
    if config.corpus == "functions":
        for number, (function, group) in enumerate(make_functions(config.functions)):
            yield Document(f"function {number}", function.text, group=" ".join(group))
        return
    faults = Faults()
    empty = True
    judge = _judge(config)
    for source in _find_files(config, faults).sources:
        for document in _read_documents(source, config, judge, faults):
            empty = False
            if not faults:
                yield document
    faults.refuse()
    if empty:
        raise ValueError(
            f"corpus={config.corpus} must hold text, but all its files are empty: {list(config.paths)}."
        )


def find_sources(config: DataConfig) -> list[Source]:
    """The sources of `find_files`."""
    return find_files(config).sources


def find_files(config: DataConfig) -> Files:
    """The files of the configured corpus; a corpus that is made has none.

    Raises:
        ValueError: naming each path that is missing, remote, of an unknown kind, or leads to no file that can
            be read; or if a package is not installed.
        OSError: if the system fails to list a folder that is there.
    """
    faults = Faults()
    files = _find_files(config, faults)
    faults.refuse()
    return files


def _find_files(config: DataConfig, faults: Faults) -> Files:
    if config.corpus == "packages":
        return Files(
            [
                Source(path, name, "text", skipped=_NO_TEXT)
                for package in find_packages()
                for name, path in package.files().items()
            ]
        )
    if config.corpus == "functions":
        return Files([])
    if config.corpus == "stdlib":
        root = Path(sysconfig.get_path("stdlib"))
        with reading(root):
            return Files(_stdlib_sources(root))
    sources: dict[str, Source] = {}
    others: dict[str, str] = {}
    resolved = cache(os.path.realpath)

    def place(path: Path) -> str:
        # A folder is resolved once for all its files.
        return resolved(path) if path.is_symlink() else f"{resolved(path.parent)}/{path.name}"

    for path in config.paths:
        with faults.gather(), reading(Path(path)):
            own, left_out = _files_of(path)
            for source in own:
                sources.setdefault(place(source.path), source)
            others |= {place(file): ending for file, ending in left_out}
    counts = Counter(ending for file, ending in others.items() if file not in sources)
    return Files([*sources.values()], counts)


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


def _files_of(path: str) -> tuple[list[Source], list[tuple[Path, str]]]:
    """The files to which a path leads: those that are read, and the others with what `_what_it_is`."""
    if "://" in path:
        raise ValueError(f"`paths` must be files, folders or globs on this machine, but got {path!r}.")
    given = existing(path)
    if given is None:
        if not glob.has_magic(path):
            raise ValueError(f"`paths` must exist, but there is no file or folder {path!r}.")
        found = [(Path(file), file) for file in sorted(matches(path))]
    elif given.is_dir():
        found = [(file, file.relative_to(given).as_posix()) for file in _walk(given, is_visible, links=True)]
    elif not given.is_file():  # which may have no end
        raise ValueError(f"`paths` must be files, folders or globs, but {path!r} is a pipe or a device.")
    else:
        kind = kind_of(given, ALL_KINDS)
        if kind is None:
            raise ValueError(f"`paths` must be files ending in {suffixes(ALL_KINDS)}, but got {path!r}.")
        return [Source(given, path, kind)], []
    found = [(file, name) for file, name in found if is_visible(file.name)]
    # A glob that names a kind asks for it, "*.csv" or "*.csv.gz" say, and "*.gz" and "*.*" do not.
    named = given is None and kind_of(Path(path), ALL_KINDS)
    for kinds in [ALL_KINDS] if named else [KINDS, TABLES]:
        # A folder of code has empty __init__.py files; only a file that was asked for by name must hold text.
        sources = [
            Source(file, name, kind, skipped=(EmptyFileError,))
            for file, name in found
            if (kind := kind_of(file, kinds)) and file.is_file()
        ]
        if sources:
            break
    taken = {source.path for source in sources}
    left_out = [
        (file, _what_it_is(file))
        for file, _ in found
        if file not in taken and not ("**" in path and file.is_dir())  # whose files are matched too
    ]
    if not sources:
        held = Counter(ending for _, ending in left_out)
        raise ValueError(
            f"`paths` must lead to files ending in {suffixes({**KINDS, **TABLES})}, but {path!r} has none"
            f"{f': it has {_numbers(held)}' if held else ''}."
        )
    return sources, left_out


def _what_it_is(file: Path) -> str:
    """The end of the name of a file that is not read, or what else it is."""
    if file.is_dir():
        return _NO_FILES[0]
    if file.is_file():
        return spelled(ending_of(file))
    return _NO_FILES[2 if file.exists() else 1]  # a pipe or a device, which is not read


def _numbers(held: Counter[str], most: int = 12) -> str:
    """`6 files (2 .csv, 1 .png and 3 without an ending) and 1 folder`, the most frequent first."""
    files = [(ending, count) for ending, count in held.most_common() if ending not in _NO_FILES]
    named = [f"{count:,} {ending or 'without an ending'}" for ending, count in files[:most]]
    more = sum(count for _, count in files[most:])
    words = listed([*named, *([f"{more:,} more"] if more else [])]) if files else ""
    others = [counted(count, what) for what, count in held.items() if what in _NO_FILES]
    return listed([*([f"{counted(sum(dict(files).values()), 'file')} ({words})"] if files else []), *others])


def _walk(root: Path, enters: Callable[[str], bool], links: bool = False) -> Iterator[Path]:
    """The files under a folder in a fixed order (`walk`).

    Args:
        root: the folder.
        enters: whether a folder of this name is looked into.
        links: whether links to such folders are given too.
    """
    for folder, folders, files in walk(root, enters):
        if links:
            yield from (link for name in folders if (link := folder / name).is_symlink())
        yield from (folder / name for name in files)


def _judge(config: DataConfig) -> Callable[[Record], Quality | None]:
    """What says how good a record of the configured corpus is."""
    if config.corpus != "text":
        return lambda record: documentation_share(record.fields[TEXT])
    return QualityField(config.quality_field) if config.quality_field else lambda record: None


def _read_documents(
    source: Source, config: DataConfig, judge: Callable[[Record], Quality | None], faults: Faults
) -> Iterator[Document]:
    whole = source.kind.startswith("text")
    field = TEXT if whole else config.text_field
    empty, faulty = True, len(faults)

    def document_of(record: Record) -> Document | None:
        text = text_of(record, field, record.fields[field])
        if not text or text.isspace():
            return None
        name = source.name if whole else f"{source.name}:{record.number}"
        return Document(name, text, record.rest, judge(record))

    fields = [field, *filter(None, [config.quality_field])]
    records = scan_records(source.path, fields, setting="data.text_field")
    for document in faults.read(records, document_of, source.skipped):
        if document:
            empty = False
            yield document
    if empty and len(faults) == faulty and EmptyFileError not in source.skipped:
        held = "the file holds only white space" if whole else "it has no record with text"
        faults.add(EmptyFileError(f"{spelled(source.path)}: expected text, but {held}."))

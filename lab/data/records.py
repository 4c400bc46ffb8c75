"""Records of a file: text, JSON lines, CSV or parquet, plain or compressed, one at a time.

A record is a mapping with a place. Every error names the file, and the line, or the row and the column, where
there is one. In memory is one record, or one batch of rows of a parquet file; of a long text file a part.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from lab.data.parts import PART, in_parts

KINDS = {".txt": "text", ".md": "text", ".py": "text", ".jsonl": "jsonl", ".parquet": "parquet"}
# A folder of text may hold a table that is none of it: a folder is read for these where it has nothing else.
TABLES = {".csv": "csv", ".tsv": "tsv"}
# And for these never: a file must be named, or a glob that ends so.
_NAMED = ".tex .rst .html .htm .xml .org .adoc .markdown .log .c .h .cpp .java .js .ts .go .rs .sh .sql"
ALL_KINDS = {**KINDS, **TABLES, ".ndjson": "jsonl", **dict.fromkeys(_NAMED.split(), "text")}
TEXT = "text"  # the field of a text file
# What the field of a text is often called, for advice.
USUAL = ("text", "content", "contents", "body", "document", "article", "story", "code", "raw_content")

_BATCH_ROWS = 64  # parquet's rows in memory at once: up to a few MB of usual documents, and few calls
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",  # with which that of UTF-32 begins
    codecs.BOM_UTF16_BE: "UTF-16",
}
# A field may be a document. By default 128 KiB; what an open quote takes in must end somewhere.
csv.field_size_limit(1 << 26)


class Record(NamedTuple):
    """One record.

    Attributes:
        place: where it stands, for messages: `notes.jsonl, line 3`; of a text file its path.
        number: the line, from 1 on, or the row, from 0 on; 0 for a text file.
        fields: its values by name; a text file has TEXT alone.
        rest: of a text file longer than PART, what comes behind TEXT, its first part (lab/data/parts.py). It
            is read once, before the next record.
        typed: whether a number has the type of one; where not, as in .csv and .tsv, it is spelled.
    """

    place: str
    number: int
    fields: dict[str, Any]
    rest: Iterable[str] = ()
    typed: bool = True


class EmptyFileError(ValueError):
    """A file holds nothing."""


class NotTextError(ValueError):
    """A file holds bytes that are not UTF-8 text."""


def scan_records(
    path: Path, fields: Sequence[str] = (), columns: Sequence[str] = (), setting: str = ""
) -> Iterator[Record | ValueError]:
    """The records of a file, in its order, and in the place of one that is wrong what is wrong with it.

    Args:
        path: ends as ALL_KINDS say: a text file is a record, a line of JSON one and a blank line none, a row
            of .csv, .tsv or .parquet one; each also with .gz, .bz2 or .zst.
        fields: what each record must have; of parquet, which columns are read. All there are by default.
        columns: the names of all columns of a .csv file that has no header; by default its first row.
        setting: what names the first field, for advice where another would do.

    Raises:
        ValueError: naming the file, if it cannot be read as a whole.
        OSError: if the system fails to read a file that is there.
    """
    kind = kind_of(path, ALL_KINDS)
    if kind is None:
        raise ValueError(f"`path` must end in {suffixes(ALL_KINDS)}, but got {str(path)!r}.")
    with _opened(path, kind) as stream:
        if not stream.peek(1):
            raise EmptyFileError(f"{spelled(path)}: expected text, but the file is empty.")
        yield from _READERS[kind.partition(".")[0]](stream, path, _Wanted(fields, columns, setting))


class _Wanted(NamedTuple):
    """What a file must have, as `scan_records` takes it."""

    fields: Sequence[str]
    columns: Sequence[str]
    setting: str

    def advice(self, names: Container[str], texts: Sequence[str]) -> str:
        """Which field may be meant, at the end of a message that one lacks.

        Args:
            names: of all fields that there are.
            texts: of those that hold text.
        """
        usual = [text for name in USUAL for text in texts if text.lower() == name]
        meant = usual or (texts if len(texts) == 1 else [])
        if not self.setting or not meant or self.fields[0] in names:
            return "."
        # A setting ends at a space.
        value = meant[0] if meant[0].split() == [meant[0]] else json.dumps(meant[0]).replace(" ", r"\u0020")
        return f"; found `{meant[0]}`: use {self.setting}={value}."

    def require_columns(self, names: Sequence[str], texts: Sequence[str], place: str) -> None:
        """Refuse a table that lacks a column, or has one twice that is to be read."""
        if twice := [name for name in self.fields or names if names.count(name) > 1]:
            raise ValueError(f"{place}: expected each column once, but {twice[0]!r} is there twice.")
        if missing := [field for field in self.fields if field not in names]:
            advice = self.advice(names, texts)
            raise ValueError(f"{place}: expected a column {missing[0]!r}, but there are {names}{advice}")


def kind_of(path: Path, kinds: Mapping[str, str] = KINDS) -> str | None:
    """`text`, `jsonl` or another of `kinds`, followed by `.gz` and the like if packed; None if of none."""
    stem, _, packing = path.name.lower().rpartition(".")
    if packing not in _PACKINGS:
        return kinds.get(Path(path.name.lower()).suffix)
    kind = kinds.get(Path(stem).suffix)
    return kind and f"{kind}.{packing}"


def ending_of(path: Path) -> str:
    """The end of a name that says what kind of file it is, such as `.csv.gz`; empty if it has none."""
    suffixes = path.suffixes[-2:] if path.suffix[1:].lower() in _PACKINGS else path.suffixes[-1:]
    return "".join(suffixes).lower()


def suffixes(kinds: Mapping[str, str] = KINDS) -> str:
    """The ends of names that can be read, in words."""
    return ", ".join(kinds) + " (each also with .gz, .bz2 or .zst)"


def spelled(path: object) -> str:
    """A path in a message: as it is, or quoted where a character of it cannot be shown on a line."""
    return text if (text := str(path)).isprintable() else repr(text)


def text_of(record: Record, name: str, value: Any) -> str:
    """A value of a record as the text that it must be.

    Args:
        record: where it is of.
        name: of the field, for the message.
        value: what stands there.

    Raises:
        ValueError: naming the place, if it is no text, or none that UTF-8 can hold.
    """
    if not isinstance(value, str):
        raise ValueError(f"{record.place}: expected text in {name!r}, but got {type(value).__name__}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half a surrogate pair, which UTF-8 cannot
        raise ValueError(f"{record.place}: expected Unicode text in {name!r}, but {error.reason}.") from error
    return value


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Tell what the user can mend from what another moment may (a stale handle, a failing disk).

    Raises:
        ValueError: naming the path, if it is not there or may not be read.
        OSError: with the path, for any other error of the system.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise ValueError(
            f"{spelled(error.filename or path)}: could not be read: {error.strerror}."
        ) from error
    except OSError as error:
        # An error of reading an open file has no path.
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[Any]:
    """A file's bytes, unpacked; a buffered reader.

    Raises:
        ValueError: naming the file, if it is none, cannot be read, or is packed and damaged.
    """
    packing = kind.partition(".")[2]
    with reading(path):
        mode = path.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # which may have no end
        raise ValueError(f"{spelled(path)}: expected a file, but it is a pipe or a device.")
    with reading(path), path.open("rb") as file:
        try:
            yield _PACKINGS[packing][1](file) if packing else file
        except (EOFError, OSError, zlib.error) as error:
            if not packing or (isinstance(error, OSError) and error.errno is not None):
                raise
            name = _PACKINGS[packing][0]
            raise ValueError(f"{spelled(path)}: not a readable {name} file: {error}.") from error


def _unpack_zstd(file: BinaryIO) -> BinaryIO:
    import pyarrow

    return io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"))


_PACKINGS: Mapping[str, tuple[str, Callable[[BinaryIO], Any]]] = {
    "gz": ("gzip", lambda file: gzip.GzipFile(fileobj=file)),
    "bz2": ("bzip2", bz2.BZ2File),
    "zst": ("zstd", _unpack_zstd),
}


def _read_text(file: BinaryIO, path: Path, wanted: _Wanted) -> Iterator[Record]:
    place = spelled(path)
    if others := [field for field in wanted.fields if field != TEXT]:
        raise ValueError(f"{place}: expected the field {others[0]!r}, but a text file has {TEXT!r} alone.")
    data = file.read(PART + 1)
    if len(data) <= PART:
        yield Record(place, 0, {TEXT: _decode(data, place)})
        return
    valid = _is_text(chain((data,), _chunks(file)))
    with _opened(
        path, kind_of(path, ALL_KINDS) or ""
    ) as again:  # not every packing can be read back to its start
        if valid:
            parts = in_parts(_chunks(again), "utf-8-sig")
            yield Record(place, 0, {TEXT: next(parts)}, parts)
        else:
            yield Record(place, 0, {TEXT: _decode(again.read(), place)})


def _is_text(chunks: Iterable[bytes]) -> bool:
    """Whether the bytes of a file are UTF-8 text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in chunks:
            if b"\0" in chunk:
                return False
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(PART):
        yield data


def _read_jsonl(file: BinaryIO, path: Path, wanted: _Wanted) -> Iterator[Record | ValueError]:
    # A line ends at \n alone: a JSON text may hold other line separators, such as U+2028.
    for number, line in enumerate(file, start=1):
        place = f"{spelled(path)}, line {number}"
        try:
            text = _decode(line, place, first=number == 1)
            if text.strip():
                yield Record(place, number, _object(text, place, wanted))
        except ValueError as error:
            yield error


def _object(text: str, place: str, wanted: _Wanted) -> dict[str, Any]:
    """The object of a line."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:  # of a number of 4,301 digits a plain ValueError
        raise ValueError(f"{place}: expected one JSON object, but it is not JSON: {error}.") from error
    if not isinstance(record, dict) or any(field not in record for field in wanted.fields):
        expected = " and ".join(f"the field {field!r}" for field in wanted.fields)
        got, advice = type(record).__name__, "."
        if isinstance(record, dict):
            got = str(sorted(record))
            advice = wanted.advice(record, [name for name, value in record.items() if isinstance(value, str)])
        raise ValueError(
            f"{place}: expected an object{expected and f' with {expected}'}, but got {got}{advice}"
        )
    # Of a name that stands there twice the last counts, unsaid: nobody can know which is meant.
    names = wanted.fields or list(record)
    if any(text.count(f'"{name}"') > 1 for name in names):
        pairs = [name for name, _ in json.loads(text, object_pairs_hook=list)]
        if twice := [name for name in names if pairs.count(name) > 1]:
            raise ValueError(f"{place}: expected each field once, but {twice[0]!r} is there twice.")
    return record


def _read_csv(
    file: BinaryIO, path: Path, wanted: _Wanted, delimiter: str = ","
) -> Iterator[Record | ValueError]:
    lines = 0

    def decoded(line: bytes) -> str:
        nonlocal lines
        lines += 1
        return _decode(line, f"{spelled(path)}, line {lines}", lines == 1)

    # A quoted field may go on over several lines.
    rows = csv.reader(map(decoded, file), delimiter=delimiter, strict=True)
    names = list(wanted.columns)
    while True:
        number = lines + 1
        place = f"{spelled(path)}, line {number}"
        try:
            row = next(rows, None)
        except (csv.Error, NotTextError) as error:
            fault = (
                error
                if isinstance(error, NotTextError)
                else ValueError(f"{place}: expected a row of CSV, but it is none: {error}.")
            )
            if lines > number or not names:  # where the next row begins, or what it holds, is not known
                raise fault from error
            yield fault
            continue
        if row is None:
            return
        if not row:
            continue
        if not names:
            names = row
            # Where there is no header, the only "name" is a text.
            wanted.require_columns(names, [name for name in names if name.isidentifier()], place)
        elif len(row) != len(names):
            yield ValueError(f"{place}: expected {len(names)} columns, {names}, but got {len(row)}.")
        else:
            yield Record(place, number, dict(zip(names, row, strict=True)), typed=False)


def _read_parquet(file: BinaryIO, path: Path, wanted: _Wanted) -> Iterator[Record | ValueError]:
    import pyarrow
    from pyarrow import parquet

    place = spelled(path)
    with tempfile.TemporaryFile() as copy:
        if path.suffix.lower() != ".parquet":  # packed, and parquet is read from its end
            shutil.copyfileobj(file, copy)
            file = copy
        try:
            table = parquet.ParquetFile(file, buffer_size=PART)  # else it reads a whole column at once
            schema = table.schema_arrow
            texts = [field.name for field in schema if str(field.type).endswith(("string", "string_view"))]
            wanted.require_columns(schema.names, texts, place)
            first = 0
            for batch in table.iter_batches(_BATCH_ROWS, columns=list(wanted.fields) or None):
                for number, row in enumerate(_rows(batch, place, first), start=first):
                    yield (
                        row if isinstance(row, ValueError) else Record(f"{place}, row {number}", number, row)
                    )
                first += batch.num_rows
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(f"{place}: not a readable parquet file: {error}.") from error


def _rows(batch: Any, place: str, first: int) -> list[dict[str, Any] | ValueError]:
    """The rows of a batch that begins at row `first`."""
    try:
        return batch.to_pylist()
    except (ValueError, ArithmeticError):  # it does not say where
        return [_row(batch, row, f"{place}, row {first + row}") for row in range(batch.num_rows)]


def _row(batch: Any, row: int, place: str) -> dict[str, Any] | ValueError:
    """A row of a batch, or which of its values Python cannot hold."""
    values = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            values[name] = column[row].as_py()
        except UnicodeDecodeError as error:
            return NotTextError(
                f"{place}: expected UTF-8 text in {name!r}, but byte {error.start} is not: {error.reason}."
            )
        except (ValueError, ArithmeticError) as error:
            return ValueError(f"{place}: expected a value that Python can hold in {name!r}, but {error}.")
    return values


def _decode(data: bytes, place: str, first: bool = True) -> str:
    """UTF-8 as text; `first` where a byte order mark may stand."""
    other = next((name for mark, name in _MARKS.items() if first and data.startswith(mark)), None)
    if other:
        raise NotTextError(
            f"{place}: expected UTF-8 text, but it is {other}; `iconv -f {other} -t UTF-8` converts it."
        )
    if b"\0" in data:
        raise NotTextError(f"{place}: expected UTF-8 text, but it is binary (it holds zero bytes).")
    try:
        return data.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise NotTextError(
            f"{place}: expected UTF-8 text, but byte {error.start} is not: {error.reason}."
        ) from error


_READERS: Mapping[str, Callable[[Any, Path, _Wanted], Iterator[Record | ValueError]]] = {
    "text": _read_text,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "tsv": partial(_read_csv, delimiter="\t"),
    "parquet": _read_parquet,
}

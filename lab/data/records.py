"""Records of a file: text, JSON lines, CSV or parquet, plain or compressed, one at a time.

A record is a mapping with a place. Every error names the file, and the line or row where there is one. In
memory is one record, or one batch of rows of a parquet file; of a long text file a part.
"""

import codecs
import csv
import gzip
import json
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from lab.data.parts import PART, in_parts

KINDS = {".txt": "text", ".md": "text", ".py": "text", ".jsonl": "jsonl", ".parquet": "parquet"}
ALL_KINDS = {**KINDS, ".csv": "csv"}  # a folder of text may hold a .csv that is none of it
TEXT = "text"  # the field of a text file

_BATCH_ROWS = 64  # parquet's rows in memory at once: up to a few MB of usual documents, and few calls


class Record(NamedTuple):
    """One record.

    Attributes:
        place: where it stands, for messages: `notes.jsonl, line 3`; of a text file its path.
        number: the line, from 1 on, or the row, from 0 on; 0 for a text file.
        fields: its values by name; a text file has TEXT alone.
        rest: of a text file longer than PART, what comes behind TEXT, its first part (lab/data/parts.py). It
            is read once, before the next record.
    """

    place: str
    number: int
    fields: dict[str, Any]
    rest: Iterable[str] = ()


class EmptyFileError(ValueError):
    """A file holds nothing."""


class NotTextError(ValueError):
    """A file holds bytes that are not UTF-8 text."""


def read_records(path: Path, fields: Sequence[str] = (), columns: Sequence[str] = ()) -> Iterator[Record]:
    """The records of a file, in its order.

    Args:
        path: ends in .txt, .md, .py (a file is a record), .jsonl (a line is one, a blank line none), .csv or
            .parquet (a row is one), each also with .gz.
        fields: what each record must have; of parquet, which columns are read. All there are by default.
        columns: the names of all columns of a .csv file that has no header; by default its first row.

    Raises:
        ValueError: naming file, and line or row, if it cannot be read, is of no such kind, empty
            (EmptyFileError), not UTF-8 (NotTextError), damaged, or lacks a field.
        OSError: if the system fails to read a file that is there.
    """
    kind = kind_of(path, ALL_KINDS)
    if kind is None:
        raise ValueError(f"`path` must end in {suffixes(ALL_KINDS)}, but got {str(path)!r}.")
    read = _READERS[kind.removesuffix(".gz")]
    if read is _read_csv:
        read = partial(_read_csv, columns=columns)
    with reading(path), path.open("rb") as file:
        stream: Any = gzip.GzipFile(fileobj=file) if kind.endswith(".gz") else file
        try:
            if not stream.peek(1):
                raise EmptyFileError(f"{path}: expected text, but the file is empty.")
            yield from read(stream, path, fields)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: not a readable gzip file: {error}.") from error


def kind_of(path: Path, kinds: Mapping[str, str] = KINDS) -> str | None:
    """`text`, `jsonl`, `parquet`, or another of `kinds`, followed by `.gz` if compressed; None if of none."""
    name = path.name.lower()
    stem = name.removesuffix(".gz")
    kind = kinds.get(Path(stem).suffix)
    return kind if kind is None or stem == name else f"{kind}.gz"


def suffixes(kinds: Mapping[str, str] = KINDS) -> str:
    """The ends of names that can be read, in words."""
    return ", ".join(kinds) + " (each also with .gz)"


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
        raise ValueError(f"{error.filename or path}: could not be read: {error.strerror}.") from error
    except OSError as error:
        # An error of reading an open file has no path.
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _read_text(file: BinaryIO, path: Path, fields: Sequence[str]) -> Iterator[Record]:
    if others := [field for field in fields if field != TEXT]:
        raise ValueError(f"{path}: expected the field {others[0]!r}, but a text file has {TEXT!r} alone.")
    data = file.read(PART + 1)
    if len(data) > PART:
        file.seek(0)
        if _is_text(file):
            parts = in_parts(_chunks(file), "utf-8-sig")
            yield Record(str(path), 0, {TEXT: next(parts)}, parts)
            return
        data = file.read()
    yield Record(str(path), 0, {TEXT: _decode(data, str(path))})


def _is_text(file: BinaryIO) -> bool:
    """Whether a file is UTF-8 text; it is at its start again."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for chunk in _chunks(file):
            if b"\0" in chunk:
                return False
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    finally:
        file.seek(0)
    return True


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(PART):
        yield data


def _read_jsonl(file: BinaryIO, path: Path, fields: Sequence[str]) -> Iterator[Record]:
    # A line ends at \n alone: a JSON text may hold other line separators, such as U+2028.
    for number, line in enumerate(file, start=1):
        place = f"{path}, line {number}"
        text = _decode(line, place, first=number == 1)
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"{place}: expected one JSON object, but it is not JSON: {error}.") from error
        if not isinstance(record, dict) or any(field not in record for field in fields):
            wanted = " and ".join(f"the field {field!r}" for field in fields)
            got = sorted(record) if isinstance(record, dict) else type(record).__name__
            raise ValueError(f"{place}: expected an object{wanted and f' with {wanted}'}, but got {got}.")
        yield Record(place, number, record)


def _read_csv(
    file: BinaryIO, path: Path, fields: Sequence[str], columns: Sequence[str] = ()
) -> Iterator[Record]:
    lines = (
        _decode(line, f"{path}, line {number}", number == 1) for number, line in enumerate(file, start=1)
    )
    rows = csv.reader(lines, strict=True)  # a quoted field may go on over several lines
    names = list(columns)
    while True:
        number = rows.line_num + 1
        place = f"{path}, line {number}"
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise ValueError(f"{place}: expected a row of CSV, but it is none: {error}.") from error
        if row is None:
            return
        if not row:
            continue
        if not names:
            names = _header(row, place, fields)
            continue
        if len(row) != len(names):
            raise ValueError(f"{place}: expected {len(names)} columns, {names}, but got {len(row)}.")
        yield Record(place, number, dict(zip(names, row, strict=True)))


def _header(names: list[str], place: str, fields: Sequence[str]) -> list[str]:
    """The names of columns."""
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{place}: expected each column once, but {twice[0]!r} is there twice.")
    if missing := [field for field in fields if field not in names]:
        raise ValueError(f"{place}: expected a column {missing[0]!r}, but there are {names}.")
    return names


def _read_parquet(file: BinaryIO, path: Path, fields: Sequence[str]) -> Iterator[Record]:
    import pyarrow
    from pyarrow import parquet

    with tempfile.TemporaryFile() as copy:
        if isinstance(file, gzip.GzipFile):  # parquet is read from its end
            shutil.copyfileobj(file, copy)
            file = copy
        try:
            table = parquet.ParquetFile(file, buffer_size=PART)  # else it reads a whole column at once
            names = table.schema_arrow.names
            if missing := [field for field in fields if field not in names]:
                raise ValueError(f"{path}: expected a column {missing[0]!r}, but there are {names}.")
            first = 0
            for batch in table.iter_batches(_BATCH_ROWS, columns=list(fields) or None):
                for number, record in enumerate(_rows(batch, path, first), start=first):
                    yield Record(f"{path}, row {number}", number, record)
                first += batch.num_rows
        except (pyarrow.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(f"{path}: not a readable parquet file: {error}.") from error


def _rows(batch: Any, path: Path, first: int) -> list[dict[str, Any]]:
    """The rows of a batch that begins at row `first`."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        for row in range(batch.num_rows):  # it does not say which
            try:
                batch.slice(row, 1).to_pylist()
            except UnicodeDecodeError as error:
                raise NotTextError(
                    f"{path}, row {first + row}: expected UTF-8 text, but byte {error.start} is not: "
                    f"{error.reason}."
                ) from error
        raise


def _decode(data: bytes, place: str, first: bool = True) -> str:
    """UTF-8 as text; `first` where a byte order mark may stand."""
    if b"\0" in data:
        raise NotTextError(f"{place}: expected UTF-8 text, but it is binary (it holds zero bytes).")
    try:
        return data.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise NotTextError(
            f"{place}: expected UTF-8 text, but byte {error.start} is not: {error.reason}."
        ) from error


_READERS: dict[str, Callable[[Any, Path, Sequence[str]], Iterator[Record]]] = {
    "text": _read_text,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
}

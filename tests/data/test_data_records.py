import gzip
import json
import re
import tracemalloc

import pyarrow
import pytest
from pyarrow import parquet

from lab.data import records
from lab.data.records import EmptyFileError, NotTextError, Record, kind_of, read_records

ROWS = [
    {"question": "2 + 2?", "choices": ["3", "4"], "answer": 1},
    {"question": "ü", "choices": [], "answer": 0},
]


def write(path, data):
    """A file, and where its name says so a compressed one."""
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def parquet_bytes(table, **options):
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def of_kind(kind, rows):
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    return parquet_bytes(pyarrow.Table.from_pylist(rows))


@pytest.mark.parametrize("compressed", ["", ".gz"])
@pytest.mark.parametrize(
    ("kind", "places"), [("jsonl", ("line 1", "line 2")), ("parquet", ("row 0", "row 1"))]
)
def test_records_are_mappings_with_a_place(kind, places, compressed, tmp_path):
    path = write(tmp_path / f"a.{kind}{compressed}", of_kind(kind, ROWS))
    records = list(read_records(path, ["question", "answer"]))
    assert [record.place for record in records] == [f"{path}, {place}" for place in places]
    assert [record.number for record in records] == [int(place.split()[1]) for place in places]
    names = ("question", "answer")
    assert [[record.fields[name] for name in names] for record in records] == [
        [row[name] for name in names] for row in ROWS
    ]
    assert [record.fields for record in read_records(path)] == ROWS  # all fields, of whatever type


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_long_text_file_is_one_record_in_parts(name, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "PART", 100)
    text = "größere Wörter\n" * 100
    path = write(tmp_path / name, b"\xef\xbb\xbf" + text.encode())
    ((first, *rest),) = [[record.fields["text"], *record.rest] for record in read_records(path)]
    assert first + "".join(rest) == text
    assert len(rest) > 5


@pytest.mark.parametrize(
    ("damage", "message"),
    [(b"\xff", "byte 1500 is not: invalid start byte"), (b"\0", r"it is binary \(it holds zero bytes\)")],
)
def test_a_long_text_file_is_refused_before_it_is_read(damage, message, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "PART", 100)
    text = b"text\n" * 300
    # A zero byte counts before any other damage.
    path = write(tmp_path / "a.txt", text + damage + text + (b"\xff" if damage == b"\0" else b""))
    with pytest.raises(NotTextError, match=message):
        next(read_records(path))


@pytest.mark.parametrize("name", ["a.txt", "a.MD", "a.py.gz"])
def test_a_text_file_is_one_record(name, tmp_path):
    path = write(tmp_path / name, b"\xef\xbb\xbfone\ntwo\n")
    assert list(read_records(path)) == [Record(str(path), 0, {"text": "one\ntwo\n"})]
    with pytest.raises(
        ValueError, match=rf"{name}: expected the field 'answer', but a text file has 'text' alone"
    ):
        list(read_records(path, ["text", "answer"]))


def test_lines_are_counted_with_the_blank_ones_and_end_at_line_feeds_alone(tmp_path):
    path = write(tmp_path / "a.jsonl", '\ufeff{"a": 1}\r\n\n \t\n{"a": "\u2028"}'.encode())
    assert [(record.number, record.fields) for record in read_records(path)] == [
        (1, {"a": 1}),
        (4, {"a": "\u2028"}),
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz"])
def test_a_row_of_csv_may_take_several_lines(name, tmp_path):
    data = '\ufeffa,b\r\n\r\n"one\r\ntwo","say ""ü"", please"\r\n,\u2028\r\n'.encode()
    path = write(tmp_path / name, data)
    found = list(read_records(path, ["a"]))
    assert [(record.place, record.number) for record in found] == [(f"{path}, line {n}", n) for n in (3, 5)]
    assert [record.fields for record in found] == [
        {"a": "one\r\ntwo", "b": 'say "ü", please'},
        {"a": "", "b": "\u2028"},
    ]
    named = [record.fields for record in read_records(path, columns=("x", "y"))]
    assert named[0] == {"x": "a", "y": "b"}
    assert len(named) == 3


def test_a_csv_is_no_text_of_a_folder(tmp_path):
    assert kind_of(tmp_path / "a.csv") is None
    assert kind_of(tmp_path / "a.csv.gz", records.ALL_KINDS) == "csv.gz"


def test_rows_are_counted_through_all_batches(tmp_path):
    table = pyarrow.table({"a": list(range(3000)), "b": ["x"] * 3000})
    path = write(tmp_path / "a.parquet", parquet_bytes(table, row_group_size=700))
    records = list(read_records(path, ["a"]))
    assert (
        [record.number for record in records]
        == [record.fields["a"] for record in records]
        == list(range(3000))
    )
    assert records[0].fields == {"a": 0}  # no column that was not asked for


@pytest.mark.parametrize(
    ("name", "data", "error", "message"),
    [
        ("a.xls", b"x", ValueError, r"`path` must end in \.txt, .*\.csv .*, but got '.*a\.xls'"),
        ("a.csv", b"", EmptyFileError, r"a\.csv: expected text, but the file is empty"),
        ("a.csv", b"b,c\n1,2\n", ValueError, r"line 1: expected a column 'a', but there are \['b', 'c'\]"),
        ("a.csv", b"\na,b,a\n", ValueError, r"line 2: expected each column once, but 'a' is there twice"),
        ("a.csv", b"a,b\n1,2\n1\n", ValueError, r"line 3: expected 2 columns, \['a', 'b'\], but got 1\."),
        ("a.csv", b'a,b\n"1\n2",3\n4,5,6\n', ValueError, r"a\.csv, line 4: expected 2 columns, .* got 3"),
        ("a.csv", b'a\n1\n"2\n3\n', ValueError, r"line 3: expected a row of CSV, .* unexpected end of data"),
        ("a.csv", b'a\n"1"2\n', ValueError, r"a\.csv, line 2: expected a row of CSV, but it is none: ',' ex"),
        ("a.csv", b"a\r1\r2\r", ValueError, r"a\.csv, line 1: expected a row of CSV, but it is none: new-l"),
        ("a.csv", b"a\n" + b"x" * 200_000, ValueError, r"line 2: .* field larger than field limit"),
        ("a.csv", b'a\n"\n\xe9"\n', NotTextError, r"a\.csv, line 3: .* but byte 0 is not"),
        ("a.csv", b"a\n\0\n", NotTextError, r"a\.csv, line 2: expected UTF-8 text, but it is binary"),
        ("a.jsonl", b"", EmptyFileError, r"a\.jsonl: expected text, but the file is empty"),
        ("a.txt.gz", b"", EmptyFileError, r"a\.txt\.gz: expected text, but the file is empty"),
        ("a.jsonl", b'{"a": 1}\n{"a": "\xe9"}\n', NotTextError, r"a\.jsonl, line 2: .* but byte 7 is not"),
        (
            "a.jsonl",
            b'{"a": 1}\n\0\n',
            NotTextError,
            r"a\.jsonl, line 2: expected UTF-8 text, but it is binary",
        ),
        ("a.jsonl", b'{"a": 1}\n{"b": 1}', ValueError, r"line 2: .* with the field 'a', but got \['b'\]"),
        ("a.jsonl", b'{"a": 1}\n[', ValueError, r"a\.jsonl, line 2: expected one JSON object, but it is not"),
        (
            "a.jsonl",
            b"3",
            ValueError,
            r"a\.jsonl, line 1: expected an object with the field 'a', but got int",
        ),
        ("a.parquet", b"PAR1 and no more", ValueError, r"a\.parquet: not a readable parquet file"),
        ("a.parquet.gz", b"PAR1 and no more", ValueError, r"a\.parquet\.gz: not a readable parquet file"),
        (
            "a.parquet",
            parquet_bytes(pyarrow.table({"b": [1]})),
            ValueError,
            r"a\.parquet: expected a column 'a', but there are \['b'\]",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(name, data, error, message, tmp_path):
    path = write(tmp_path / name, data)
    with pytest.raises(error, match=message):
        list(read_records(path, [] if "txt" in name else ["a"]))


def test_a_row_that_is_not_unicode_is_named(tmp_path):
    binary = pyarrow.array([b"x"] * 1500 + [b"\xe9"], pyarrow.binary())
    texts = pyarrow.Array.from_buffers(pyarrow.string(), len(binary), binary.buffers())
    path = write(tmp_path / "a.parquet", parquet_bytes(pyarrow.table({"a": texts})))
    with pytest.raises(NotTextError, match=r"a\.parquet, row 1500: expected UTF-8 text, but byte 0 is not"):
        list(read_records(path))


def test_objects_of_any_fields_where_none_is_asked_for(tmp_path):
    path = write(tmp_path / "a.jsonl", b'{"a": 1}\n{"b": 2}\n[]')
    records = read_records(path)
    assert [next(records).fields, next(records).fields] == [{"a": 1}, {"b": 2}]
    with pytest.raises(ValueError, match=r"line 3: expected an object, but got list"):
        next(records)


def test_a_cut_gzip_file_is_named_after_what_could_be_read(tmp_path):
    lines = "".join(json.dumps({"a": number}) + "\n" for number in range(5000))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(lines.encode())[:-2000])
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: not a readable gzip file"):
        list(read_records(path))


@pytest.mark.parametrize("compressed", ["", ".gz"])
def test_a_large_file_is_read_a_record_at_a_time(compressed, tmp_path):
    data = "".join(json.dumps({"a": "x" * 1000}) + "\n" for _ in range(3000)).encode()
    path = write(tmp_path / f"a.jsonl{compressed}", data)
    del data
    tracemalloc.start()
    assert sum(len(record.fields["a"]) for record in read_records(path)) == 3_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_kinds_by_name(tmp_path):
    names = {"a.txt": "text", "B.JSONL.GZ": "jsonl.gz", "c.parquet": "parquet", "d.gz": None, "e": None}
    assert {name: kind_of(tmp_path / name) for name in names} == names

import bz2
import gzip
import json
import os
import re
import tracemalloc

import pyarrow
import pytest
from pyarrow import parquet

from lab.config import parse_overrides
from lab.data import records
from lab.data.records import EmptyFileError, NotTextError, Record, kind_of, scan_records

ROWS = [
    {"question": "2 + 2?", "choices": ["3", "4"], "answer": 1},
    {"question": "ü", "choices": [], "answer": 0},
]


def zstd(data):
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def read_records(*args, **options):
    """The records up to the first that is wrong, whose error is raised."""
    for record in scan_records(*args, **options):
        if isinstance(record, ValueError):
            raise record
        yield record


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": zstd}


def write(path, data):
    """A file, and where its name says so a compressed one."""
    path.write_bytes(PACK.get(path.suffix.lower(), bytes)(data))
    return path


def parquet_bytes(table, **options):
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def of_kind(kind, rows):
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    return parquet_bytes(pyarrow.Table.from_pylist(rows))


@pytest.mark.parametrize("compressed", ["", *PACK, ".ZST"])
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


@pytest.mark.parametrize("name", ["a.txt", *(f"a.txt{packing}" for packing in PACK)])
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


@pytest.mark.parametrize("name", ["a.csv", "a.CSV", "a.csv.gz", "a.tsv", "a.tsv.bz2"])
def test_a_row_of_csv_may_take_several_lines(name, tmp_path):
    mark = "\t" if "tsv" in name else ","
    data = f'\ufeffa{mark}b\r\n\r\n"one\r\ntwo"{mark}"say ""ü""{mark} please"\r\n{mark}\u2028\r\n'.encode()
    path = write(tmp_path / name, data)
    found = list(read_records(path, ["a"]))
    assert [(record.place, record.number) for record in found] == [(f"{path}, line {n}", n) for n in (3, 5)]
    assert [record.fields for record in found] == [
        {"a": "one\r\ntwo", "b": f'say "ü"{mark} please'},
        {"a": "", "b": "\u2028"},
    ]
    named = [record.fields for record in read_records(path, columns=("x", "y"))]
    assert named[0] == {"x": "a", "y": "b"}
    assert len(named) == 3


def test_a_csv_is_no_text_of_a_folder(tmp_path):
    assert kind_of(tmp_path / "a.csv") is None
    assert kind_of(tmp_path / "a.csv.gz", records.ALL_KINDS) == "csv.gz"
    assert kind_of(tmp_path / "a.TEX.zst", records.ALL_KINDS) == "text.zst"


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
        ("a.xls", b"x", ValueError, r"`path` must end in \.txt, .*\.csv, .*, but got '.*a\.xls'"),
        ("a.csv", b"", EmptyFileError, r"a\.csv: expected text, but the file is empty"),
        ("a.csv", b"b,c\n1,2\n", ValueError, r"line 1: expected a column 'a', but there are \['b', 'c'\]"),
        ("a.csv", b"\na,b,a\n", ValueError, r"line 2: expected each column once, but 'a' is there twice"),
        ("a.csv", b"a,b\n1,2\n1\n", ValueError, r"line 3: expected 2 columns, \['a', 'b'\], but got 1\."),
        ("a.csv", b'a,b\n"1\n2",3\n4,5,6\n', ValueError, r"a\.csv, line 4: expected 2 columns, .* got 3"),
        ("a.csv", b'a\n1\n"2\n3\n', ValueError, r"line 3: expected a row of CSV, .* unexpected end of data"),
        ("a.csv", b'a\n"1"2\n', ValueError, r"a\.csv, line 2: expected a row of CSV, but it is none: ',' ex"),
        ("a.csv", b"a\r1\r2\r", ValueError, r"a\.csv, line 1: expected a row of CSV, but it is none: new-l"),
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
        (
            "a.jsonl",
            b'{"a": 1}\n{"a": ' + b"1" * 5000 + b"}",
            ValueError,
            r"a\.jsonl, line 2: expected one JSON object, but it is not JSON: Exceeds the limit",
        ),
        (
            "a.jsonl",
            b'{"b": 1, "b": 2, "c": {"a": 1}, "a": 1}\n{"a": "x", "a": "y"}',
            ValueError,
            r"a\.jsonl, line 2: expected each field once, but 'a' is there twice",
        ),
        ("a.txt", "x".encode("utf-16"), NotTextError, r"a\.txt: .* it is UTF-16; `iconv -f UTF-16 -t UTF-8`"),
        ("a.csv", "a".encode("utf-16"), NotTextError, r"a\.csv, line 1: .* but it is UTF-16"),
        ("a.jsonl", "{}".encode("utf-32"), NotTextError, r"a\.jsonl, line 1: .* but it is UTF-32"),
        ("a\nb.txt", b"", EmptyFileError, r"^'[^\n]*a\\nb\.txt': expected text, but the file is empty\.$"),
        (os.fsdecode(b"\xe9.txt"), b"", EmptyFileError, r"\\udce9\.txt': expected text, but"),
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
    with pytest.raises(error, match=message) as caught:
        list(read_records(path, [] if "txt" in name else ["a"]))
    str(caught.value).encode()


def test_a_row_that_is_not_unicode_is_named(tmp_path):
    binary = pyarrow.array([b"x"] * 1500 + [b"\xe9"], pyarrow.binary())
    texts = pyarrow.Array.from_buffers(pyarrow.string(), len(binary), binary.buffers())
    path = write(tmp_path / "a.parquet", parquet_bytes(pyarrow.table({"a": texts})))
    with pytest.raises(NotTextError, match=r"a\.parquet, row 1500: .* UTF-8 text in 'a', but byte 0 is not"):
        list(read_records(path))


def test_objects_of_any_fields_where_none_is_asked_for(tmp_path):
    path = write(tmp_path / "a.jsonl", b'{"a": 1}\n{"b": 2}\n[]')
    records = read_records(path)
    assert [next(records).fields, next(records).fields] == [{"a": 1}, {"b": 2}]
    with pytest.raises(ValueError, match=r"line 3: expected an object, but got list"):
        next(records)


@pytest.mark.parametrize("damage", ["cut", "not packed", "parquet"])
@pytest.mark.parametrize(("packing", "word"), [(".gz", "gzip"), (".bz2", "bzip2"), (".zst", "zstd")])
def test_a_damaged_packed_file_is_named_after_what_could_be_read(packing, word, damage, tmp_path):
    lines = "".join(json.dumps({"a": number}) + "\n" for number in range(5000)).encode()
    path = tmp_path / f"a.{'parquet' if damage == 'parquet' else 'jsonl'}{packing}"
    packed = PACK[packing](lines)
    path.write_bytes(lines if damage == "not packed" else packed[: len(packed) // 2])
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: not a readable {word} file: ."):
        list(read_records(path))


@pytest.mark.parametrize("compressed", ["", *PACK])
def test_a_large_file_is_read_a_record_at_a_time(compressed, tmp_path):
    data = "".join(json.dumps({"a": "x" * 1000}) + "\n" for _ in range(3000)).encode()
    path = write(tmp_path / f"a.jsonl{compressed}", data)
    del data
    tracemalloc.start()
    assert sum(len(record.fields["a"]) for record in read_records(path)) == 3_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def scanned(path, fields=("text",)):
    """The numbers of what is right, and the messages of what is wrong."""
    found = list(scan_records(path, fields, setting="data.text_field"))
    wrong = [str(one).removeprefix(f"{path}, ") for one in found if isinstance(one, ValueError)]
    return [one.number for one in found if isinstance(one, Record)], wrong


def test_the_lines_of_json_behind_a_wrong_one_are_read(tmp_path):
    lines = [b'{"text": "x"}', b"[", b"\xff", b"3", b'{"text": 1}', b'{"TEXT": "x"}']
    right, wrong = scanned(write(tmp_path / "a.jsonl", b"\n".join(lines)))
    assert right == [1, 5]
    assert [message.split(":")[0] for message in wrong] == ["line 2", "line 3", "line 4", "line 6"]


def test_the_rows_of_csv_behind_a_wrong_one_are_read(tmp_path):
    lines = [
        b"text,b",
        b"x,y",
        b"x",
        b'"x"y,z',
        b"\xff,y",
        b'"x\nx",y',
        b"x,y,z",
        b"x,y",
        b'"x\n\xff",y',
        b"x,y",
    ]
    right, wrong = scanned(write(tmp_path / "a.csv", b"\n".join(lines[:8])))
    assert right == [2, 6, 9]
    assert [message.split(":")[0] for message in wrong] == ["line 3", "line 4", "line 5", "line 8"]
    # In the middle of a row nobody knows where the next one begins.
    records = scan_records(write(tmp_path / "a.csv", b"\n".join(lines)), ["text"])
    with pytest.raises(NotTextError, match=r"a\.csv, line 11: expected UTF-8 text, but byte 0 is not"):
        list(records)


def test_a_long_field_of_csv_is_a_text(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", b"text\n" + b"x" * 200_000 + b'\n"' + b"x\n" * 100_000 + b'"\n')
    assert [len(record.fields["text"]) for record in read_records(path)] == [200_000, 200_000]
    limit = records.csv.field_size_limit(1000)
    try:
        with pytest.raises(ValueError, match=r"a\.csv, line 2: .* field larger than field limit \(1000\)"):
            list(read_records(path))
    finally:
        records.csv.field_size_limit(limit)


def test_a_value_that_python_cannot_hold_is_named_by_row_and_column(tmp_path):
    times = pyarrow.array([0] * 99 + [2**62], pyarrow.timestamp("us"))
    path = write(tmp_path / "a.parquet", parquet_bytes(pyarrow.table({"text": ["x"] * 100, "when": times})))
    right, wrong = scanned(path, ())
    assert right == [*range(99)]
    assert wrong == ["row 99: expected a value that Python can hold in 'when', but date value out of range."]
    assert scanned(path)[0] == [*range(100)]  # the column is not read


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_a_column_that_is_read_is_there_once(name, tmp_path):
    def made(*names):
        table = pyarrow.table([pyarrow.array(["x"])] * len(names), names=list(names))
        return (
            parquet_bytes(table)
            if "parquet" in name
            else f"{','.join(names)}\n{'x,' * len(names)}"[:-1].encode()
        )

    path = write(tmp_path / name, made("text", "b", "text"))
    for fields in (["text"], []):
        with pytest.raises(ValueError, match=r"expected each column once, but 'text' is there twice"):
            list(read_records(path, fields))
    path = write(tmp_path / name, made("b", "text", "b"))
    assert [record.fields["text"] for record in read_records(path, ["text"])] == ["x"]


@pytest.mark.parametrize(
    ("columns", "advice"),
    [
        ({"id": 1, "Content": "x", "title": "y"}, "; found `Content`: use data.text_field=Content."),
        ({"id": 1, "sentence": "x"}, "; found `sentence`: use data.text_field=sentence."),
        ({"id": 1, "my text": "x"}, r'; found `my text`: use data.text_field="my\u0020text".'),
        ({"id": 1, "title": "x", "abstract": "y"}, "."),
        ({"id": 1, "content": 3}, "."),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_where_the_text_lies_in_another_field_it_is_named(kind, columns, advice, tmp_path):
    (message,) = failures(write(tmp_path / f"a.{kind}", of_kind(kind, [columns])))
    assert message.endswith(f"]{advice}")
    value = advice.partition("=")[2].removesuffix(".")
    if value:
        field = parse_overrides([f"data.text_field={value}"])["data"]["text_field"]
        assert list(read_records(tmp_path / f"a.{kind}", [field]))


def failures(path):
    """What is wrong with a file, whole or in part."""
    try:
        return scanned(path)[1]
    except ValueError as error:
        return [str(error)]


def test_where_a_csv_may_have_no_header_its_only_text_is_no_name(tmp_path):
    assert "found" not in failures(write(tmp_path / "a.csv", b"It was a dark night.\nx\n"))[0]
    advice = "found `body`: use data.text_field=body."
    assert failures(write(tmp_path / "a.csv", b"id,body\n1,x\n"))[0].endswith(advice)


def test_kinds_by_name(tmp_path):
    names = {"a.txt": "text", "B.JSONL.GZ": "jsonl.gz", "c.parquet": "parquet", "d.gz": None, "e": None}
    assert {name: kind_of(tmp_path / name) for name in names} == names


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    for name in ("pipe.jsonl", "zero.txt"):
        with pytest.raises(ValueError, match=rf"{name}: expected a file, but it is a pipe or a device"):
            list(read_records(tmp_path / name))

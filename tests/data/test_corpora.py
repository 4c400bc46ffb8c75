import errno
import gzip
import json
import os
import re
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from lab.config import DataConfig
from lab.data import corpora
from lab.data.corpora import Document, find_files, find_sources, read_corpus


def read(*paths, text_field="text"):
    config = DataConfig(corpus="text", paths=[str(path) for path in paths], text_field=text_field)
    return list(read_corpus(config))


def write_jsonl(path, *records):
    path.write_text(
        "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8"
    )
    return path


def write_parquet(path, **columns):
    parquet.write_table(pyarrow.table(columns), path)
    return path


def compress(path):
    compressed = path.with_name(path.name + ".gz")
    compressed.write_bytes(gzip.compress(path.read_bytes()))
    return compressed


def test_stdlib_holds_modules_and_no_tests_packages_or_machine_paths():
    documents = list(read_corpus(DataConfig(corpus="stdlib")))
    names = [document.name for document in documents]
    assert {"json/decoder.py", "abc.py", "email/mime/text.py"} <= set(names)
    assert len(names) == len(set(names)) > 300
    for name in names:
        *folders, file = name.split("/")
        assert not {"test", "tests", "idle_test", "site-packages", "__pycache__"} & set(folders)
        assert not file.startswith("_sysconfigdata")
    decoder = next(document for document in documents if document.name == "json/decoder.py")
    assert decoder.text == Path(json.decoder.__file__).read_text(encoding="utf-8")
    assert documents == list(read_corpus(DataConfig(corpus="stdlib")))


def test_stdlib_skips_files_that_are_not_text(tmp_path, monkeypatch):
    (tmp_path / "good.py").write_text("x = 1\n")
    (tmp_path / "latin.py").write_bytes("é".encode("latin-1"))
    (tmp_path / "binary.py").write_bytes(b"\0\0")
    (tmp_path / "empty.py").touch()
    monkeypatch.setattr(corpora.sysconfig, "get_path", lambda name: str(tmp_path))
    assert list(read_corpus(DataConfig(corpus="stdlib"))) == [Document("good.py", "x = 1\n")]


@pytest.mark.parametrize("name", ["python311.zip", "folder_without_sources"])
def test_stdlib_without_sources_is_an_error(name, tmp_path, monkeypatch):
    (tmp_path / "folder_without_sources").mkdir()
    monkeypatch.setattr(corpora.sysconfig, "get_path", lambda kind: str(tmp_path / name))
    with pytest.raises(ValueError, match=f"corpus=stdlib needs the source files .* none in .*{name}"):
        list(read_corpus(DataConfig(corpus="stdlib")))


def test_each_kind_gives_the_same_texts_plain_and_compressed(tmp_path):
    texts = ["one\u2028line", "zwei\r\nZeilen ü"]
    sources = [
        write_jsonl(tmp_path / "a.jsonl", *({"body": text} for text in texts)),
        write_parquet(tmp_path / "b.parquet", body=texts, other=[1, 2]),
    ]
    for source in sources:
        for path in (source, compress(source)):
            assert [document.text for document in read(path, text_field="body")] == texts
    for suffix in ("txt", "md", "py"):
        path = tmp_path / f"c.{suffix}"
        path.write_bytes(texts[1].encode())
        assert [document.text for document in read(path, compress(path))] == [texts[1]] * 2


def test_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfabc")
    assert read(path) == [Document(str(path), "abc")]


def test_folder_is_read_whole_in_a_fixed_order_without_what_is_hidden_or_of_another_kind(tmp_path):
    for name in ("b/z.txt", "a.py", "b/.hidden.txt", ".git/x.txt", "picture.png", "c/empty.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("" if "empty" in name else name)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [document.name for document in read(tmp_path)] == ["a.py", "b/z.txt"]


def left_out(*paths):
    return find_files(DataConfig(corpus="text", paths=[str(path) for path in paths])).note


ENDINGS = ("md", "tex", "rst", "html", "csv", "tsv")


@pytest.fixture
def mixed(tmp_path):
    """A folder of one file of each kind, and what nobody can read."""
    for ending in ENDINGS:
        (tmp_path / f"a.{ending}").write_text(f"text\n{ending}\n")
    (tmp_path / "b.MD").write_text("b")
    (tmp_path / "picture.png").write_bytes(b"\0")
    (tmp_path / "picture2.PNG").write_bytes(b"\0")
    (tmp_path / "LICENSE").write_text("x")
    (tmp_path / ".hidden.csv").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "broken.txt").symlink_to("absent")
    return tmp_path


def test_what_of_a_folder_is_left_out_is_said(mixed):
    assert [document.name for document in read(mixed)] == ["a.md", "b.MD"]
    said = left_out(mixed)
    counts = "2 .png, 1 without an ending, 1 .csv, 1 .html, 1 .rst, 1 .tex and 1 .tsv"
    assert said.startswith(f"Of the text 8 files ({counts}), 1 folder and 1 broken link were not read. ")
    assert said.endswith("such as '*.csv', can be read: .csv, .html, .rst, .tex and .tsv.")
    assert left_out(mixed / "a.md") == ""
    for ending in ENDINGS[1:]:  # what another path reads is not left out
        assert f"1 .{ending}" not in left_out(mixed, mixed / f"a.{ending}")
    assert left_out(mixed, mixed / "*.[ct]sv").startswith("Of the text 6 files (2 .png, ")


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ["a.md", "b.MD"]),
        ("*.*", ["a.md", "b.MD"]),
        ("a.*", ["a.md"]),
        ("**/*.tex", ["a.tex"]),
        ("*.[ct]sv", ["a.csv:2", "a.tsv:2"]),  # and nothing else
        ("*.csv", ["a.csv:2"]),
        ("a.tsv", ["a.tsv:2"]),
        ("a.html", ["a.html"]),
    ],
)
def test_what_is_no_plain_text_is_read_where_its_ending_is_named(pattern, names, mixed):
    (mixed / "link").unlink()
    found = read(mixed / pattern)
    assert [Path(document.name).name for document in found] == names
    for document in found:
        ending = document.name.rpartition(".")[2].partition(":")[0]
        if ending in ENDINGS:
            assert document.text == (ending if "sv" in ending else f"text\n{ending}\n")


def test_a_folder_of_tables_alone_is_read(tmp_path):
    for name in ("a.csv", "b.tsv", "c.png"):
        (tmp_path / name).write_text(f"id,text\n1,{name}\n".replace(",", "\t" if "tsv" in name else ","))
    assert [document.text for document in read(tmp_path)] == ["a.csv", "b.tsv"]
    (tmp_path / "d.txt").write_text("d")
    assert [document.text for document in read(tmp_path)] == ["d"]


def test_a_folder_named_like_a_file_is_a_folder(tmp_path):
    folder = tmp_path / "x.jsonl"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (tmp_path / "b.jsonl").write_text('{"text": "b"}')
    assert [document.text for document in read(folder)] == ["a"]
    assert [document.text for document in read(tmp_path / "*.jsonl")] == ["b"]
    assert left_out(tmp_path / "*.jsonl") == "Of the text 1 folder was not read."


def test_a_glob_of_packed_files_names_no_kind(tmp_path):
    for name in ("a.txt", "b.csv"):
        (tmp_path / name).write_text("x")
        compress(tmp_path / name)
    assert [document.text for document in read(tmp_path / "*.gz")] == ["x"]
    assert left_out(tmp_path / "*.gz").startswith("Of the text 1 file (1 .csv.gz) was not read. By its name,")


def test_an_ending_of_any_characters_is_said_on_one_line(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    for name in (b"b.caf\xe9", b"c.new\nline"):
        (tmp_path / os.fsdecode(name)).write_text("x")
    said = left_out(tmp_path)
    said.encode()
    assert said == r"Of the text 2 files (1 '.caf\udce9' and 1 '.new\nline') were not read."


@pytest.mark.parametrize("name", ["notes [2024]", "it's a *", "new\nline", os.fsdecode(b"caf\xe9")])
def test_a_name_of_any_characters_is_literal(name, tmp_path):
    for folder in (name, "notes 2"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(folder, errors="surrogateescape")
    (tmp_path / name / "a.txt").write_text("x")
    for path in (tmp_path / name, tmp_path / name / "a.txt", tmp_path / name / "*.txt"):
        assert [document.text for document in read(path)] == ["x"]


def test_glob_matches_and_a_file_that_is_named_twice_counts_once(tmp_path):
    for name in ("a.txt", "b.txt", "c.md"):
        (tmp_path / name).write_text(name)
    documents = read(tmp_path / "*.txt", tmp_path / ".." / tmp_path.name / "a.txt", tmp_path / "**" / "*.md")
    assert [document.text for document in documents] == ["a.txt", "b.txt", "c.md"]


def test_a_circle_of_links_is_read_once_by_folder_and_glob(tmp_path):
    """What a link leads to counts once, and what is no file is left out: a pipe would be waited for."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a")
    for name, to in {"one": ".", "two": ".", "up": "..", "lost": "nowhere", "self.txt": "self.txt"}.items():
        (tmp_path / "notes" / name).symlink_to(to)
    for name in ("b.txt", "c.txt"):
        (tmp_path / "notes" / name).symlink_to("a.txt")
    os.mkfifo(tmp_path / "notes" / "pipe.txt")
    (tmp_path / "notes" / "null.txt").symlink_to("/dev/null")
    (tmp_path / "notes" / "folder.txt").mkdir()
    note = left_out(tmp_path)
    assert all(said in note for said in ("2 folders", "2 broken links", "2 special files"))
    for given in (tmp_path, tmp_path / "notes", tmp_path / "notes" / "one", tmp_path / "**" / "*.txt"):
        assert [document.text for document in read(given)] == ["a"]
    assert [document.text for document in read(tmp_path / "**", tmp_path, tmp_path / "*" / "*.txt")] == ["a"]


@pytest.mark.parametrize("name", ["pipe.txt", "pipe", "null.txt"])
def test_what_is_no_file_is_refused_by_its_name(name, tmp_path):
    for pipe in ("pipe.txt", "pipe"):
        os.mkfifo(tmp_path / pipe)
    (tmp_path / "null.txt").symlink_to("/dev/null")
    with pytest.raises(ValueError, match=rf"`paths` must be files, .* but '.*{name}' is a pipe or a device"):
        read(tmp_path / name)


def test_digest_follows_the_bytes(tmp_path):
    path = tmp_path / "a.txt"
    digests = set()
    for text in ("one", "two", "one"):
        path.write_text(text)
        (source,) = find_sources(DataConfig(corpus="text", paths=[str(path)]))
        digests.add(source.digest())
    assert len(digests) == 2


def test_remote_paths_are_refused():
    with pytest.raises(
        ValueError, match=r"`paths` must be files, folders or globs on this machine, but got 'https:"
    ):
        read("https://example.org/a.txt")


def test_missing_path(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file or folder '.*absent\.txt'"):
        read(tmp_path / "absent.txt")


@pytest.mark.parametrize("pattern", ["*.txt", "*.png"])
def test_glob_without_a_readable_match(pattern, tmp_path):
    (tmp_path / "picture.png").write_text("x")
    with pytest.raises(ValueError, match=r"must lead to files ending in \.txt, .*\*\.(txt|png)' has none"):
        read(tmp_path / pattern)


def test_folder_without_a_readable_file(tmp_path):
    (tmp_path / "picture.png").write_text("x")
    message = rf"must lead to files .*{re.escape(str(tmp_path))}' has none: it has 1 file \(1 \.png\)\."
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_folder_of_empty_files(tmp_path):
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(ValueError, match="corpus=text must hold text, but all its files are empty"):
        read(tmp_path)


def test_named_file_of_an_unknown_kind(tmp_path):
    path = tmp_path / "a.pdf"
    path.write_text("x")
    with pytest.raises(ValueError, match=r"`paths` must be files ending in \.txt, .*, but got '.*a\.pdf'"):
        read(path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.txt", b"", r"empty\.txt: expected text, but the file is empty"),
        ("blank.md", b" \n\t\n", r"blank\.md: expected text, but the file holds only white space"),
        ("empty.jsonl", b"\n\n", r"empty\.jsonl: expected text, but it has no record with text"),
        ("header.csv", b"id,text\n", r"header\.csv: expected text, but it has no record with text"),
        ("binary.txt", b"ab\0c", r"binary\.txt: expected UTF-8 text, but it is binary"),
        ("latin.py", b"caf\xe9 ol\xe9", r"latin\.py: expected UTF-8 text, but byte 3 is not"),
        ("text.txt.gz", b"not compressed", r"text\.txt\.gz: not a readable gzip file"),
        ("cut.txt.gz", gzip.compress(b"some text", mtime=0)[:-9], r"cut\.txt\.gz: not a readable gzip file"),
        (
            "a.jsonl",
            b'{"text": "x"}\n{"text": }\n',
            r"a\.jsonl, line 2: expected one JSON object, but it is not JSON",
        ),
        (
            "a.jsonl",
            b'\n{"body": "x"}\n',
            r"line 2: expected an object with the field 'text', but got \['body'\]",
        ),
        ("a.jsonl", b'["x"]', r"line 1: expected an object with the field 'text', but got list"),
        ("a.jsonl", b'{"text": null}', r"line 1: expected text in 'text', but got NoneType"),
        (
            "a.jsonl",
            b'{"text": "\\ud800"}',
            r"line 1: expected Unicode text in 'text', but surrogates not allowed",
        ),
        ("a.parquet", b"not parquet", r"a\.parquet: not a readable parquet file"),
    ],
)
def test_unreadable_file_is_named(name, data, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read(path)


def test_parquet_without_the_column_lists_those_there_are(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", body=["x"], label=[1])
    with pytest.raises(ValueError, match=r"expected a column 'text', but there are \['body', 'label'\]"):
        read(path)


def test_parquet_without_a_row(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", text=pyarrow.array([], pyarrow.string()))
    with pytest.raises(ValueError, match=r"a\.parquet: expected text, but it has no record with text"):
        read(path)


def test_parquet_column_of_numbers(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", text=[1])
    with pytest.raises(ValueError, match=r"a\.parquet, row 0: expected text in 'text', but got int"):
        read(path)


def test_all_that_is_wrong_is_said_together(tmp_path, monkeypatch):
    """Paths, files and rows; what is right is not given behind the first that is wrong."""
    write_jsonl(tmp_path / "a.jsonl", {"text": "a"}, {"text": None}, {"body": "x"}, {"text": "b"})
    (tmp_path / "b.txt").write_bytes(b"\xff")
    (tmp_path / "c.txt").write_text("x")
    (tmp_path / "d.txt").write_text("d")
    write_parquet(tmp_path / "e.parquet", text=["x", None])
    opened = Path.open

    def refused(path, *args):
        if path.name == "c.txt":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, *args)

    monkeypatch.setattr(Path, "open", refused)
    paths = [str(tmp_path), str(tmp_path / "absent")]
    given = []
    with pytest.raises(ValueError, match=r"^6 faults:\n") as caught:
        given.extend(read_corpus(DataConfig(corpus="text", paths=paths)))
    assert given == []  # as a path is wrong already
    said = str(caught.value).replace(f"{tmp_path}/", "").splitlines()[1:]
    assert [line.strip().partition(":")[0] for line in said[1:]] == [
        "a.jsonl, line 2",
        "a.jsonl, line 3",
        "b.txt",
        "c.txt",
        "e.parquet, row 1",
    ]
    assert "there is no file or folder 'absent'" in said[0]
    assert said[2].endswith("but got ['body']; found `body`: use data.text_field=body.")
    documents = read_corpus(DataConfig(corpus="text", paths=paths[:1]))
    assert next(documents).text == "a"
    with pytest.raises(ValueError, match=r"^5 faults:\n"):
        next(documents)


def test_of_a_file_of_wrong_rows_a_few_are_listed(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", *[{"text": 1}] * 99)
    (tmp_path / "b.txt").write_bytes(b"\0")
    with pytest.raises(
        ValueError, match=r"(?s)^6 faults and maybe more:.*line 5: .*b\.txt: .*zero bytes\)\.$"
    ):
        read(tmp_path)


def failing(monkeypatch, owner, name, code):
    """Let a function fail as the system does, without the path, as reading an open file fails."""

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(owner, name, fail)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EISDIR])
def test_file_that_is_gone_or_may_not_be_read_is_the_users_error(code, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("x")
    failing(monkeypatch, Path, "open", code)
    with pytest.raises(ValueError, match=rf"a\.txt: could not be read: {os.strerror(code)}"):
        read(path)


@pytest.mark.parametrize("code", [errno.ESTALE, errno.EIO, errno.ETIMEDOUT])
def test_a_file_that_the_system_fails_to_read_is_no_error_of_the_users(code, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("x")
    config = DataConfig(corpus="text", paths=[str(path)])
    (source,) = find_sources(config)
    failing(monkeypatch, Path, "open", code)
    for function in (lambda: list(read_corpus(config)), source.digest):
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            function()
        assert (caught.value.errno, caught.value.filename) == (code, str(path))


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ESTALE, OSError), (errno.EIO, OSError), (errno.EACCES, ValueError)]
)
@pytest.mark.parametrize("name", ["corpus", "corpus/a.txt"])
def test_a_path_that_the_system_fails_to_look_up(code, kind, name, tmp_path, monkeypatch):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("x")
    failing(monkeypatch, Path, "stat", code)
    with pytest.raises(kind, match=f"(?s){os.strerror(code)}.*{name}|{name}.*{os.strerror(code)}"):
        read(tmp_path / name)


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ESTALE, OSError), (errno.EIO, OSError), (errno.EACCES, ValueError)]
)
@pytest.mark.parametrize("stdlib", [False, True])
def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(code, kind, stdlib, tmp_path, monkeypatch):
    for name in ("a.py", "b/c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    scan = os.scandir

    def scandir(path):
        if Path(path).name == "b":
            raise OSError(code, os.strerror(code), str(path))
        return scan(path)

    monkeypatch.setattr(corpora.sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setattr(os, "scandir", scandir)
    config = DataConfig(corpus="stdlib") if stdlib else DataConfig(corpus="text", paths=[str(tmp_path)])
    with pytest.raises(kind, match=rf"{tmp_path}/b") as caught:
        find_sources(config)
    assert os.strerror(code) in str(caught.value)


def test_bytes_need_neither_pyarrow_nor_tensorflow():
    import subprocess

    code = (
        "import sys, lab.data.dataset, lab.data.windows, lab.data.summary\n"
        "heavy = {'pyarrow', 'tensorflow', 'keras', 'keras_hub', 'datasketch', 'tokenizers', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

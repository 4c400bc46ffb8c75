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
from lab.data.corpora import Document, find_sources, read_corpus


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


def test_glob_matches_and_a_file_that_is_named_twice_counts_once(tmp_path):
    for name in ("a.txt", "b.txt", "c.md"):
        (tmp_path / name).write_text(name)
    documents = read(tmp_path / "*.txt", tmp_path / ".." / tmp_path.name / "a.txt", tmp_path / "**" / "*.md")
    assert [document.text for document in documents] == ["a.txt", "b.txt", "c.md"]


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
    with pytest.raises(
        ValueError, match=f"must lead to files ending in .*{re.escape(str(tmp_path))}' has none"
    ):
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
        ("empty.jsonl", b"\n\n", r"empty\.jsonl: expected text, but the file holds only white space"),
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


def test_parquet_column_of_numbers(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", text=[1])
    with pytest.raises(ValueError, match=r"a\.parquet, row 0: expected text in 'text', but got int"):
        read(path)


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

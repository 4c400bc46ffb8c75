import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab.tracking import records
from lab.tracking.records import (
    MemoryLog,
    MetricsLog,
    code_hash,
    read_json,
    versions,
    write_atomic,
    write_json,
)


def test_json_round_trip_makes_its_folder_and_leaves_no_temporary(tmp_path):
    path = tmp_path / "deep" / "result.json"
    write_json(path, {"arm": "dlm", "nll": 1.5, "text": "Grüße"})
    write_json(path, {"arm": "ar", "nll": 2.5})
    assert read_json(path) == {"arm": "ar", "nll": 2.5}
    assert [child.name for child in path.parent.iterdir()] == ["result.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "progress.json"
    write_json(path, {"step": 1})

    def no_space(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(records.os, "fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, b"half")
    assert read_json(path) == {"step": 1}


@pytest.mark.parametrize("name", ["result.json", "metrics.jsonl"])
def test_a_stale_handle_is_an_error_with_the_path(tmp_path, name, stale):
    path = tmp_path / name
    log = MetricsLog(tmp_path / "metrics.jsonl")
    write = log.append if name == log.path.name else lambda row: write_json(path, row)
    write({"step": 1})
    with stale(name), pytest.raises(OSError, match=rf"Stale file handle: '{path}'"):
        write({"step": 2})
    assert json.loads(path.read_text()) == {"step": 1}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_numbers_are_refused_by_the_name_of_their_key(tmp_path, number):
    path = tmp_path / "result.json"
    with pytest.raises(ValueError, match=r"result.json: stops\[1\].validation.nll must be a finite number"):
        write_json(path, {"stops": [{"validation": {"nll": 1.0}}, {"validation": {"nll": number}}]})
    assert not path.exists()


def test_read_json_names_the_file_that_is_missing_or_torn(tmp_path):
    with pytest.raises(ValueError, match=r"expected a JSON file at .*absent.json, but there is none"):
        read_json(tmp_path / "absent.json")
    (tmp_path / "torn.json").write_text('{"a": 1')
    with pytest.raises(ValueError, match=r"torn.json: not JSON"):
        read_json(tmp_path / "torn.json")


def test_log_appends_one_line_a_row_and_reads_them_back(tmp_path):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    rows = [{"kind": "train", "step": step, "train_loss": 5.0 - step} for step in range(3)]
    for row in rows:
        log.append(row)
    assert log.rows == rows
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows
    assert MetricsLog(path).rows == rows


@pytest.mark.parametrize("torn", [b'{"kind": "train", "st', b'{"step": 9}', b'\xff{"'])
def test_a_torn_last_line_is_cut_and_the_log_goes_on(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 0}\n{"step": 1}\n' + torn)
    log = MetricsLog(path)
    log.append({"step": 2})
    assert MetricsLog(path).rows == [{"step": 0}, {"step": 1}, {"step": 2}]


def test_a_broken_whole_line_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n{"st\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2: not JSON"):
        MetricsLog(path)
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match=r"line 1: expected a JSON object, but got \[1\]"):
        MetricsLog(path)


def test_keep_drops_the_rows_after_a_checkpoint_from_memory_and_disk(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(5):
        log.append({"step": step})
    log.keep(lambda row: row["step"] <= 2)
    log.append({"step": 3, "again": True})
    expected = [{"step": 0}, {"step": 1}, {"step": 2}, {"step": 3, "again": True}]
    assert log.rows == expected
    assert MetricsLog(log.path).rows == expected


def test_log_refuses_nan_and_stays_as_it_was(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match=r"metrics.jsonl: train_loss must be a finite number, but got nan"):
        log.append({"train_loss": float("nan")})
    assert log.rows == MetricsLog(log.path).rows == []


def test_versions_name_python_and_installed_packages_without_importing_them():
    code = (
        "import sys; from lab.tracking.records import versions; found = versions();"
        "assert found['python'] == '.'.join(map(str, sys.version_info[:3]));"
        "assert found['keras'].startswith('3.');"
        "assert not {'keras', 'jax', 'tensorflow', 'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_versions_leave_out_what_is_not_installed(monkeypatch):
    monkeypatch.setattr(records, "PACKAGES", ("keras", "no-such-distribution"))
    assert set(versions()) == {"python", "keras"}


def test_code_hash_follows_names_and_meaning_and_nothing_else(tmp_path, monkeypatch):
    def hash_of(files: dict[str, bytes], folder: Path) -> str:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        monkeypatch.setattr(records, "LAB_DIR", folder)
        return code_hash()

    files = {"config.py": b"x = 1\n", "data/b.py": b"y = 2\n"}
    first = hash_of(files, tmp_path / "one")
    assert len(first) == 16
    assert int(first, 16) >= 0
    others = {"data/notes.txt": b"other", "reporting/page.py": b"z = 3\n", "__main__.py": b"z = 3\n"}
    assert first == hash_of(files | others, tmp_path / "elsewhere")
    assert first == hash_of({"config.py": b"x = 1\r\n", "data/b.py": b"y = 2\r\n"}, tmp_path / "crlf")
    assert first != hash_of({"config.py": b"x = 2\n", "data/b.py": b"y = 2\n"}, tmp_path / "content")
    assert first != hash_of({"threefry.py": b"x = 1\n", "data/b.py": b"y = 2\n"}, tmp_path / "name")
    told = {"config.py": b'"""What it is."""\nx = 1  # one\n', "data/b.py": b"\ny = (\n    2\n)\n"}
    assert first == hash_of(told, tmp_path / "told")
    function = b'def f(x):\n    """Doubles."""\n    return 2 * x\n'
    silent = b"def f(x):\n    return 2 * x\n"
    texts = {"doc": function, "none": silent, "other": silent.replace(b"2", b"3")}
    hashes = {name: hash_of({"config.py": text}, tmp_path / name) for name, text in texts.items()}
    assert hashes["doc"] == hashes["none"] != hashes["other"]


def test_a_log_in_memory_has_the_rows_of_one_on_disk(tmp_path):
    """As `MetricsLog`, without a file: the ranks of a run other than the first keep one."""
    rows = [{"kind": "train", "step": step} for step in range(4)]
    logs = [MetricsLog(tmp_path / "metrics.jsonl"), MemoryLog([])]
    for log in logs:
        for row in rows:
            log.append(row)
        log.keep(lambda row: row["step"] < 3)
    assert logs[0].rows == logs[1].rows == MemoryLog(rows[:3]).rows == rows[:3]

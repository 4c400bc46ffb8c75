import json

import pytest

from lab.tracking.records import MetricsLog, read_rows


def rows_to(last, first=0):
    return [{"kind": "train", "step": step, "train_loss": 5.0 - step} for step in range(first, last)]


def lines(rows):
    return b"".join((json.dumps(row) + "\n").encode() for row in rows)


def test_log_appends_one_line_a_row_and_reads_them_back(tmp_path):
    path = tmp_path / "deep" / "metrics.jsonl"
    log = MetricsLog(path)
    rows = rows_to(3)
    for row in rows:
        log.append(row)
    assert log.rows == rows
    assert [json.loads(line) for line in path.read_text().splitlines()] == rows
    before = path.stat().st_mtime_ns
    again = MetricsLog(path)
    assert (again.rows, again.damaged) == (rows, 0)
    assert path.stat().st_mtime_ns == before  # a sound log is left alone


@pytest.mark.parametrize("torn", [b'{"kind": "train", "st', b'{"kind": "train", "step": 9}', b'\xff{"'])
def test_a_torn_last_line_is_cut_and_the_log_goes_on(tmp_path, torn):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(rows_to(2)) + torn)
    assert read_rows(path) == (rows_to(2), 0)
    log = MetricsLog(path)
    assert log.damaged == 0
    log.append(rows_to(3)[2])
    assert MetricsLog(path).rows == rows_to(3)


@pytest.mark.parametrize(
    "broken", [b'{"st', b"[1]", b"\xff", b'{"step": 1}', b'{"kind": 3}', b'"text"', b"null"]
)
def test_a_broken_whole_line_is_cut_away_and_counted(tmp_path, broken):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(rows_to(1)) + broken + b"\n" + lines(rows_to(3, 2)))
    rows = [*rows_to(1), *rows_to(3, 2)]
    assert read_rows(path) == (rows, 1)
    log = MetricsLog(path)
    assert (log.rows, log.damaged) == (rows, 1)
    assert path.read_bytes() == lines(rows)
    assert MetricsLog(path).damaged == 0


def test_a_row_that_its_writer_does_not_know_is_cut_away_too(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(lines(rows_to(3)))
    log = MetricsLog(path, lambda row: row["step"] != 1)
    assert [row["step"] for row in log.rows] == [0, 2]
    assert log.damaged == 1
    assert path.read_bytes() == lines(log.rows)


@pytest.mark.parametrize("data", [None, b"", b"\n\n"])
def test_an_empty_log_has_no_rows(tmp_path, data):
    path = tmp_path / "metrics.jsonl"
    if data is not None:
        path.write_bytes(data)
    log = MetricsLog(path)
    assert (log.rows, log.damaged) == ([], 0)
    log.append(rows_to(1)[0])
    assert read_rows(path) == (rows_to(1), 0)


def test_a_stale_handle_is_an_error_with_the_path(tmp_path, stale):
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.append(rows_to(1)[0])
    with stale("metrics.jsonl"), pytest.raises(OSError, match=rf"Stale file handle: '{path}'"):
        log.append(rows_to(2)[1])
    assert log.rows == MetricsLog(path).rows == rows_to(1)


def test_log_refuses_nan_and_stays_as_it_was(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match=r"metrics.jsonl: train_loss must be a finite number, but got nan"):
        log.append({"kind": "train", "train_loss": float("nan")})
    assert log.rows == MetricsLog(log.path).rows == []


def test_the_rows_that_are_handed_out_are_a_list_of_their_own(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.rows.append({"kind": "train"})
    assert log.rows == []

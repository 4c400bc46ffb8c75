import json

import pytest

from lab import files
from lab.files import read_json, refuse_non_finite, write_atomic, write_json


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

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        write_atomic(path, b"half")
    assert read_json(path) == {"step": 1}


def test_a_stale_handle_is_an_error_with_the_path(tmp_path, stale):
    path = tmp_path / "result.json"
    write_json(path, {"step": 1})
    with stale("result.json"), pytest.raises(OSError, match=rf"Stale file handle: '{path}'"):
        write_json(path, {"step": 2})
    assert json.loads(path.read_text()) == {"step": 1}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_numbers_are_refused_by_the_name_of_their_key(tmp_path, number):
    path = tmp_path / "result.json"
    with pytest.raises(ValueError, match=r"result.json: stops\[1\].validation.nll must be a finite number"):
        write_json(path, {"stops": [{"validation": {"nll": 1.0}}, {"validation": {"nll": number}}]})
    assert not path.exists()
    with pytest.raises(ValueError, match=rf"x: the value must be a finite number, but got {number}"):
        refuse_non_finite(number, "x")


@pytest.mark.parametrize("damaged", [b"", b'{"a": 1', b"\xff{}"], ids=["empty", "cut", "no text"])
def test_read_json_names_the_file_that_is_missing_or_damaged(tmp_path, damaged):
    with pytest.raises(ValueError, match=r"expected a JSON file at .*absent.json, but there is none"):
        read_json(tmp_path / "absent.json")
    (tmp_path / "torn.json").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"torn.json: not JSON"):
        read_json(tmp_path / "torn.json")

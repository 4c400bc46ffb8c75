import json

import pytest

from lab.tracking.version import FILE, Version, claim_version, read_version

VERSION = Version("key", "code", "data")


def test_a_folder_is_claimed_once_and_kept(tmp_path):
    assert read_version(tmp_path) is None
    claim_version(tmp_path, VERSION)
    claim_version(tmp_path, VERSION)
    assert read_version(tmp_path) == VERSION


@pytest.mark.parametrize(
    ("other", "changed"),
    [
        (Version("other", "code", "data"), "configuration"),
        (Version("key", "other", "data"), "code"),
        (Version("key", "code", "other"), "data"),
        (Version("key", "other", "other"), "code and data"),
    ],
)
def test_another_version_is_refused_and_named(tmp_path, other, changed):
    claim_version(tmp_path, VERSION)
    with pytest.raises(ValueError, match=f"must be gone on with as it began, but other {changed} came"):
        claim_version(tmp_path, other)
    assert read_version(tmp_path) == VERSION
    assert other.digest() != VERSION.digest()
    assert len(other.digest()) == 16


def test_a_file_that_is_no_version_is_refused(tmp_path):
    (tmp_path / FILE).write_text('{"key": 1}')
    with pytest.raises(ValueError, match="not a version of a run"):
        read_version(tmp_path)


def test_a_result_without_a_version_file_speaks_for_itself(tmp_path):
    result = {"config_key": "key", "code_hash": "code", "data": {"hash": "data"}}
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert read_version(tmp_path) == VERSION
    claim_version(tmp_path, VERSION)
    assert (tmp_path / FILE).is_file()
    (tmp_path / FILE).unlink()
    with pytest.raises(ValueError, match="but other code came"):
        claim_version(tmp_path, Version("key", "other", "data"))
    (tmp_path / "result.json").write_text('{"config_key": "key"}')
    assert read_version(tmp_path) is None

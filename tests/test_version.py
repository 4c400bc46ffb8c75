import json
from dataclasses import asdict

import pytest

from lab.config import make_config
from lab.version import FILE, Version, claim_version, digest, read_version, result_digest

VALUES = {"model.width": 128, "training.learning_rate": 0.001, "seed": 0, "data": "da7a", "backend": "jax"}
VERSION = Version(VALUES, "c0de")
DAMAGED = {"empty": "", "cut": json.dumps(asdict(VERSION))[:40], "mistyped": '{"values": 3, "code": "c0de"}'}


def test_a_version_is_the_key_of_the_configuration_the_data_the_backend_and_the_code():
    config = make_config({"training": {"total_steps": 3}})
    made = Version.of(config, "da7a", "torch", "c0de")
    assert made == Version({**config.keyed_values(), "data": "da7a", "backend": "torch"}, "c0de")


def test_a_version_names_what_a_run_begins_from_where_its_weights_are_not_drawn():
    config = make_config({"training": {"total_steps": 3}})
    drawn, started = (Version.of(config, "da7a", "jax", "c0de", start) for start in ("", "5tart"))
    assert started == Version({**drawn.values, "start": "5tart"}, "c0de")
    assert result_digest("run", "evaluation") == digest(["run", "evaluation"])


def test_a_digest_is_of_every_value_and_of_no_order():
    assert VERSION.digest() == Version(dict(reversed(VALUES.items())), "c0de").digest()
    others = [Version({**VALUES, key: "other"}, "c0de") for key in VALUES]
    others += [Version({**VALUES, "factors.passes": 2}, "c0de"), Version(VALUES, "other")]
    digests = {version.digest() for version in (VERSION, *others)}
    assert len(digests) == 1 + len(others)
    assert {len(text) for text in digests} == {16}
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_a_folder_is_claimed_once_and_kept(tmp_path):
    assert read_version(tmp_path) is None
    claim_version(tmp_path, VERSION)
    written = (tmp_path / FILE).stat().st_mtime_ns
    claim_version(tmp_path, VERSION)
    assert read_version(tmp_path) == VERSION
    assert (tmp_path / FILE).stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("values", "code", "changed"),
    [
        ({"model.width": 64}, "c0de", r"model\.width \(128 became 64\)"),
        ({"factors.passes": 2}, "c0de", r"factors\.passes \(none became 2\)"),
        ({"data": "other"}, "c0de", r"data \(da7a became other\)"),
        ({}, "other", "code"),
        (
            {"seed": 1, "backend": "torch"},
            "other",
            r"seed \(0 became 1\) and backend \(jax became torch\) and code",
        ),
    ],
)
def test_another_version_is_refused_and_what_changed_is_named(tmp_path, values, code, changed):
    other = Version({**VALUES, **values}, code)
    claim_version(tmp_path, VERSION)
    with pytest.raises(ValueError, match=rf"as it began, but this changed: {changed}\. Give another folder"):
        claim_version(tmp_path, other)
    assert read_version(tmp_path) == VERSION


def test_what_a_version_lacks_is_named_too():
    less = Version({key: value for key, value in VALUES.items() if key != "seed"}, "c0de")
    assert VERSION.differs(less) == ["seed (0 became none)"]
    assert VERSION.differs(VERSION) == []


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_in_an_empty_folder_is_made_again(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    (tmp_path / "progress.json").write_text("{}")  # of an attempt that came to nothing
    assert read_version(tmp_path) is None
    claim_version(tmp_path, VERSION)
    assert read_version(tmp_path) == VERSION


def state(folder, step, version):
    path = folder / "checkpoints" / f"step-{step:012d}" / "state.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"schema": 2, "step": step, "version": version}))
    return path


@pytest.mark.parametrize("text", [None, *DAMAGED.values()], ids=["missing", *DAMAGED])
@pytest.mark.parametrize("witness", ["result", "checkpoint", "the checkpoint before"])
def test_a_result_or_a_checkpoint_says_what_the_file_does_not(tmp_path, witness, text):
    if text is not None:
        (tmp_path / FILE).write_text(text)
    if witness == "result":
        (tmp_path / "result.json").write_text(json.dumps({"version": asdict(VERSION)}))
    else:
        state(tmp_path, 10, asdict(VERSION))
        if witness == "the checkpoint before":
            state(tmp_path, 20, None).write_text("cut")
    assert read_version(tmp_path) == VERSION
    with pytest.raises(ValueError, match="this changed: code"):
        claim_version(tmp_path, Version(VALUES, "other"))
    claim_version(tmp_path, VERSION)
    assert json.loads((tmp_path / FILE).read_text()) == asdict(VERSION)  # made again


@pytest.mark.parametrize("text", [None, *DAMAGED.values()], ids=["missing", *DAMAGED])
@pytest.mark.parametrize("held", ["metrics.jsonl", "checkpoints"])
def test_numbers_of_an_unknown_version_are_never_adopted(tmp_path, held, text):
    if text is not None:
        (tmp_path / FILE).write_text(text)
    if held == "checkpoints":
        state(tmp_path, 10, {"values": None})
    else:
        (tmp_path / held).write_text('{"kind": "train"}\n')
    (tmp_path / "result.json").write_text('{"config_key": "of an older lab"}')
    with pytest.raises(ValueError, match=rf"{FILE} must say of which run .* or move that one away\."):
        claim_version(tmp_path, VERSION)
    assert (tmp_path / FILE).is_file() == (text is not None)

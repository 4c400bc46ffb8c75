import base64
import hashlib
import importlib.metadata
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from lab.config import DataConfig
from lab.data import packages
from lab.data.corpora import find_sources, read_corpus
from lab.data.dataset import prepare
from lab.data.packages import PACKAGES, content_hash, describe_packages, find_packages
from lab.data.summary import describe

ROOT = Path(__file__).parents[2]
CONFIG = DataConfig(corpus="packages")
FILES = {
    "keras": {
        "keras/__init__.py": b"",
        "keras/src/layer.py": b"class Layer:\n    pass\n",
        "keras/src/layer_test.py": b"def test():\r\n    pass\r\n",
        "keras/src-old/a.py": "x = 'é'\n".encode(),
    },
    "keras-hub": {"keras_hub/model.py": b"import keras\n", "keras_hub/stub.py": b"from a import b\n"},
}
NOT_READ = {
    "keras/src/__pycache__/layer.cpython-311.pyc": b"\0",
    "keras/data.json": b"{}",
    "keras_extra/a.py": b"of another folder\n",
    "../../../bin/keras.py": None,
    "keras/../elsewhere.py": b"outside\n",
}


def install(site, versions, order=1, files=FILES):
    """Packages as pip leaves them."""
    for name, version in versions.items():
        rows = []
        for file, data in [*files[name].items(), *(NOT_READ.items() if name == "keras" else ())][::order]:
            digest = base64.urlsafe_b64encode(hashlib.sha256(data or b"").digest()).rstrip(b"=").decode()
            rows.append(
                f"{file},,\n" if file.endswith(".pyc") else f"{file},sha256={digest},{len(data or b'')}\n"
            )
            if data is not None:
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                (site / file).write_bytes(data)
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text("".join(rows))
    return site


VERSIONS = {"keras": "9.1", "keras-hub": "0.5"}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of made packages, first on the path and as the list says, and messages once more."""
    place = install(tmp_path / "site", VERSIONS)
    monkeypatch.syspath_prepend(place)
    (tmp_path / "list.json").write_text(json.dumps(packages._list_installed()))
    monkeypatch.setattr(packages, "LIST", tmp_path / "list.json")
    packages.say_once.cache_clear()
    return place


def read():
    """The digests of the corpus by name."""
    return {source.name: source.digest() for source in find_sources(CONFIG)}


def note():
    return describe_packages(read())["packages_note"]


def test_sources_are_read_whole_in_a_fixed_order_and_nothing_else(site):
    assert list(read()) == [
        "keras/__init__.py",
        "keras/src-old/a.py",
        "keras/src/layer.py",
        "keras/src/layer_test.py",
        "keras_hub/model.py",
        "keras_hub/stub.py",
    ]
    texts = {document.name: document.text for document in read_corpus(CONFIG)}
    assert "keras/__init__.py" not in texts  # it is empty
    assert texts["keras/src/layer_test.py"] == "def test():\r\n    pass\r\n"
    assert describe_packages(read()) == {"packages": VERSIONS, "packages_note": ""}


def test_neither_the_place_nor_the_order_of_the_list_decides(site, tmp_path, monkeypatch):
    first = read()
    other = install(tmp_path / "elsewhere" / "site-packages", VERSIONS, order=-1)
    monkeypatch.syspath_prepend(other)
    assert all(source.path.is_relative_to(other) for source in find_sources(CONFIG))
    assert list(read().items()) == list(first.items())
    assert note() == ""
    assert content_hash(dict(reversed(first.items()))) == content_hash(first)


def test_another_version_is_named_once(site, tmp_path, monkeypatch, caplog):
    before = read()
    files = {**FILES, "keras": {**FILES["keras"], "keras/src/layer.py": b"class Layer: ...\n"}}
    monkeypatch.syspath_prepend(install(tmp_path / "newer", {"keras": "9.2"}, files=files))
    said = note()
    assert said == (
        "corpus=packages is not as listed, so it is another corpus: keras 9.2 is installed, 9.1 is listed. "
        "`pip install --constraint constraints.txt .`, as in `make setup`, installs the listed versions; "
        "`pip install .` reads no constraints file."
    )
    assert note() == said
    assert [record.message for record in caplog.records] == [said]
    assert caplog.records[0].levelno == logging.WARNING
    assert read() != before


def test_files_that_differ_are_named(site):
    (site / "keras/src/layer.py").write_text("changed = True\n")
    (site / "keras_hub/stub.py").unlink()
    said = note()
    assert (
        "; ".join(
            f"{name} {VERSIONS[name]} is installed, but {change} (`pip install --force-reinstall --no-deps "
            f"{name}=={VERSIONS[name]}` brings the listed files back)"
            for name, change in (
                ("keras", "keras/src/layer.py is changed"),
                ("keras-hub", "keras_hub/stub.py is gone"),
            )
        )
        in said
    )
    assert "keras_hub/stub.py" not in read()


def test_of_many_files_that_differ_a_few_are_named(site):
    for file in FILES["keras"]:
        (site / file).write_text("changed = True\n")
    assert "keras/src/layer.py is changed and 1 more differ (" in note()


def test_another_build_of_the_same_version(site):
    (site / "keras_hub/stub.py").write_text("changed = True\n")
    record = site / "keras_hub-0.5.dist-info" / "RECORD"
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"changed = True\n").digest()).rstrip(b"=").decode()
    record.write_text(
        "".join(
            f"{line.split(',')[0]},sha256={digest},15\n" if "stub" in line else line
            for line in record.read_text().splitlines(keepends=True)
        )
    )
    assert "keras-hub 0.5 is installed, but from another build than the listed 0.5. " in note()


def test_a_package_that_is_not_installed(site, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(site)])
    (site / "keras_hub-0.5.dist-info" / "METADATA").unlink()
    (site / "keras_hub-0.5.dist-info" / "RECORD").unlink()
    (site / "keras_hub-0.5.dist-info").rmdir()
    with pytest.raises(
        ValueError,
        match=r"needs the source of keras and keras-hub, but keras-hub is not installed: `make setup` or "
        r"`pip install --constraint constraints\.txt keras-hub` installs it",
    ):
        find_sources(CONFIG)


@pytest.mark.parametrize("record", [None, "__editable__.keras.pth,,\n", "keras/gone.py,,\n"])
def test_a_package_without_its_sources(record, site):
    path = site / "keras-9.1.dist-info" / "RECORD"
    path.unlink() if record is None else path.write_text(record)
    with pytest.raises(
        ValueError, match=r"the source files that keras 9\.1 lists in its RECORD, but it has none in keras/"
    ):
        find_packages()


def test_what_was_read_is_told_with_the_dataset(site, tmp_path, monkeypatch, caplog):
    lines = {f"keras/m{number}.py": f"x = {number}\n".encode() * 20 for number in range(60)}
    files = {**FILES, "keras": lines}
    monkeypatch.syspath_prepend(install(tmp_path / "larger", {"keras": "9.1"}, files=files))
    config = CONFIG.model_copy(update={"length": 16})
    for _ in range(2):  # built, and from the cache
        dataset = prepare(config, tmp_path / "cache")
        assert dataset.statistics["packages"] == VERSIONS
        assert "another build" in dataset.statistics["packages_note"]
        assert ("packages", "keras 9.1 and keras-hub 0.5 (not as listed)") in describe(dataset)
    packages.say_once.cache_clear()
    caplog.clear()
    monkeypatch.setattr(packages, "find_packages", None)  # nothing but the cache is read
    assert prepare(config, tmp_path / "cache", key=dataset.key).statistics == dataset.statistics
    assert [record.message for record in caplog.records] == [dataset.statistics["packages_note"]]


def test_another_list_is_another_place_in_the_cache_of_the_same_hash(site, tmp_path, monkeypatch):
    lines = {f"keras/m{number}.py": f"x = {number}\n".encode() * 20 for number in range(60)}
    monkeypatch.syspath_prepend(
        install(tmp_path / "larger", {"keras": "9.1"}, files={**FILES, "keras": lines})
    )
    config = CONFIG.model_copy(update={"length": 16})
    first = prepare(config, tmp_path / "cache")
    packages.LIST.write_text(json.dumps(packages._list_installed()))
    second = prepare(config, tmp_path / "cache")
    assert (first.statistics["packages_note"] != "", second.statistics["packages_note"]) == (True, "")
    assert first.hashes == second.hashes
    assert first.key != second.key


def test_the_list_is_what_the_pinned_versions_hold():
    """If this fails because constraints.txt changed: python -m lab.data.packages > lab/data/packages.json"""
    rows = json.loads(packages.LIST.read_text())
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
    assert {name: row["version"] for name, row in rows.items()} == {name: pins[name] for name in PACKAGES}
    if any(importlib.metadata.version(name) != pins[name] for name in PACKAGES):
        pytest.skip("other versions are installed than constraints.txt pins")
    made = subprocess.run(
        [sys.executable, "-m", "lab.data.packages"], capture_output=True, text=True, check=True
    )
    assert json.loads(made.stdout) == rows
    assert describe_packages(read()) == {
        "packages": {name: pins[name] for name in PACKAGES},
        "packages_note": "",
    }

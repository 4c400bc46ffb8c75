import os
from pathlib import Path

import pytest

from lab.scheduling.places import Places


@pytest.mark.parametrize(
    ("backend", "tuned", "folder"),
    [("jax", False, "smoke"), ("torch", False, "smoke-torch"), ("torch", True, "smoke-torch-tuned")],
)
def test_results_that_never_mix_have_trees_of_their_own(backend, tuned, folder, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    assert Places(Path("out")).tree("crossover", "smoke", tuned) == Path("out", "crossover", folder)


def test_a_password_is_not_shown():
    assert "sesame" not in repr(Places(storage="postgresql://me:sesame@host/name"))


@pytest.mark.parametrize("inside", ["", "x", "x/y"])
def test_results_on_a_file_are_refused_and_nothing_is_made(inside, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"`results` must be a folder, but .*file is none"):
        Places(tmp_path / "file" / inside).check()
    Places(tmp_path / "new" / inside).check()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_results_where_nothing_can_be_written_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write anywhere
    with pytest.raises(ValueError, match=rf"files can be written, but {tmp_path} is read-only"):
        Places(tmp_path / "new" / "results").check()
    (tmp_path / "results").mkdir()
    Places(tmp_path / "results").check()

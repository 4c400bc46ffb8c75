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

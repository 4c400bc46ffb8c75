"""Keras as training imports it, where its backend is damaged."""

import subprocess
import sys

import pytest

from lab.training.lean import import_keras


@pytest.mark.parametrize("error", ["ImportError('libcudart.so.12: no such file')", "RuntimeError('torn')"])
def test_a_backend_that_cannot_be_imported_is_one_error_that_holds_the_first(error, tmp_path):
    (tmp_path / "tensorflow").mkdir()
    (tmp_path / "tensorflow" / "__init__.py").write_text(f"raise {error}\n")
    code = (
        f"import os, sys; sys.path.insert(0, {str(tmp_path)!r}); os.environ['KERAS_BACKEND'] = 'tensorflow'\n"
        "from lab.training.lean import import_keras\n"
        "try:\n    import_keras()\nexcept ValueError as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    kind, text = error[:-2].split("('")
    assert said.stdout.strip() == (
        f"KERAS_BACKEND=tensorflow: the backend cannot be imported: {kind}: {text}"
    )


def test_an_unknown_backend_is_refused_before_anything_is_imported(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "foo")
    with pytest.raises(ValueError, match="`KERAS_BACKEND` must be one of"):
        import_keras()

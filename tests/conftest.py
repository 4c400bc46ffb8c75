"""What every test folder shares: the backend is chosen before Keras is imported."""

import os
import sys

import pytest

import lab

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes are not ours


@pytest.fixture(scope="session", autouse=True)
def one_backend():
    """One process runs one backend, in float32, from the first test to the last."""
    assert lab.__name__ == "lab"  # importing it sets the default backend
    yield
    if keras := sys.modules.get("keras"):
        assert keras.config.backend() == os.environ["KERAS_BACKEND"]
        assert keras.config.floatx() == "float32"
        assert keras.config.dtype_policy().name == "float32"

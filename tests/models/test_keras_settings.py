"""The numbers of a run are the lab's, whatever Keras was told elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# A few updates with dropout; their weights, and what Keras believes, as text.
CODE = """
import hashlib, sys
import numpy as np
from training_bench import DROPOUT, batch, tiny_config
from lab.training.engine import Engine
import keras
train = np.random.default_rng(0).integers(0, 257, 600).astype(np.uint16)
engine = Engine(tiny_config("ar", {"model": DROPOUT, "training": {"accumulation": 2}}), train, 257)
engine.fit(0, 3)
digest = hashlib.sha256()
for path, array in sorted(engine.state().items()):
    digest.update(f"{path} {array.dtype} {array.shape}".encode() + array.tobytes())
print(digest.hexdigest(), keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format())
print(keras.config.dtype_policy().name, keras.config.max_epochs(), keras.config.max_steps_per_epoch())
"""
OTHER = {"floatx": "float64", "epsilon": 0.1, "image_data_format": "channels_first"}
OTHER |= {"dtype_policy": "mixed_bfloat16", "backend": os.environ.get("KERAS_BACKEND", "jax")}


def said(**environment):
    benches = Path(__file__).parents[1] / "training"
    path = os.pathsep.join([str(Path.cwd()), str(benches)])
    run = subprocess.run(
        [sys.executable, "-c", CODE],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.mark.backend
def test_settings_of_the_user_change_no_weight(tmp_path):
    """`keras.json` with another epsilon, and variables that cut an epoch short."""
    (tmp_path / "keras.json").write_text(json.dumps(OTHER))
    (tmp_path / "none").mkdir()
    plain = said(KERAS_HOME=str(tmp_path / "none"))
    cut = {"KERAS_MAX_EPOCHS": "1", "KERAS_MAX_STEPS_PER_EPOCH": "1"}
    assert said(KERAS_HOME=str(tmp_path), **cut) == plain
    assert plain[0].split()[1:] == ["float32", "1e-07", "channels_last"]
    assert plain[1].split() == ["float32", "None", "None"]

"""How soon, and with what, `python -m lab run` begins."""

import subprocess
import sys
import time
from importlib.util import find_spec

from training_bench import rows_of, tiny_config

# What a run on bytes under JAX has no use for.
UNUSED = {
    *("tensorflow", "torch", "keras_hub", "keras_nlp", "tokenizers", "pyarrow"),
    *("optuna", "sqlalchemy", "matplotlib", "jinja2", "pandas", "statsmodels", "scipy.stats"),
    "sklearn",  # which an extra brings
}
# `python -m lab`, and at its end what it has imported.
CODE = """
import atexit, runpy, sys
atexit.register(lambda: print("loaded:", *sys.modules))
sys.argv[0] = "lab"
runpy.run_module("lab", run_name="__main__", alter_sys=True)
"""


def test_a_run_on_bytes_imports_no_more_than_it_needs_and_soon_takes_its_first_step(corpus, cache, tmp_path):
    from lab.data.dataset import prepare

    config = tiny_config(
        "ar", {"training": {"total_steps": 3, "log_steps": 1}, "evaluation": {"stops": 1}}, corpus=corpus
    )
    prepare(config.data, cache)
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    logdir = tmp_path / "run"
    command = [sys.executable, "-c", CODE, "run", "--config", str(path), "--logdir", str(logdir)]
    started = time.monotonic()
    process = subprocess.Popen([*command, "--cache", str(cache)], stdout=subprocess.PIPE, text=True)
    while not rows_of(logdir) and process.poll() is None:
        time.sleep(0.01)
    seconds = time.monotonic() - started
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    (loaded,) = (set(line.split()[1:]) for line in said.splitlines() if line.startswith("loaded:"))
    assert {"jax", "keras", "lab.training.run"} <= loaded
    assert loaded & UNUSED == set()
    print(f"first step after {seconds:.1f} s")
    # 6 s is the promise on an idle machine; a busy one, such as one that runs tests side by side, gets more.
    assert seconds < 300, f"the first step came after {seconds:.1f} s"


def test_what_keras_was_imported_without_can_be_imported_afterwards():
    code = "from lab.training.lean import import_keras; import_keras(); import pandas, matplotlib.pyplot"
    code += ", sklearn.base" * bool(find_spec("sklearn"))
    subprocess.run([sys.executable, "-c", code], check=True)

"""Checkpoints: plain arrays and JSON, checked by checksum, written atomically, matched strictly by path.

No Keras format restores dropout's generator, the optimizer's slots and the step together and refuses a
mismatch; this one holds every variable of the learner and of its optimizer.
"""

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lab.models.layout import whole
from lab.tracking.records import naming

SCHEMA = 1
KEPT = 2  # checkpoints: the newest, and one to fall back to

Arrays = dict[str, np.ndarray]


def _path(variable: keras.Variable) -> str:
    """A variable's path, but for the number by which Keras counts the process's seed generators."""
    return re.sub(r"/seed_generator_\d+/", "/seed_generator/", variable.path)


def read_variables(variables: Iterable[keras.Variable]) -> Arrays:
    """Copies of the variables' whole values by path, however they lie on the devices; all ranks must ask.

    Raises:
        ValueError: if two variables have one path.
    """
    arrays: Arrays = {}
    for variable in variables:
        path = _path(variable)
        if path in arrays:
            raise ValueError(f"variable paths must be unique, but {path!r} is there twice.")
        arrays[path] = np.array(keras.ops.convert_to_numpy(whole(variable.value)))
    return arrays


def assign_variables(variables: Iterable[keras.Variable], arrays: Mapping[str, np.ndarray]) -> None:
    """Assign every variable its array.

    Raises:
        ValueError: if the paths, a shape or a dtype differ; both lists are shown. Nothing is assigned then.
    """
    by_path = {_path(variable): variable for variable in variables}
    expected = {
        path: f"{tuple(v.shape)} {keras.backend.standardize_dtype(v.dtype)}" for path, v in by_path.items()
    }
    found = {path: f"{array.shape} {array.dtype.name}" for path, array in arrays.items()}
    if expected != found:
        missing = sorted(f"{path} {what}" for path, what in expected.items() if found.get(path) != what)
        surplus = sorted(f"{path} {what}" for path, what in found.items() if expected.get(path) != what)
        raise ValueError(f"the checkpoint must hold {missing}, but it holds {surplus} in their place.")
    for path, variable in by_path.items():
        variable.assign(arrays[path])


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write one `.npz` file of arrays atomically."""
    temporary = path.with_suffix(".tmp")
    with naming(path), temporary.open("wb") as file:
        # An npz member cannot be called "file", which is savez's own argument; a prefix keeps them apart.
        np.savez(file, **{f"/{name}": array for name, array in arrays.items()})  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def load_arrays(path: Path) -> Arrays:
    """Read what `save_arrays` wrote."""
    with naming(path), np.load(path, allow_pickle=False) as file:
        return {name.removeprefix("/"): file[name] for name in file.files}


def stop_weights_path(logdir: Path, reading: str, step: int) -> Path:
    """Where a run keeps the weights of a stop, trainable variables only."""
    return logdir / "checkpoints" / "stops" / f"{reading}-{step:012d}.npz"


def _checksum(arrays_path: Path, state: Mapping[str, Any]) -> str:
    """The sha256 over the file of arrays and the rest of the state."""
    with naming(arrays_path), arrays_path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update(json.dumps(state, sort_keys=True).encode())
    return digest.hexdigest()


class Checkpoints:
    """The checkpoints of one run.

    Each is a folder `step-<step>` that appears by one rename, complete or not at all. It holds `arrays.npz`
    and `state.json` with the step and a checksum over both.

    Args:
        folder: where they lie.
        config_key: names the run's configuration; a checkpoint of another is refused.
    """

    def __init__(self, folder: Path, config_key: str) -> None:
        self.folder = folder
        self.config_key = config_key

    def save(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the checkpoint of a step, then remove all but the newest two."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"tmp-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_arrays(temporary / "arrays.npz", arrays)
        state: dict[str, Any] = {"schema": SCHEMA, "step": step, "config_key": self.config_key}
        state["sha256"] = _checksum(temporary / "arrays.npz", state)
        state_path = temporary / "state.json"
        with naming(state_path), state_path.open("w", encoding="utf-8") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        target = self.folder / f"step-{step:012d}"
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
        for old in self._folders()[KEPT:]:
            shutil.rmtree(old)

    def load(self) -> tuple[int, Arrays] | None:
        """The newest sound checkpoint's step and arrays, or None if there is none.

        A damaged checkpoint is passed over with a warning; one that the system fails to read is not: it may
        be sound, and another try may read it.

        Raises:
            ValueError: if the checkpoint is of another configuration or schema.
            OSError: with the path, if the system fails to read a file that is there.
        """
        for leftover in self.folder.glob("tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for folder in self._folders():
            state = self._read_state(folder)
            if state is None:
                warnings.warn(
                    f"the checkpoint {folder.name} is damaged; the one before it is used.", stacklevel=2
                )
                continue
            if (state["schema"], state["config_key"]) != (SCHEMA, self.config_key):
                raise ValueError(
                    f"the checkpoint {folder.name} must be of schema {SCHEMA} and configuration "
                    f"{self.config_key}, but it is of schema {state['schema']} and configuration "
                    f"{state['config_key']}."
                )
            return state["step"], load_arrays(folder / "arrays.npz")
        return None

    def remove(self) -> None:
        """Remove every checkpoint; what else lies in the folder stays."""
        for folder in self._folders():
            shutil.rmtree(folder)

    def _folders(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"), reverse=True)

    @staticmethod
    def _read_state(folder: Path) -> dict[str, Any] | None:
        path = folder / "state.json"
        try:
            with naming(path):
                text = path.read_text(encoding="utf-8")
            state: dict[str, Any] = json.loads(text)
            expected = state.pop("sha256")
            return state if _checksum(folder / "arrays.npz", state) == expected else None
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
            return None

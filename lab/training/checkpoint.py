"""Checkpoints: plain arrays and JSON, checked by checksum, written atomically.

No Keras format restores dropout's generator, the optimizer's slots and the step together and refuses a
mismatch; this one holds every variable of the learner and of its optimizer.
"""

import hashlib
import json
import os
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lab.files import naming
from lab.results import DamagedError
from lab.training.variables import Arrays
from lab.version import Version

SCHEMA = 2
KEPT = 2  # checkpoints: the one just saved, and one to fall back to


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
    """Read what `save_arrays` wrote.

    Raises:
        DamagedError: naming the file, if it is empty, cut or otherwise not as written.
        OSError: with the path, if the system fails to read it.
    """
    try:
        with naming(path), path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name.removeprefix("/"): arrays[name] for name in arrays.files}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, AttributeError) as error:
        raise DamagedError(f"{path}: not weights as the lab writes them ({error}).") from None


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
    and `state.json` with the step, the run's version, and a checksum over both.

    Args:
        folder: where they lie.
        version: of the run; a checkpoint of another is refused.
        keep_all: keep every checkpoint. Else those that stay are the one just saved, the one before it, and
            the newest, which is another where an earlier stop is made again.
    """

    def __init__(self, folder: Path, version: Version, keep_all: bool = False) -> None:
        self.folder = folder
        self.version = version
        self.keep_all = keep_all

    def save(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Write the checkpoint of a step, then remove what is not to be kept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"tmp-{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_arrays(temporary / "arrays.npz", arrays)
        state: dict[str, Any] = {"schema": SCHEMA, "step": step, "version": asdict(self.version)}
        state["sha256"] = _checksum(temporary / "arrays.npz", state)
        state_path = temporary / "state.json"
        with naming(state_path), state_path.open("w", encoding="utf-8") as file:
            json.dump(state, file)
            file.flush()
            os.fsync(file.fileno())
        target = self.folder / _name(step)
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
        if not self.keep_all:
            folders = self._folders()
            for old in {*folders[1:]} - {*self._folders(step)[:KEPT]}:
                shutil.rmtree(old)

    def load(self, most: int | None = None) -> tuple[int, Arrays] | None:
        """The newest sound checkpoint's step and arrays, or None if there is none.

        A damaged checkpoint is passed over with a warning; one that the system fails to read is not: it may
        be sound, and another try may read it.

        Args:
            most: the latest step that will do; None for any.

        Raises:
            ValueError: if the checkpoint is of another run or schema.
            OSError: with the path, if the system fails to read a file that is there.
        """
        for leftover in self.folder.glob("tmp-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        for folder in self._folders(most):
            state = read_state(folder)
            if state is None:
                warnings.warn(
                    f"the checkpoint {folder.name} is damaged; the one before it is used.", stacklevel=2
                )
                continue
            if (state["schema"], state["version"]) != (SCHEMA, asdict(self.version)):
                raise ValueError(
                    f"the checkpoint {folder} must be of schema {SCHEMA} and of the run "
                    f"{self.version.digest()}, but it is of schema {state['schema']} and of another run: "
                    "move it away."
                )
            return state["step"], load_arrays(folder / "arrays.npz")
        return None

    def remove(self) -> None:
        """Remove every checkpoint; what else lies in the folder stays."""
        for folder in self._folders():
            shutil.rmtree(folder)

    def _folders(self, most: int | None = None) -> list[Path]:
        """Those of the checkpoints, the newest first."""
        last = _name(most) if most is not None else "step-~"
        return sorted((path for path in self.folder.glob("step-*") if path.name <= last), reverse=True)


def _name(step: int) -> str:
    return f"step-{step:012d}"


def read_state(folder: Path) -> dict[str, Any] | None:
    """What a checkpoint says of itself; None if it is damaged.

    Raises:
        OSError: with the path, if the system fails to read a file that is there.
    """
    path = folder / "state.json"
    try:
        with naming(path):
            text = path.read_text(encoding="utf-8")
        state: dict[str, Any] = json.loads(text)
        expected = state.pop("sha256")
        return state if _checksum(folder / "arrays.npz", state) == expected else None
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None

"""Weights in `safetensors` files, of one or several parts, every number of them checked as it is read."""

import os
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes  # noqa: F401  # makes `bfloat16` a dtype of NumPy
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lab.files import naming, read_json
from lab.results import DamagedError
from lab.training.variables import Arrays

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = ("float32", "bfloat16", "float16")


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write one file of arrays atomically, each in its own dtype."""
    # The package writes memory as it lies, whatever an array's strides say.
    dense = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with naming(path):
        save_file(dense, temporary, metadata={"format": "pt"})  # without which `transformers` refuses a file
        temporary.chmod(0o644)  # the package closes its files to all other users
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
    temporary.replace(path)


def read_tensors(path: Path) -> Arrays:
    """Read one file of arrays.

    Raises:
        DamagedError: naming the file, if it is missing, empty, cut or no such file, and the tensor that is
            not of `FLOATS` or holds a number that is not finite.
        OSError: with the path, if the system fails to read it.
    """
    if not path.is_file():
        raise DamagedError(f"expected weights at {path}, but there are none.")
    arrays: Arrays = {}
    try:
        with naming(path), safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118  # it is no mapping
                arrays[name] = file.get_tensor(name)
    except (
        SafetensorError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:  # the last three: an unknown dtype
        raise DamagedError(f"{path}: not a safetensors file that can be read ({error}).") from None
    for name, array in arrays.items():
        if array.dtype.name not in FLOATS:
            raise DamagedError(f"{path}: {name!r} must be of {list(FLOATS)}, but is of {array.dtype.name}.")
        if not np.isfinite(array).all():
            raise DamagedError(f"{path}: {name!r} must hold finite numbers, but some are not.")
    return arrays


def read_parts(folder: Path) -> Arrays:
    """Read the weights of a checkpoint's folder: one file, or the parts that an index names.

    Raises:
        DamagedError: as `read_tensors`; or if the folder has neither, or the index does not fit the parts.
    """
    if not (folder / INDEX).is_file():
        if not (folder / WEIGHTS).is_file():
            suffixes = (".safetensors", ".bin", ".pt")
            there = sorted(path.name for path in folder.glob("*") if path.suffix in suffixes)
            raise DamagedError(
                f"{folder} must hold {WEIGHTS}, or parts and {INDEX}, but of weights it holds {there}. "
                "Pickled weights (.bin, .pt) are not read."
            )
        return read_tensors(folder / WEIGHTS)
    places = _read_index(folder / INDEX)
    arrays: Arrays = {}
    for part in sorted(set(places.values())):
        held = read_tensors(folder / part)
        expected = {name for name, place in places.items() if place == part}
        if expected != held.keys():
            raise DamagedError(
                f"{folder / part} must hold what {INDEX} says, but {sorted(expected - held.keys())} are "
                f"missing and {sorted(held.keys() - expected)} are not said."
            )
        arrays |= held
    return arrays


def _read_index(path: Path) -> dict[str, str]:
    """Which part holds each tensor: name -> name of a file in the same folder."""
    try:
        content = read_json(path)
        places = dict(content["weight_map"])
        if not places or any(Path(str(place)).name != place for place in places.values()):
            raise ValueError("weight_map must name files of the same folder")
    except (ValueError, LookupError, TypeError) as error:
        raise DamagedError(f"{path}: not an index of weights ({error}).") from None
    return places

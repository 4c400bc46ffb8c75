"""A model's variables as plain arrays, matched strictly by path."""

from collections.abc import Iterable, Mapping

import keras
import numpy as np

from lab.models.layout import whole

Arrays = dict[str, np.ndarray]


def read_variables(variables: Iterable[keras.Variable]) -> Arrays:
    """Copies of the variables' whole values by path, however they lie on the devices; all ranks must ask.

    Raises:
        ValueError: if two variables have one path.
    """
    arrays: Arrays = {}
    for variable in variables:
        path = variable.path
        if path in arrays:
            raise ValueError(f"variable paths must be unique, but {path!r} is there twice.")
        arrays[path] = np.array(keras.ops.convert_to_numpy(whole(variable.value)))
    return arrays


def assign_variables(variables: Iterable[keras.Variable], arrays: Mapping[str, np.ndarray]) -> None:
    """Assign every variable its array.

    Raises:
        ValueError: if the paths, a shape or a dtype differ; both lists are shown. Nothing is assigned then.
    """
    by_path = {variable.path: variable for variable in variables}
    expected = {
        path: f"{tuple(v.shape)} {keras.backend.standardize_dtype(v.dtype)}" for path, v in by_path.items()
    }
    given = {path: f"{array.shape} {array.dtype.name}" for path, array in arrays.items()}
    if expected != given:
        missing = sorted(f"{path} {what}" for path, what in expected.items() if given.get(path) != what)
        surplus = sorted(f"{path} {what}" for path, what in given.items() if expected.get(path) != what)
        raise ValueError(f"the checkpoint must hold {missing}, but it holds {surplus} in their place.")
    for path, variable in by_path.items():
        variable.assign(arrays[path])

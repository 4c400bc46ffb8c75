import json
import re

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from lab.results import DamagedError
from lab.training.exchange.tensors import INDEX, WEIGHTS, read_parts, read_tensors, write_tensors

ARRAYS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3).T,  # its memory lies otherwise than it is read
    "half": np.array([1.5, -2.0], ml_dtypes.bfloat16),
    "other half": np.array([[0.25]], np.float16),
}


def test_arrays_come_back_bit_for_bit_in_their_own_dtypes(tmp_path):
    write_tensors(tmp_path / WEIGHTS, ARRAYS)
    found = read_tensors(tmp_path / WEIGHTS)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS]
    assert (tmp_path / WEIGHTS).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"PK\x03\x04 no such file" * 10,
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole + b"more",
        lambda whole: whole.replace(b'"F32"', b'"Q99"'),
    ],
)
def test_a_damaged_file_is_refused_by_name(damage, tmp_path):
    path = tmp_path / WEIGHTS
    write_tensors(path, ARRAYS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        DamagedError, match=rf"{re.escape(str(path))}: not a safetensors file that can be read"
    ):
        read_tensors(path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([1.0, np.nan], np.float32), r"'odd' must hold finite numbers"),
        (np.array([np.inf], ml_dtypes.bfloat16), r"'odd' must hold finite numbers"),
        (
            np.array([1], np.int64),
            r"'odd' must be of \['float32', 'bfloat16', 'float16'\], but is of int64",
        ),
        (np.array([1.0]), r"'odd' must be of .*, but is of float64"),
    ],
)
def test_a_tensor_that_is_no_weight_is_refused_by_name(array, message, tmp_path):
    save_file({"sound": np.ones(2, np.float32), "odd": array}, tmp_path / WEIGHTS)
    with pytest.raises(DamagedError, match=message):
        read_tensors(tmp_path / WEIGHTS)


def test_a_folder_without_weights_is_refused_and_so_are_pickles(tmp_path):
    with pytest.raises(DamagedError, match=r"expected weights at .*, but there are none"):
        read_tensors(tmp_path / WEIGHTS)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(
        DamagedError, match=r"it holds \['pytorch_model.bin'\]\. Pickled weights .* are not read"
    ):
        read_parts(tmp_path)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (
            {"a": "1.safetensors", "b": "1.safetensors"},
            r"1.safetensors must hold .*, but \['b'\] are missing",
        ),
        ({}, "not an index of weights"),
        ({"a": "../1.safetensors"}, "must name files of the same folder"),
        ({"a": 3}, "not an index of weights"),
        ({"a": "2.safetensors"}, r"expected weights at .*2.safetensors"),
    ],
)
def test_an_index_that_does_not_fit_its_parts_is_refused(places, message, tmp_path):
    write_tensors(tmp_path / "1.safetensors", {"a": np.ones(1, np.float32), "c": np.ones(1, np.float32)})
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    with pytest.raises(DamagedError, match=message):
        read_parts(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"weight_map": 3}', "{}"])
def test_a_damaged_index_is_refused(text, tmp_path):
    (tmp_path / INDEX).write_text(text, encoding="utf-8")
    with pytest.raises(DamagedError, match="not an index of weights"):
        read_parts(tmp_path)

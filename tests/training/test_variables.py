import numpy as np
import pytest

from lab.training.variables import assign_variables, read_variables


def same(found, expected):
    assert {name: (array.dtype, array.shape) for name, array in found.items()} == {
        name: (array.dtype, array.shape) for name, array in expected.items()
    }
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes()


@pytest.fixture
def variables():
    import keras

    with keras.name_scope("net"):
        return [
            keras.Variable(np.zeros((2, 3)), dtype="float32", name="kernel"),
            keras.Variable(np.zeros(2), dtype="int32", trainable=False, name="state"),
        ]


VALUES = {"net/kernel": np.ones((2, 3), np.float32), "net/state": np.array([5, 6], np.int32)}


@pytest.mark.backend
def test_variables_take_their_arrays_and_give_them_back(variables):
    assign_variables(variables, VALUES)
    found = read_variables(variables)
    same(found, VALUES)
    variables[0].assign(np.zeros((2, 3)))
    same(found, VALUES)  # a copy, not a view


@pytest.mark.parametrize(
    ("changed", "missing", "surplus"),
    [
        (
            {"net/kernel": np.ones((3, 2), np.float32)},
            r"'net/kernel \(2, 3\) float32'",
            r"'net/kernel \(3, 2\) float32'",
        ),
        ({"net/kernel": np.ones((2, 3))}, r"'net/kernel \(2, 3\) float32'", r"'net/kernel \(2, 3\) float64'"),
        ({"net/more": np.ones(1, np.int32)}, "", r"'net/more \(1,\) int32'"),
        ({"net/state": None}, r"'net/state \(2,\) int32'", ""),
    ],
)
def test_other_paths_shapes_and_dtypes_are_refused_with_both_lists(variables, changed, missing, surplus):
    wrong = {name: array for name, array in (VALUES | changed).items() if array is not None}
    message = rf"the checkpoint must hold \[{missing}\], but it holds \[{surplus}\] in their place\."
    with pytest.raises(ValueError, match=message):
        assign_variables(variables, wrong)
    assert not any(array.any() for array in read_variables(variables).values())  # nothing was assigned


def test_two_variables_of_one_path_are_refused(variables):
    with pytest.raises(ValueError, match=r"paths must be unique, but 'net/kernel' is there twice"):
        read_variables([*variables, variables[0]])

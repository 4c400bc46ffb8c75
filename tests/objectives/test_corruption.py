import numpy as np
import pytest
from namespaces import NAMESPACES, arrays, host

from lab.objectives.corruption import causal_example, dense_example

MASK_ID = 9
TOKENS = np.array([[5, 6, 7, 8], [1, 2, 3, 4]], np.int32)


def on_host(example):
    assert example.visible is None  # an example hides no slot from the others unless it is asked to
    return {name: host(value).tolist() for name, value in example._asdict().items() if name != "visible"}


@pytest.mark.parametrize("xp", NAMESPACES)
def test_causal_example_by_hand(xp):
    tokens, order = arrays(xp, TOKENS, np.array([[0, 1, 2, 3], [2, 0, 3, 1]], np.int32))
    assert on_host(causal_example(tokens, order, MASK_ID, xp)) == {
        "tokens": [[9, 5, 6, 7], [9, 3, 1, 4]],
        "positions": [[0, 1, 2, 3], [0, 3, 1, 4]],
        "target_positions": [[1, 2, 3, 4], [3, 1, 4, 2]],
        "targets": [[5, 6, 7, 8], [3, 1, 4, 2]],
        "weights": [[0.25] * 4] * 2,
    }


@pytest.mark.parametrize("xp", NAMESPACES)
def test_dense_example_by_hand(xp):
    hidden = np.array([[True, False, False, True], [False, True, False, False]])
    tokens, hidden, weights = arrays(xp, TOKENS, hidden, np.array([0.5, 2], "float32"))
    assert on_host(dense_example(tokens, hidden, MASK_ID, weights, xp)) == {
        "tokens": [[9, 6, 7, 9], [1, 9, 3, 4]],
        "positions": [[1, 2, 3, 4]],
        "target_positions": [[1, 2, 3, 4]],
        "targets": TOKENS.tolist(),
        "weights": [[0.5, 0, 0, 0.5], [0, 2, 0, 0]],
    }

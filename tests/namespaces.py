"""The namespaces that the lab's pure functions compute in, for tests that repeat them in each."""

import numpy as np
import pytest
from keras import ops

NAMESPACES = [pytest.param(np, id="numpy"), pytest.param(ops, id="keras", marks=pytest.mark.backend)]


def arrays(xp, *values):
    """The values as arrays of the namespace."""
    return tuple(np.asarray(value) if xp is np else ops.convert_to_tensor(value) for value in values)


def host(value):
    """An array of any namespace as a NumPy array."""
    return ops.convert_to_numpy(value)

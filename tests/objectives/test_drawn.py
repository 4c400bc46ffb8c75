"""What `FactorsConfig.drawn` says of a cell, against the examples of its passes."""

import numpy as np
import pytest
from factors_bench import DENSE, objective_of, random_tokens, same

FIXED = {
    "ar": {},
    "one order": {"order": "fixed:1"},
    "the reverse order": {"order": "right_to_left:1"},
    "never the reverse order": {"order": "right_to_left:0"},
    "masks alone": {"input_noise": "mask:1"},
    "one suffix": {"compute": "dense", "noise_window": "fixed:0.5"},
    "all hidden": {**DENSE, "noise_window": "fixed:1"},
    "single tokens": {**DENSE, "block": 1},
    "left to right alone": {**DENSE, "ar_share": 1},
}
DRAWN = {
    "orders": {"order": "any"},
    "four orders": {"order": "fixed:4"},
    "both directions": {"order": "right_to_left:0.5"},
    "masks": {"input_noise": "mask:0.5"},
    "shares of masks": {"input_noise": "mask:0-1"},
    "replacements": {"input_noise": "replace:1"},
    "hidden slots": {"attention_mask_dropout": 0.5},
    "suffixes": {"compute": "dense"},
    "subsets": {**DENSE, "noise_window": "fixed:0.5"},
    "coins": {**DENSE, "estimator": "bernoulli"},
    "blocks": {**DENSE, "block": 2},
    "rows": {**DENSE, "noise_window": "fixed:1", "ar_share": 0.5, "passes": 2},
}


@pytest.mark.parametrize("windows", ["fixed", "jittered"])
@pytest.mark.parametrize("cell", [*FIXED, *DRAWN])
def test_two_passes_differ_where_something_is_drawn_and_nowhere_else(cell, windows):
    count, factors = 40, {**FIXED, **DRAWN}[cell]
    objective = objective_of(windows=windows, batch_size=count, **factors)
    places = np.arange(count * objective.length, dtype=np.int32).reshape(count, -1)
    rows = np.arange(count, dtype=np.int32)
    first, second = (
        objective.parts(random_tokens(count), places, np.full_like(rows, view), rows, 0, np)
        for view in (0, 1)
    )
    equal = all(same(one.example, other.example) for one, other in zip(first, second, strict=True))
    assert objective.factors.drawn == (cell in DRAWN) == (not equal)

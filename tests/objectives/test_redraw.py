"""Draws of a visit, one for each window, and draws of an epoch, one for all."""

import numpy as np
import pytest
from factors_bench import CAUSAL, DENSE, examples, objective_of, same

ARMS = {
    "any_order_ar": CAUSAL,
    "dlm": DENSE,
    "suffix_denoiser": {"order": "left_to_right", "compute": "dense"},
    "fixed": {"order": "fixed:4", "compute": "causal"},
    "bernoulli": {**DENSE, "estimator": "bernoulli"},
    "ar_masked": {"input_noise": "mask:0-1", "loss_on": "hidden"},
    "attention_mask": {"attention_mask_dropout": 0.5},
}


def signs(example):
    """What a draw decides of each window, whatever its tokens: (count, ...)."""
    parts = [example.target_positions, example.weights]
    parts += [] if example.visible is None else [example.visible]
    count = len(example.tokens)
    return np.concatenate([np.broadcast_to(part, (count, part.shape[-1])) for part in parts], axis=1)


@pytest.mark.parametrize("factors", ARMS.values(), ids=ARMS.keys())
def test_an_epoch_has_one_draw_for_all_windows_and_the_next_another(factors):
    objective = objective_of(length=24, **factors, redraw="epoch")
    drawn = [signs(examples(objective, 30, view)) for view in range(8)]
    for rows in drawn:
        assert (rows == rows[0]).all()
    assert len({rows[0].tobytes() for rows in drawn}) > 2  # of four orders, or of many draws


@pytest.mark.parametrize("factors", ARMS.values(), ids=ARMS.keys())
def test_a_visit_has_a_draw_for_each_window(factors):
    rows = signs(examples(objective_of(length=24, **factors, redraw="visit"), 30))
    assert len(np.unique(rows, axis=0)) > 1
    assert same(examples(objective_of(**factors, redraw="visit"), 30), examples(objective_of(**factors), 30))


def test_the_epochs_draw_is_frozen_by_k_draws():
    objective = objective_of(**DENSE, redraw="epoch", draws=3)
    by_view = [examples(objective, 20, view) for view in range(6)]
    for view in range(6):
        assert same(by_view[view], by_view[view % 3])
    assert not same(by_view[0], by_view[1])

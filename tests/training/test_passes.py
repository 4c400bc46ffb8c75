"""Several draws of the same sequences in one step."""

import numpy as np
import pytest
from test_train_step import Logs, scale_up
from training_bench import DROPOUT, batch, fit, tiny_config

pytestmark = pytest.mark.backend

VOCAB, ROWS = 5, 3
# Adam's first moment is a tenth of the gradient, unless that is clipped.
UNCLIPPED = {"model": {"width": 8, "ffn_width": 12}, "training": {"clip_norm": 1e9}}
VISITS = np.array([0, 1, 4], np.int32)


def config_of(arm, *layers, **factors):
    return tiny_config(arm, UNCLIPPED, *layers, {"factors": factors})


def make_steps(config, *batches):
    """The logs and the gradient of a step on each batch, all from the same weights.

    Dropout's generators go on from step to step.
    """
    from lab.training.build import build_learner
    from lab.training.variables import assign_variables, read_variables

    learner = build_learner(config, VOCAB)
    scale_up(learner)
    variables = [*learner.trainable_variables, *learner.optimizer.variables]
    start = read_variables(variables)
    logs, gradients = Logs(), []
    for inputs in batches:
        assign_variables(variables, start)
        fit(learner, [inputs], [logs])
        after = read_variables(learner.optimizer.variables)
        gradients.append({name: after[name] / 0.1 for name in after if name.endswith("momentum")})
    assert len(gradients[0]) == len(learner.trainable_variables)
    return logs.found, gradients


def rows(visits=VISITS):
    return {**batch(ROWS, VOCAB), "visits": np.asarray(visits, np.int32)}


def assert_close(found, expected):
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=2e-6 * np.abs(array).max(), err_msg=name)


CASES = {
    "dlm": ("dlm", {"draws": 4}),
    "any_order_ar": ("any_order_ar", {}),
    "ar_masked": ("ar_masked", {"attention_mask_dropout": 0.2}),
}


@pytest.mark.parametrize(("arm", "factors"), CASES.values(), ids=CASES.keys())
def test_a_step_of_three_passes_has_the_mean_gradient_of_its_three_draws(arm, factors):
    """Of visit v the draws of views 3 v, 3 v + 1, 3 v + 2; and of one batch of three copies."""
    (log,), (found,) = make_steps(config_of(arm, **factors, passes=3), rows())
    views = [rows(VISITS * 3 + number) for number in range(3)]
    copies = {name: np.concatenate([view[name] for view in views]) for name in views[0]}
    logs, gradients = make_steps(config_of(arm, **factors), *views, copies)
    losses = [one["loss"] for one in logs]
    assert len(set(losses[:3])) == 3
    mean = {name: np.mean([gradient[name] for gradient in gradients[:3]], axis=0) for name in found}
    norm = np.sqrt(sum((array**2).sum() for array in mean.values()))
    for gradient, loss in ((mean, np.mean(losses[:3])), (gradients[3], losses[3])):
        assert_close(found, gradient)
        assert log["loss"] == pytest.approx(loss, rel=1e-6)
        assert log["gradient_norm"] == pytest.approx(norm, rel=1e-5)


def test_one_pass_is_what_a_step_was():
    """`passes: 1` gives what a configuration that does not name it gives."""
    (log,), (found,) = make_steps(config_of("dlm", passes=1), rows())
    (other,), (expected,) = make_steps(config_of("dlm"), rows())
    assert log == other
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_each_pass_has_a_dropout_of_its_own():
    """Two passes meet the dropout of two steps, one after the other."""
    (log,), _ = make_steps(config_of("dlm", {"model": DROPOUT}, passes=2), rows())
    first, second = rows(VISITS * 2), rows(VISITS * 2 + 1)
    steps, _ = make_steps(config_of("dlm", {"model": DROPOUT}), first, second, second)
    losses = [step["loss"] for step in steps]
    assert abs(losses[1] - losses[2]) > 1e-3  # the same draw under another dropout
    assert log["loss"] == pytest.approx((losses[0] + losses[1]) / 2, rel=1e-6)


def test_passes_and_accumulation_are_one_mean():
    """Two micro-batches of two passes each move the weights as one batch of all four does."""
    from lab.training.build import build_learner
    from lab.training.variables import assign_variables, read_variables

    parts = [{**batch(2, VOCAB, seed), "visits": np.array([3, 4], np.int32)} for seed in range(2)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    ends, start = [], None
    for accumulation, batches in ((2, parts), (1, [whole])):
        learner = build_learner(
            config_of("dlm", {"training": {"accumulation": accumulation}}, passes=2), VOCAB
        )
        scale_up(learner)
        start = start or read_variables(learner.trainable_variables)
        assign_variables(learner.trainable_variables, start)
        fit(learner, batches)
        ends.append(
            {
                variable.path: np.array(variable)
                for variable in learner.optimizer.variables
                if variable.path.endswith("momentum")
            }
        )
    for name, array in ends[1].items():
        np.testing.assert_allclose(ends[0][name], array, rtol=0, atol=2e-6 * np.abs(array).max())

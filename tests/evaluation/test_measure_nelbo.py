import pytest
from evaluation_bench import random_documents, rigged_arm, task_of, trained_arm

from lab.data.held_out import dataset_windows
from lab.evaluation.measure_nelbo import measure
from lab.evaluation.measurements import yardstick
from lab.evaluation.nelbo import nelbo

DATA = random_documents()


@pytest.mark.backend
@pytest.mark.parametrize("name", ["dlm", "any_order_ar"])
def test_the_values_are_the_bound_over_the_windows_with_its_errors(name):
    arm = trained_arm(name, {"seed": 2})
    found = measure(task_of(yardstick(arm.config, "test"), "nelbo"), [arm], DATA)
    held_out = dataset_windows(DATA, "test", 9, 16, 2)
    bound = nelbo(arm.scorer, held_out.windows, 4, held_out.documents)
    assert found.values == {
        "nelbo": bound.nelbo,
        "nelbo_example_standard_error": bound.example_standard_error,
        "nelbo_mask_standard_error": bound.mask_standard_error,
    }
    assert bound.mask_standard_error > 0


def test_where_every_token_costs_the_same_so_does_the_bound():
    arm = rigged_arm("dlm", lambda previous, target: 2.0)
    found = measure(task_of(yardstick(arm.config, "test"), "nelbo"), [arm], DATA)
    assert list(found.values.values()) == pytest.approx([2.0, 0, 0], abs=1e-6)

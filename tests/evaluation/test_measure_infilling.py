import numpy as np
import pytest
from evaluation_bench import config_of, random_documents, rigged_arm, trained_arm

from lab.config import InfillingConfig, make_config
from lab.data.held_out import dataset_windows, document_means
from lab.evaluation.flops import pass_flops
from lab.evaluation.infilling import gap_nll, gap_options, option_nll
from lab.evaluation.measure_infilling import measure
from lab.evaluation.measurements import infilling, passes

DATA = random_documents()
LEFT = {"infilling_accuracy", "infilling_left_nll"}
BLOCKS = {"factors": {"block": 4}}
# In one pass; a pass a token; for 4 places of a gap and for what is ranked of 4 options.
ROWS = {
    ("ar", None): 1 + 4 * 1,
    ("any_order_ar", None): 1 + 4 * 1,
    ("dlm", None): 4 + 4 * 4,
    ("suffix_denoiser", None): 4 + 4 * 10,
    ("dlm", "blocks"): 4 + 4 * 4,
}


@pytest.mark.parametrize(("name", "blocks"), ROWS)
def test_every_arm_is_measured_by_what_it_sees_and_its_rows_are_counted(name, blocks):
    arm = rigged_arm(name, lambda previous, target: 0.5 + (target % 7) / 10, BLOCKS if blocks else {})
    if blocks:
        arm = trained_arm(name, BLOCKS)
    (task,) = infilling(arm.config)
    assert task.settings == {"windows": 8, "left_tokens": 6, "tokens": 4, "options": 4, "sample": 0}
    found = measure(task, [arm], DATA)
    both_sides = name in ("any_order_ar", "dlm") and not blocks
    assert arm.config.sees_both_sides == both_sides
    values = {key for key in found.values if not key.endswith("_standard_error")}
    assert values == LEFT | ({"infilling_nll"} if both_sides else set())
    assert all(f"{key}_standard_error" in found.values for key in values)
    rows = 8 * ROWS[name, blocks]
    assert passes(arm.config, task) == rows
    assert found.flops == rows * pass_flops(arm.config, 257)
    if not blocks:
        assert sum(len(example.tokens) for example in arm.scorer.examples) == rows


@pytest.mark.backend
@pytest.mark.parametrize("name", ["ar", "dlm"])
def test_values_are_means_over_documents_of_gaps_and_choices(name):
    arm = trained_arm(name)
    (task,) = infilling(arm.config)
    found = measure(task, [arm], DATA)
    held_out = dataset_windows(DATA, "test", 8, 16, 0)

    def mean(values):
        return document_means(values, held_out.documents)[0].mean()

    left = gap_nll(arm.scorer, held_out.windows, 6, 4, False)
    assert found.values["infilling_left_nll"] == pytest.approx(mean(left), rel=1e-6)
    nll = option_nll(arm.scorer, gap_options(held_out.windows, 6, 4, 4), 6, 4, name == "dlm")
    correct = nll.argmin(axis=1) == 0
    assert found.values["infilling_accuracy"] == pytest.approx(mean(correct))
    assert found.examples.values == tuple(correct.astype(float))
    if name == "dlm":
        both = gap_nll(arm.scorer, held_out.windows, 6, 4, True)
        assert found.values["infilling_nll"] == pytest.approx(mean(both), rel=1e-6)


def test_what_knows_the_text_is_always_right_and_a_tie_is_wrong():
    held_out = dataset_windows(DATA, "test", 8, 16, 0)
    pairs = {(int(one), int(two)) for window in held_out.windows for one, two in zip(window, window[1:])}  # noqa: B905, RUF007
    known = np.vectorize(lambda previous, target: 0.0 if (previous, target) in pairs else 5.0, otypes=[float])
    sure = rigged_arm("ar", lambda previous, target: known(previous, target))
    (task,) = infilling(sure.config)
    assert measure(task, [sure], DATA).values["infilling_accuracy"] == 1.0
    uniform = rigged_arm("ar", lambda previous, target: np.full(target.shape, np.log(257)))
    found = measure(task, [uniform], DATA).values
    assert found["infilling_accuracy"] == 0.0
    assert found["infilling_left_nll"] == pytest.approx(np.log(257))


@pytest.mark.parametrize(
    ("length", "share", "expected"), [(16, 0.25, (6, 4)), (2, 0.25, (0, 1)), (9, 0.5, (2, 4))]
)
def test_the_gap_is_in_the_middle(length, share, expected):
    assert InfillingConfig(gap_share=share).left_and_gap(length) == expected


def test_more_options_than_windows_are_refused():
    with pytest.raises(ValueError, match=r"`windows` must be >= `options`.* windows=3, options=4\."):
        make_config(config_of("ar").model_dump(exclude_none=True), {"infilling": {"windows": 3}})

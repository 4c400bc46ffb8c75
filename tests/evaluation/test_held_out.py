import re
from dataclasses import replace

import numpy as np
import pytest

from lab.config import make_config, parse_overrides
from lab.data.dataset import Dataset
from lab.data.tokenizers import ByteTokenizer
from lab.evaluation.held_out import require_held_out

LAYER = {
    "data": {"length": 16},
    "training": {"total_steps": 1},
    "evaluation": {
        "validation_windows": 10,
        "test_windows": 20,
        "exact_windows": 6,
        "choice_items": 15,
        "choice_context_tokens": 8,
        "choice_option_tokens": 4,
    },
    "inference": {"prompts": 30, "choice_items": 40},
}
# By hand: one document of n tokens has room for (n - 15) / 16 windows. validation takes 10 x 16 + 15 = 175,
# test the larger of 20 x 16 + 15 = 335 and (15 + 1) x 12 = 192; inference takes the larger of
# 30 x 16 + 15 = 495 and 41 x 12 = 492 of test.


def dataset(validation, test):
    arrays = [np.zeros(n, np.uint16) for n in (1000, validation, test)]
    return Dataset(*arrays, ByteTokenizer(), {}, {})


EVALUATION, INFERENCE, BOTH = ("evaluation",), ("inference",), ("evaluation", "inference")


@pytest.mark.parametrize(
    ("sections", "validation", "test"), [(EVALUATION, 175, 335), (INFERENCE, 0, 495), (BOTH, 175, 495)]
)
def test_what_is_just_enough_is_taken_and_one_token_less_is_not(sections, validation, test):
    config = make_config(LAYER)
    require_held_out(config, dataset(validation, test), *sections)
    for sizes in ((validation - 1, test), (validation, test - 1)):
        if sizes[0] >= 0:
            with pytest.raises(ValueError, match="splits must be long enough for the evaluation, but"):
                require_held_out(config, dataset(*sizes), *sections)


def test_each_shortage_is_named_with_what_there_is_and_what_to_set():
    message = (
        "but evaluation.validation_windows=10 takes 10 windows of 16 tokens of validation, which has room "
        "for 9; evaluation.test_windows=20 takes 20 windows of 16 tokens of test, which has room for 5; "
        "evaluation.exact_windows=6 takes 6 windows of 16 tokens of test, which has room for 5; "
        "evaluation.choice_items=15 takes 192 tokens of test, which has 100. Give more text, raise "
        "data.validation_share and data.test_share, or measure on less: --set "
        "'evaluation.validation_windows=9 evaluation.test_windows=5 evaluation.exact_windows=5 "
        "evaluation.choice_items=7', SET= for make."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        require_held_out(make_config(LAYER), dataset(170, 100), "evaluation")


@pytest.mark.parametrize("sections", [EVALUATION, BOTH])
@pytest.mark.parametrize("sizes", [(170, 100), (50, 100), (50, 400), (400, 50), (174, 334), (1000, 336)])
def test_the_suggestion_works(sizes, sections):
    try:
        require_held_out(make_config(LAYER), dataset(*sizes), *sections)
    except ValueError as error:
        (settings,) = re.findall(r"--set '(.*)', SET= for make\.$", str(error))
        require_held_out(make_config(LAYER, parse_overrides([settings])), dataset(*sizes), *sections)
    else:  # enough as it is
        assert sizes == (1000, 336)
        assert sections == EVALUATION


def test_gaps_take_windows_of_their_own_section():
    config = make_config(LAYER, {"infilling": {"windows": 21}})
    require_held_out(config, dataset(0, 351), "infilling")
    with pytest.raises(
        ValueError, match=r"infilling\.windows=21 takes 21 windows of 16 tokens of test, which"
    ):
        require_held_out(config, dataset(0, 350), "infilling")


def test_text_that_the_training_split_holds_is_no_room():
    config = make_config(LAYER)
    held_out = dataset(175, 335)
    seen = {"validation": np.ones(175, bool), "test": np.zeros(335, bool)}
    seen["validation"][:159] = False
    require_held_out(config, replace(held_out, seen=seen | {"validation": np.zeros(175, bool)}), "evaluation")
    with pytest.raises(
        ValueError, match=r"10 windows of 16 tokens of validation, which has room for 9\. Give"
    ):
        require_held_out(config, replace(held_out, seen=seen), "evaluation")


def test_a_budget_must_have_the_training_windows_that_are_measured():
    few = make_config(LAYER, {"data": {"unique_tokens": 170}, "memorisation": {"windows": 20}})
    require_held_out(few, dataset(175, 335), "evaluation")
    message = (
        "the budget must be long enough for the evaluation, but memorisation.windows=20 takes 20 windows of "
        "16 tokens of the training budget, which has room for 10. Give more text, raise data.unique_tokens, "
        "or measure on less: --set 'memorisation.windows=10', SET= for make."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        require_held_out(few, dataset(175, 335), "memorisation")
    with pytest.raises(
        ValueError, match=r"the held-out splits and budget must .* raise data\.test_share and data"
    ):
        require_held_out(few, dataset(175, 334), "memorisation")
    enough = make_config(few.model_dump(exclude_none=True), {"memorisation": {"windows": 10}})
    require_held_out(enough, dataset(175, 334), "memorisation")


def test_the_files_of_tasks_are_read_and_their_options_must_fit(tmp_path):
    path = tmp_path / "a.jsonl"
    config = make_config(LAYER, {"tasks": {"files": [str(path)]}})
    require_held_out(config, dataset(175, 335), "evaluation")
    with pytest.raises(ValueError, match=r"`tasks\.files` must exist, but there is no file '.*a\.jsonl'"):
        require_held_out(config, dataset(175, 335), "evaluation", "tasks")
    row = '{"context": "", "options": ["%s", "b"], "answer": 0}\n'
    path.write_text(row % ("x" * 17) * 9 + row % "x")
    with pytest.raises(ValueError, match=r"fit in data\.length=16 tokens, but 1 of 10 have"):
        require_held_out(config, dataset(0, 0), "tasks")
    path.write_text(row % ("x" * 16) * 2)
    require_held_out(config, dataset(0, 0), "tasks")


def test_no_setting_is_suggested_where_none_would_do():
    with pytest.raises(ValueError, match=r"Give more text, raise data\.validation_share\.$"):
        require_held_out(make_config(LAYER), dataset(20, 1000), "evaluation")

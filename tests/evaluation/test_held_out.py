import re

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
        "choice_items": 15,
        "choice_context_tokens": 8,
        "choice_option_tokens": 4,
    },
    "inference": {"prompts": 30, "choice_items": 40},
}
# By hand: validation takes the larger of 10 x 16 = 160 and (15 + 1) x 12 = 192, test of 320 and 192;
# inference takes the larger of 30 x 16 = 480 and 41 x 12 = 492 of test.


def dataset(validation, test):
    arrays = [np.zeros(n, np.uint16) for n in (1000, validation, test)]
    return Dataset(*arrays, ByteTokenizer(), {}, {})


EVALUATION, INFERENCE, BOTH = ("evaluation",), ("inference",), ("evaluation", "inference")


@pytest.mark.parametrize(
    ("sections", "validation", "test"), [(EVALUATION, 192, 320), (INFERENCE, 0, 492), (BOTH, 192, 492)]
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
        "but evaluation.test_windows=20 takes 320 tokens of test, which has 100; evaluation.choice_items=15 "
        "takes 192 tokens of validation, which has 170; evaluation.choice_items=15 takes 192 tokens of test, "
        "which has 100. Give more text, raise data.test_share and data.validation_share, or measure on less: "
        "--set 'evaluation.test_windows=6 evaluation.choice_items=7', SET= for make."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        require_held_out(make_config(LAYER), dataset(170, 100), "evaluation")


@pytest.mark.parametrize("sections", [EVALUATION, BOTH])
@pytest.mark.parametrize("sizes", [(170, 100), (50, 100), (50, 400), (400, 36), (191, 319), (1000, 321)])
def test_the_suggestion_works(sizes, sections):
    try:
        require_held_out(make_config(LAYER), dataset(*sizes), *sections)
    except ValueError as error:
        (settings,) = re.findall(r"--set '(.*)', SET= for make\.$", str(error))
        require_held_out(make_config(LAYER, parse_overrides([settings])), dataset(*sizes), *sections)
    else:  # enough as it is
        assert sizes == (1000, 321)
        assert sections == EVALUATION


def test_no_setting_is_suggested_where_none_would_do():
    with pytest.raises(ValueError, match=r"Give more text, raise data\.validation_share\.$"):
        require_held_out(make_config(LAYER), dataset(20, 1000), "evaluation")

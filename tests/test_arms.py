import itertools

import numpy as np
import pytest

from lab.arms import ARMS, CORNERS, arm_values
from lab.config import FactorsConfig, make_config
from lab.training.build import build_transformer

BASE = {"data": {"length": 8}, "model": {"size": "0.1m", "width": 16, "ffn_width": 24}}
EVALUATION = {"evaluation": {"choice_context_tokens": 4, "choice_option_tokens": 2}}


def config_of(arm):
    return make_config(BASE, EVALUATION, {"training": {"total_steps": 10}}, arm_values(arm))


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_changes_its_factors_and_nothing_else(arm):
    config = config_of(arm)
    assert config.arm == arm
    plain = make_config(BASE, EVALUATION, {"training": {"total_steps": 10}})
    different = {name for name in type(config).model_fields if getattr(config, name) != getattr(plain, name)}
    assert different <= {"arm", "factors"}


def test_no_two_arms_are_the_same_corner():
    corners = {config_of(arm).factors.model_dump_json() for arm in ARMS}
    assert len(corners) == len(ARMS)


def test_ar_and_dlm_are_opposite_corners():
    assert config_of("ar").factors == FactorsConfig(order="left_to_right", compute="causal")
    assert config_of("dlm").factors == FactorsConfig(order="any", compute="dense", draws="inf")


@pytest.mark.parametrize(
    ("frozen", "fresh"),
    [
        ("ar_masked_frozen", "ar_masked"),
        ("order_frozen", "any_order_ar"),
        ("suffix_frozen", "suffix_denoiser"),
        ("dlm_frozen", "dlm"),
    ],
)
def test_a_frozen_arm_differs_from_its_fresh_one_in_draws_alone(frozen, fresh):
    assert {**ARMS[frozen], "draws": "inf"} == ARMS[fresh]
    assert ARMS[frozen]["draws"] == 1


def test_the_corners_are_those_of_the_cube():
    """Each arm's place follows from its factors: any order, dense passes, draws that never end."""
    assert sorted(CORNERS.values()) == list(itertools.product((0, 1), repeat=3))
    for arm, corner in CORNERS.items():
        factors = config_of(arm).factors
        drawn = (
            factors.order != "left_to_right" or factors.compute == "dense" or factors.input_noise != "none"
        )
        place = (factors.order == "any", factors.compute == "dense", drawn and factors.draws == "inf")
        assert corner == tuple(map(int, place)), arm
    assert CORNERS["ar"] == (0, 0, 0)
    assert CORNERS["dlm"] == (1, 1, 1)


def test_the_controls_are_the_arms_at_no_corner():
    assert ARMS.keys() - CORNERS.keys() == {"ar_masked_frozen", "dlm_complementary"}
    frozen, pairs = (config_of(arm).factors for arm in ("ar_masked_frozen", "dlm_complementary"))
    assert frozen == config_of("ar_masked").factors.model_copy(update={"draws": 1})
    assert pairs == config_of("dlm_frozen").factors.model_copy(update={"draws": 2, "complementary": True})


def test_ar_masked_masks_any_number_of_inputs_and_scores_all():
    plain, masked = config_of("ar").factors, config_of("ar_masked").factors
    assert masked.model_dump() == {**plain.model_dump(), "input_noise": "mask:0-1"}
    assert (masked.draws, masked.loss_on) == ("inf", "all")


def test_an_unknown_arm_is_refused():
    with pytest.raises(ValueError, match=r"`arm` must be one of \['any_order_ar', .*got arm='gpt'\."):
        arm_values("gpt")


@pytest.mark.backend
def test_all_arms_start_from_the_same_weights():
    """Equal parameters, tensor by tensor and value by value: the same weights serve every corner."""
    vocab, width, ffn_width = 11, 16, 24
    models = {arm: build_transformer(config_of(arm), vocab) for arm in ARMS}
    expected = [np.array(weight) for weight in models["ar"].weights]
    by_hand = (vocab + 1) * width + 8 * width + 2 * (4 * width**2 + 3 * width * ffn_width)
    for arm, model in models.items():
        assert model.count_params() == by_hand, arm
        for weight, value in zip(model.weights, expected, strict=True):
            assert np.array_equal(np.array(weight), value), (arm, weight.path)

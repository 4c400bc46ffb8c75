import re

import pytest
from ablation_bench import tiny_ablation
from pydantic import ValidationError

from lab.registration import Registration, check_registration
from lab.sections import Contrast, between_levels, over_best, pairs
from lab.version import digest

TOKENS = "data.unique_tokens"
LEVELS = [{TOKENS: 1000}, {TOKENS: 2000}]
RULE = Registration(contrasts=pairs({"dlm": "ar"}))


def levels(rule, planned=LEVELS):
    return [contrast.level for contrast in rule.at_levels("nll", planned).contrasts]


def test_a_contrast_is_taken_at_every_level_or_the_first_or_those_that_it_names():
    assert levels(RULE) == LEVELS
    assert levels(RULE.model_copy(update={"levels": "first"})) == LEVELS[:1]
    named = Registration(contrasts=(Contrast(arm="dlm", reference="ar", level={TOKENS: 2000}),))
    assert levels(named) == LEVELS[1:]
    assert RULE.at_levels("nll", LEVELS).metric == "nll"
    sizes = [{**level, "model.size": size} for size in ("0.1m", "0.3m") for level in LEVELS]
    assert levels(named, sizes) == [sizes[1], sizes[3]]


def test_a_named_level_may_be_one_that_not_every_arm_has():
    """Where both runs of the contrast are planned, and nowhere else."""
    block = "factors.block"
    common = [{**level, block: "window"} for level in LEVELS]
    alone = [{**LEVELS[0], block: 4}, {**LEVELS[1], block: 4}, {TOKENS: 3000, block: 4}]
    runs = [(arm, level) for level in common for arm in ("ar", "dlm")] + [("dlm", level) for level in alone]
    across = Contrast(arm="dlm", reference="ar", level={block: 4}, reference_level={block: "window"})
    rule = Registration(contrasts=(across, *pairs({"dlm": "ar"})))
    found = [contrast.level for contrast in rule.at_levels("nll", common, runs).contrasts]
    assert found == [*alone[:2], *common]
    with pytest.raises(ValueError, match="`primary` must be at planned levels"):
        rule.at_levels("nll", common)


def test_a_contrast_whose_reference_level_is_not_planned_is_refused():
    """As with LEVELS=data.quality=medium,high, where none is at low."""
    quality = "data.quality"
    planned = [{quality: "medium"}, {quality: "high"}]
    runs = [(arm, level) for level in planned for arm in ("ar", "dlm")]
    rule = Registration(contrasts=between_levels(("ar", "dlm"), quality, "high", "low"))
    for known in ((), runs):
        with pytest.raises(
            ValueError, match=r"but ar against ar is at {.*: 'high'} with its reference at {.*: 'low'}"
        ):
            rule.at_levels("nll", planned, known)
    assert levels(rule, [*planned, {quality: "low"}]) == [{quality: "high"}] * 2


def test_a_level_is_left_out_where_the_reference_is_not_planned():
    """Among the levels of every arm or, for the reference, among its own."""
    size = "model.size"
    large = [{**level, size: "0.3m"} for level in LEVELS]
    small = [{**level, size: "0.1m"} for level in LEVELS]
    rule = Registration(contrasts=between_levels(("dlm",), size, "0.3m", "0.1m"))
    assert levels(rule, [*large, small[1]]) == large[1:]
    alone = [("dlm", level) for level in (*large, small[0])]
    assert [one.level for one in rule.at_levels("nll", large, alone).contrasts] == large[:1]


def test_an_arm_is_not_set_against_itself():
    across = Contrast(arm="ar", reference="ar", reference_level={TOKENS: 1000})
    assert levels(Registration(contrasts=(across,))) == LEVELS[1:]


def test_an_arm_may_be_set_against_itself_at_another_stop():
    rule = Registration(contrasts=over_best(("ar",)), place="end")
    assert levels(rule) == LEVELS
    assert check_registration(rule, "nll", ["ar"], [TOKENS], measured=False) is None
    with pytest.raises(
        ValueError, match=r"`primary` must take .* two stops, but got 'ar' with itself at 'best'"
    ):
        check_registration(rule.model_copy(update={"place": "best"}), "nll", ["ar"], [TOKENS], measured=False)


def test_an_older_rule_keeps_its_hash_and_another_stop_has_another():
    rule = RULE.at_levels("nll", LEVELS)
    values = rule.model_dump(mode="json")
    for contrast in values["contrasts"]:
        del contrast["reference_at"], contrast["best_of"]
    assert rule.digest() == digest(values)
    other = RULE.model_copy(update={"contrasts": over_best(("dlm",))})
    assert other.digest() != Registration(contrasts=pairs({"dlm": "ar"})).digest()


def test_a_contrast_at_no_planned_level_is_refused():
    lost = Registration(contrasts=(Contrast(arm="dlm", reference="ar", level={TOKENS: 5}),))
    with pytest.raises(ValueError, match=r"`primary` must be at planned levels, .*, but dlm against"):
        lost.at_levels("nll", LEVELS)


def test_the_hash_is_of_the_rule():
    rule = RULE.at_levels("nll", LEVELS)
    assert Registration.model_validate_json(rule.model_dump_json()).digest() == rule.digest()
    changes = {
        "margin": 0.02,
        "looks": (3, 6),
        "alpha": 0.01,
        "place": "end",
        "metric": "bits_per_byte",
        "contrasts": pairs({"ar": "dlm"}),
    }
    digests = {rule.model_copy(update={name: value}).digest() for name, value in changes.items()}
    assert len({rule.digest(), *digests}) == len(changes) + 1


@pytest.mark.parametrize("looks", [(2, 3), (3, 3), (5, 4)])
def test_looks_ascend_from_three_seeds(looks):
    with pytest.raises(ValidationError, match="`looks` must ascend from at least 3 seeds, but got looks="):
        Registration(contrasts=RULE.contrasts, looks=looks)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"contrasts": pairs({"dlm": "gone"})},
            "`primary` must name arms of ['ar', 'dlm'], but got",
        ),
        (
            {"contrasts": (Contrast(arm="dlm", reference="ar", level={"model.size": "0.1m"}),)},
            "`primary` must name levels of ['data.unique_tokens'], but got ['model.size'].",
        ),
        ({"metric": "judge_nll"}, "`primary` must be of a metric that is measured exactly, once of a stop"),
        ({"metric": "nelbo"}, "measured exactly, once of a stop, but got metric='nelbo'."),
        ({"metric": "gone"}, "`metric` must be one of"),
        ({"metric": "pass_at_1"}, "`measurements` must name what measures the metric of `primary`"),
    ],
)
def test_an_ablation_registers_only_what_it_has(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny_ablation(primary=RULE.model_copy(update=changes))

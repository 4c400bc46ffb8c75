import re

import pytest

from lab.metrics import METRICS, NLL, TRAINING, find_metric

DECLARED = pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)


def test_a_metric_is_found_by_its_key():
    assert find_metric("nelbo").bound
    assert not find_metric(NLL).bound
    with pytest.raises(
        ValueError, match=r"`metric` must be one of \['auxiliary_loss', .*but got metric='bpb'\."
    ):
        find_metric("bpb")


@DECLARED
def test_every_key_and_every_error_has_a_tag_of_its_own(metric):
    """No tag says another thing twice, and no standard error has the key of a metric."""
    tags = [metric.tag, *(metric.error_tag(error) for error in metric.errors)]
    others = [other.tag for other in METRICS.values() if other is not metric]
    assert len({*tags, *others}) == len(tags) + len(others)
    assert not set(metric.errors) & set(METRICS)
    assert all(re.fullmatch("[a-z0-9_]+", tag) for tag in tags)


@DECLARED
def test_a_tag_carries_the_unit_once(metric):
    words = metric.unit.replace("/", " per ").split()
    spoken = "_".join(words) or metric.key
    assert metric.tag.count(spoken) == 1
    for error in metric.errors:
        assert metric.error_tag(error).startswith(f"{error}_" if words and not metric.unit_in_key else error)


def test_a_bound_is_called_one():
    assert METRICS["nelbo"].tag == "nelbo_bound_nats_per_token"
    assert (
        METRICS["nelbo"].error_tag("nelbo_mask_standard_error") == "nelbo_mask_standard_error_nats_per_token"
    )
    assert METRICS[NLL].tag == "nll_nats_per_token"
    assert METRICS["bits_per_byte"].tag == "bits_per_byte"
    assert METRICS["choice_accuracy"].tag == "choice_accuracy"


def test_an_improvement_is_positive_whichever_way_the_metric_points():
    assert METRICS[NLL].improvement(before=3.0, after=2.5) == 0.5
    assert METRICS["choice_accuracy"].improvement(before=0.25, after=0.75) == 0.5
    assert METRICS["option_gap"].improvement(before=0.5, after=0.25) == -0.25


def test_a_share_is_shown_in_percent_and_a_difference_of_shares_in_points():
    accuracy, nll = METRICS["choice_accuracy"], METRICS[NLL]
    assert (accuracy.shown(0.316), accuracy.scale, accuracy.difference_unit) == (
        "31.6 %",
        100,
        "percentage points",
    )
    assert (nll.shown(2.5), nll.scale, nll.difference_unit) == ("2.500", 1, "nats/token")


def test_a_value_is_followed_by_its_errors_in_its_unit():
    accuracy, nelbo = METRICS["task_accuracy"], METRICS["nelbo"]
    values = {"task_accuracy": 0.25, "task_accuracy_standard_error": 0.031, "nelbo": 2.5}
    assert accuracy.with_errors(values) == "task accuracy 25.0 ± 3.1 %"
    values["task_accuracy_draw_standard_error"] = 0.004
    assert accuracy.with_errors(values) == "task accuracy 25.0 ± 3.1 ± 0.4 %"
    assert nelbo.with_errors({**values, "nelbo_example_standard_error": None}) == "NELBO 2.500 nats/token"
    assert METRICS["temperature"].with_errors({"temperature": 1.5}) == "temperature of calibration 1.500"


def test_what_is_measured_after_the_runs_on_examples_of_its_own_names_them():
    own = {key: metric for key, metric in METRICS.items() if metric.of_best}
    assert all(metric.after_runs and metric.sample for metric in own.values())
    assert {"train_nll", "task_nll", "pass_at_1"} <= set(own)
    assert not {"nll_calibrated", "infilling_nll", "judge_nll"} & set(own)
    assert [METRICS[key].on("test") for key in ("pass_at_1", NLL)] == ["pass@1", "test NLL"]
    examples = [METRICS[key].examples for key in ("train_nll", "extraction_rate_held_out", "pass_at_1")]
    assert examples == ["training windows", "held-out windows", "held-out problems"]


def test_runs_measure_of_their_stops_what_needs_no_sampling():
    measured = {key for key, metric in METRICS.items() if metric.of_stops}
    by_items = {"choice_accuracy", "option_gap", "choice_true_nll", "choice_wrong_nll"}
    by_nll = {NLL, "nll_exact", "nll_by_token", "bits_per_byte"}
    assert measured == {*by_nll, *by_items, "nelbo"}


def test_what_is_measured_names_its_examples_and_training_has_none():
    assert {key for key, metric in METRICS.items() if not metric.sample} == set(TRAINING)

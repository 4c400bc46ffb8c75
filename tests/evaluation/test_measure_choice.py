import numpy as np
import pytest
from evaluation_bench import random_documents, rigged_arm, task_of, trained_arm

from lab.evaluation.choice import make_items, option_nll, rank_options
from lab.evaluation.choice_draws import sampled_option_nll
from lab.evaluation.inference_flops import InferenceCounter
from lab.evaluation.measure_choice import measure
from lab.evaluation.measurements import inference, yardstick

DATA = random_documents()


def score_of(arm, items, num_draws):
    nll = (
        option_nll(arm.scorer, items)
        if num_draws is None
        else sampled_option_nll(arm.scorer, items, num_draws)
    )
    return rank_options(nll)


@pytest.mark.backend
@pytest.mark.parametrize("name", ["ar", "dlm", "any_order_ar"])
def test_the_values_are_the_score_of_the_items_with_its_errors(name):
    arm = trained_arm(name, {"seed": 2})
    tasks = {"yardstick": yardstick(arm.config, "test"), "inference": inference(arm.config)}
    for set_name, task in ((key, task) for key, made in tasks.items() for task in made):
        if task.measurement != "choice":
            continue
        items = make_items(DATA.test, {"yardstick": 3, "inference": 4}[set_name], 4, 8, 4, 2)
        num_draws = task.settings.get("num_draws")
        score = score_of(arm, items, num_draws)
        found = measure(task, [arm], DATA)
        assert found.values == {
            "choice_accuracy": score.accuracy,
            "choice_accuracy_standard_error": score.accuracy_standard_error,
            "option_gap": score.option_gap,
            "option_gap_standard_error": score.option_gap_standard_error,
            "choice_true_nll": score.true_nll,
            "choice_true_nll_standard_error": score.true_nll_standard_error,
            "choice_wrong_nll": score.wrong_nll,
            "choice_wrong_nll_standard_error": score.wrong_nll_standard_error,
        }
        counter = InferenceCounter(arm.config.model, 16, 257, arm.scorer.causal)
        cost = counter.per_choice_item(4, 8, 4, num_draws)
        assert found.costs == {"flops": cost.needed, "flops_computed": cost.computed}
        assert found.examples is None
        assert found.texts == ()


@pytest.mark.parametrize("name", ["ar", "dlm"])
def test_a_uniform_model_finds_all_options_equally_unlikely(name):
    arm = rigged_arm(name, lambda previous, target: np.full(target.shape, np.log(257)))
    found = measure(task_of(yardstick(arm.config, "test"), "choice"), [arm], DATA).values
    expected = {"choice_true_nll": np.log(257), "choice_wrong_nll": np.log(257), "option_gap": 0.0}
    assert {key: found[key] for key in expected} == pytest.approx(expected)
    assert found["choice_accuracy"] == 0.0  # a tie counts as wrong


def test_what_one_draw_and_three_draws_cost():
    arm = rigged_arm("dlm", lambda previous, target: np.full(target.shape, 1.0))
    tasks = [task_of(inference(arm.config), "choice", num_draws=number) for number in (1, 3)]
    one, three = (measure(task, [arm], DATA) for task in tasks)
    assert three.flops == 3 * one.flops
    assert three.costs["flops"] == pytest.approx(3 * one.costs["flops"])

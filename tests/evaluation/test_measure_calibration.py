import numpy as np
import pytest
from evaluation_bench import (
    STOP,
    RiggedLogits,
    config_of,
    log_softmax,
    random_documents,
    scorer_of,
    task_of,
    windows_of,
)

from lab.data.held_out import dataset_windows, document_means, scored_places
from lab.evaluation.arm import Arm
from lab.evaluation.chain_rule import chain_rule_nll, place_logits
from lab.evaluation.flops import pass_flops
from lab.evaluation.measure_calibration import document_weights, measure
from lab.evaluation.measurements import ability, passes

DATA = random_documents()


@pytest.mark.backend
@pytest.mark.parametrize("name", ["ar", "dlm"])
def test_the_logits_are_of_the_distributions_that_the_nll_is_of(name):
    scorer, windows = scorer_of(name), windows_of(5)
    places, _ = scored_places(5, 8, 3, 0)
    targets = np.take_along_axis(windows, places, axis=1).ravel()
    found = np.full(places.size, np.nan)
    for numbers, logits in place_logits(scorer, windows, places):
        found[numbers] = -np.take_along_axis(log_softmax(logits), targets[numbers, None], axis=1)[:, 0]
    expected = chain_rule_nll(scorer, windows, places=places)
    assert found == pytest.approx(expected.ravel(), abs=1e-5)


class Letters(RiggedLogits):
    """A network that is sure of letters: logits of 8, of all else 0; one letter a little more likely."""

    def one_batch(self, tokens, slots):
        logits = np.zeros((*slots.shape, 257))
        logits[..., 97:123] = 8.0
        logits[..., 101] = 8.5
        return logits


@pytest.mark.parametrize(("name", "rows"), [("ar", 8 + 9), ("dlm", 8 * 16 + 9 * 4)])
def test_the_temperature_is_fitted_on_validation_and_judged_on_test(name, rows):
    config = config_of(name, {"seed": 2, "evaluation": {"validation_windows": 8, "validation_positions": 0}})
    arm = Arm(config, Letters(name == "ar", 16, 257), STOP)
    task = task_of(ability(config), "calibration")
    found = measure(task, [arm], DATA)
    temperature = found.values["temperature"]

    def nll(split, windows, positions, factor):
        held_out = dataset_windows(DATA, split, windows, 16, 2)
        places, shares = scored_places(windows, 16, positions, 2)
        log_probs = log_softmax(arm.scorer.one_batch(None, np.zeros(1, int)) / factor)
        targets = np.take_along_axis(held_out.windows, places, axis=1)
        means, _ = document_means(-log_probs[0][targets] @ shares, held_out.documents)
        return means.mean()

    validation = {f: nll("validation", 8, 0, f * temperature) for f in (1.0, 0.99, 1.01, 1 / temperature)}
    assert min(validation, key=validation.get) == 1.0
    assert 1.05 < temperature < 10  # ends of documents surprise it
    assert found.values["nll_calibrated"] == pytest.approx(nll("test", 9, 4, temperature))
    assert found.examples.metric == "nll_calibrated"
    assert passes(config, task) == rows
    assert found.flops == rows * pass_flops(config, 257)


def test_windows_weigh_as_their_documents_do():
    values, documents = np.array([1.0, 5.0, 3.0]), np.array([4, 4, 7])
    means, _ = document_means(values, documents)
    assert document_weights(documents) @ values == pytest.approx(means.mean())

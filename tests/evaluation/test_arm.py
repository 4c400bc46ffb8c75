import numpy as np
import pytest
from evaluation_bench import config_of

from lab.data.held_out import HeldOut
from lab.evaluation.arm import make_scorer
from lab.evaluation.documents import over_documents, standard_error, window_examples


def test_the_scorer_is_the_arms():
    for arm, causal in (("ar", True), ("dlm", False)):
        scorer = make_scorer(None, config_of(arm))
        assert (scorer.causal, scorer.batch_size) == (causal, 8)


@pytest.mark.parametrize(
    ("factors", "causal"),
    [
        ({"ar_share": 0.5}, False),
        ({"ar_share": 0.5, "read_as": "causal"}, True),
        ({"ar_share": 1}, True),
        ({"read_as": "causal"}, False),
    ],
)
def test_an_arm_of_two_objectives_is_read_as_it_says(factors, causal):
    assert make_scorer(None, config_of("dlm", {"factors": factors})).causal == causal


HELD_OUT = HeldOut(np.zeros((4, 8), np.int32), np.array([5, 2, 5, 9]), np.array([80, 30, 80, 10]))
BY_WINDOW = np.array([1.0, 4.0, 2.0, 6.0])  # documents 2, 5 and 9 have 4, 1.5 and 6


def test_an_example_is_of_the_document_of_its_window():
    examples = window_examples("nll", BY_WINDOW, HELD_OUT)
    assert (examples.metric, examples.values, examples.documents) == ("nll", (1, 4, 2, 6), (5, 2, 5, 9))


def test_the_mean_is_over_documents_and_so_is_its_error():
    means = np.array([4.0, 1.5, 6.0])
    found = over_documents("nll", BY_WINDOW, HELD_OUT)
    error = np.sqrt(((means - means.mean()) ** 2).sum() / 2 / 3)
    assert found == {"nll": pytest.approx(11.5 / 3), "nll_standard_error": pytest.approx(error)}


def test_the_error_is_that_of_the_spread_over_samples():
    """Documents differ by 1, windows within one by 0.5: samples of 12 documents, two windows of each."""
    numbers = np.random.default_rng(0)
    documents = np.repeat(np.arange(12), 2)
    held_out = HeldOut(np.zeros((24, 8), np.int32), documents, np.ones(24, np.int64))
    found = [
        over_documents("x", np.repeat(numbers.normal(size=12), 2) + numbers.normal(size=24) / 2, held_out)
        for _ in range(2000)
    ]
    spread = np.std([one["x"] for one in found])
    claimed = np.sqrt(np.mean([one["x_standard_error"] ** 2 for one in found]))
    assert claimed == pytest.approx(spread, rel=0.07)  # both are known to 2 %
    assert spread == pytest.approx(np.sqrt((1 + 0.25 / 2) / 12), rel=0.07)


def test_a_standard_error_is_that_of_a_mean():
    values = np.array([1.0, 2.0, 4.0, 5.0])
    assert standard_error(values) == pytest.approx(np.sqrt(((values - 3) ** 2).sum() / 3 / 4))
    assert standard_error(values[:1]) is None

import numpy as np
import pytest
from evaluation_bench import config_of

from lab.data.tokenizers import ByteTokenizer
from lab.evaluation.arm import make_scorer, standard_error, window_examples


def test_the_scorer_is_the_arms():
    for arm, causal in (("ar", True), ("dlm", False)):
        scorer = make_scorer(None, config_of(arm))
        assert (scorer.causal, scorer.batch_size) == (causal, 8)


def test_an_example_is_of_the_document_in_which_its_window_begins():
    """Windows of 4 begin at 0, 6 and 12 of 18 tokens; documents at 0, 5, 6, 13."""
    tokens = np.array([ord(letter) if letter != "|" else 256 for letter in "aaaa||bbbbbb|ccccc"], np.uint16)
    examples = window_examples("nll", np.array([0.5, 1.5, 2.5]), tokens, 4, ByteTokenizer().end_id)
    assert (examples.metric, examples.values, examples.documents) == ("nll", (0.5, 1.5, 2.5), (0, 2, 2))


def test_a_standard_error_is_that_of_a_mean():
    values = np.array([1.0, 2.0, 4.0, 5.0])
    assert standard_error(values) == pytest.approx(np.sqrt(((values - 3) ** 2).sum() / 3 / 4))

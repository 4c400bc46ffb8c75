import numpy as np
import pytest

from lab.data.held_out import effective_documents
from lab.reporting.documents import clustered_error, paired_error
from lab.results import Examples


def examples(values, documents=(0, 0, 1, 3)):
    return Examples(metric="nll", values=tuple(values), documents=documents)


def test_the_error_is_that_of_the_means_of_documents():
    # Means 1, 4, 10: sd = sqrt(21), over three documents.
    assert clustered_error(np.array([0.0, 2.0, 4.0, 10.0]), (0, 0, 1, 3)) == pytest.approx(np.sqrt(21 / 3))
    assert clustered_error(np.array([1.0, 2.0]), (5, 5)) is None


def test_windows_of_one_document_are_not_counted_as_many():
    generator = np.random.default_rng(0)
    documents, size = np.repeat(np.arange(20), 5), 4000
    values = np.repeat(generator.normal(size=(size, 20)), 5, axis=1) + 0.3 * generator.normal(
        size=(size, 100)
    )
    errors = [clustered_error(row, documents) for row in values[:200]]
    true = values.mean(axis=1).std()
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(true, rel=0.06)
    assert np.mean(values[:200].std(axis=1) / 10) < 0.6 * true  # as if windows were independent


def test_documents_of_unequal_share_count_for_fewer():
    assert effective_documents((0, 1, 2, 3)) == 4
    assert effective_documents((0, 0, 1, 3)) == pytest.approx(16 / 6)
    assert effective_documents((7, 7)) == 1


def test_what_is_hard_for_both_arms_drops_out_of_a_difference():
    ar = {0: examples([1.0, 2.0, 3.0, 9.0])}
    dlm = {0: examples([0.9, 1.9, 2.7, 8.8])}
    assert paired_error([ar, dlm], (-1, 1)) == pytest.approx(0.1 / np.sqrt(3))  # -0.1, -0.3 and -0.2
    assert paired_error([ar, ar], (-1, 1)) == 0


def test_seeds_are_pooled_and_may_have_documents_of_their_own():
    first = {0: examples([1.0, 1.0, 2.0, 3.0]), 1: examples([0.0, 4.0], (0, 1))}
    second = {0: examples([0.0] * 4), 1: examples([0.0] * 2, (0, 1))}
    squares = [1 / 3, 8 / 2]
    assert paired_error([first, second], (1, -1)) == pytest.approx(np.sqrt(np.mean(squares)))


@pytest.mark.parametrize(
    "other",
    [{}, {0: examples([1.0] * 4, (0, 1, 1, 3))}, {1: examples([1.0] * 4)}],
    ids=["not measured", "other windows", "another seed"],
)
def test_an_error_is_of_the_same_windows_or_not_known(other):
    assert paired_error([{0: examples([1.0, 2.0, 3.0, 4.0])}, other], (-1, 1)) is None

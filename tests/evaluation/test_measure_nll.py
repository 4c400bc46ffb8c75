from dataclasses import replace

import numpy as np
import pytest
from evaluation_bench import random_documents, rigged_arm, task_of

from lab.evaluation.measure_nll import measure
from lab.evaluation.measurements import yardstick

DATA = random_documents()


def nll_of(previous, target):
    return 0.5 + (target % 7) / 10


def measured(name, split, nll=nll_of, data=DATA):
    arm = rigged_arm(name, nll)
    return measure(task_of(yardstick(arm.config, split), "nll"), [arm], data)


def windows_of_split(split, count):
    tokens = getattr(DATA, split)
    starts = [i * len(tokens) // count for i in range(count)]
    return starts, np.array([tokens[start : start + 16] for start in starts], int)


@pytest.mark.parametrize("arm", ["ar", "dlm"])
@pytest.mark.parametrize(("split", "count"), [("validation", 5), ("test", 9)])
def test_nll_and_bits_per_byte_are_sums_over_the_windows_by_hand(arm, split, count):
    """An end of a document costs nats and has no bytes."""
    starts, windows = windows_of_split(split, count)
    nats = [[0.5 + (int(token) % 7) / 10 for token in window] for window in windows]
    bytes_ = sum(int(token) != 256 for window in windows for token in window)
    assert bytes_ < 16 * count
    found = measured(arm, split)
    by_window = np.mean(nats, axis=1)
    assert found.values == {
        "nll": pytest.approx(np.mean(nats)),
        "nll_standard_error": pytest.approx(np.std(by_window, ddof=1) / count**0.5),
        "bits_per_byte": pytest.approx(np.sum(nats) / (np.log(2) * bytes_)),
    }
    assert found.examples.metric == "nll"
    assert found.examples.values == pytest.approx(by_window)
    ends = [int((getattr(DATA, split)[:start] == 256).sum()) for start in starts]
    assert list(found.examples.documents) == ends


def test_eight_bits_a_byte_without_ends():
    """A uniform model over 256 bytes on text without ends needs 8 bits a byte."""
    plain = replace(DATA, validation=DATA.validation[DATA.validation < 256])
    found = measured("ar", "validation", lambda previous, target: np.log(256.0), plain)
    assert found.values["bits_per_byte"] == pytest.approx(8)

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from evaluation_bench import random_documents, rigged_arm, task_of

from lab.data.held_out import dataset_windows, scored_places
from lab.evaluation.measure_nll import measure
from lab.evaluation.measurements import yardstick

DATA = random_documents()
ALL = {"evaluation": {"test_positions": 0, "validation_positions": 0}}


def cost(token):
    return 0.5 + (int(token) % 7) / 10


def nll_of(previous, target):
    return 0.5 + (target % 7) / 10


def measured(name, split, *layers, rule=nll_of, data=DATA, task="nll"):
    arm = rigged_arm(name, rule, {"seed": 2}, *layers)
    return measure(task_of(yardstick(arm.config, split), task), [arm], data)


@pytest.mark.parametrize("arm", ["ar", "dlm"])
@pytest.mark.parametrize(("split", "count"), [("validation", 5), ("test", 9)])
def test_the_values_are_means_over_documents_by_hand(arm, split, count):
    """Documents of 1 to 40 bytes, in windows of 16: packs, and long ones. An end costs nats, has no bytes."""
    tokens = getattr(DATA, split).tolist()
    packs, pack = [], []
    for token in tokens:
        pack.append(token)
        if token == 256 and len(pack) >= 16:
            packs.append(pack)
            pack = []
    packs[-1] = packs[-1] + pack
    found = measured(arm, split, ALL)
    held_out = dataset_windows(DATA, split, count, 16, 2)
    by_document, bytes_, sizes = {}, {}, {}
    for window, document in zip(held_out.windows.tolist(), held_out.documents.tolist(), strict=True):
        whole = packs[document]
        assert any(whole[start : start + 16] == window for start in range(len(whole) - 15))
        by_document.setdefault(document, []).append(np.mean([cost(token) for token in window]))
        bytes_.setdefault(document, []).append(np.mean([token != 256 for token in window]))
        sizes[document] = len(whole)
    means = [np.mean(values) for values in by_document.values()]
    assert len(means) == count  # there are enough documents
    bytes_per_token = np.mean([np.mean(values) for values in bytes_.values()])
    assert bytes_per_token < 1
    assert found.values == {
        "nll": pytest.approx(np.mean(means)),
        "nll_standard_error": pytest.approx(np.std(means, ddof=1) / len(means) ** 0.5),
        "nll_by_token": pytest.approx(np.average(means, weights=list(sizes.values()))),
        "bits_per_byte": pytest.approx(np.mean(means) / np.log(2) / bytes_per_token),
    }
    assert found.examples.metric == "nll"
    assert found.examples.documents == tuple(held_out.documents.tolist())
    assert found.examples.values == pytest.approx([np.mean(list(map(cost, row))) for row in held_out.windows])


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_some_places_estimate_the_mean_of_all_without_bias(arm):
    """Of two positions in windows of 5, which hold 2 and 3 places: all six choices, weighted as measured."""
    layers = (
        {"data": {"length": 5}},
        {"evaluation": {"choice_context_tokens": 2, "choice_option_tokens": 2}},
    )
    exact = measured(arm, "test", *layers, ALL)
    windows = dataset_windows(DATA, "test", 9, 5, 2).windows
    few = measured(arm, "test", *layers, {"evaluation": {"test_positions": 2}})
    places, shares = scored_places(9, 5, 2, 2)
    assert shares.tolist() == [0.4, 0.6]
    for window, own, value in zip(windows, places, few.examples.values, strict=True):
        assert value == pytest.approx(0.4 * cost(window[own[0]]) + 0.6 * cost(window[own[1]]))
    for window, value in zip(windows, exact.examples.values, strict=True):
        choices = [0.4 * cost(window[a]) + 0.6 * cost(window[b]) for a, b in product((0, 1), (2, 3, 4))]
        assert np.mean(choices) == pytest.approx(value)
    assert few.values["nll"] != exact.values["nll"]


def test_both_arms_are_measured_at_the_same_places_of_the_same_windows():
    found = [
        measured(arm, "test", {"evaluation": {"test_positions": 3}}) for arm in ("ar", "dlm", "any_order_ar")
    ]
    assert found[0].examples == found[1].examples == found[2].examples
    assert found[0].flops < found[1].flops


def test_replicates_are_measured_on_other_windows_and_members_on_the_same():
    first, member, other = (
        measured("ar", "test", layer).examples for layer in ({}, {"member": 3}, {"seed": 3})
    )
    assert first == member
    assert first.values != other.values
    fixed = [measured("ar", "test", {"seed": seed, "data": {"subset": "fixed"}}) for seed in (2, 3)]
    assert fixed[0] == fixed[1]


@pytest.mark.parametrize("arm", ["ar", "dlm"])
def test_at_all_places_it_has_another_name(arm):
    layer = {"evaluation": {"exact_windows": 7, "test_windows": 7}}
    found, plain = measured(arm, "test", layer, task="nll_exact"), measured(arm, "test", layer, ALL)
    assert found.values == {
        "nll_exact": plain.values["nll"],
        "nll_exact_standard_error": plain.values["nll_standard_error"],
    }
    assert found.examples.metric == "nll_exact"
    assert found.examples.values == plain.examples.values


def test_eight_bits_a_byte_without_ends():
    """A uniform model over 256 bytes on text without ends needs 8 bits a byte; one document has no error."""
    plain = replace(DATA, validation=DATA.validation[DATA.validation < 256])
    found = measured("ar", "validation", rule=lambda previous, target: np.log(256.0), data=plain)
    assert found.values["bits_per_byte"] == pytest.approx(8)
    assert found.values["nll_standard_error"] is None

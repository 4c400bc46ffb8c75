import json

import numpy as np
import pytest
from evaluation_bench import log_softmax, scorer_of, windows_of

from lab.objectives.corruption import causal_example, dense_example

pytestmark = pytest.mark.backend

SLOTS = np.array([[0, 3], [1, 1], [7, 2], [4, 5], [6, 0]], np.int32)


def example_of(scorer):
    windows = windows_of(5)
    if scorer.causal:
        order = np.tile(np.array([3, 1, 4, 0, 7, 2, 6, 5], np.int32), (5, 1))
        return causal_example(windows, order, scorer.transformer.mask_id, np)
    return dense_example(windows, windows > 2, scorer.transformer.mask_id, np.ones(5, np.float32), np)


def all_logits(scorer, example):
    """The network's own, of every slot."""
    return scorer.transformer(example, causal=scorer.causal)


@pytest.mark.parametrize("arm", ["any_order_ar", "dlm"])
def test_nll_and_logits_of_slots_are_the_networks_own(arm):
    scorer = scorer_of(arm, batch_size=2)
    example = example_of(scorer)
    expected = np.take_along_axis(log_softmax(all_logits(scorer, example)), SLOTS[..., None], axis=1)
    batches = list(scorer.logits(example, SLOTS, 2))
    assert [rows.tolist() for rows, _ in batches] == [[0, 1], [2, 3], [4]]
    logits = np.concatenate([values for _, values in batches])
    assert logits.dtype == np.float64
    np.testing.assert_allclose(log_softmax(logits), expected, rtol=1e-4, atol=1e-5)
    targets = np.take_along_axis(example.targets, SLOTS, axis=1)
    nll = -np.take_along_axis(expected, targets[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(scorer.nll(example, SLOTS), nll, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(
        scorer.nll(example, SLOTS[0]), scorer.nll(example, np.tile(SLOTS[0], (5, 1)))
    )


def test_every_pass_has_the_same_shapes():
    """Five rows in batches of two or of eight: the last is filled up, so that one program serves all."""
    for size in (2, 8):
        scorer = scorer_of("dlm", batch_size=size)
        predict, shapes = scorer.predict_on_batch, []
        scorer.predict_on_batch = lambda batch, predict=predict, shapes=shapes: (
            shapes.append({values.shape for values in batch.values()}) or predict(batch)
        )
        example = example_of(scorer)
        scorer.nll(example, SLOTS)
        list(scorer.logits(example, SLOTS, size))
        assert shapes == [{(size, 8), (size, 2)}] * (2 * -(-5 // size))


def test_one_scorer_takes_any_number_of_slots():
    """After a few TensorFlow traces a program in which that number is not known."""
    scorer = scorer_of("dlm", batch_size=5)
    example = example_of(scorer)
    expected = scorer.nll(example, np.arange(8))
    for count in (1, 2, 3, 5):
        found = scorer.nll(example, np.arange(count))
        np.testing.assert_allclose(found, expected[:, :count], rtol=1e-5, atol=1e-6)


def test_it_is_made_again_from_its_configuration_with_a_network_of_its_own():
    import keras

    scorer = scorer_of("dlm", batch_size=3)
    assert keras.saving.get_registered_name(type(scorer)) == "lab>SlotScorer"
    written = json.dumps(keras.saving.serialize_keras_object(scorer))
    again = keras.saving.deserialize_keras_object(json.loads(written))
    assert again.get_config() == scorer.get_config()
    assert (again.causal, again.batch_size) == (False, 3)
    assert again.transformer is not scorer.transformer
    again.transformer.set_weights(scorer.transformer.get_weights())
    example = example_of(scorer)
    np.testing.assert_array_equal(again.nll(example, SLOTS), scorer.nll(example, SLOTS))

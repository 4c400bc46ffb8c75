import numpy as np
import pytest
from keras import ops
from namespaces import host

from lab.models.rotary import rotary_angles, rotate

HEAD_WIDTH = 8


def turn(features, positions):
    """(count, HEAD_WIDTH) features, each at its position."""
    angles = rotary_angles(100, HEAD_WIDTH)[positions][None, :, None]
    turned = rotate(*map(ops.convert_to_tensor, (features[None, :, None], np.cos(angles), np.sin(angles))))
    return host(turned)[0, :, 0]


def test_angles_are_the_published_formula():
    angles = rotary_angles(5, 6)
    assert angles.shape == (6, 3)
    assert angles.dtype == np.float32
    for position in range(6):
        for pair in range(3):
            expected = position * 10_000 ** (-2 * pair / 6)
            assert angles[position, pair] == pytest.approx(expected, rel=1e-6)


@pytest.mark.backend
def test_inner_products_depend_on_the_difference_of_positions_only():
    rng = np.random.default_rng(0)
    query, key = (np.tile(rng.normal(size=HEAD_WIDTH).astype("float32"), (60, 1)) for _ in range(2))
    positions = np.arange(60)
    for difference in (0, 1, 7, 40):
        products = (turn(query, positions) * turn(key, positions + difference)).sum(axis=1)
        assert np.allclose(products, products[0], atol=1e-5)
    by_difference = (turn(query, 0 * positions) * turn(key, positions)).sum(axis=1)
    assert by_difference.std() > 0.1


@pytest.mark.backend
def test_turning_is_complex_multiplication():
    features = np.random.default_rng(0).normal(size=(9, HEAD_WIDTH)).astype("float32")
    angles = rotary_angles(100, HEAD_WIDTH)[np.arange(9)]
    pairs = (features[:, :4] + 1j * features[:, 4:]) * np.exp(1j * angles)
    expected = np.concatenate([pairs.real, pairs.imag], axis=1)
    assert np.allclose(turn(features, np.arange(9)), expected, atol=1e-6)
    assert np.allclose(turn(features, np.zeros(9, int)), features, atol=0)

import re

import pytest

from lab.factors import parse_ar_share, parse_input_noise, parse_noise_window, parse_order


@pytest.mark.parametrize(
    ("order", "parsed"),
    [
        ("left_to_right", ("left_to_right", 0)),
        ("any", ("any", 0)),
        ("fixed:16", ("fixed", 16)),
        ("fixed:32767", ("fixed", 32767)),
        ("right_to_left:0.25", ("right_to_left", 0.25)),
        ("right_to_left:1", ("right_to_left", 1)),
    ],
)
def test_an_order_is_a_kind_and_a_number(order, parsed):
    assert parse_order(order) == parsed


@pytest.mark.parametrize(
    "order",
    [
        *("", "any:", "any:1", "fixed", "fixed:0", "fixed:32768", "fixed:1.5"),
        *("right_to_left", "right_to_left:2", "right_to_left:nan", "r"),
    ],
)
def test_another_order_is_refused(order):
    with pytest.raises(ValueError, match=rf"`order` must be .*but got order='{re.escape(order)}'"):
        parse_order(order)


@pytest.mark.parametrize(
    ("noise_window", "parsed"),
    [("all", ("all", 0)), ("mid", ("mid", 0)), ("fixed:0.15", ("fixed", 0.15)), ("fixed:1", ("fixed", 1))],
)
def test_a_noise_window_is_a_kind_and_a_share(noise_window, parsed):
    assert parse_noise_window(noise_window) == parsed


@pytest.mark.parametrize(
    "noise_window", ["", "all:", "low:0.5", "fixed", "fixed:0", "fixed:1.1", "fixed:nan"]
)
def test_another_noise_window_is_refused(noise_window):
    with pytest.raises(
        ValueError, match=rf"`noise_window` must be .*noise_window='{re.escape(noise_window)}'"
    ):
        parse_noise_window(noise_window)


@pytest.mark.parametrize(
    ("input_noise", "parsed"),
    [
        ("none", ("none", 0, False)),
        ("mask:0.3", ("mask", 0.3, False)),
        ("mask:0-1", ("mask", 1, True)),
        ("replace:0-0.5", ("replace", 0.5, True)),
    ],
)
def test_an_input_noise_is_a_kind_a_ratio_and_whether_it_is_drawn(input_noise, parsed):
    assert parse_input_noise(input_noise) == parsed


@pytest.mark.parametrize(
    "input_noise", ["", "none:1", "mask", "mask:0", "mask:1.5", "mask:0.2-0.5", "replace:0-nan", "blur:0.5"]
)
def test_another_input_noise_is_refused(input_noise):
    with pytest.raises(ValueError, match=rf"`input_noise` must be .*input_noise='{re.escape(input_noise)}'"):
        parse_input_noise(input_noise)


@pytest.mark.parametrize(("share", "parsed"), [(0.0, (0, 1)), (1, (1, 1)), (0.3, (3, 10)), (1 / 3, (1, 3))])
def test_a_share_of_rows_is_a_fraction(share, parsed):
    assert parse_ar_share(share).as_integer_ratio() == parsed


@pytest.mark.parametrize("share", [-0.5, 1.5, 0.3333333, 1e-05, 0.1234567])
def test_another_share_of_rows_is_refused(share):
    with pytest.raises(ValueError, match=rf"`ar_share` must be a fraction.*but got ar_share={share}"):
        parse_ar_share(share)

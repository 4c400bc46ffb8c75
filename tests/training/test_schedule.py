import math

import numpy as np
import pytest

from lab.config import TrainingConfig
from lab.training.schedule import (
    NEVER,
    Decay,
    Schedule,
    branch_decay,
    learning_rate,
    main_decay,
    total_steps,
)

PEAK = 0.004


def config(**values):
    return TrainingConfig(**{"total_steps": 100, "learning_rate": PEAK, "warmup_steps": 10} | values)


def rates(training, steps, decay):
    return np.array([learning_rate(Schedule.of(training, decay), step, np) for step in steps])


def test_warm_up_climbs_in_equal_parts_to_the_peak():
    found = rates(config(), range(10), Decay(NEVER, 2 * NEVER))
    np.testing.assert_allclose(found, PEAK * np.arange(1, 11) / 10, rtol=1e-6)


def test_without_warm_up_the_first_update_has_the_peak():
    assert rates(config(warmup_steps=0), [0], Decay(NEVER, 2 * NEVER)) == pytest.approx(PEAK)


def test_the_main_run_of_wsd_stays_at_the_peak():
    training = config()
    np.testing.assert_allclose(
        rates(training, range(10, 5000, 7), main_decay(training, 100)), PEAK, rtol=1e-6
    )


@pytest.mark.parametrize("final", [0.0, 0.25])
def test_a_branch_decays_linearly_to_the_final_share(final):
    training = config(final_learning_rate_share=final)
    found = rates(training, range(70, 101), Decay(80, 100))
    expected = [PEAK] * 10 + [PEAK * (1 - (1 - final) * j / 20) for j in range(21)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_falls_along_half_a_cosine_over_all_of_the_run(final):
    training = config(schedule="cosine", final_learning_rate_share=final)
    decay = main_decay(training, 110)
    assert decay == Decay(10, 110)
    found = rates(training, range(10, 111), decay)
    expected = [PEAK * (final + (1 - final) * (1 + math.cos(math.pi * j / 100)) / 2) for j in range(101)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    assert found[50] == pytest.approx(PEAK * (1 + final) / 2, rel=1e-5)


@pytest.mark.parametrize("total", [1, 6, 10])
def test_a_cosine_run_that_ends_within_its_warm_up_warms_up_as_wsd_does(total):
    runs = [config(schedule=schedule, warmup_steps=10) for schedule in ("cosine", "wsd")]
    with np.errstate(all="raise"):
        cosine, wsd = (rates(training, range(total), main_decay(training, total)) for training in runs)
    np.testing.assert_array_equal(cosine, wsd)
    assert cosine[-1] == pytest.approx(PEAK * total / 10)


def test_after_the_decay_the_final_share_stays():
    training = config(final_learning_rate_share=0.25)
    np.testing.assert_allclose(rates(training, [100, 101, 1000], Decay(80, 100)), PEAK / 4, rtol=1e-6)


@pytest.mark.parametrize(
    ("stop", "share", "start"),
    [(100, 0.2, 80), (50, 0.2, 40), (3, 0.2, 2), (1, 0.2, 0), (2, 0.9, 0), (7, 0.5, 4)],
)
def test_a_branch_takes_the_last_share_and_at_least_one_step(stop, share, start):
    assert branch_decay(config(decay_share=share), stop) == Decay(start, stop)


@pytest.mark.backend
@pytest.mark.parametrize("schedule", ["wsd", "cosine"])
def test_the_optimizers_value_is_the_records_value(schedule):
    from keras import ops

    training = config(schedule=schedule, final_learning_rate_share=0.1)
    numbers = Schedule.of(training, Decay(40, 100))
    arrays = Schedule(schedule, *map(ops.array, numbers[1:4]), Decay(*map(ops.array, numbers.decay)))
    for step in (0, 4, 10, 41, 60, 99, 100):
        inside = learning_rate(arrays, ops.array(step, "int32"), ops)
        outside = learning_rate(numbers, step, np)
        assert ops.dtype(inside) == "float32"
        assert outside.dtype == np.float32
        np.testing.assert_allclose(ops.convert_to_numpy(inside), outside, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("duration", [{"total_steps": 400}, {"total_tokens": 409_600}, {"total_epochs": 8}])
def test_a_share_of_the_total_is_that_much_shorter(duration):
    steps = [
        total_steps(
            config(**{"total_steps": None, **duration, "total_share": share}), length=32, windows=1600
        )
        for share in (1.0, 0.5, 0.25)
    ]
    assert steps == [400, 200, 100]

"""How many runs a process trains together, beside what can be worked out by hand."""

import math

import pytest
from training_bench import tiny_config

from lab.training.capacity import USABLE, Capacity
from lab.training.devices import Device
from lab.training.packing import FILLING_FLOPS, MOST, population_that_pays


def seeds(number, *layers, arm="ar"):
    return [tiny_config(arm, *layers, {"seed": seed}) for seed in range(number)]


@pytest.mark.parametrize(
    ("runs", "places", "expected"),
    [(1, 1, 1), (3, 1, 3), (3, 2, 2), (32, 1, 32), (33, 1, 17), (40, 1, 20), (100, 1, 25), (100, 2, 25)],
)
def test_small_runs_are_shared_out_evenly(runs, places, expected):
    assert MOST == 32
    assert population_that_pays(seeds(runs), places, None) == expected


def test_what_counts_is_the_commonest_kind():
    assert population_that_pays([*seeds(5), *seeds(7, arm="dlm")], 1, None) == 7


def test_a_run_that_fills_a_device_is_alone():
    large = {"model": {"layers": 8, "width": 512, "heads": 8, "ffn_width": 2048}}
    tokens = {"training": {"batch_size": 512}}
    assert population_that_pays(seeds(9, large, tokens), 1, None) == 1
    assert population_that_pays([*seeds(9), *seeds(1, large, tokens)], 1, None) == 1


def test_the_work_of_a_micro_batch_is_that_of_a_filled_device():
    layer = {"model": {"width": 64, "heads": 4, "ffn_width": 256}, "training": {"batch_size": 9400}}
    # Forward, and twice that backward: 2 FLOPs a multiplication; attention; logits of 257 ids.
    matrices = 4 * 64 * 64 + 3 * 64 * 256
    flops = 3 * (2 * matrices + 4 * 64 * 16 / 2 + 2 * 64 * 257) * 9400 * 16
    assert FILLING_FLOPS / flops == pytest.approx(10.5, abs=0.1)
    assert population_that_pays(seeds(10, layer), 1, None) == 10
    assert population_that_pays(seeds(11, layer), 1, None) == 6
    halves = {"training": {"accumulation": 2}}  # of a batch, one after the other
    assert population_that_pays(seeds(20, layer, halves), 1, None) == 20


def test_no_more_runs_than_the_memory_holds():
    runs = seeds(12)
    held = Capacity(runs[0], 257, 1, Device(0, math.inf)).memory(False).total
    for fit, expected in ((0.5, 1), (1.5, 1), (2.5, 2), (5.5, 4), (6.5, 6), (100, 12)):
        assert population_that_pays(runs, 1, fit * held / USABLE) == expected

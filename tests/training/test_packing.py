"""How many runs a process is to train together: by hand, from FLOPs and bytes."""

import pytest
from training_bench import tiny_config

from lab.evaluation.flops import train_flops_per_token
from lab.models.footprint import training_memory
from lab.training.packing import FILLING_FLOPS, MOST, population_that_pays

VOCAB = 257  # of bytes


def runs(count, arm="ar", **training):
    return [tiny_config(arm, {"seed": seed, "training": training}) for seed in range(count)]


@pytest.mark.parametrize(
    ("count", "places", "expected"),
    [
        (1, 1, 1),
        (5, 1, 5),
        (5, 2, 3),
        (5, 8, 1),
        (32, 1, 32),
        (33, 1, 17),
        (65, 1, 22),
        (65, 2, 17),
        (96, 3, 32),
    ],
)
def test_runs_of_a_kind_are_dealt_out_evenly(count, places, expected):
    """Over the places first, then over as few populations of at most 32 as hold a place's share."""
    assert MOST == 32
    assert population_that_pays(runs(count), places, None) == expected
    assert count <= expected * places * -(-count // (places * MOST))


def test_the_commonest_kind_decides():
    assert population_that_pays(runs(6) + runs(2, "dlm"), 1, None) == 6
    assert population_that_pays(runs(3) + runs(3, schedule="cosine"), 1, None) == 3
    assert population_that_pays([*runs(2), *runs(2, learning_rate=0.1)], 1, None) == 4


WIDE = {"model": {"layers": 2, "width": 192, "ffn_width": 512}, "data": {"length": 256}}
WIDE_TRAINING = {"batch_size": 64, "total_steps": 20}


def wide(*layers, arm="ar"):
    return [
        tiny_config(arm, WIDE, {"training": WIDE_TRAINING, "seed": seed}, *layers) for seed in range(MOST)
    ]


def test_as_many_as_fill_a_gpu():
    """One micro-batch of all together has at most `FILLING_FLOPS`, and one run more would have more."""
    for layer, arm, micro_batches, passes in (
        ({}, "ar", 1, 1),
        ({}, "dlm", 1, 1),
        ({"training": {"accumulation": 2}}, "ar", 2, 1),
        ({"factors": {"passes": 2}}, "dlm", 1, 2),
    ):
        configs = wide(layer, arm=arm)
        per_token = train_flops_per_token(configs[0].model.architecture(VOCAB, 256), arm == "ar") * passes
        flops = per_token * 64 * 256 / micro_batches
        most = max(number for number in range(1, 100) if number * flops <= FILLING_FLOPS)
        assert 2 <= most < MOST
        fewest = next(number for number in range(1, 100) if number * most >= MOST)  # populations
        assert population_that_pays(configs, 1, None) == -(-MOST // fewest)
        mixed = [*configs, *runs(3)]
        assert population_that_pays(mixed, 1, None) == population_that_pays(configs, 1, None)


def test_a_run_that_fills_a_gpu_is_alone():
    large = {"model": {"size": "25m", "layers": 8, "width": 512, "heads": 8, "ffn_width": 1376}}
    assert population_that_pays(wide(large), 1, None) == 1


@pytest.mark.parametrize(
    ("room", "expected"), [(0.9, 1), (1.999, 1), (2.001, 2), (7.999, 7), (8.001, 8), (31, 16), (100, MOST)]
)
def test_all_of_a_population_fit_nine_tenths_of_the_memory(room, expected):
    """Each in the joint step, and beside it as it was before: its weights and the two moments.

    Where 32 runs do not fit together, they come in populations of equal size.
    """
    configs = runs(MOST)
    step = training_memory(configs[0].model.architecture(VOCAB, 16), 4)
    memory = room * (sum(step) + step.weights + step.optimizer) / 0.9
    assert population_that_pays(configs, 1, memory) == expected

"""How many runs one process is to train together, by closed forms."""

import math
from collections import Counter
from collections.abc import Sequence

from lab.config import RunConfig
from lab.data.tokenizers import known_vocab_size
from lab.training.capacity import USABLE, Capacity
from lab.training.devices import Device
from lab.training.kind import kind_of

# FLOPs of a joint micro-batch beyond which a GPU is thought to gain nothing by more runs: those of 32 runs of
# 1 M parameters with 32 x 256 tokens. Reckoned; no GPU has measured it yet.
FILLING_FLOPS = 32 * 6 * 1e6 * 32 * 256
MOST = 32


def population_that_pays(configs: Sequence[RunConfig], places: int, memory: float | None) -> int:
    """Runs of a process, such that the largest still gains by it and all fit the device's memory.

    Args:
        configs: of the runs.
        places: processes at a time.
        memory: bytes of each device; None if nothing says it.

    Returns:
        At least 1. Where the runs of a kind need several populations, these are of equal size.
    """
    most = MOST
    for config in configs:
        one = Capacity(config, known_vocab_size(config.data.tokenizer) or 1, 1, Device(0, memory or math.inf))
        tokens = config.training.batch_size // config.training.accumulation * config.data.length
        flops = one.flops_per_token * tokens
        step = one.memory(config.training.rematerialise)
        held = step.total + step.weights + step.optimizer  # what it was before the stretch is kept beside it
        most = min(most, int(FILLING_FLOPS // flops), int(min(USABLE * one.device.memory / held, MOST)))
    if most < 2:
        return 1
    largest = math.ceil(max(Counter(map(kind_of, configs)).values()) / places)
    return math.ceil(largest / math.ceil(largest / most))

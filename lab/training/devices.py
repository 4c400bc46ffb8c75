"""Accelerators by name: what they compute and hold at most."""

from typing import NamedTuple


class Device(NamedTuple):
    """One GPU, or one TPU chip.

    Attributes:
        flops: FLOP/s of dense bfloat16 matrix products, at the peak.
        memory: bytes.
        fused_attention: whether attention in half precision is one kernel there (lab/models/attention.py).
    """

    flops: float
    memory: float
    fused_attention: bool = True


# From NVIDIA's data sheets of the H100, H200 and A100, all SXM, without sparsity; and from Google Cloud's
# pages on each TPU version.
DEVICES = {
    "h100": Device(989e12, 80e9),
    "h200": Device(989e12, 141e9),
    "a100": Device(312e12, 80e9),
    "a100-40": Device(312e12, 40e9),
    "tpu-v4": Device(275e12, 32e9),
    "tpu-v5e": Device(197e12, 16e9),
    "tpu-v5p": Device(459e12, 95e9),
    "tpu-v6e": Device(918e12, 32e9),
}


def find_device(name: str, teraflops: float | None = None, gigabytes: float | None = None) -> Device:
    """A device by its name, or one of any name whose peak and memory are given.

    Args:
        name: a key of `DEVICES`, or any.
        teraflops: peak in 1e12 FLOP/s, in place of the known one.
        gigabytes: memory in 1e9 bytes, in place of the known one.

    Raises:
        ValueError: if the name is not known and one of the two is not given, or one is not above 0.
    """
    for option, value in (("peak", teraflops), ("memory", gigabytes)):
        if value is not None and not value > 0:
            raise ValueError(f"`{option}` must be above 0, but got {option}={value}.")
    known = DEVICES.get(name)
    if known is None and (teraflops is None or gigabytes is None):
        raise ValueError(
            f"`device` must be one of {sorted(DEVICES)}, or any with --peak (TFLOP/s) and --memory (GB), "
            f"but got device={name!r}."
        )
    flops, memory, fused = known or Device(0, 0, fused_attention=name != "cpu")
    return Device(teraflops * 1e12 if teraflops else flops, gigabytes * 1e9 if gigabytes else memory, fused)

"""The rate that the processor reaches in large matrix products: what the share of it (MFU) is of."""

from collections.abc import Callable

from benchmarks.sides.case import Case, Updates

SIZES = {"cpu": 1024, "gpu": 8192}


def flops(device: str) -> int:
    """FLOPs of one product."""
    return 2 * SIZES[device] ** 3


def make_jax(case: Case) -> Updates:
    """One product an update, under JAX."""
    import jax
    import jax.numpy as jnp

    size = SIZES["cpu" if jax.default_backend() == "cpu" else "gpu"]
    left = jnp.full((size, size), 0.01, case.dtype)
    product = jax.jit(jnp.matmul)
    return _repeated(lambda: product(left, left), jax.block_until_ready)


def make_torch(case: Case) -> Updates:
    """One product an update, under PyTorch."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = SIZES["gpu" if device == "cuda" else "cpu"]
    left = torch.full((size, size), 0.01, dtype=getattr(torch, case.dtype), device=device)
    return _repeated(lambda: left @ left, lambda _: torch.cuda.synchronize() if device == "cuda" else None)


def _repeated(product: Callable[[], object], wait: Callable[[object], object]) -> Updates:
    def updates(count: int) -> None:
        for _ in range(count):
            made = product()
        wait(made)

    return updates

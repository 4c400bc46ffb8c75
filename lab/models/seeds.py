"""Seeds of the initial weights and of dropout, one per place in the model."""

import hashlib


def derive_seed(seed: int, place: str) -> int:
    """A seed for one named place, far from those of other places and other seeds.

    Adding a dropout layer thus changes no initial weight, and neighbouring seeds share nothing
    (PyTorch's generators are seeded with seed + counter, so consecutive seeds would overlap).

    Returns:
        An integer in [0, 2**31).
    """
    digest = hashlib.sha256(f"{seed}/{place}".encode()).digest()
    return int.from_bytes(digest[:4], "little") % 2**31

"""The named corners of the cube: which factors each arm sets (docs/cube.md)."""

from typing import Any

ARMS: dict[str, dict[str, Any]] = {
    "ar": {"order": "left_to_right", "compute": "causal"},
    "ar_masked": {"order": "left_to_right", "compute": "causal", "draws": "inf", "input_noise": "mask:0-1"},
    "ar_masked_frozen": {
        "order": "left_to_right",
        "compute": "causal",
        "draws": 1,
        "input_noise": "mask:0-1",
    },
    "order_frozen": {"order": "any", "compute": "causal", "draws": 1},
    "any_order_ar": {"order": "any", "compute": "causal", "draws": "inf"},
    "suffix_frozen": {"order": "left_to_right", "compute": "dense", "draws": 1},
    "suffix_denoiser": {"order": "left_to_right", "compute": "dense", "draws": "inf"},
    "dlm_frozen": {"order": "any", "compute": "dense", "draws": 1},
    "dlm_complementary": {"order": "any", "compute": "dense", "draws": 2, "complementary": True},
    "dlm": {"order": "any", "compute": "dense", "draws": "inf"},
}

# Corner of the cube -> (order, compute, draws), each 0 as in AR or 1 as in the DLM.
CORNERS: dict[str, tuple[int, int, int]] = {
    "ar": (0, 0, 0),
    "ar_masked": (0, 0, 1),
    "suffix_frozen": (0, 1, 0),
    "suffix_denoiser": (0, 1, 1),
    "order_frozen": (1, 0, 0),
    "any_order_ar": (1, 0, 1),
    "dlm_frozen": (1, 1, 0),
    "dlm": (1, 1, 1),
}


def arm_values(arm: str) -> dict[str, Any]:
    """The configuration layer of a named arm.

    Raises:
        ValueError: if no arm has this name.
    """
    if arm not in ARMS:
        raise ValueError(f"`arm` must be one of {sorted(ARMS)}, but got arm={arm!r}.")
    return {"arm": arm, "factors": ARMS[arm]}

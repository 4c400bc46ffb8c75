"""The named corners of the cube: which factors each arm sets (docs/cube.md)."""

from typing import Any

ARMS: dict[str, dict[str, Any]] = {
    "ar": {"order": "left_to_right", "compute": "causal"},
    "order_frozen": {"order": "any", "compute": "causal", "draws": 1},
    "any_order_ar": {"order": "any", "compute": "causal", "draws": "inf"},
    "suffix_frozen": {"order": "left_to_right", "compute": "dense", "draws": 1},
    "suffix_denoiser": {"order": "left_to_right", "compute": "dense", "draws": "inf"},
    "dlm_frozen": {"order": "any", "compute": "dense", "draws": 1},
    "dlm": {"order": "any", "compute": "dense", "draws": "inf"},
}


def arm_values(arm: str) -> dict[str, Any]:
    """The configuration layer of a named arm.

    Raises:
        ValueError: if no arm has this name.
    """
    if arm not in ARMS:
        raise ValueError(f"`arm` must be one of {sorted(ARMS)}, but got arm={arm!r}.")
    return {"arm": arm, "factors": ARMS[arm]}

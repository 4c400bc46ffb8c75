"""How a model lies on several devices: which axis of which weight is split, and where activations stay split.

Everything here does nothing unless a `keras.distribution` is set, so a run on one device computes what it
always did.
"""

from typing import Any

import keras

Tensor = Any

DATA_AXIS, MODEL_AXIS = "data", "model"

# Axes of the weights, by path: column- then row-parallel projections, so that a block adds its parts up
# twice, after attention and after the feed-forward layer; of a mixture each device has some of the experts.
# Whatever is not named is whole on every device.
WEIGHT_AXES: dict[str, tuple[str | None, ...]] = {
    ".*/query_key_value/kernel": (None, MODEL_AXIS),
    ".*/gate_and_up/kernel": (None, MODEL_AXIS),
    ".*/output/kernel": (MODEL_AXIS, None),
    ".*/experts_(in|out)": (MODEL_AXIS, None, None),
    ".*_embedding/embeddings": (None, MODEL_AXIS),
    ".*_embedding/reverse_embeddings": (MODEL_AXIS, None),
}


def split_rows(tensor: Tensor) -> Tensor:
    """Spread the rows of a tensor over the data axis, if it divides them."""
    return _place(tensor, None)


def split_axis(tensor: Tensor, axis: int) -> Tensor:
    """Spread one axis of an activation over the model axis, and its rows over the data axis."""
    distribution = keras.distribution.distribution()
    if distribution is None or MODEL_AXIS not in distribution.device_mesh.axis_names:
        return tensor
    return _place(tensor, axis)


def split_experts(tensor: Tensor) -> Tensor:
    """Spread an activation's first axis, experts, over the model axis, and its second, rows, over data."""
    distribution = keras.distribution.distribution()
    if distribution is None or MODEL_AXIS not in distribution.device_mesh.axis_names:
        return tensor
    mesh = distribution.device_mesh
    rows = DATA_AXIS if tensor.shape[1] % mesh.shape[0] == 0 else None
    layout = keras.distribution.TensorLayout([MODEL_AXIS, rows, None], mesh)
    return keras.distribution.distribute_tensor(tensor, layout)


def whole(tensor: Tensor) -> Tensor:
    """Put all of a tensor on every device, so that any process can read it."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return tensor
    layout = keras.distribution.TensorLayout([None] * len(tensor.shape), distribution.device_mesh)
    return keras.distribution.distribute_tensor(tensor, layout)


def _place(tensor: Tensor, model_axis: int | None) -> Tensor:
    distribution = keras.distribution.distribution()
    if distribution is None:
        return tensor
    mesh = distribution.device_mesh
    axes: list[str | None] = [None] * len(tensor.shape)
    if tensor.shape[0] is not None and tensor.shape[0] % mesh.shape[0] == 0:
        axes[0] = DATA_AXIS
    if model_axis is not None:
        axes[model_axis] = MODEL_AXIS
    return keras.distribution.distribute_tensor(tensor, keras.distribution.TensorLayout(axes, mesh))

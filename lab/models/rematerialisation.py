"""Layers of which the backward pass computes all again, so that between the two only inputs are kept."""

from typing import Any

import keras
from keras import ops

Tensor = Any


def call_again(layer: keras.layers.Layer, inputs: Tensor, *arguments: Any, **options: Any) -> Any:
    """`layer(inputs, *arguments, **options)`, computed once more in the backward pass.

    The variables' values go in as arguments and what the layer assigned comes out, since what is computed
    twice may assign nothing: dropout draws one mask for both, and its generator moves on by one.

    Args:
        layer: whose variables are read outside any autocasting, else half-precision copies of the weights
            would be kept.
        inputs: what gradients flow into, beside the layer's weights.
        arguments: what they do not flow into.
        options: Python values.

    Returns:
        The layer's output, any structure of arrays.

    Reference: Chen et al. 2016, arXiv:1604.06174.
    """
    structure: list[Any] = []
    weights = [variable.value for variable in layer.trainable_variables]
    # Copies: under TensorFlow and PyTorch a value is the variable itself, assigned below.
    states = [ops.copy(variable.value) for variable in layer.non_trainable_variables]

    @keras.remat
    def compute(inputs: Tensor, *weights: Tensor) -> list[Tensor]:
        outputs, assigned = layer.stateless_call(list(weights), states, inputs, *arguments, **options)
        structure[:] = [outputs]
        return [*keras.tree.flatten(outputs), *assigned]

    found = compute(inputs, *weights)
    count = len(found) - len(states)
    for variable, value in zip(layer.non_trainable_variables, found[count:], strict=True):
        variable.assign(value)
    return keras.tree.pack_sequence_as(structure[0], found[:count])

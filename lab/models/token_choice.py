"""A mixture of experts in which each token chooses its experts."""

from typing import Any

import keras
import numpy as np
from keras import ops

from lab.models.architecture import expert_capacity
from lab.models.mixture import Mixture, Routing

Tensor = Any


@keras.saving.register_keras_serializable(package="lab")
class TokenChoice(Mixture):
    """Each token goes to the k experts of its greatest logits; of equal ones, to those that come first.

    The gate of a chosen expert is its softmax probability, which with k > 1 is divided by the sum of those
    chosen. With k = 1 it stays, so that the router has a gradient.

    In training an expert has room for `expert_capacity` tokens of a sequence. They are served from the first
    slot to the last, and what finds no room adds nothing to the stream: a slot is never dropped for the sake
    of a later one, so that nothing of the future shows in a causal pass. In evaluation there is room for all.

    The balance loss is balance_weight E sum_e f_e P_e, where f_e is the share of the batch's choices that
    fall on expert e and P_e the mean probability of e. It is balance_weight where all experts are chosen
    alike, and up to E / k times that if the same k always are.

    References:
        Shazeer et al. 2017, arXiv:1701.06538, section 2.1.
        Lepikhin et al. 2020, arXiv:2006.16668, section 2.2 (k = 2, capacity).
        Fedus et al. 2021, arXiv:2101.03961, section 2.1 (k = 1) and equation 4 (balance loss).
    """

    def route(self, logits: Tensor, training: bool) -> Routing:
        """As `Mixture.route`."""
        a, slots = self.architecture, logits.shape[1]
        chances = ops.softmax(logits, axis=-1)
        chosen = _greatest(logits, a.experts_per_token)
        gates = ops.where(chosen, chances, 0.0)
        if a.experts_per_token > 1:
            gates = gates / ops.sum(gates, axis=-1, keepdims=True)

        # An expert's tokens come first when slots are sorted, and the others, as `slots`, after them.
        queue = ops.where(chosen, np.arange(slots, dtype=np.int32)[:, None], np.int32(slots))
        room = expert_capacity(a, slots) if training else slots
        taken = ops.sort(ops.swapaxes(queue, 1, 2), axis=-1)[..., :room]

        offered = ops.sum(ops.cast(chosen, "int32"))
        dropped = offered - ops.sum(ops.cast(taken < slots, "int32"))
        shares = ops.mean(ops.cast(chosen, "float32"), axis=(0, 1)) / a.experts_per_token
        balance = a.experts * ops.sum(shares * ops.mean(chances, axis=(0, 1)))
        return Routing(gates, taken, offered, dropped, a.balance_weight * balance)


def _greatest(logits: Tensor, count: int) -> Tensor:
    """Where the `count` greatest of the last axis are, of equal ones the first: a mask of the same shape."""
    numbers = np.arange(logits.shape[-1], dtype=np.int32)
    chosen = ops.zeros_like(logits, dtype="bool")
    for _ in range(count):
        rest = ops.where(chosen, -np.inf, logits)
        greatest = rest == ops.max(rest, axis=-1, keepdims=True)
        # Not by `argmax`, which under TensorFlow need not name the first of equal ones.
        first = ops.min(ops.where(greatest, numbers, numbers.size), axis=-1, keepdims=True)
        chosen = ops.logical_or(chosen, numbers == first)
    return chosen

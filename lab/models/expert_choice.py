"""A mixture of experts in which each expert chooses its tokens."""

from typing import Any

import keras
from keras import ops

from lab.models.architecture import expert_capacity
from lab.models.mixture import Mixture, Routing

Tensor = Any


@keras.saving.register_keras_serializable(package="lab")
class ExpertChoice(Mixture):
    """Each expert takes, of each sequence, the `expert_capacity` tokens that give it most probability.

    The gate is that probability: the softmax over experts. Of equal tokens the first are taken. The experts
    are equally busy by construction, so there is no balance loss; a token may meet any number of them, and
    one that none takes adds nothing to the stream and counts as dropped. It is so in evaluation too.

    Whether a token is taken depends on all slots of the sequence, also on later ones, so a causal arm would
    see the future: it is refused (`RunConfig`).

    Reference: Zhou et al. 2022, arXiv:2202.09368, section 3.2; their c is k times `capacity_factor`.
    """

    def route(self, logits: Tensor, training: bool) -> Routing:
        """As `Mixture.route`."""
        slots = logits.shape[1]
        chances = ops.softmax(logits, axis=-1)
        order = ops.argsort(-ops.stop_gradient(ops.swapaxes(chances, 1, 2)), axis=-1)  # stable
        taken = ops.cast(order[..., : expert_capacity(self.architecture, slots)], "int32")

        ranks = ops.argsort(order, axis=-1)  # the inverse permutations
        left = ops.all(ranks >= taken.shape[-1], axis=1)
        offered = ops.sum(ops.ones_like(left, dtype="int32"))
        return Routing(chances, taken, offered, ops.sum(ops.cast(left, "int32")), 0.0)

"""Mixtures of experts: what all kinds of routing share."""

from typing import Any, NamedTuple

import keras
from keras import ops

from lab.models.architecture import Architecture
from lab.models.dropout import Dropout
from lab.models.features import Features
from lab.models.from_architecture import FromArchitecture
from lab.models.layout import split_experts
from lab.models.projection import Projection
from lab.models.seeds import derive_seed

Tensor = Any


class Routing(NamedTuple):
    """Where the tokens of a batch go.

    Attributes:
        gates: (batch, slots, experts) float32, the weight of an expert's output for a token.
        taken: (batch, experts, capacity) int32, the slots that each expert takes of a sequence; where a place
            stays empty, the number of slots.
        offered: () int32, how much looked for a place.
        dropped: () int32, how much of it found none.
        balance_loss: () float32, to be added to what is trained on.
    """

    gates: Tensor
    taken: Tensor
    offered: Tensor
    dropped: Tensor
    balance_loss: Tensor | float


class Mixture(FromArchitecture, keras.layers.Layer):
    """E feed-forward layers, of which a token meets some: y = sum over experts e of gate_e SwiGLU_e(x).

    A router, one matrix, gives each token a logit for each expert, in float32 under every dtype policy. A
    subclass says which tokens an expert takes. Every sequence is routed by itself, so what a
    sequence gives does not depend on those that are computed beside it, in training as in evaluation.

    The auxiliary loss is the router's z-loss, `router_z_weight` times the mean over tokens of
    logsumexp(logits)^2, and the subclass's `balance_loss`. Counted are the `offered` and `dropped` of
    `Routing`, and `expert_tokens`, (experts,) int32, how many tokens each expert took of the batch.

    Args:
        architecture: of the model.
        dropout: chance that a gated feature is dropped in training.
        seed: seed of the initial weights and of dropout.

    References:
        Shazeer et al. 2017, arXiv:1701.06538, section 2.
        Zoph et al. 2022, arXiv:2202.08906, section 3.3 (z-loss, equation 5).
    """

    PLAIN = ("dropout", "seed")

    def __init__(
        self, architecture: Architecture, dropout: float = 0.0, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.architecture = architecture
        self.dropout = dropout
        self.seed = seed
        self.router = Projection(
            architecture.experts, seed=derive_seed(seed, "router"), dtype="float32", name="router"
        )
        self.gated_dropout = (
            Dropout(dropout, derive_seed(seed, "dropout"), dtype=self.dtype_policy, name="gated_dropout")
            if dropout
            else None
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Build the parts for inputs of shape (batch, slots, width)."""
        a = self.architecture
        self.router.build(input_shape)
        self.experts_in = self._add_experts("experts_in", (a.width, 2 * a.ffn_width), 0.02)
        self.experts_out = self._add_experts("experts_out", (a.ffn_width, a.width), a.output_scale)
        if self.gated_dropout:
            self.gated_dropout.build()

    def _add_experts(self, name: str, shape: tuple[int, int], scale: float) -> Any:
        return self.add_weight(
            shape=(self.architecture.experts, *shape),
            initializer=keras.initializers.RandomNormal(stddev=scale, seed=derive_seed(self.seed, name)),
            name=name,
        )

    def call(self, inputs: Tensor, training: bool = False) -> Features:
        """Map (batch, slots, width) to the same shape."""
        experts, (slots, width) = self.architecture.experts, inputs.shape[1:]
        logits = ops.reshape(self.router(inputs), (-1, slots, experts))
        routing = self.route(logits, training)
        filled = routing.taken < slots
        taken = ops.minimum(routing.taken, slots - 1)
        gates = ops.take_along_axis(ops.swapaxes(routing.gates, 1, 2), taken, axis=2)
        gates = ops.cast(ops.where(filled, gates, 0.0), self.compute_dtype)

        # Experts first, so that each multiplies the rows of all sequences as one matrix.
        first = ops.arange(ops.shape(inputs)[0], dtype="int32") * slots
        ids = ops.reshape(ops.swapaxes(taken + ops.reshape(first, (-1, 1, 1)), 0, 1), (-1,))
        rows = ops.reshape(inputs, (-1, width))
        given = split_experts(ops.reshape(ops.take(rows, ids, axis=0), (experts, -1, width)))
        made = ops.reshape(self._experts(given, training), (-1, width))
        made = made * ops.reshape(ops.swapaxes(gates, 0, 1), (-1, 1))
        stream = ops.reshape(ops.segment_sum(made, ids, ops.shape(rows)[0]), (-1, slots, width))

        z_loss = ops.mean(ops.square(ops.logsumexp(logits, axis=-1)))
        counts = {
            "expert_tokens": ops.sum(ops.cast(filled, "int32"), axis=(0, 2)),
            "dropped": routing.dropped,
            "offered": routing.offered,
        }
        return Features(stream, routing.balance_loss + self.architecture.router_z_weight * z_loss, counts)

    def route(self, logits: Tensor, training: bool) -> Routing:
        """Say which tokens each expert takes, and with which weight.

        Args:
            logits: (batch, slots, experts) float32.
            training: whether an expert may lack room.
        """
        raise NotImplementedError

    def _experts(self, given: Tensor, training: bool) -> Tensor:
        """Each expert of its rows: (experts, rows, width) to the same shape."""
        kernels = ops.split(ops.convert_to_tensor(self.experts_in), 2, axis=2)
        gate, up = (ops.matmul(given, kernel) for kernel in kernels)
        gated = ops.silu(gate) * up
        if self.gated_dropout:
            gated = self.gated_dropout(gated, training=training)
        return ops.matmul(gated, self.experts_out)

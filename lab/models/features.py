"""What a pass through a model, or a part of it, gives."""

from typing import Any, NamedTuple

Tensor = Any


class Features(NamedTuple):
    """A residual stream, and what mixtures of experts say beside it.

    A layer without anything to say returns its output alone, as Keras's layers do.

    Attributes:
        stream: (batch, slots, width).
        auxiliary_loss: () float32, to be added to the loss that is trained on; None where there is none.
        counts: arrays by name, such as how many tokens each expert was given.
    """

    stream: Tensor
    auxiliary_loss: Tensor | None
    counts: dict[str, Tensor]

    @staticmethod
    def of(output: "Tensor | Features") -> "Features":
        """A layer's output as features."""
        return output if isinstance(output, Features) else Features(output, None, {})

"""Counting floating-point operations: matrix products only, two for each multiply and add.

Norms, rotations, softmax, look-ups and the optimizer are left out; at these widths they are a few percent of
the count. A causal pass is counted with the L (L + 1) / 2 pairs of slots that it needs, a dense one with L^2,
so causal attention counts half of dense.
"""

from lab.config import ModelConfig, RunConfig
from lab.models.sizes import Shape


def shape_of(model: ModelConfig) -> Shape:
    """The four numbers that the count needs."""
    return {"layers": model.layers, "width": model.width, "heads": model.heads, "ffn_width": model.ffn_width}


def forward_flops_per_token(
    shape: Shape, length: int, vocab_size: int, causal: bool, loops: int = 1
) -> float:
    """FLOPs of one forward pass over a sequence, divided by its length.

    Args:
        shape: the Transformer's shape.
        length: L, slots a sequence.
        vocab_size: predicted tokens (the mask's column of the output projection is computed too).
        causal: whether slots see only earlier ones.
        loops: how often the block stack is applied.

    Returns:
        FLOPs/token: 2 (4 d^2 + 3 d f) a layer for the projections, 4 d times the mean number of slots seen
        for the scores and their weighted sum, 2 d (V + 1) for the output.
    """
    width = shape["width"]
    projections = 2 * (4 * width**2 + 3 * width * shape["ffn_width"])
    attention = 4 * width * ((length + 1) / 2 if causal else length)
    return loops * shape["layers"] * (projections + attention) + 2 * width * (vocab_size + 1)


def train_flops_per_token(shape: Shape, length: int, vocab_size: int, causal: bool, loops: int = 1) -> float:
    """FLOPs/token of one training pass: the backward pass counts two forward passes.

    Reference: Kaplan et al. 2020, arXiv:2001.08361, section 2.1.
    """
    return 3 * forward_flops_per_token(shape, length, vocab_size, causal, loops)


def pass_flops(config: RunConfig, vocab_size: int) -> float:
    """FLOPs of one forward pass of a run's arm over one window."""
    model, length, causal = config.model, config.data.length, config.factors.compute == "causal"
    return length * forward_flops_per_token(shape_of(model), length, vocab_size, causal, model.loops)

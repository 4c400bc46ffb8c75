"""Counting floating-point operations: matrix products only, two for each multiply and add.

Norms, rotations, softmax, look-ups and the optimizer are left out; at these widths they are a few percent of
the count. A causal pass is counted with the L (L + 1) / 2 pairs of slots that it needs, a dense one with L^2,
so causal attention counts half of dense. A pass in blocks of B tokens has 2 L slots and L (L + B) pairs, and
its clean half predicts nothing.
"""

from lab.config import RunConfig
from lab.models.architecture import Architecture
from lab.models.footprint import block_matrices

TRAIN_PASSES = 3  # a training pass, in forward ones: the backward pass counts two


def forward_flops_per_token(architecture: Architecture, causal: bool, block_size: int = 0) -> float:
    """FLOPs of one forward pass over a sequence of L tokens, divided by L.

    Args:
        architecture: of the model; its length is L.
        causal: whether slots see only earlier ones.
        block_size: B, where the slots are doubled (`lab.models.attention.block_pattern`); 0 elsewhere.

    Returns:
        FLOPs/token, in the letters of `Architecture`: 2 a parameter of a block's matrices that a token meets
        (`block_matrices`; 8 d^2 + 6 d f by default), and 4 h c times the mean number of slots seen for the
        scores and their weighted sum, for each block and loop; 2 d V for the output. To give tokens to
        experts is a look-up, and places that stay empty are not needed.
    """
    a = architecture
    slots = 2 if block_size else 1  # a token
    seen = (a.length + 1) / 2 if causal else a.length + block_size  # by the slots of a token, all together
    attention = 4 * a.heads * a.head_dim * seen
    blocks = a.loops * a.layers * (2 * slots * block_matrices(a).active + attention)
    return blocks + 2 * a.width * a.vocab_size


def train_flops_per_token(architecture: Architecture, causal: bool) -> float:
    """FLOPs/token of one training pass: the backward pass counts two forward passes.

    Reference: Kaplan et al. 2020, arXiv:2001.08361, section 2.1.
    """
    return TRAIN_PASSES * forward_flops_per_token(architecture, causal)


def training_forward_flops_per_token(config: RunConfig, vocab_size: int) -> float:
    """FLOPs/token of the forward pass of a run's training: the mean over its rows, causal and dense."""
    architecture = config.model.architecture(vocab_size, config.data.length)
    own = forward_flops_per_token(architecture, config.factors.compute == "causal", config.block_size)
    share = config.factors.ar_share
    return share * forward_flops_per_token(architecture, causal=True) + (1 - share) * own


def pass_flops(config: RunConfig, vocab_size: int) -> float:
    """FLOPs of one forward pass over one window, as evaluation reads a run's arm."""
    architecture = config.model.architecture(vocab_size, config.data.length)
    reading = config.factors.reads_causally, config.read_block_size
    return architecture.length * forward_flops_per_token(architecture, *reading)

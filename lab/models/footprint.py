"""What a model takes up, by closed form: its parameters, and the memory of a training step.

The letters are those of `Architecture`.
"""

from typing import NamedTuple

from lab.models.architecture import MIXTURES, Architecture, expert_capacity

FLOAT32 = 4  # bytes; weights, gradients, moments and logits are float32 under every dtype policy
_WORDS = 8  # bytes of the two words that a random number is made of


class Parameters(NamedTuple):
    """Numbers of weights.

    Attributes:
        total: all.
        active: those that one token meets, on average. Fewer than all only in a mixture of experts.
    """

    total: int
    active: float


def block_matrices(architecture: Architecture) -> Parameters:
    """Parameters of one block's matrices: d (h + 2 k) c + h c d of attention, 3 d f of SwiGLU.

    A mixture has d E of its router and 3 d f of each expert, of which a token meets as many as
    `experts_met` says.
    """
    a = architecture
    always = a.width * (2 * a.heads + 2 * a.kv_heads) * a.head_dim
    always += a.width * a.experts * (a.feed_forward in MIXTURES)
    expert = 3 * a.width * a.ffn_width
    return Parameters(always + a.experts * expert, always + experts_met(a) * expert)


def experts_met(architecture: Architecture) -> float:
    """Experts that a token meets: 1 without a mixture.

    Where tokens choose, k, though in training what is over capacity meets fewer; where experts do, E times
    their capacity for each of L tokens, exactly.
    """
    a = architecture
    if a.feed_forward == "expert_choice":
        return a.experts * expert_capacity(a, a.length) / a.length
    return a.experts_per_token


def parameters(architecture: Architecture) -> Parameters:
    """Parameters of a model: layers times those of a block, the embeddings, and the gains of its norms.

    The embeddings are d for each row of the token embedding, twice if untied, and d L of the target
    embedding. Gains, where there are any, are 2 d a block and d at the end, and with `qk_norm` 2 c a block.
    """
    a = architecture
    embeddings = a.width * (a.embedding_rows * (1 if a.tie_embeddings else 2) + a.length * a.target_embedding)
    gains = a.norm_gain * (a.layers * (2 * a.width + 2 * a.head_dim * a.qk_norm) + a.width)
    block, others = block_matrices(a), embeddings + gains
    return Parameters(a.layers * block.total + others, a.layers * block.active + others)


class Memory(NamedTuple):
    """Bytes of a training step, on one device.

    Attributes:
        weights: 4 a parameter.
        gradients: 4 a parameter.
        optimizer: 8 a parameter: the two moments of AdamW.
        activations: see `activation_bytes`.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int


def training_memory(
    architecture: Architecture,
    rows: int,
    feature_bytes: int = FLOAT32,
    fused_attention: bool = False,
    rematerialise: bool = False,
    model_parallel: int = 1,
    attention_dropout: bool = False,
    mlp_dropout: bool = False,
    in_blocks: float = 0.0,
) -> Memory:
    """Memory of a training step.

    Args:
        architecture: of the model.
        rows: sequences a micro-batch that one device computes, each of L tokens.
        feature_bytes: as in `activation_bytes`, with all that follow.
        fused_attention: whether attention is one kernel.
        rematerialise: whether blocks are computed again in the backward pass.
        model_parallel: parts in which the weights are kept. (Gains of norms are whole everywhere, and here
            counted as the others: they are less than a thousandth.)
        attention_dropout: whether attention weights are dropped.
        mlp_dropout: whether features of the feed-forward layers are.
        in_blocks: share of the rows that are doubled streams in blocks.
    """
    total = -(-parameters(architecture).total // model_parallel)
    options = (feature_bytes, fused_attention, rematerialise, model_parallel, attention_dropout, mlp_dropout)
    single, doubled = (activation_bytes(architecture, *options, each) for each in (False, True))
    activations = round(rows * architecture.length * ((1 - in_blocks) * single + in_blocks * doubled))
    return Memory(FLOAT32 * total, FLOAT32 * total, 2 * FLOAT32 * total, activations)


def activation_bytes(
    architecture: Architecture,
    feature_bytes: int = FLOAT32,
    fused_attention: bool = False,
    rematerialise: bool = False,
    model_parallel: int = 1,
    attention_dropout: bool = False,
    mlp_dropout: bool = False,
    in_blocks: bool = False,
) -> int:
    """Bytes a token of what a forward pass keeps for the backward one, and of the attention at work.

    A token has one slot, or in blocks two (`lab.models.attention.block_pattern`), of which one is left at the
    end.

    For each slot, block and loop: 4 d of the two norms' inputs and outputs; (h + 2 k) c of queries, keys and
    values, (h + k) c of their rotations, and with `qk_norm` as much of their norms; what attention keeps; h c
    of what is attended; 2 f of gate and up, f of the gate's sigmoid, f of silu(gate) and f of the product. A
    mixture keeps these 5 f, and 2 d of what goes in and out, for each place that its experts have for a token
    in training; and the logits and chances of the router, 2 E float32. At the end 2 d of the norm, and the
    logits and their probabilities, 2 V float32.

    Attention written out keeps h L of the weights, and in float32 2 h L of the scores' exponentials and what
    they are divided by; at work it holds 2 h L float32 more, of the scores' gradient and its scale. So XLA's
    CPU backend allots (tests/training/test_paper_scale.py). A fused kernel keeps h float32, the logarithms of
    the sums of exponentials (Dao et al. 2022, arXiv:2205.14135, section 3.1).

    Dropout keeps the two words of 32 bits of each random number, from which its mask is made again: 2 f in a
    feed-forward layer, or in each place of a mixture, and 2 h L in attention, which keeps h L of the weights
    after dropout beside them. In blocks h L is h 2L in all of this, but at work it is held once: the mask
    between the scores' gradient and its scale makes one array of the two.

    Where blocks are computed again, each keeps its input alone, d, and at one time there is the inside of one
    block, or else the end. In several model-parallel parts each has its share of heads and of f, or of
    experts; the residual stream, the norms over it, the router and the end are whole in each.

    Args:
        architecture: of the model.
        feature_bytes: of a feature: 4 under float32, 2 under mixed_bfloat16.
        fused_attention: whether attention is one kernel.
        rematerialise: whether blocks are computed again in the backward pass.
        model_parallel: parts; a divisor of h, k and f or E.
        attention_dropout: whether attention weights are dropped, which no fused kernel does.
        mlp_dropout: whether features of the feed-forward layers are.
        in_blocks: whether the stream is doubled.

    Reference: after Korthikanti et al. 2022, arXiv:2205.05198, section 4.1.
    """
    a, slots = architecture, 2 if in_blocks else 1
    query_key = (a.heads + a.kv_heads) * a.head_dim
    attention = (2 * a.heads + 2 * a.kv_heads) * a.head_dim + query_key * (1 + a.qk_norm)
    feed_forward, router, places = float(5 * a.ffn_width), 0, 1.0
    if a.feed_forward in MIXTURES:
        places = a.experts * expert_capacity(a, a.length) / a.length
        feed_forward, router = places * (5 * a.ffn_width + 2 * a.width), 2 * FLOAT32 * a.experts
    split = feature_bytes * (attention + feed_forward) + _WORDS * places * a.ffn_width * mlp_dropout
    at_work = 0
    if fused_attention:
        split += FLOAT32 * a.heads
    else:
        seen = feature_bytes + 2 * FLOAT32 + (feature_bytes + _WORDS) * attention_dropout
        split += slots * a.length * a.heads * seen
        at_work = 2 * FLOAT32 * a.heads * a.length // model_parallel  # in blocks once 2 L
    block = feature_bytes * 4 * a.width + split / model_parallel + router
    end = feature_bytes * 2 * a.width + 2 * FLOAT32 * a.vocab_size
    passes = a.loops * a.layers
    if rematerialise:
        return round(passes * slots * feature_bytes * a.width + max(slots * (block + at_work), end))
    return round(slots * (passes * block + at_work) + end)

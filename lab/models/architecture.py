"""The one description of a model, from which come its layers, its parameters, its FLOPs and its memory."""

import math
from dataclasses import dataclass

MIXTURES = ("token_choice", "expert_choice")  # kinds of feed-forward layers that have experts


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What fixes a Transformer's function and the shapes of its weights. Sizes are checked at construction.

    What follows from it is computed elsewhere: the layers by `Transformer`, parameters and memory in
    `lab/models/footprint.py`, FLOPs in `lab/evaluation/flops.py`. Training does not import those two, so a
    change of a count makes no run new.

    Attributes:
        vocab_size: V, tokens that can be predicted.
        length: L, the longest sequence. Positions are 1 .. L; 0 is the start slot's.
        layers: number of blocks.
        width: d, width of the residual stream.
        heads: h, attention heads a block.
        ffn_width: f, hidden width of the feed-forward layers; in a mixture that of each expert.
        loops: how often the block stack is applied, with the same weights: compute without parameters.
        tie_embeddings: whether the output projection is the token embedding.
        target_embedding: whether each slot is told which position it predicts, by an added embedding. Without
            it a causal pass can only predict the next position.
        head_dim: c, features of a head, even (RoPE turns pairs of them); by default d / h.
        kv_heads: k, heads of keys and values, each shared by h / k heads of queries; by default h.
            Reference: Ainslie et al. 2023, arXiv:2305.13245.
        qk_norm: whether queries and keys are RMS-normalised. Reference: Henry et al. 2020, arXiv:2010.04245.
        norm_gain: whether each norm, also of queries and keys, has a learned gain a feature. Qwen3 has both,
            LLaMA gains without `qk_norm`.
        norm_epsilon: added to the mean square that a norm divides by.
        rope_base: base of the rotary angles' wavelengths.
        feed_forward: the kind of the feed-forward layers, a name in `lab.models.feed_forward.FEED_FORWARDS`.
        experts: E, experts of a feed-forward layer: 1, or more in a mixture (`lab/models/mixture.py`).
        experts_per_token: k, experts that a token meets, under `expert_choice` on average.
        capacity_factor: tokens that an expert has room for, in units of the k n / E that there are for each
            where n slots are shared out evenly.
        balance_weight: of the loss that keeps experts equally busy.
        router_z_weight: of the loss that keeps a router's logits small.
        mask_id: the id that hides a token, in 0 .. V. By default V, beyond the vocabulary, with a row of its
            own in the token embedding; an id below V is a token that is never predicted.
        start_id: the id that starts a causal stream, in 0 .. V; by default the mask's.
    """

    vocab_size: int
    length: int
    layers: int
    width: int
    heads: int
    ffn_width: int
    loops: int = 1
    tie_embeddings: bool = True
    target_embedding: bool = True
    head_dim: int = None  # type: ignore[assignment]  # these four are filled in by __post_init__
    kv_heads: int = None  # type: ignore[assignment]
    qk_norm: bool = True
    norm_gain: bool = False
    norm_epsilon: float = 1e-7
    rope_base: float = 10_000.0
    feed_forward: str = "swiglu"
    experts: int = 1
    experts_per_token: int = 1
    capacity_factor: float = 1.25
    balance_weight: float = 0.01
    router_z_weight: float = 0.001
    mask_id: int = None  # type: ignore[assignment]
    start_id: int = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        sizes = ("vocab_size", "length", "layers", "width", "heads", "ffn_width", "loops")
        for name in (*sizes, "experts", "experts_per_token"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, but got {name}={getattr(self, name)}.")
        if self.head_dim is None:
            if self.width % self.heads or (self.width // self.heads) % 2:
                raise ValueError(
                    "`width / heads` must be a whole even number (RoPE turns pairs of features), "
                    f"but got width={self.width}, heads={self.heads}."
                )
            self._default("head_dim", self.width // self.heads)
        self._default("kv_heads", self.heads)
        self._default("mask_id", self.vocab_size)
        self._default("start_id", self.mask_id)
        if self.head_dim < 1 or self.head_dim % 2:
            raise ValueError(
                "`head_dim` must be an even number above 0 (RoPE turns pairs of features), "
                f"but got head_dim={self.head_dim}."
            )
        if self.kv_heads < 1 or self.heads % self.kv_heads:
            raise ValueError(
                f"`kv_heads` must divide heads, but got kv_heads={self.kv_heads}, heads={self.heads}."
            )
        if not self.norm_epsilon > 0:
            raise ValueError(f"`norm_epsilon` must be above 0, but got norm_epsilon={self.norm_epsilon}.")
        if not self.rope_base > 1:
            raise ValueError(f"`rope_base` must be above 1, but got rope_base={self.rope_base}.")
        self._check_mixture()
        for name in ("mask_id", "start_id"):
            if not 0 <= getattr(self, name) <= self.vocab_size:
                raise ValueError(
                    f"`{name}` must be in the vocabulary or the id after it, in 0 .. {self.vocab_size}, "
                    f"but got {name}={getattr(self, name)}."
                )

    def _check_mixture(self) -> None:
        if (self.experts > 1) != (self.feed_forward in MIXTURES):
            raise ValueError(
                f"`experts` must be above 1 for a feed_forward of {list(MIXTURES)} and 1 for any other, "
                f"but got experts={self.experts}, feed_forward={self.feed_forward}."
            )
        if self.experts_per_token > self.experts:
            raise ValueError(
                "`experts_per_token` must be at most experts, "
                f"but got experts_per_token={self.experts_per_token}, experts={self.experts}."
            )
        if not self.capacity_factor > 0:
            raise ValueError(
                f"`capacity_factor` must be above 0, but got capacity_factor={self.capacity_factor}."
            )
        for name in ("balance_weight", "router_z_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` must be at least 0, but got {name}={getattr(self, name)}.")

    def _default(self, name: str, value: int) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, value)

    @property
    def embedding_rows(self) -> int:
        """Rows of the token embedding: V, and one more where the mask or the start is not among them."""
        return self.vocab_size + (self.vocab_size in (self.mask_id, self.start_id))

    @property
    def output_scale(self) -> float:
        """Initial standard deviation of the two projections of a block into the residual stream.

        0.02 / sqrt(2 layers) keeps the stream's variance (Radford et al. 2019, section 2.3).
        """
        return 0.02 / (2 * self.layers) ** 0.5


def expert_capacity(architecture: Architecture, slots: int) -> int:
    """Tokens that an expert takes of a sequence: ceil(capacity_factor k n / E), at most the n that there are.

    Reference: Fedus et al. 2021, arXiv:2101.03961, equation 3.
    """
    a = architecture
    return min(slots, math.ceil(a.capacity_factor * a.experts_per_token * slots / a.experts))
